"""From names to a study: weights, the quantization table, the people, and the folder that remembers them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ...calibration import Method, open_source
from ...calibration.evaluation_images import held_out
from ...errors import BadInputError
from ...evaluation.datasets import open_dataset
from ...files import check_replaceable, claim_directory
from ...models.variants import variant_named
from ...models.weights import find
from ...quantization import GRIDS, Grid, Table, grid_named
from ...quantization.fake import weights_sha256
from ...quantization.table import KINDS
from ...targets import target_named
from ...targets.base import OnStep, Precision, grid_of
from ...targets.export import load_deployable
from ...targets.scales import CALIBRATION, METHOD, ScaleSource
from .crop_set import CropSet
from .study import Study, Subject

if TYPE_CHECKING:
    from ...targets.rewrites import Deployable

FINDINGS = "findings.jsonl"


@dataclass(frozen=True)
class Options:
    """What is studied, in the words of the command line; a table of `scales` brings its own grid.

    `mixed`: whether convolutions are to be left in float afterwards, which not every grid can.
    """

    variant: str
    out: Path
    weights: Path | None
    grid: str
    scales: ScaleSource
    data: str
    proxy_crops: int
    proxy_only: bool
    target: str | None
    mixed: bool = False


def start(options: Options, on_step: OnStep = lambda _: None) -> Study:
    """The study of `options`, whose folder `out` must be new, empty or ours.

    With neither a table nor a calibration, weights that were trained with a table have that one, and others are
    calibrated on `CALIBRATION`; what was calibrated is kept in the folder. Raises BadInputError for what cannot be
    used, and for a grid that the target cannot honour, or no target with convolutions in float.
    """
    variant = variant_named(options.variant)
    target = None if options.target is None else target_named(options.target)
    Method.named(options.scales.method or METHOD)
    dataset = open_dataset(options.data)
    check_replaceable(options.out)
    path = find(variant, options.weights)
    on_step(f"loading {path.name}")
    network = load_deployable(variant, path)
    grid = grid_named(options.grid)
    options.scales.check(grid)
    table = options.scales.ready(network, path, grid, None, on_step)
    wanted = grid if table is None else GRIDS[table.grid]
    if options.mixed and (wanted.precision != Precision.INT8 or wanted.between):
        raise BadInputError(
            f"A budget leaves convolutions in float, which no target can on the grid {wanted.name}; leave out "
            "--budget, or take the grid common or affine."
        )
    if target is not None:
        grid_of(target, Precision(wanted.precision), wanted.name)
    scales = options.scales
    if isinstance(scales.calibration, str):
        source = open_source(scales.calibration, boxes=scales.boxes, evaluation=held_out(options.data))
        scales = replace(scales, calibration=source)
    claim_directory(options.out, f"written by rtmw-edge {__version__}")
    table = table or _calibrated(options, network, grid, scales, on_step)
    crops = CropSet.of(
        dataset, variant.input_size, lambda done, total: on_step(f"cutting out the people, image {done} of {total}")
    )
    return Study(
        Subject(network, table, KINDS if target is None else target.carried(table.grid)),
        crops,
        options.out / FINDINGS,
        proxy_crops=options.proxy_crops,
        proxy_only=options.proxy_only,
    )


def _calibrated(options: Options, network: Deployable, grid: Grid, scales: ScaleSource, on_step: OnStep) -> Table:
    """The table of an earlier run of the same network and calibration, or a new one, kept in the folder."""
    given = options.scales
    text = str(CALIBRATION if given.calibration is None else given.calibration)
    made_of = [weights_sha256(network), grid.name, text, str(given.boxes), given.method or METHOD, __version__]
    path = options.out / f"table-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]}.json"
    if path.exists() and text.startswith("synthetic:"):  # what lies in a folder may have changed
        return Table.load(path)
    table = scales.choose(network, grid, on_step)
    table.save(path)
    return table

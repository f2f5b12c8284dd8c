"""From names to a study: weights, the quantization table, the people, and the folder that remembers them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ...calibration import Method, Source, open_source
from ...calibration.evaluation_images import held_out
from ...errors import BadInputError
from ...evaluation.datasets import open_dataset
from ...files import check_replaceable, claim_directory
from ...models.variants import variant_named
from ...models.weights import find
from ...quantization import GRIDS, Table, grid_named
from ...quantization.fake import weights_sha256, weights_table
from ...quantization.table import KINDS
from ...targets import target_named
from ...targets.base import OnStep, Precision, grid_of
from ...targets.export import CALIBRATION, METHOD, calibrate, fitting_table, load_deployable
from .crop_set import CropSet
from .study import PROXY_CROPS, Study, Subject

if TYPE_CHECKING:
    from ...targets.rewrites import Deployable

FINDINGS = "findings.jsonl"


@dataclass(frozen=True)
class Options:
    """What is studied, in the words of the command line: with a `table`, none of `calibration`, `boxes`, `method`."""

    variant: str
    out: Path
    weights: Path | None = None
    grid: str = "common"
    table: Path | None = None
    calibration: str | None = None
    boxes: Path | None = None
    method: str | None = None
    data: str = "synthetic:val:200"
    proxy_crops: int = PROXY_CROPS
    proxy_only: bool = False
    target: str | None = None

    @property
    def calibrates(self) -> bool:
        """Whether scales are to be chosen anew, whatever table ships."""
        return any(value is not None for value in (self.calibration, self.boxes, self.method))


def start(options: Options, on_step: OnStep = lambda _: None) -> Study:
    """The study of `options`, whose folder `out` must be new, empty or ours.

    With neither a table nor a calibration, weights that were trained with a table have that one, and others are
    calibrated on `CALIBRATION`; what was calibrated is kept in the folder. Raises BadInputError for what cannot be
    used, and for a grid that the target cannot honour.
    """
    variant = variant_named(options.variant)
    target = None if options.target is None else target_named(options.target)
    Method.named(options.method or METHOD)
    dataset = open_dataset(options.data)
    check_replaceable(options.out)
    path = find(variant, options.weights)
    on_step(f"loading {path.name}")
    network = load_deployable(variant, path)
    table = _given_table(options, network, path, on_step)
    if target is not None:
        grid = GRIDS[options.grid if table is None else table.grid]
        grid_of(target, Precision(grid.precision), grid.name)
    source: str | Source = options.calibration or CALIBRATION
    if table is None and options.calibration is not None:
        source = open_source(options.calibration, boxes=options.boxes, evaluation=held_out(options.data))
    claim_directory(options.out, f"written by rtmw-edge {__version__}")
    table = table or _calibrated(options, network, source, on_step)
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


def _given_table(options: Options, network: Deployable, weights: Path, on_step: OnStep) -> Table | None:
    """The table that the user names, or that the weights were trained with."""
    if options.table is not None:
        if options.calibrates:
            raise BadInputError("Scales come from a table or from calibration, not from both; leave out one of them.")
        return Table.load(options.table)
    grid = grid_named(options.grid)
    if options.calibrates and not grid.calibrated:
        raise BadInputError(
            f"{grid.name} quantizes weights alone, which needs no images; leave out --calibration, --boxes and "
            "--method."
        )
    return fitting_table(network, weights, grid, None, on_step) if grid.calibrated and not options.calibrates else None


def _calibrated(options: Options, network: Deployable, source: str | Source, on_step: OnStep) -> Table:
    """The table of an earlier run of the same network and calibration, or a new one, kept in the folder."""
    grid = GRIDS[options.grid]
    text, method = options.calibration or CALIBRATION, options.method or METHOD
    made_of = [weights_sha256(network), grid.name, text, str(options.boxes), method, __version__]
    path = options.out / f"table-{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]}.json"
    if path.exists() and text.startswith("synthetic:"):  # what lies in a folder may have changed
        return Table.load(path)
    if not grid.calibrated:
        table = weights_table(network, grid)
    else:
        table = calibrate(network, source, grid=grid, boxes=options.boxes, method=method, on_step=on_step)
    table.save(path)
    return table

"""Where an export's scales are from: a table, the one that the weights were trained with, or a calibration.

>>> from rtmw_edge.targets.scales import calibrate                                               # doctest: +SKIP
>>> table = calibrate(load_deployable("rtmw-n-256x192", weights), "synthetic:200")               # doctest: +SKIP
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rtmw_edge.calibration import Method, Source, open_source
from rtmw_edge.quantization import COMMON, GRIDS, Grid, Table
from rtmw_edge.quantization.table import WRITTEN_BY_QAT

from rtmw_edge.errors import BadInputError
from rtmw_edge.models.weights import embedded, shipped_table, shipped_tables

from .base import OnStep, Target

if TYPE_CHECKING:
    from .rewrites import Deployable

logger = logging.getLogger(__name__)

CALIBRATION = "synthetic:200"
"""What int8 is calibrated on when neither images nor a table are given."""

METHOD = "percentile"
"""How ranges are chosen when nobody says how."""


@dataclass(frozen=True)
class ScaleSource:
    """Where scales are to come from, as the command line says it; with nothing said, from where the weights have them.

    Attributes:
        table: a quantization table, or its file.
        calibration: a source of images, or the text that `open_source` takes with `boxes`; `CALIBRATION` where only
            `boxes` or `method` are given.
        method: how ranges are chosen; None for `METHOD`.

    Raises BadInputError for a table together with any of the others.
    """

    table: Path | Table | None = None
    calibration: str | Source | None = None
    boxes: Path | None = None
    method: str | None = None

    def __post_init__(self) -> None:
        if self.table is not None and self.calibrates:
            raise BadInputError("Scales come from a table or from calibration, not from both; leave out one of them.")

    @property
    def calibrates(self) -> bool:
        """Whether scales are to be chosen anew, whatever table there is."""
        return any(value is not None for value in (self.calibration, self.boxes, self.method))

    def check(self, grid: Grid) -> None:
        """Raise BadInputError where images are given for a grid that needs none."""
        if self.calibrates and not grid.calibrated:
            raise BadInputError(
                f"{grid.name} quantizes weights alone, which needs no images; leave out --calibration, --boxes and "
                "--method."
            )

    def ready(
        self, network: Deployable, weights: Path, grid: Grid, free: Target | None, on_step: OnStep
    ) -> Table | None:
        """The table that is given, else the `fitting_table` of the weights; None where scales are to be chosen."""
        if self.table is not None:
            return self.table if isinstance(self.table, Table) else Table.load(self.table)
        if self.calibrates or not grid.calibrated:
            return None
        return fitting_table(network, weights, grid, free, on_step)

    def choose(self, network: Deployable, grid: Grid, on_step: OnStep) -> Table:
        """A new table on `grid`: of the weights alone, or calibrated."""
        from rtmw_edge.quantization.fake import weights_table

        if not grid.calibrated:
            return weights_table(network, grid)
        if not self.calibrates:
            on_step(f"nothing to calibrate on was given: taking {CALIBRATION}, rendered people")
        return calibrate(network, self.images(), grid=grid, method=self.method or METHOD, on_step=on_step)

    def images(self) -> Source:
        """What is calibrated on; raises BadInputError as `open_source`."""
        given = CALIBRATION if self.calibration is None else self.calibration
        return open_source(given, boxes=self.boxes) if isinstance(given, str) else given


def calibrate(
    network: Deployable,
    source: str | Source = CALIBRATION,
    *,
    grid: Grid = COMMON,
    method: str = METHOD,
    bias_correction: bool = False,
    on_step: OnStep = lambda _: None,
) -> Table:
    """The quantization table of `network` from one pass over `source`, with the images used in its provenance.

    Raises BadInputError for an unknown method, and as `open_source` for images that are no good.
    """
    from rtmw_edge.calibration.collect import Settings, collect

    settings = Settings(Method.named(method), grid, bias_correction=bias_correction)
    images = open_source(source) if isinstance(source, str) else source
    return collect(network, counted_crops(network, images, on_step), settings, manifest=images.manifest)


def trained_table(network: Deployable, weights: Path) -> Table | None:
    """The table that the `weights` of `network` were trained with, if they were: beside them, or in the package.

    It is the one that the weights name, else one of quantization-aware training for exactly these weights. Raises
    BadInputError when there is none though they were trained with one.
    """
    from rtmw_edge.quantization.fake import weights_sha256

    from rtmw_edge.models.checkpoints import read_metadata

    wanted = read_metadata(weights).get("table_sha256")
    if wanted is None:
        return None
    mine, fitting = weights_sha256(network), []
    for path in [*map(weights.with_name, WRITTEN_BY_QAT), *shipped_tables(network.variant)]:
        try:
            table = Table.load(path)
        except BadInputError as error:
            logger.info("passed over: %s", error)
            continue
        if table.sha256 == wanted:
            return table
        if table.weights_sha256 == mine and table.provenance.get("method") == "qat":
            fitting.append(table)
    if fitting:
        return fitting[0]
    raise BadInputError(
        f"'{weights}' was trained together with a quantization table, and beside it is no "
        f"{' or '.join(WRITTEN_BY_QAT)} for these weights: pass it with --table, or calibrate anew "
        f"with --calibration {CALIBRATION}."
    )


def fitting_table(
    network: Deployable, weights: Path, arithmetic: Grid, free: Target | None, on_step: OnStep
) -> Table | None:
    """The table that the weights were trained with; `free` to be on any grid of this target, else on `arithmetic`.

    None where there is none, or where the package has none on the grid for its own weights. Raises BadInputError for
    other weights that were trained on another grid: their scales are not chosen anew unless somebody says so.
    """
    if weights == embedded(network.variant):
        shipped = shipped_table(network.variant, arithmetic.name)
        return Table.load(shipped) if shipped else None
    found = trained_table(network, weights)
    if found is None:
        return None
    grids = (arithmetic.name,) if free is None else free.grids
    if found.grid not in grids or GRIDS[found.grid].precision != arithmetic.precision:
        raise BadInputError(
            f"'{weights}' was trained together with a quantization table on the grid {found.grid}, not on "
            f"{arithmetic.name}: take that grid, or calibrate anew with --calibration {CALIBRATION}."
        )
    on_step(f"taking the scales that {weights.name} was trained with")
    return found


def counted_crops(network: Deployable, source: Source, on_step: OnStep) -> Iterator[np.ndarray]:
    """The crops (N,H,W,3) of `source` for `network`, a few at a time, counted aloud."""
    from rtmw_edge.calibration.sources import batches

    done = 0
    for batch in batches(source, network.variant.input_size):
        on_step(f"calibrating, {done} crops seen")
        yield batch
        done += len(batch)

"""Settings into quantization tables: one pass over the calibration images serves all grids, methods and percentiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rtmw_edge.calibration import Method, Source, open_source
from rtmw_edge.calibration.collect import Settings as Collecting
from rtmw_edge.calibration.collect import table_of
from rtmw_edge.calibration.observing import Observed, observe
from rtmw_edge.quantization import GRIDS, Table

from ..cells import calibration_sha256, digest, file_sha256
from ..code import SCALES, code_sha256
from .problem import Problem
from .space import CALIBRATED, Settings, Space

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import Deployable

OnStep = Callable[[str], None]


class Tables:
    """The tables of settings, each a file of `folder` whose name is the hash of all that goes into it.

    Args:
        network: with the `weights` that are calibrated.
        given: by name, the files of tables that are there. held_out: data sets that accuracy is measured on.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        network: Deployable,
        weights: Path,
        given: Mapping[str, Path] | None = None,
        held_out: Sequence[str] = (),
    ) -> None:
        self._folder, self._space, self._network, self._weights = folder, space, network, weights
        self._given, self._held_out = given or {}, held_out
        self._seen: dict[object, tuple[Source, Observed]] = {}

    @classmethod
    def of(cls, problem: Problem, folder: Path) -> Tables:
        """The tables of a problem."""
        given, floats = {name: each.file for name, each in problem.given.items()}, problem.float_cell
        return cls(folder, problem.space, problem.network, floats.inputs.weights, given, floats.cell.held_out)

    def path(self, settings: Settings) -> Path:
        """Where the table of these settings is, or will be."""
        if settings.scales == CALIBRATED:
            source = calibration_sha256(settings.calibration)
        else:
            source = file_sha256(self._given[settings.scales])
        floats = self._space.convolutions(settings)
        code = code_sha256(SCALES)
        scales = asdict(replace(settings, groups=(), most=0))
        return self._folder / f"{digest([file_sha256(self._weights), scales, floats, source, code])[:16]}.json"

    def made(self, settings: Settings, on_step: OnStep = lambda _: None) -> Path:
        """The table's file, which is made unless it is there."""
        path = self.path(settings)
        if not path.exists():
            floats = self._space.convolutions(settings)
            if floats:
                table = Table.load(self.made(replace(settings, groups=(), most=0), on_step))
                quantized = [name for name in floats if f"{name}:weight" in table.entries]
                table = table.leaving_in_float(quantized)
            elif settings.scales == CALIBRATED:
                table = self._calibrated(settings, on_step)
            else:
                table = Table.load(self._given[settings.scales])
            table.save(path)
        return path

    def _calibrated(self, settings: Settings, on_step: OnStep) -> Table:
        grid = GRIDS[settings.grid]
        key = settings.calibration, settings.count, grid.points, grid.between
        if key not in self._seen:
            from rtmw_edge.calibration.sources import batches

            source = open_source(settings.calibration, count=settings.count or None, evaluation=self._held_out)
            on_step(f"calibrating on {len(source)} people")
            crops = batches(source, self._network.variant.input_size)
            self._seen[key] = source, observe(self._network, crops, grid)
        source, observed = self._seen[key]
        on_step(f"choosing ranges, {settings.method_words}")
        method = Method.named(settings.method)
        collecting = Collecting(method, grid, settings.percentile, settings.bias_correction)
        return table_of(self._network, observed, collecting, source.manifest())

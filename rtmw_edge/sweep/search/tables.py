"""Settings into quantization tables: one pass over the calibration images serves all grids, methods and percentiles."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from rtmw_edge.calibration import Method, Source, open_source
from rtmw_edge.calibration.collect import Settings as Collecting
from rtmw_edge.calibration.collect import table_of
from rtmw_edge.calibration.observing import Observed, observe
from rtmw_edge.quantization import GRIDS, Table
from rtmw_edge.targets.base import OnStep

from ..cells import calibration_sha256, digest, file_sha256
from ..code import SCALES, code_sha256
from .problem import Problem
from .space import CALIBRATED, Settings


class Tables:
    """The tables of settings, each a file of `folder` whose name is the hash of all that goes into it."""

    def __init__(self, problem: Problem, folder: Path) -> None:
        self._problem, self._folder = problem, folder
        self._seen: dict[object, tuple[Source, Observed]] = {}

    def path(self, settings: Settings) -> Path:
        """Where the table of these settings is, or will be."""
        problem, weights = self._problem, self._problem.float_cell.inputs.weights
        if settings.scales == CALIBRATED:
            source = calibration_sha256(problem.source_of(settings))
        else:
            source = file_sha256(problem.given[settings.scales].file)
        floats = problem.space.convolutions(settings)
        code = code_sha256(SCALES)
        scales = asdict(replace(settings, groups=(), most=0))
        return self._folder / f"{digest([file_sha256(weights), scales, floats, source, code])[:16]}.json"

    def made(self, settings: Settings, on_step: OnStep = lambda _: None) -> Path:
        """The table's file, which is made unless it is there."""
        path = self.path(settings)
        if not path.exists():
            floats = self._problem.space.convolutions(settings)
            if floats:
                table = Table.load(self.made(replace(settings, groups=(), most=0), on_step))
                quantized = [name for name in floats if f"{name}:weight" in table.entries]
                table = table.leaving_in_float(quantized)
            elif settings.scales == CALIBRATED:
                table = self._calibrated(settings, on_step)
            else:
                table = Table.load(self._problem.given[settings.scales].file)
            table.save(path)
        return path

    def _calibrated(self, settings: Settings, on_step: OnStep) -> Table:
        problem, grid = self._problem, GRIDS[settings.grid]
        key = settings.calibration, settings.count, grid.points, grid.between
        if key not in self._seen:
            from rtmw_edge.calibration.sources import batches

            held_out = problem.float_cell.inputs.held_out
            source = open_source(problem.source_of(settings), count=settings.count or None, evaluation=held_out)
            on_step(f"calibrating on {len(source)} people")
            crops = batches(source, problem.network.variant.input_size)
            self._seen[key] = source, observe(problem.network, crops, grid)
        source, observed = self._seen[key]
        on_step(f"choosing ranges, {settings.method_words}")
        method = Method.named(settings.method)
        collecting = Collecting(method, grid, settings.percentile, settings.bias_correction)
        return table_of(problem.network, observed, collecting, source.manifest())

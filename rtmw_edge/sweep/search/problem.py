"""What is searched, as it follows from a sweep's file: the float cell, the space, the tables that are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rtmw_edge.calibration import open_source
from rtmw_edge.quantization import GRIDS, Grid, Table
from rtmw_edge.targets import Precision, target_named
from rtmw_edge.targets.base import grid_of
from rtmw_edge.targets.export import NEEDED, load_deployable
from rtmw_edge.targets.peers import OURS

from ...errors import BadInputError
from ...models.weights import embedded, find
from ..cells import Cell, Inputs, Planned, digest, file_sha256, identified
from ..code import code_sha256, writers
from ..config import BUDGET, SHIPPED, TORCH, SearchConfig, SweepConfig, TablePair, source_in
from ..plan import plan_of, trained
from ..sensitivity.partial_run import blocks_of
from .space import Settings, Space, groups_named, ranked

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import Deployable


@dataclass(frozen=True)
class Given:
    """A quantization table that is there, and the weights that it belongs to."""

    file: Path
    weights: Path


@dataclass(frozen=True, eq=False)
class Problem:
    """What is searched, as it follows from the sweep's file: the float cell, the space, tables that are there."""

    folder: Path
    search: SearchConfig
    float_cell: Planned
    requirements: tuple[str, ...]
    given: Mapping[str, Given]
    space: Space
    network: Deployable

    @property
    def name(self) -> str:
        """Of the study: the hash of all that decides what a trial measures."""
        code = code_sha256(writers(self.float_cell.cell.target))
        files = [file_sha256(given.file) for given in self.given.values()]
        ids = [self.float_cell.accuracy_id, self.float_cell.speed_id, code, files]
        asked = [self.search.budget.text, self.search.part, self.search.seed]
        cell = self.float_cell.cell
        return f"{cell.variant} {cell.target} {digest([ids, asked, asdict(self.space)])[:16]}"

    def weights_of(self, settings: Settings) -> Path:
        """The weights that the scales of `settings` are for."""
        given = self.given.get(settings.scales)
        return given.weights if given else self.float_cell.inputs.weights

    def source_of(self, settings: Settings) -> str:
        """The people that the scales of `settings` are calibrated on; "" for a table that is there."""
        return source_in(self.folder, settings.calibration) if settings.calibration else ""

    def planned(self, number: int, settings: Settings, table: Path) -> Planned:
        """The cell of a trial, whose table is in the file `table`."""
        floats = bool(Table.load(table).floats)
        scales = settings.scales if settings.scales in self.given else ""
        words = (scales, f"trial {number}", settings.float_words)
        cell = replace(
            self.float_cell.cell,
            precision=str(Precision.INT8_MIXED if floats else Precision.INT8),
            grid=settings.grid,
            method=settings.method_words,
            calibration=settings.calibration,
            count=settings.count,
            bias_correction=settings.bias_correction,
            table=", ".join(word for word in words if word),
        )
        base, given = self.float_cell.cell, self.float_cell.inputs
        source = self.source_of(settings)
        inputs = Inputs(self.weights_of(settings), given.weights, table, base, base, given.data, source)
        return identified(cell, inputs, self.requirements)


def problem_of(config: SweepConfig) -> Problem:
    """The problem in a sweep's file. Raises BadInputError where it is none of one network, target and device, and for
    calibration sources that a trial would be refused for.
    """
    search = config.search
    if search is None:
        raise BadInputError(f"The sweep has no [search] to search by; write [search], and below it {BUDGET}.")
    for key, value, default in (
        ("include", config.include, ()),
        ("exclude", config.exclude, ()),
        ("calibrators", config.calibrators, (OURS,)),
    ):
        if value != default:
            raise BadInputError(f"A search knows no {key}; leave it out of its file.")
    found = plan_of(replace(config, precisions=(Precision.FP32.value,), tables=()))
    labels = [f"{each.cell.variant} {each.cell.label}" for each in found.cells]
    if len(labels) != 1 or found.cells[0].cell.target == TORCH or found.cells[0].cell.board:
        raise BadInputError(
            "A search is for one variant with its weights on one target, device and number of threads of this machine; "
            f"this file is for {', '.join(labels)}."
        )
    float_cell = found.cells[0]
    cell, weights = float_cell.cell, float_cell.inputs.weights
    for source, count in config.sources:
        open_source(source_in(config.folder, source), count=count or None, evaluation=float_cell.inputs.held_out)
    target = target_named(cell.target)
    grids = tuple(dict.fromkeys(_grid(cell.target, name).name for name in config.grids or (None,)))
    given = _given(config, cell, weights)
    network = load_deployable(cell.variant, weights)
    convolutions, stages = list(network.convolutions()), list(dict.fromkeys(blocks_of(network).values()))
    groups = search.groups if search.groups is not None else () if search.sensitivity else tuple(stages)
    ranking: tuple[tuple[str, ...], ...] = ()
    if search.sensitivity is not None:
        ranking = ranked(search.sensitivity, list(search.budget.limits), convolutions, search.most)
    space = Space(
        grids,
        config.methods,
        search.percentiles,
        config.sources,
        config.bias_correction,
        {name: Table.load(each.file).grid for name, each in given.items()},
        groups_named(groups, convolutions, stages),
        ranking,
    )
    needed = (*NEEDED, *target.requirements())
    return Problem(config.folder, search, float_cell, needed, given, space, network)


def _grid(target: str, name: str | None) -> Grid:
    grid = grid_of(target_named(target), Precision.INT8, name)
    assert grid is not None
    return grid


def _given(config: SweepConfig, cell: Cell, weights: Path) -> dict[str, Given]:
    """The file's [[tables]] by name and grid; without any, what ships with the weights and is exported by default."""
    pairs = [pair for pair in config.tables if pair.variant == cell.variant]
    shipped = not config.tables and weights == embedded(cell.variant)
    if shipped:
        pairs = [TablePair(SHIPPED, cell.variant)]
    found = {}
    for pair, path, table in trained(replace(config, tables=tuple(pairs)), {}):
        if shipped and (GRIDS[table.grid].precision != "int8" or table.grid not in target_named(cell.target).grids):
            continue
        _grid(cell.target, table.grid)
        own = find(cell.variant, pair.weights) if pair.weights else weights
        found[f"{pair.name} {table.grid}"] = Given(path, own)
    return found

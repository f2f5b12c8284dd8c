"""From axes to cells: the product, without what a target cannot do, each of which is told with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

from rtmw_edge.calibration import open_source
from rtmw_edge.quantization import GRIDS, Table
from rtmw_edge.targets import Precision, target_named
from rtmw_edge.targets.base import Target, grid_of, precisions
from rtmw_edge.targets.base import installed as check_installed
from rtmw_edge.targets.export import NEEDED, load_deployable
from rtmw_edge.targets.peers import OURS, PEERS, peer_named

from ..errors import BadInputError, RtmwEdgeError
from ..evaluation.datasets import open_dataset
from ..evaluation.gates import DEFAULT, Gate, read_gate
from ..fleet.link import LOCAL
from ..models.checkpoints import read_metadata
from ..models.variants import variant_named
from ..models.weights import find, shipped_table
from ..runtime.devices import engine_class
from ..runtime.machine import REFERENCE, engine_state
from .cells import Cell, Inputs, Planned, identified
from .config import TORCH, SweepConfig, TablePair, data_in, matches, source_in


@dataclass(frozen=True)
class Plan:
    """The cells in their order, the gate that they are held to, and the environments of boards that have joined.

    `not_possible` has what of the product cannot be, in this toolkit or on this machine, with its reason.
    """

    cells: tuple[Planned, ...]
    gate: Gate
    not_possible: Mapping[str, str] = field(default_factory=dict)
    boards: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def plan_of(config: SweepConfig, boards: Mapping[str, Mapping[str, str]] | None = None) -> Plan:
    """The plan of a sweep; `boards` are the environments of those that have joined, by name.

    Raises BadInputError when weights, a table, the data set, a calibration or the gate are not there or do not fit,
    when nothing is left, and when fp32, which everything is compared with, is not among the precisions.
    """
    if Precision.FP32.value not in config.precisions:
        raise BadInputError('The sweep has no fp32, which every figure is compared with; add "fp32" to precisions.')
    refused: dict[str, str] = {}
    found: list[tuple[Cell, Inputs]] = []
    product = list(_product(config, refused))
    refused = _idle(config, [cell for cell, _ in product]) | refused
    for cell, inputs in product:
        if not _kept(cell, config):
            continue
        reason = _not_on_device(cell)
        if reason:
            refused.setdefault(f"{cell.target} on {cell.board or cell.device}", reason)
        elif (cell, inputs) not in found:
            found.append((cell, inputs))
    if not found:
        reason = f" ({next(iter(refused.values()))})" if refused else ""
        raise BadInputError(f"No cell of the sweep is left{reason}; change its targets, precisions or rules.")
    cells = [cell for cell, _ in found]
    for cell, inputs in found:
        if cell.precision != Precision.FP32 and base_of(cell, inputs, found) is None:
            raise BadInputError(
                f"The sweep has no fp32 to compare {cell.variant} {cell.label} with; leave it in, or exclude both."
            )
    found = [(cell, _located(inputs, cell, found, config.folder)) for cell, inputs in found]
    _check_data(config, found)
    gate = _gate(config, cells)
    planned = []
    for cell, inputs in found:
        needed = () if cell.target == TORCH else (*NEEDED, *target_named(cell.target).requirements())
        needed += PEERS[cell.calibrator].requirements if cell.calibrator else ()
        planned.append(identified(cell, inputs, needed, (boards or {}).get(cell.board)))
    return Plan(tuple(planned), gate, refused, boards or {})


def _idle(config: SweepConfig, cells: list[Cell]) -> dict[str, str]:
    """What the file names and no cell of the product has."""
    told: dict[str, str] = {}
    paired = {pair.weights for pair in config.tables}
    for name, files in config.weights.items():
        if name not in config.variants:
            told[f"weights of {name}"] = "it is none of the sweep's variants"
            continue
        for key, path in files.items():
            if path not in paired and read_metadata(path).get("table_sha256"):
                told[f"int8 QAT of {name} {key}".rstrip()] = (
                    "its weights were trained with a quantization table; name both in [[tables]] to measure that"
                )
    for pair in config.tables:
        if not any((cell.variant, cell.table) == (pair.variant, pair.name) for cell in cells):
            told.setdefault(
                f"{pair.variant} {pair.name}", "no cell has the variant, precision and grid of its quantization table"
            )
    for key, rules in (("include", config.include), ("exclude", config.exclude)):
        for rule in rules:
            if not any(matches(rule, _values(cell)) for cell in cells):
                words = ", ".join(f"{name} {' or '.join(values)}" for name, values in rule.items())
                told[f"[[{key}]] {words}"] = "it matches no cell"
    return told


def _located(inputs: Inputs, cell: Cell, found: list[tuple[Cell, Inputs]], folder: Path) -> Inputs:
    """The inputs with the float cells among `found`, and the files that lie at the cell's paths from `folder`."""
    calibration = source_in(folder, cell.calibration) if cell.calibration else ""
    return replace(
        inputs,
        base=base_of(cell, inputs, found),
        paced_by=pace_of(cell, [other for other, _ in found]),
        data=data_in(folder, cell.data),
        calibration=calibration,
    )


def _check_data(config: SweepConfig, found: list[tuple[Cell, Inputs]]) -> None:
    """Refuse now what every cell would be refused for after its export."""
    open_dataset(data_in(config.folder, config.data), config.images or None)
    calibrated = dict.fromkeys((inputs.calibration, cell.count, inputs.held_out) for cell, inputs in found)
    for source, count, held_out in calibrated:
        if source:
            open_source(source, count=count or None, evaluation=held_out)


def _gate(config: SweepConfig, cells: list[Cell]) -> Gate:
    """The sweep's gate, refused now where it judges nothing of a cell."""
    gate = read_gate(config.gate or DEFAULT)
    for cell in cells:
        gate.judge({}, in_3d=variant_named(cell.variant).z_range is not None)
    return gate


def base_of(cell: Cell, inputs: Inputs, found: list[tuple[Cell, Inputs]]) -> Cell | None:
    """The float cell that accuracy is compared with: the same target in fp32 with the weights before training."""
    floats = [
        other
        for other, made_of in found
        if other.precision == Precision.FP32
        and (other.variant, other.target, other.device) == (cell.variant, cell.target, cell.device)
        and (other.data, other.images, other.board) == (cell.data, cell.images, cell.board)
        and (made_of.weights == inputs.base_weights if cell.table else other.weights == cell.weights)
    ]
    near = [other for other in floats if other.threads == cell.threads] or floats
    return near[0] if near and near[0] != cell else None


def pace_of(cell: Cell, cells: list[Cell]) -> Cell | None:
    """The float cell that is timed in turns with `cell`: the same target in fp32, and for that one ONNX in fp32."""
    same = [
        other
        for other in cells
        if other.precision == Precision.FP32
        and other != cell
        and (other.variant, other.threads, other.board) == (cell.variant, cell.threads, cell.board)
    ]
    own = [other for other in same if (other.target, other.device) == (cell.target, cell.device)]
    if cell.precision != Precision.FP32 and own:
        return own[0]
    return next((other for other in same if other.target == "onnx" and cell.target != "onnx"), None)


def _product(config: SweepConfig, refused: dict[str, str]) -> Iterator[tuple[Cell, Inputs]]:
    at_hand = trained(config, refused)
    for name in config.variants:
        named = f'weights."{name}" ='
        given: Mapping[str, Path | None] = config.weights.get(name) or {"": None}
        files = {key: find(name, path, named) for key, path in given.items()}
        for target in config.targets:
            writer = _writer(target, refused)
            if target == TORCH:
                for weights, path in files.items():
                    yield from _everywhere(Cell(name, weights, TORCH, Precision.FP32.value), Inputs(path, path), config)
            if writer is None:
                continue
            for precision in config.precisions:
                for weights, path in files.items():
                    for cell in _by_peers(Cell(name, weights, target, precision), config, refused):
                        yield from _everywhere(cell, Inputs(path, path), config)
                for grid in _grids(writer, precision, config, refused):
                    for weights, path in files.items():
                        for cell in _scaled(Cell(name, weights, target, precision, grid), config, refused):
                            yield from _everywhere(cell, Inputs(path, path), config)
                    for pair, table, content in at_hand:
                        if pair.variant == name and _carries(content, precision, grid):
                            own = _began_with(content, files)
                            inputs = Inputs(find(name, pair.weights, "weights =") if pair.weights else own, own, table)
                            cell = Cell(name, "", target, precision, grid, table=pair.name)
                            yield from _everywhere(cell, inputs, config)


def _writer(target: str, refused: dict[str, str]) -> Target | None:
    if target == TORCH:
        return None
    writer = target_named(target)
    try:
        check_installed([*NEEDED, *writer.requirements()])
    except RtmwEdgeError as error:
        refused[target] = str(error)
        return None
    return writer


def _grids(writer: Target, precision: str, config: SweepConfig, refused: dict[str, str]) -> Iterator[str]:
    """The grids of one precision that the target honours; "" for a float precision."""
    kind = Precision(precision)
    if kind not in precisions(writer):
        refused[f"{writer.name} {precision}"] = f"{writer.name} has {', '.join(precisions(writer))}"
        return
    for name in config.grids if kind in (Precision.INT8, Precision.INT8_MIXED) and config.grids else (None,):
        try:
            grid = grid_of(writer, kind, name)
        except BadInputError as error:
            refused[f"{writer.name} {precision} {name}"] = str(error)
            continue
        yield grid.name if grid else ""


def _scaled(cell: Cell, config: SweepConfig, refused: dict[str, str]) -> Iterator[Cell]:
    """The cell with every calibration; itself where nothing is calibrated."""
    if cell.precision == Precision.INT8_MIXED:
        if not any(pair.variant == cell.variant for pair in config.tables):
            refused[f"{cell.target} {cell.precision}"] = "it takes the convolutions to leave in float from [[tables]]"
        return
    if not cell.grid or not GRIDS[cell.grid].calibrated:
        yield cell
        return
    if OURS in config.calibrators:
        for method in config.methods:
            for corrected in config.bias_correction:
                for source, count in config.sources:
                    yield replace(cell, method=method, calibration=source, count=count, bias_correction=corrected)


def _by_peers(cell: Cell, config: SweepConfig, refused: dict[str, str]) -> Iterator[Cell]:
    """The cell quantized by every other tool that writes its target; each takes all people of a source."""
    for name in config.calibrators:
        if name == OURS or PEERS[name].target != cell.target or cell.precision != Precision.INT8:
            continue
        try:
            peer_named(name, cell.target, Precision.INT8)
        except RtmwEdgeError as error:
            refused[f"{cell.target} {cell.precision} by {name}"] = str(error)
            continue
        for source in dict.fromkeys(source for source, _ in config.sources):
            yield replace(cell, calibration=source, calibrator=name)


def _carries(table: Table, precision: str, grid: str) -> bool:
    """Whether a trained table is one of this precision and grid; with convolutions left in float it is int8-mixed."""
    of = Precision.INT8_MIXED.value if table.floats else GRIDS[table.grid].precision
    return table.grid == grid and of == precision


def trained(config: SweepConfig, refused: dict[str, str]) -> list[tuple[TablePair, Path, Table]]:
    """The trained tables with their files; a pair that names what ships has one for each grid.

    `refused` hears of a pair that names what ships where nothing does. Raises BadInputError for a table of another
    variant.
    """
    found = []
    for pair in config.tables:
        shipped = [shipped_table(pair.variant, grid) for grid in GRIDS] if pair.table is None else []
        files = [path for path in (pair.table, *shipped) if path is not None]
        if not files:
            refused[f"{pair.variant} {pair.name}"] = "no quantization table ships with it"
        for path in files:
            table = Table.load(path)
            if table.variant != pair.variant:
                raise BadInputError(
                    f"The quantization table {path} is for {table.variant}, not for {pair.variant}; correct [[tables]]."
                )
            found.append((pair, path, table))
    return found


def _began_with(table: Table, files: Mapping[str, Path]) -> Path:
    """Of several weights those that the table was made for, or its training began with; the first where none are."""
    start = table.provenance.get("start")
    known = {table.weights_sha256, start.get("weights_sha256") if isinstance(start, dict) else None}
    several = files.values() if len(files) > 1 else ()
    first = next(iter(files.values()))
    return next((path for path in several if _network_sha256(table.variant, path) in known), first)


@lru_cache(maxsize=16)
def _network_sha256(variant: str, weights: Path) -> str:
    """What tables know weights by; of a file that holds none, which its own cells will tell, its path."""
    from rtmw_edge.quantization.fake import weights_sha256

    try:
        return weights_sha256(load_deployable(variant, weights))
    except RtmwEdgeError:
        return str(weights)


def _everywhere(cell: Cell, inputs: Inputs, config: SweepConfig) -> Iterator[tuple[Cell, Inputs]]:
    for board, device, threads in product(config.boards, config.devices, config.threads):
        placed = replace(cell, board="" if board == LOCAL else board, device=device, threads=threads)
        yield replace(placed, data=config.data, images=config.images), inputs


def _values(cell: Cell) -> dict[str, object]:
    """What rules speak of."""
    return {**cell.to_dict(), "board": cell.board or LOCAL}


def _kept(cell: Cell, config: SweepConfig) -> bool:
    values = _values(cell)
    included = not config.include or any(matches(rule, values) for rule in config.include)
    return included and not any(matches(rule, values) for rule in config.exclude)


def _not_on_device(cell: Cell) -> str:
    if cell.target == TORCH and cell.board:
        return "a board runs bundles, without PyTorch"
    there = ("cpu", "cuda") if cell.target == TORCH else engine_class(cell.target).devices
    if cell.device not in there:
        return f"its bundles run on {', '.join(there)}"
    return "" if cell.board or cell.device == "cpu" else _not_opened(cell.target, cell.device)


@lru_cache(maxsize=16)
def _not_opened(target: str, device: str) -> str:
    """Why a device of this machine that is no processor cannot be used."""
    state = engine_state(REFERENCE if target == TORCH else target)
    if any(name.partition(".")[0] == device for name in state.devices):
        return ""
    reason = next((why for name, why in state.failed.items() if name.partition(".")[0] == device), "")
    return reason or f"{state.name} has no {device} here, as rtmw-edge doctor shows"

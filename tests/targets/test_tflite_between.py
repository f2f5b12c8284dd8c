"""The grid `full` in TFLite: every operator between convolutions against plain arithmetic in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rtmw_edge.quantization import FULL, SIGMOID, Entry, Table
from rtmw_edge.quantization.wiring import wiring
from small_deployable import SmallDeployable, absmax_table
from tflite_run import tensors

from rtmw_edge.errors import BadInputError, RtmwEdgeError

pytest.importorskip("litert_torch")

from rtmw_edge.targets import tflite
from rtmw_edge.targets.tflite_between import FullWriter
from rtmw_edge.targets.tflite_model import CONVOLUTIONS, OPS, GraphEditor

INT8 = np.dtype(np.int8)


@pytest.fixture(scope="module")
def table(network: SmallDeployable, crops: np.ndarray) -> Table:
    return absmax_table(network, crops, FULL)


@pytest.fixture(scope="module")
def file(network: SmallDeployable, table: Table, float_file: Path) -> Path:
    graph = GraphEditor(float_file)
    tflite.quantize(graph, tflite.convolution_names(graph, network), table, network)  # type: ignore[arg-type]
    path = float_file.with_name("between.tflite")
    graph.save(path)
    return path


@pytest.fixture(scope="module")
def values(file: Path, crops: np.ndarray) -> dict[str, np.ndarray]:
    return tensors(file, crops[0])


def real(values: dict[str, np.ndarray], table: Table, point: str) -> np.ndarray:
    """What the integers of a point stand for."""
    entry = table.entries[point]
    return (values[point].astype(np.float64) - entry.zero_point) * entry.scale.astype(np.float64)


def assert_steps(found: np.ndarray, expected: np.ndarray, entry: Entry) -> None:
    steps = np.clip(np.rint(expected / entry.scale.astype(np.float64)) + entry.zero_point, -128, 127)
    difference = np.abs(found.astype(int) - steps)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.03
    assert len(np.unique(found)) > 10


@pytest.mark.parametrize("name", ["stem", "middle", "depthwise", "branch"])
def test_silu_is_a_rounded_sigmoid_and_a_product(name: str, table: Table, values: dict[str, np.ndarray]) -> None:
    x = real(values, table, f"{name}:output")
    assert_steps(values[f"{name}:sigmoid"], 1 / (1 + np.exp(-x)), SIGMOID)
    assert_steps(values[f"{name}:silu"], x * real(values, table, f"{name}:sigmoid"), table.entries[f"{name}:silu"])


def test_the_sum(table: Table, values: dict[str, np.ndarray]) -> None:
    expected = real(values, table, "depthwise:silu") + real(values, table, "middle:silu")
    assert_steps(values["add:sum"], expected, table.entries["add:sum"])


def test_the_mean_and_the_product_of_channel_attention(table: Table, values: dict[str, np.ndarray]) -> None:
    x = real(values, table, "down:output")
    assert_steps(values["attention:mean"], x.mean((1, 2), keepdims=True), table.entries["attention:mean"])
    gate = real(values, table, "attention:output") / 6
    assert_steps(values["attention:product"], x * gate, table.entries["attention:product"])


def test_one_sixth_changes_the_scale_and_no_integer(table: Table, values: dict[str, np.ndarray], file: Path) -> None:
    np.testing.assert_array_equal(values["attention:output:scaled"], values["attention:output"])
    graph = GraphEditor(file)
    scaled = next(i for i in range(len(graph.graph.tensors)) if graph.name(i) == "attention:output:scaled")
    scale = graph.scale(scaled)
    assert scale is not None and scale[1] == table.entries["attention:output"].zero_point
    np.testing.assert_allclose(scale[0], table.entries["attention:output"].scale / 6, rtol=1e-6)


def test_the_concatenation_moves_both_inputs_to_its_scale(table: Table, values: dict[str, np.ndarray]) -> None:
    parts = [real(values, table, point) for point in ("attention:product", "branch:silu")]
    assert_steps(values["join:concat"], np.concatenate(parts, axis=-1), table.entries["join:concat"])


def test_integers_from_the_first_convolution_to_the_tail(file: Path) -> None:
    """One QUANTIZE of the image, requantized parts of the concatenation, one DEQUANTIZE in front of the tail."""
    graph = GraphEditor(file)
    assert sum(1 for _ in graph.operators(OPS.DEQUANTIZE)) == 1
    floats = [op for op in graph.operators(OPS.QUANTIZE) if graph.dtype(int(op.inputs[0])) == np.float32]
    assert len(floats) == 1
    for operator in graph.operators(*CONVOLUTIONS, OPS.LOGISTIC, OPS.ADD, OPS.MEAN, OPS.CONCATENATION, OPS.MAX_POOL_2D):
        assert graph.dtype(int(operator.inputs[0])) == graph.dtype(int(operator.outputs[0])) == INT8
    assert all(graph.dtype(int(op.outputs[0])) == np.float32 for op in graph.operators(OPS.FULLY_CONNECTED))


def test_equal_scales_need_no_requantization(
    network: SmallDeployable, table: Table, float_file: Path, crops: np.ndarray
) -> None:
    one = table.entries["join:concat"]
    shared = replace(table, entries={**table.entries, "attention:product": one, "branch:silu": one})
    graph = GraphEditor(float_file)
    tflite.quantize(graph, tflite.convolution_names(graph, network), shared, network)  # type: ignore[arg-type]
    assert sum(1 for _ in graph.operators(OPS.QUANTIZE)) == 1


@pytest.mark.parametrize(
    ("second", "same"), [((0.1, 3), True), ((0.1, 4), False), ((0.2, 3), False)], ids=["same", "zero", "scale"]
)
def test_a_concatenation_hands_on_integers_of_one_scale_and_one_zero_point(
    second: tuple[float, int], same: bool
) -> None:
    scales = [(np.float32([scale]), zero) for scale, zero in ((0.1, 3), second)]
    writer: Any = SimpleNamespace(graph=SimpleNamespace(scale=scales.__getitem__), integers={5: 0, 6: 1})
    assert FullWriter._one_scale(writer, [5, 6]) is same


def test_a_graph_without_a_points_operator_is_refused(network: SmallDeployable, table: Table, float_file: Path) -> None:
    graph = GraphEditor(float_file)
    points = {**wiring(network), "lost:sum": frozenset({"head:output"})}
    with pytest.raises(RtmwEdgeError, match=r"no operator for 1 point\(s\) of the grid full, the first 'lost:sum'"):
        FullWriter(graph, tflite.convolution_names(graph, network), table, points).write()  # type: ignore[arg-type]


def test_no_convolution_can_be_left_in_float(table: Table) -> None:
    with pytest.raises(BadInputError, match="On the grid full integers pass from one convolution to the next"):
        table.leaving_in_float(["head"])
    assert table.leaving_in_float([]).floats == ()

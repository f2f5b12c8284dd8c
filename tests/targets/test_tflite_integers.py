"""Integer TFLite files: every convolution against an integer reference in numpy, scales bit for bit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import AFFINE, COMMON, FULL, W8A16, Entry, Grid, Table
from rtmw_edge.quantization.fake import fake_quantize
from small_deployable import SmallDeployable, absmax_table, float_logits, relative_rms
from tflite_run import PLAIN_KERNELS, run, tensors

from rtmw_edge.errors import BadInputError, VerificationError

pytest.importorskip("litert_torch")

from rtmw_edge.targets import tflite
from rtmw_edge.targets.base import check_scales
from rtmw_edge.targets.tflite_integers import IntegerWriter
from rtmw_edge.targets.tflite_model import BUFFER_ALIGNMENT, OPS, GraphEditor
from rtmw_edge.targets.tflite_scales import computes_int8, stored_in

INTEGER_GRIDS = (COMMON, AFFINE, FULL, W8A16)


@pytest.fixture(scope="module", params=INTEGER_GRIDS, ids=lambda grid: grid.name)
def table(request: pytest.FixtureRequest, network: SmallDeployable, crops: np.ndarray) -> Table:
    return absmax_table(network, crops, request.param)


@pytest.fixture(scope="module")
def file(network: SmallDeployable, table: Table, float_file: Path) -> Path:
    return written(network, table, float_file)


@pytest.fixture(scope="module")
def common(network: SmallDeployable, crops: np.ndarray) -> Table:
    return absmax_table(network, crops, COMMON)


@pytest.fixture(scope="module")
def common_file(network: SmallDeployable, common: Table, float_file: Path) -> Path:
    return written(network, common, float_file)


def written(network: SmallDeployable, table: Table, float_file: Path) -> Path:
    graph = GraphEditor(float_file)
    tflite.quantize(graph, tflite.convolution_names(graph, network), table, network)  # type: ignore[arg-type]
    path = float_file.with_name(f"{table.grid}-{len(table.entries)}.tflite")
    graph.save(path)
    return path


def test_float_parity(network: SmallDeployable, float_file: Path, crops: np.ndarray) -> None:
    for found, expected in zip(run(float_file, crops), float_logits(network, crops), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_scales_and_zero_points_come_back_out_of_the_file(network: SmallDeployable, table: Table, file: Path) -> None:
    read = tflite.TARGET.read_scales({"model": file}, network)  # type: ignore[arg-type]
    assert len(read) == len(table.entries) == (24 if table.grid != "full" else 8 + 8 + 1 + 4 + 4 + 4)
    for point, stored in read.items():
        assert stored.numbers.dtype == np.float32
        np.testing.assert_array_equal(stored.numbers, table.entries[point].scale)
        assert stored.zero_point == table.entries[point].zero_point
    check_scales(table, read, tflite.TARGET)
    assert computes_int8(GraphEditor(file)) == (0 if table.grid == "w8a16" else 8)


def test_one_ulp_of_any_scale_and_one_step_of_any_zero_point_are_noticed(
    network: SmallDeployable, table: Table, file: Path
) -> None:
    graph = GraphEditor(file)
    names = {graph.name(index): index for index in range(len(graph.graph.tensors))}
    for point, changed in {**{point: "scale" for point in table.entries}, "stem:output": "zero point"}.items():
        quantization = graph.graph.tensors[names[point]].quantization if point in names else None
        if quantization is None:  # an input shared with another convolution, which names the tensor
            assert point.endswith(":input")
            continue
        kept = quantization.scale, quantization.zeroPoint
        if changed == "scale":
            quantization.scale = np.nextafter(quantization.scale, np.float32(1))
            text = f"another scale for '{point}' than the table"
        else:
            quantization.zeroPoint = quantization.zeroPoint + 1
            text = f"zero point .* for '{point}' and the table"
        with pytest.raises(VerificationError, match=text):
            check_scales(table, stored_in(graph), tflite.TARGET)
        quantization.scale, quantization.zeroPoint = kept
    check_scales(table, stored_in(graph), tflite.TARGET)


@pytest.mark.parametrize("grid", [COMMON, AFFINE], ids=["common", "affine"])
def test_a_convolution_that_is_zero_on_all_images_gives_a_file_that_opens(
    network: SmallDeployable, crops: np.ndarray, float_file: Path, grid: Grid, tmp_path: Path
) -> None:
    table = absmax_table(network, crops, grid)
    scale, zero_point = grid.activation(0.0, 0.0)
    zero = replace(table.entries["pointwise:output"], scale=scale, zero_point=zero_point)
    dead = replace(table, entries={**table.entries, "pointwise:output": zero})
    own = Path(shutil.copy(float_file, tmp_path))
    assert all(np.isfinite(axis).all() for axis in run(written(network, dead, own), crops[:1]))


def test_weights_are_the_grid_integers(network: SmallDeployable, table: Table, file: Path) -> None:
    graph = GraphEditor(file)
    for operator in graph.operators(OPS.CONV_2D, OPS.DEPTHWISE_CONV_2D):
        name = graph.name(int(operator.inputs[1])).rpartition(":")[0]
        order = (0, 2, 3, 1) if graph.code(operator) == OPS.CONV_2D else (1, 2, 3, 0)
        weight = network.convolutions()[name].conv.weight.detach().numpy()
        expected = COMMON.quantize_weight(weight, table.entries[f"{name}:weight"].scale).transpose(order)
        np.testing.assert_array_equal(graph.constant(int(operator.inputs[1])), expected)
        assert np.abs(expected.astype(int)).max() == 127


def test_every_convolution_computes_the_integer_reference(
    network: SmallDeployable, table: Table, file: Path, crops: np.ndarray
) -> None:
    """Output integers from the input integers that the file itself had: at most one step off, where halves round.

    Of 65536 steps more fall on the other side of a half: the kernels multiply by 16-bit factors there.
    """
    share = 0.3 if table.grid == "w8a16" else 0.02
    graph, values = GraphEditor(file), tensors(file, crops[0])
    for operator in graph.operators(OPS.CONV_2D, OPS.DEPTHWISE_CONV_2D):
        read, weight = (int(index) for index in operator.inputs[:2])
        module = network.convolutions()[graph.name(weight).rpartition(":")[0]]
        source, output = values[graph.name(read)], values[graph.name(int(operator.outputs[0]))]
        assert source.dtype == output.dtype == (np.int16 if table.grid == "w8a16" else np.int8)
        padded = module.name in ("stem", "down")
        expected = integer_convolution(source, graph.scale(read), module, table, padded)
        difference = np.abs(output.transpose(0, 3, 1, 2).astype(int) - expected)
        assert difference.max() <= 1 and (difference > 0).mean() < share, module.name
        assert len(np.unique(output)) > 10, module.name


def integer_convolution(source: np.ndarray, read: Any, module: Any, table: Table, padded: bool) -> np.ndarray:
    """Integers (1,H,W,C) -> integers (1,O,H',W'); `padded`: the input has its border already. Exact in float64."""
    conv, (scale_in, zero_in) = module.conv, read
    scale_w, output = table.entries[f"{module.name}:weight"].scale, table.entries[f"{module.name}:output"]
    weight = COMMON.quantize_weight(conv.weight.detach().numpy(), scale_w).astype(np.float64)
    sums = torch.nn.functional.conv2d(
        torch.from_numpy(source.transpose(0, 3, 1, 2).astype(np.float64) - zero_in),
        torch.from_numpy(weight),
        None,
        conv.stride,
        0 if padded else conv.padding,
        1,
        conv.groups,
    ).numpy()
    factor = (scale_in.astype(np.float64) * scale_w)[:, None, None]
    real = (sums + np.rint(conv.bias.detach().numpy()[:, None, None] / factor)) * factor
    low, high = {"relu": (0, np.inf), "relu6": (0, 6)}.get(module.activation, (-np.inf, np.inf))
    limit = 2 ** (output.bits - 1)
    steps = np.rint(np.clip(real, low, high) / output.scale.astype(np.float64)) + output.zero_point
    return np.clip(steps, -limit, limit - 1).astype(int)


@pytest.mark.parametrize("options", [{}, PLAIN_KERNELS], ids=["xnnpack", "plain"])
def test_the_file_and_fake_quantization_agree(
    network: SmallDeployable, table: Table, file: Path, crops: np.ndarray, options: dict[str, Any]
) -> None:
    """End to end on eight convolutions, both kernels stay at the floor that rounding sets."""
    expected = float_logits(fake_quantize(network, table), crops)
    floor = 0.0005 if table.grid == "w8a16" else 0.015
    for found, reference in zip(run(file, crops, **options), expected, strict=True):
        assert relative_rms(found, reference) < floor
    for found, reference in zip(run(file, crops, **options), float_logits(network, crops), strict=True):
        assert 0.001 < relative_rms(found, reference) < 0.08


@pytest.mark.parametrize("grid", [COMMON, AFFINE, W8A16], ids=lambda grid: grid.name)
def test_convolutions_left_in_float_stay_float(
    network: SmallDeployable, float_file: Path, crops: np.ndarray, grid: Grid
) -> None:
    """int8-mixed: an input of an integer convolution may be a float one's output, and the other way round."""
    table = absmax_table(network, crops, grid).leaving_in_float(["middle", "down", "head"])
    path = written(network, table, float_file)
    graph = GraphEditor(path)
    assert computes_int8(graph) == (0 if grid is W8A16 else 5)
    check_scales(table, stored_in(graph), tflite.TARGET)
    for found, reference in zip(run(path, crops), float_logits(fake_quantize(network, table), crops), strict=True):
        assert relative_rms(found, reference) < 0.015


def test_everything_around_the_convolutions_stays_float(common_file: Path) -> None:
    graph = GraphEditor(common_file)
    for operator in graph.operators(OPS.FULLY_CONNECTED, OPS.LOGISTIC, OPS.MUL, OPS.MAX_POOL_2D):
        assert all(
            graph.dtype(int(index)) == np.float32 for index in (*operator.inputs, *operator.outputs) if index >= 0
        )
    assert all(graph.dtype(int(operator.inputs[0])) == np.int8 for operator in graph.operators(OPS.PAD))


def test_float_weights_do_not_stay_in_the_file(network: SmallDeployable, float_file: Path, common_file: Path) -> None:
    weights = sum(module.conv.weight.numel() for module in network.convolutions().values())
    assert float_file.stat().st_size - common_file.stat().st_size > 2 * weights
    names = {tensor.name for tensor in GraphEditor(common_file).graph.tensors}
    assert b"head:weight" in names and len(GraphEditor(common_file).model.buffers) < len(names)


def test_buffers_are_aligned(common_file: Path) -> None:
    data = common_file.read_bytes()
    graph = GraphEditor(common_file)
    for tensor in range(len(graph.graph.tensors)):
        value = graph.constant(tensor)
        if value is not None and value.nbytes >= 64:
            assert data.find(value.tobytes()) % BUFFER_ALIGNMENT == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head:output": None}, "no scale for 'head:output', without which TFLite cannot run"),
        ({"head:weight": Entry(np.ones(4, np.float32), axis=0)}, "4 weight scales do not fit convolution 'head'"),
        (
            {"head:input": Entry(np.full(1, 2**-40, np.float32))},
            "bias of 'head' does not fit into 32 bits at the table's scales",
        ),
    ],
)
def test_a_table_that_cannot_be_written_is_refused(
    network: SmallDeployable, common: Table, float_file: Path, changes: dict[str, Entry | None], message: str
) -> None:
    entries = {**common.entries, **changes}
    broken = replace(common, entries={point: entry for point, entry in entries.items() if entry is not None})
    with pytest.raises(BadInputError, match=message):
        written(network, broken, float_file)


def test_something_else_than_a_tflite_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(BadInputError, match="is not a TFLite model: it lacks the mark TFL3"):
        GraphEditor(path)


def test_integers_are_taken_over_where_scale_and_zero_point_are_the_same() -> None:
    writer: Any = SimpleNamespace(graph=SimpleNamespace(scale=lambda tensor: (np.float32([0.1]), 3)))
    for scale, zero, same in ((0.1, 3, True), (0.1, 7, False), (0.2, 3, False)):
        assert IntegerWriter.on_grid(writer, 0, Entry(np.float32([scale]), zero, low=-128)) is same


def test_a_tensor_is_rounded_once_for_every_scale_and_zero_point() -> None:
    numbers = iter(range(10, 20))
    writer = IntegerWriter.__new__(IntegerWriter)
    writer.graph = SimpleNamespace(  # type: ignore[assignment]
        shape=lambda tensor: (1,),
        add_tensor=lambda *_, **__: next(numbers),
        dtype=lambda tensor: np.dtype(np.int8),
        new_operator=lambda *made: made,
    )
    writer.integers, writer._rounded, writer.operators = {}, {}, []
    entries = [Entry(np.float32([scale]), zero, low=-128) for scale, zero in ((0.1, 3), (0.1, 7), (0.2, 3), (0.1, 3))]
    assert [writer.rounded(0, entry, "a:input") for entry in entries] == [10, 11, 12, 10]
    assert len(writer.operators) == 3 and writer.rounded(1, entries[0], "b:input") == 13


def test_a_pad_of_several_readers_stays_in_float() -> None:
    """Moved into integers it would be lost to the reader that takes floats."""
    pad: Any = SimpleNamespace(outputs=[7])
    integer, other = object(), object()
    for readers, waits in (([integer], True), ([other], False), ([integer, other], False), ([other, integer], False)):
        writer: Any = SimpleNamespace(
            graph=SimpleNamespace(code=lambda operator: OPS.PAD, consumers=lambda tensor, readers=readers: readers),
            named={id(integer): "stem"},
        )
        assert IntegerWriter.waits(writer, pad) is waits


def test_operators_state_the_versions_that_know_their_integers(table: Table, file: Path) -> None:
    """Source: TensorFlow Lite, `tools/versioning/op_version.cc`; weights have a scale for every channel."""
    graph, wide = GraphEditor(file), table.grid == "w8a16"
    known = {OPS.CONV_2D: 4, OPS.DEPTHWISE_CONV_2D: 5, OPS.QUANTIZE: 2, OPS.DEQUANTIZE: 3, OPS.PAD: 3} if wide else {
        OPS.CONV_2D: 3, OPS.DEPTHWISE_CONV_2D: 3, OPS.QUANTIZE: 1, OPS.DEQUANTIZE: 2, OPS.PAD: 2, OPS.LOGISTIC: 2,
        OPS.MUL: 2, OPS.ADD: 2, OPS.MEAN: 2, OPS.CONCATENATION: 2, OPS.MAX_POOL_2D: 2, OPS.TRANSPOSE: 2,
    }  # fmt: skip
    seen = set()
    for operator in graph.graph.operators:
        ends = (int(operator.inputs[0]), int(operator.outputs[0]))
        code = graph.code(operator)
        if any(graph.dtype(tensor) in (np.int8, np.int16) for tensor in ends) and code in known:
            assert graph.model.operatorCodes[operator.opcodeIndex].version >= known[code], code
            seen.add(code)
    assert {OPS.CONV_2D, OPS.DEPTHWISE_CONV_2D, OPS.QUANTIZE, OPS.DEQUANTIZE} <= seen

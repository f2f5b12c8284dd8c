"""Int8 ONNX: every convolution against torch, integer kernels in ONNX Runtime, scales bit for bit and back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import AFFINE, COMMON, W8, W8A16, Entry, Grid, Table
from rtmw_edge.quantization.fake import fake_quantize
from small_deployable import SmallDeployable, absmax_table, float_logits, relative_rms, small_deployable, smooth_crops

from rtmw_edge.errors import VerificationError
from rtmw_edge.runtime.onnx_session import session_options

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")

from onnx import numpy_helper  # noqa: E402
from rtmw_edge.targets import onnx_qdq  # noqa: E402
from rtmw_edge.targets.base import Precision, check_scales  # noqa: E402
from rtmw_edge.targets.onnx import TARGET, float_model, with_half_weights  # noqa: E402

CROPS = smooth_crops(6)


@pytest.fixture(scope="module", params=[COMMON, AFFINE], ids=["common", "affine"])
def table(network: SmallDeployable, request: pytest.FixtureRequest) -> Table:
    return absmax_table(network, CROPS, request.param)


@pytest.fixture(scope="module")
def float_graph(network: SmallDeployable) -> onnx.ModelProto:
    return float_model(network, 1, lambda step: None)


@pytest.fixture(scope="module")
def int8_graph(float_graph: onnx.ModelProto, table: Table) -> onnx.ModelProto:
    return onnx_qdq.quantize(float_graph, table, onnx_qdq.UINT8)


def session(model: onnx.ModelProto, optimized: Path | None = None) -> ort.InferenceSession:
    options = session_options(threads=1)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, outputs: list[str] | None = None) -> list[np.ndarray]:
    opened = session(model)
    answers = [opened.run(outputs, {"image": crop[None]}) for crop in CROPS]
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]


def test_the_table_is_in_the_file_bit_for_bit(int8_graph: onnx.ModelProto, table: Table, tmp_path: Path) -> None:
    onnx.save(int8_graph, tmp_path / "model.onnx")
    read = TARGET.read_scales({"model": tmp_path / "model.onnx"}, small_deployable())
    assert read.keys() == table.entries.keys()
    check_scales(table, read, TARGET)
    for point, entry in table.entries.items():
        assert read[point].numbers.tobytes() == entry.scale.tobytes(), point


@pytest.mark.parametrize("point", ["stem:input", "depthwise:weight", "attention:output"])
def test_one_bit_of_one_scale_fails_by_name(int8_graph: onnx.ModelProto, table: Table, point: str) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(int8_graph)
    for item in changed.graph.initializer:
        if item.name == f"{point}:scale":
            values = numpy_helper.to_array(item).copy()
            values.flat[-1] = np.nextafter(values.flat[-1], np.float32(1e9))
            item.CopyFrom(numpy_helper.from_array(values, item.name))
    with pytest.raises(VerificationError, match=f"holds another scale for '{point}' than the table: .* instead of"):
        check_scales(table, onnx_qdq.read_scales(changed), TARGET)


def test_a_convolution_left_in_float_fails_by_name(float_graph: onnx.ModelProto, table: Table) -> None:
    with pytest.raises(VerificationError, match="file holds no scale for 'attention:input'; nothing was kept"):
        check_scales(
            replace(table, entries=dict(sorted(table.entries.items()))), onnx_qdq.read_scales(float_graph), TARGET
        )


def test_a_point_beside_the_table_fails_by_name(int8_graph: onnx.ModelProto, table: Table) -> None:
    fewer = {point: entry for point, entry in table.entries.items() if not point.startswith("head:")}
    with pytest.raises(VerificationError, match="quantizes 'head:input', which is not in the table"):
        check_scales(replace(table, entries=fewer), onnx_qdq.read_scales(int8_graph), TARGET)


@pytest.mark.parametrize("point", ["stem:input", "attention:output"])
def test_a_zero_point_moved_by_one_fails_by_name(int8_graph: onnx.ModelProto, table: Table, point: str) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(int8_graph)
    for item in changed.graph.initializer:
        if item.name == f"{point}:zero":
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) + np.uint8(1), item.name))
    there = table.entries[point].zero_point
    with pytest.raises(VerificationError, match=f"zero point {there + 1} for '{point}' and the table {there};"):
        check_scales(table, onnx_qdq.read_scales(changed), TARGET)


def test_a_weight_with_two_zero_points_fails_by_name(int8_graph: onnx.ModelProto) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(int8_graph)
    for item in changed.graph.initializer:
        if item.name == "down:weight:zero":
            zeros = numpy_helper.to_array(item).copy()
            zeros[0] += 1
            item.CopyFrom(numpy_helper.from_array(zeros, item.name))
    with pytest.raises(VerificationError, match="has several zero points for 'down:weight'"):
        onnx_qdq.read_scales(changed)


def test_a_pair_with_two_scales_is_refused(int8_graph: onnx.ModelProto) -> None:
    changed = onnx.ModelProto()
    changed.CopyFrom(int8_graph)
    other = numpy_helper.from_array(np.float32(0.5), "other")
    changed.graph.initializer.append(other)
    for node in changed.graph.node:
        if node.name == "down:output:dequantize":
            node.input[1] = "other"
    with pytest.raises(VerificationError, match="quantizes and dequantizes 'down:output' with different scales"):
        onnx_qdq.read_scales(changed)


def test_weights_are_int8_and_biases_int32_in_the_file(
    int8_graph: onnx.ModelProto, network: SmallDeployable, table: Table
) -> None:
    values = {item.name: numpy_helper.to_array(item) for item in int8_graph.graph.initializer}
    for name, module in network.convolutions().items():
        weight = module.conv.weight.detach().numpy()
        scale = np.abs(weight).max((1, 2, 3)) / np.float32(127)
        expected = np.rint(weight / scale[:, None, None, None])
        assert values[f"{name}:weight:integers"].dtype == np.int8
        assert np.array_equal(values[f"{name}:weight:integers"], expected), name
        step = values[f"{name}:bias:scale"]
        bias = values[f"{name}:bias:integers"]
        assert bias.dtype == np.int32
        assert np.abs(bias * step - module.conv.bias.detach().numpy()).max() <= step.max() / 2 * 1.01
        zero = values[f"{name}:input:zero"]
        assert zero == 128 + table.entries[f"{name}:input"].zero_point and zero.dtype == np.uint8
    stored = sum(array.nbytes for array in values.values() if array.dtype == np.float32)
    assert stored < 45_000 * 4, "only the tail is float"


def test_every_convolution_becomes_an_integer_kernel(int8_graph: onnx.ModelProto, tmp_path: Path) -> None:
    session(int8_graph, tmp_path / "optimized.onnx")
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert ran["QLinearConv"] == 8 and ran["Conv"] == 0 and ran["Sigmoid"] == 0


def test_each_convolution_is_the_fake_quantized_one(
    int8_graph: onnx.ModelProto, network: SmallDeployable, table: Table
) -> None:
    """Layer by layer, on what the layer before gave in ONNX Runtime, so that errors cannot hide in one another."""
    watched = onnx.ModelProto()
    watched.CopyFrom(int8_graph)
    producers = {name: node for node in watched.graph.node for name in node.output}
    points: dict[str, tuple[str, str]] = {}
    for conv in onnx_qdq.convolutions(watched):
        source = producers[producers[conv.input[0]].input[0]].input[0]
        output = next(node.output[0] for node in watched.graph.node if node.name == f"{conv.name}:output:dequantize")
        points[conv.name] = (source, output)
    names = sorted({name for pair in points.values() for name in pair})
    for name in names:
        watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    seen = dict(zip(names, run(watched, names), strict=True))
    quantized = fake_quantize(network, table)
    for name, module in quantized.convolutions().items():
        source, output = (torch.from_numpy(seen[tensor]) for tensor in points[name])
        with torch.no_grad():
            conv = module.conv
            weight = module.quant_w(conv.weight)
            expected = torch.nn.functional.conv2d(
                module.quant_in(source), weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
            )
            expected = module.quant_out(expected)
        steps = ((output - expected) / float(table.entries[f"{name}:output"].scale[0])).abs()
        assert steps.max() <= 1.001, name
        assert (steps < 1e-3).float().mean() > 0.99, name


def test_logits_are_those_of_fake_quantization(
    int8_graph: onnx.ModelProto, network: SmallDeployable, table: Table
) -> None:
    expected = float_logits(fake_quantize(network, table), CROPS)
    plain = float_logits(network, CROPS)
    for found, wanted, exact in zip(run(with_half_weights(int8_graph)), expected, plain, strict=True):
        assert relative_rms(found, wanted) < 0.015
        assert relative_rms(found, wanted) < 0.7 * relative_rms(found, exact)


def test_the_int8_spelling_gives_the_same_function(float_graph: onnx.ModelProto, table: Table) -> None:
    spelled = onnx_qdq.quantize(float_graph, table, onnx_qdq.INT8)
    operators = {node.op_type for node in spelled.graph.node}
    assert "QuickGelu" not in operators and {item.domain for item in spelled.opset_import} == {""}
    check_scales(table, onnx_qdq.read_scales(spelled), TARGET)
    uint8 = run(onnx_qdq.quantize(float_graph, table, onnx_qdq.UINT8))
    for found, wanted in zip(run(spelled), uint8, strict=True):
        assert relative_rms(found, wanted) < 0.015


def test_saturated_activations_stay_on_the_grid(float_graph: onnx.ModelProto, table: Table) -> None:
    """Scales ten times too small: everything clips, nothing wraps around."""
    entries = {
        point: entry
        if entry.axis == 0 or point == "attention:output"
        else replace(entry, scale=entry.scale / np.float32(10))
        for point, entry in table.entries.items()
    }
    graph = onnx_qdq.quantize(float_graph, replace(table, entries=entries), onnx_qdq.UINT8)
    probe = "stem:output:dequantize"
    tensor = next(node.output[0] for node in graph.graph.node if node.name == probe)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    steps = run(graph, [tensor])[0] / entries["stem:output"].scale + entries["stem:output"].zero_point
    assert round(float(steps.max())) == 127 and round(float(steps.min())) in (-127, -128)


@pytest.mark.parametrize("grid", [W8, W8A16], ids=["w8", "w8a16"])
def test_float_arithmetic_on_8_bit_weights(grid: Grid, network: SmallDeployable, tmp_path: Path) -> None:
    """Weights alone, and 16-bit activations: ONNX Runtime's CPU computes both in float, with the grid's rounding."""
    table = absmax_table(network, CROPS, grid)
    converted = TARGET.convert(network, table, Precision(grid.precision), tmp_path, 1, lambda step: None)
    assert converted.convolutions == {"total": 8, "int8": 0}
    read = TARGET.read_scales(converted.files, network)
    check_scales(table, read, TARGET)
    assert len(read) == 8 * len(grid.points)
    model = onnx.load(converted.files["model"])
    assert {item.version for item in model.opset_import if not item.domain} == {21 if grid is W8A16 else 18}
    kinds = Counter(numpy_helper.to_array(item).dtype.name for item in model.graph.initializer)
    assert kinds["int8"] == 16 and (kinds["uint16"] > 0) == (grid is W8A16) and kinds["float16"] == 2, "the tail"
    for found, wanted, exact in zip(
        run(model), float_logits(fake_quantize(network, table), CROPS), float_logits(network, CROPS), strict=True
    ):
        assert relative_rms(found, wanted) < 1e-3
        assert relative_rms(found, wanted) < 0.2 * relative_rms(found, exact)


def test_convolutions_left_in_float_stay_as_they_are(network: SmallDeployable, tmp_path: Path) -> None:
    mixed = absmax_table(network, CROPS, AFFINE).leaving_in_float(["down", "head"])
    converted = TARGET.convert(network, mixed, Precision.INT8_MIXED, tmp_path, 1, lambda step: None)
    assert converted.convolutions == {"total": 8, "int8": 6}
    check_scales(mixed, TARGET.read_scales(converted.files, network), TARGET)
    model = onnx.load(converted.files["model"])
    session(model, tmp_path / "optimized.onnx")
    ran = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert ran["QLinearConv"] == 6 and ran["Conv"] + ran["FusedConv"] == 2
    for found, wanted in zip(run(model), float_logits(fake_quantize(network, mixed), CROPS), strict=True):
        assert relative_rms(found, wanted) < 0.015


def two(entries: dict[str, Entry]) -> onnx.ModelProto:
    """Convolutions "a" and "b" that read one tensor, quantized as `entries` say."""
    values = {
        f"{name}{kind}": np.ones((2, 3, 1, 1) if kind == "w" else 2, np.float32) for name in "ab" for kind in "wb"
    }
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", f"{name}w", f"{name}b"], [f"{name}y"], name) for name in "ab"],
        "two",
        [onnx.helper.make_tensor_value_info("x", 1, (1, 3, 4, 4))],
        [onnx.helper.make_tensor_value_info(f"{name}y", 1, (1, 2, 4, 4)) for name in "ab"],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )
    return onnx_qdq.quantize(onnx.helper.make_model(graph), Table("two", entries, "affine"), onnx_qdq.INT8)


@pytest.mark.parametrize(("scale", "zero", "quantizers"), [(0.1, 3, 1), (0.1, 7, 2), (0.2, 3, 2)])
def test_two_that_read_one_tensor_share_its_quantizer_where_all_of_it_is_equal(
    scale: float, zero: int, quantizers: int
) -> None:
    entry = Entry(np.float32([0.1]), 3, low=-128)
    model = two({"a:input": entry, "b:input": Entry(np.float32([scale]), zero, low=-128)})
    assert Counter(node.op_type for node in model.graph.node)["QuantizeLinear"] == quantizers
    read = onnx_qdq.read_scales(model)
    assert [read[f"{name}:input"].zero_point for name in "ab"] == [3, zero]
    assert [read[f"{name}:input"].numbers.item() for name in "ab"] == pytest.approx([0.1, scale])


@pytest.mark.parametrize("point", ["a:input", "a:output"])
def test_a_tensor_that_is_quantized_and_never_dequantized_fails_by_name(point: str) -> None:
    """Or the other way round: half a pair says nothing of what is computed."""
    model = two({point: Entry(np.float32([0.1]), low=-128)})
    half = next(n for n in model.graph.node if n.name == f"{point}:{'quantize' if 'input' in point else 'dequantize'}")
    model.graph.node.remove(half)
    with pytest.raises(VerificationError, match=f"quantizes and dequantizes '{point}' with different scales"):
        onnx_qdq.read_scales(model)


@pytest.mark.parametrize(
    ("others", "fused"),
    [
        ([("Mul", ["x", "s"], ["y"])], True),
        ([("Mul", ["z", "s"], ["y"])], False),  # a gate of another tensor
        ([("Mul", ["x", "s"], ["m"]), ("Add", ["m", "s"], ["y"])], False),  # the sigmoid is wanted for itself, too
    ],
)
def test_silu_alone_is_fused(others: list[tuple[str, list[str], list[str]]], fused: bool) -> None:
    node = onnx.helper.make_node
    nodes = [node("Sigmoid", ["x"], ["s"]), *(node(kind, given, made) for kind, given, made in others)]
    inputs = [onnx.helper.make_tensor_value_info(name, 1, (2,)) for name in "xz"]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [onnx.helper.make_tensor_value_info("y", 1, (2,))])
    model = onnx.helper.make_model(graph)
    onnx_qdq._fuse_silu(model)
    kinds = [kind for kind, *_ in others]
    assert [node.op_type for node in model.graph.node] == (["QuickGelu"] if fused else ["Sigmoid", *kinds])


def test_matrices_and_kernels_are_halved_and_vectors_of_any_shape_are_not() -> None:
    shapes = {"vector": (4,), "gain": (4, 1, 1), "row": (1, 4), "matrix": (4, 3), "kernel": (4, 3, 1, 1)}
    values = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in shapes.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], values))
    halved = {item.name for item in with_half_weights(model).graph.initializer if item.data_type == 10}
    assert halved == {"matrix:half", "kernel:half"}

"""Int8 and half-precision TFLite files: every convolution against an integer reference in numpy, scales bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import COMMON, Entry, Table
from rtmw_edge.quantization.fake import fake_quantize
from small_deployable import (
    SmallDeployable,
    absmax_table,
    float_logits,
    relative_rms,
    small_deployable,
    smooth_crops,
)

from rtmw_edge.errors import BadInputError, VerificationError

pytest.importorskip("litert_torch")
interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")

from rtmw_edge.targets import tflite  # noqa: E402
from rtmw_edge.targets.base import Precision, Stored, check_scales  # noqa: E402
from rtmw_edge.targets.tflite_int8 import halve_weights, quantize, scales_of  # noqa: E402
from rtmw_edge.targets.tflite_model import BUFFER_ALIGNMENT, OPS, GraphEditor  # noqa: E402

CROPS = smooth_crops(8)
PLAIN_KERNELS = interpreter_module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


@pytest.fixture(scope="module")
def network() -> SmallDeployable:
    return small_deployable()


@pytest.fixture(scope="module")
def table(network: SmallDeployable) -> Table:
    return absmax_table(network, CROPS)


@pytest.fixture(scope="module")
def float_file(network: SmallDeployable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float network, converted once; the other tests edit its graph."""
    folder = tmp_path_factory.mktemp("float")
    converted = tflite.TARGET.convert(network, None, Precision.FP32, folder, 1, lambda step: None)
    assert converted.input == {"name": "image", "dtype": "uint8", "layout": "NHWC"}
    assert converted.outputs == {"x": "simcc_x", "y": "simcc_y"}
    assert converted.convolutions == {"total": 8, "int8": 0}
    assert converted.tools.keys() == {"torch", "litert-torch", "ai-edge-litert"}
    return converted.files["model"]


@pytest.fixture(scope="module")
def int8_file(network: SmallDeployable, table: Table, float_file: Path) -> Path:
    graph = GraphEditor(float_file)
    assert quantize(graph, tflite.convolution_names(graph, network), table) == 8
    path = float_file.with_name("int8.tflite")
    graph.save(path)
    return path


def run(path: Path, crops: np.ndarray, **options: Any) -> list[np.ndarray]:
    interpreter = interpreter_module.Interpreter(str(path), num_threads=1, **options)
    runner = interpreter.get_signature_runner()
    answers = [runner(image=crop[None]) for crop in crops]
    return [np.concatenate([answer[f"simcc_{axis}"] for answer in answers]) for axis in "xy"]


def test_float_parity(network: SmallDeployable, float_file: Path) -> None:
    for found, expected in zip(run(float_file, CROPS), float_logits(network, CROPS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_scales_come_back_out_of_the_file_bit_for_bit(network: SmallDeployable, table: Table, int8_file: Path) -> None:
    read = tflite.TARGET.read_scales({"model": int8_file}, network)
    assert len(read) == 24
    for point, stored in read.items():
        assert stored.numbers.dtype == np.float32
        np.testing.assert_array_equal(stored.numbers, table.entries[point].scale)
    check_scales(table, read, tflite.TARGET)


def test_a_changed_scale_is_noticed(network: SmallDeployable, table: Table, int8_file: Path) -> None:
    read = tflite.TARGET.read_scales({"model": int8_file}, network)
    numbers = read["head:weight"].numbers.copy()
    numbers[3] = np.nextafter(numbers[3], np.float32(1))
    read["head:weight"] = Stored(numbers)
    with pytest.raises(VerificationError, match=r"another scale for 'head:weight' than the table: .* at channel 3"):
        check_scales(table, read, tflite.TARGET)


def test_weights_are_the_grid_integers(network: SmallDeployable, table: Table, int8_file: Path) -> None:
    graph = GraphEditor(int8_file)
    for operator in graph.operators(OPS.CONV_2D, OPS.DEPTHWISE_CONV_2D):
        name = graph.name(int(operator.inputs[1])).rpartition(":")[0]
        order = (0, 2, 3, 1) if graph.code(operator) == OPS.CONV_2D else (1, 2, 3, 0)
        weight = network.convolutions()[name].conv.weight.detach().numpy()
        expected = COMMON.quantize_weight(weight, table.entries[f"{name}:weight"].scale).transpose(order)
        np.testing.assert_array_equal(graph.constant(int(operator.inputs[1])), expected)
        assert np.abs(expected.astype(int)).max() == 127


def test_every_convolution_computes_the_integer_reference(
    network: SmallDeployable, table: Table, int8_file: Path
) -> None:
    """Output integers from the input integers that the file itself had: at most one step off, where halves round."""
    interpreter = interpreter_module.Interpreter(
        str(int8_file), experimental_op_resolver_type=PLAIN_KERNELS, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], CROPS[:1])
    interpreter.invoke()
    tensors = {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_tensor_details()}
    for name, module in network.convolutions().items():
        source = tensors[f"{name}:input"].transpose(0, 3, 1, 2)
        output = tensors[f"{name}:output"].transpose(0, 3, 1, 2)
        assert source.dtype == output.dtype == np.int8
        expected = integer_convolution(source, module, table, padded=name in ("stem", "down"))
        difference = np.abs(output.astype(int) - expected)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.02, name
        assert len(np.unique(output)) > 10, name


def integer_convolution(source: np.ndarray, module: Any, table: Table, padded: bool) -> np.ndarray:
    """int8 (1,C,H,W) -> integers of the output grid; `padded`: the input has its border already. Exact in float64."""
    conv = module.conv
    scale_in, scale_w, scale_out = (
        table.entries[f"{module.name}:{kind}"].scale.astype(np.float64) for kind in ("input", "weight", "output")
    )
    weight = COMMON.quantize_weight(conv.weight.detach().numpy(), scale_w.astype(np.float32)).astype(np.float64)
    padding = 0 if padded else conv.padding
    sums = torch.nn.functional.conv2d(
        torch.from_numpy(source.astype(np.float64)),
        torch.from_numpy(weight),
        None,
        conv.stride,
        padding,
        1,
        conv.groups,
    ).numpy()
    factor = (scale_in * scale_w)[:, None, None]
    real = (sums + np.rint(conv.bias.detach().numpy()[:, None, None] / factor)) * factor
    low, high = {"relu": (0, np.inf), "relu6": (0, 6)}.get(module.activation, (-np.inf, np.inf))
    return np.clip(np.rint(np.clip(real, low, high) / scale_out), -128, 127).astype(int)


def test_xnnpack_and_fake_quantization_agree(network: SmallDeployable, table: Table, int8_file: Path) -> None:
    """End to end on eight convolutions, both kernels stay at the floor that rounding sets."""
    expected = float_logits(fake_quantize(network, table), CROPS)
    for options in ({}, {"experimental_op_resolver_type": PLAIN_KERNELS}):
        for found, reference in zip(run(int8_file, CROPS, **options), expected, strict=True):
            assert relative_rms(found, reference) < 0.015
    for found, reference in zip(run(int8_file, CROPS), float_logits(network, CROPS), strict=True):
        assert 0.001 < relative_rms(found, reference) < 0.08


def test_everything_around_the_convolutions_stays_float(int8_file: Path) -> None:
    graph = GraphEditor(int8_file)
    for operator in graph.operators(OPS.FULLY_CONNECTED, OPS.LOGISTIC, OPS.MUL, OPS.MAX_POOL_2D):
        assert all(
            graph.dtype(int(index)) == np.float32 for index in (*operator.inputs, *operator.outputs) if index >= 0
        )
    assert all(graph.dtype(int(operator.inputs[0])) == np.int8 for operator in graph.operators(OPS.PAD))


def test_float_weights_do_not_stay_in_the_file(network: SmallDeployable, float_file: Path, int8_file: Path) -> None:
    weights = sum(module.conv.weight.numel() for module in network.convolutions().values())
    assert float_file.stat().st_size - int8_file.stat().st_size > 2 * weights
    names = {tensor.name for tensor in GraphEditor(int8_file).graph.tensors}
    assert b"head:weight" in names and len(GraphEditor(int8_file).model.buffers) < len(names)


def test_buffers_are_aligned(int8_file: Path) -> None:
    data = int8_file.read_bytes()
    graph = GraphEditor(int8_file)
    for tensor in range(len(graph.graph.tensors)):
        value = graph.constant(tensor)
        if value is not None and value.nbytes >= 64:
            assert data.find(value.tobytes()) % BUFFER_ALIGNMENT == 0


def test_half_precision_weights(network: SmallDeployable, float_file: Path) -> None:
    graph = GraphEditor(float_file)
    halve_weights(graph)
    path = float_file.with_name("half.tflite")
    graph.save(path)
    assert path.stat().st_size < 0.6 * float_file.stat().st_size
    assert scales_of(GraphEditor(path)) == {}
    rounded = small_deployable()
    with torch.no_grad():
        for module in rounded.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.weight.copy_(module.weight.half().float())
    for found, expected in zip(run(path, CROPS), float_logits(rounded, CROPS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_weight_beyond_half_precision_is_refused_by_name(float_file: Path) -> None:
    graph = GraphEditor(float_file)
    weight = int(next(graph.operators(OPS.CONV_2D)).inputs[1])
    buffer = graph.model.buffers[graph.graph.tensors[weight].buffer]
    buffer.data = np.full(len(buffer.data) // 4, 7e4, np.float32).view(np.uint8)
    with pytest.raises(BadInputError, match=r"reaches 7e\+04, more than float16 holds; export it in fp32"):
        halve_weights(graph)


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
    network: SmallDeployable, table: Table, float_file: Path, changes: dict[str, Entry | None], message: str
) -> None:
    entries = {**table.entries, **changes}
    broken = replace(table, entries={point: entry for point, entry in entries.items() if entry is not None})
    graph = GraphEditor(float_file)
    with pytest.raises(BadInputError, match=message):
        quantize(graph, tflite.convolution_names(graph, network), broken)


def test_a_convolution_that_the_table_lacks_stays_float(
    network: SmallDeployable, table: Table, float_file: Path
) -> None:
    entries = {point: entry for point, entry in table.entries.items() if not point.startswith("head:")}
    graph = GraphEditor(float_file)
    assert quantize(graph, tflite.convolution_names(graph, network), replace(table, entries=entries)) == 7
    assert "head:weight" not in scales_of(graph) and "stem:weight" in scales_of(graph)


def test_something_else_than_a_tflite_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(BadInputError, match="is not a TFLite model: it lacks the mark TFL3"):
        GraphEditor(path)

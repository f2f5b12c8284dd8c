"""OpenVINO: float parity, int8 kernels, scales bit for bit and back, and no word to anybody."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import AFFINE, COMMON, FULL, W8, Table
from rtmw_edge.quantization.fake import fake_quantize
from small_deployable import SmallDeployable, absmax_table, float_logits, relative_rms, small_deployable, smooth_crops

from rtmw_edge.errors import VerificationError
from rtmw_edge.runtime.openvino_engine import CONVOLUTIONS, FLOAT_KERNELS
from rtmw_edge.runtime.processor import int8_sums_overflow

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

from rtmw_edge.targets.base import Converted, Precision, check_scales  # noqa: E402
from rtmw_edge.targets.openvino import TARGET, _scale_of_weight  # noqa: E402

CROPS = smooth_crops(6)


@pytest.fixture(scope="module", params=[COMMON, AFFINE, FULL], ids=["common", "affine", "full"])
def table(network: SmallDeployable, request: pytest.FixtureRequest) -> Table:
    return absmax_table(network, CROPS, request.param)


@pytest.fixture(scope="module")
def int8(network: SmallDeployable, table: Table, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return TARGET.convert(network, table, Precision.INT8, tmp_path_factory.mktemp("int8"), 1, lambda step: None)


def compiled(converted: Converted, exact: bool = True) -> openvino.CompiledModel:
    """As the engine does it; not `exact`: in integers even where their sums overflow."""
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    if exact and int8_sums_overflow():
        config |= FLOAT_KERNELS
    return openvino.Core().compile_model(str(converted.files["xml"]), "CPU", config)


def kernels(converted: Converted, exact: bool = False) -> Counter[str]:
    """What the convolutions read, by type."""
    operations = compiled(converted, exact).get_runtime_model().get_ops()
    return Counter(
        operation.get_rt_info()["runtimePrecision"].astype(str)
        for operation in operations
        if operation.get_rt_info()["layerType"].astype(str) in CONVOLUTIONS
    )


def answers(converted: Converted, batch: int = 1) -> list[np.ndarray]:
    request = compiled(converted).create_infer_request()
    parts: list[list[np.ndarray]] = []
    for start in range(0, len(CROPS), batch):
        found = request.infer({"image": CROPS[start : start + batch]})
        parts.append([np.array(found[name]) for name in converted.outputs.values()])
    return [np.concatenate(axis) for axis in zip(*parts, strict=True)]


@pytest.mark.parametrize("batch", [1, 3])
def test_float_is_torch(network: SmallDeployable, tmp_path: Path, batch: int) -> None:
    converted = TARGET.convert(network, None, Precision.FP32, tmp_path, batch, lambda step: None)
    assert (converted.dtype, converted.layout) == ("uint8", "NHWC")
    assert converted.outputs == {"x": "simcc_x", "y": "simcc_y"}
    assert converted.convolutions == {"total": 8, "int8": 0}
    assert TARGET.read_scales(converted.files, network) == {}
    for found, wanted in zip(answers(converted, batch), float_logits(network, CROPS), strict=True):
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_half_precision_halves_the_file(network: SmallDeployable, tmp_path: Path) -> None:
    converted = TARGET.convert(network, None, Precision.FP16, tmp_path, 1, lambda step: None)
    values = sum(parameter.numel() for parameter in network.parameters())
    assert 2 * values < converted.files["bin"].stat().st_size < 2 * values + 2000
    for found, exact in zip(answers(converted), float_logits(network, CROPS), strict=True):
        assert 1e-5 < relative_rms(found, exact) < 5e-3


def test_the_table_is_in_the_file_bit_for_bit(int8: Converted, network: SmallDeployable, table: Table) -> None:
    read = TARGET.read_scales(int8.files, network)
    assert len(read) == (16 if table.grid != "full" else 8 + 8 + 1 + 4 + 4)
    check_scales(table, read, TARGET)
    for point, entry in table.carrying(TARGET.carried(table.grid)).entries.items():
        stored, zero_point = read[point], entry.zero_point
        steps = 1 if entry.axis == 0 else np.array([-128 - zero_point, 127 - zero_point], np.float32)
        assert np.array_equal(stored.numbers, entry.scale * steps) and stored.zero_point == zero_point, point


def test_a_convolution_whose_biases_are_all_zero_keeps_its_output(tmp_path: Path) -> None:
    """OpenVINO drops the sum with its biases."""
    unbiased = small_deployable()
    for convolution in (unbiased.middle.conv, unbiased.pointwise.conv, unbiased.down.conv):
        torch.nn.init.zeros_(convolution.bias)
    table = absmax_table(unbiased, CROPS, FULL)
    converted = TARGET.convert(unbiased, table, Precision.INT8, tmp_path, 1, lambda step: None)
    check_scales(table, TARGET.read_scales(converted.files, unbiased), TARGET)


def test_a_convolution_whose_biases_are_all_equal_is_named_with_the_reason(tmp_path: Path) -> None:
    equal = small_deployable()
    torch.nn.init.constant_(equal.middle.conv.bias, 0.3)
    converted = TARGET.convert(equal, absmax_table(equal, CROPS, FULL), Precision.INT8, tmp_path, 1, lambda step: None)
    with pytest.raises(
        VerificationError, match=r"'middle:output' .* steps, as where a convolution's biases are all equal"
    ):
        TARGET.read_scales(converted.files, equal)


def test_every_convolution_runs_in_int8(int8: Converted) -> None:
    kinds = kernels(int8)
    assert set(kinds) <= {"i8", "u8"} and kinds.total() == 8


def test_integers_are_computed_in_float_where_they_would_overflow(int8: Converted) -> None:
    """On x86 without VNNI; elsewhere the engine runs integer kernels."""
    kinds = kernels(int8, exact=True)
    assert kinds.total() == 8 and (set(kinds) == {"f32"} if int8_sums_overflow() else set(kinds) <= {"i8", "u8"})


def test_weights_are_int8_and_the_tail_half_in_the_file(int8: Converted, network: SmallDeployable) -> None:
    convolutions = sum(module.conv.weight.numel() for module in network.convolutions().values())
    tail = sum(parameter.numel() for parameter in network.tails.parameters())
    size = int8.files["bin"].stat().st_size
    assert convolutions + 2 * tail < size < convolutions + 2 * tail + 4000


def test_logits_are_those_of_fake_quantization(int8: Converted, network: SmallDeployable, table: Table) -> None:
    expected = float_logits(fake_quantize(network, table, TARGET.carried(table.grid)), CROPS)
    plain = float_logits(network, CROPS)
    for found, wanted, exact in zip(answers(int8), expected, plain, strict=True):
        assert relative_rms(found, wanted) < 0.015
        assert relative_rms(found, wanted) < 0.7 * relative_rms(found, exact)


def changed_constant(converted: Converted, folder: Path, name: str, port: int) -> dict[str, Path]:
    """The files with one number of a constant moved by one unit in the last place."""
    model = openvino.Core().read_model(converted.files["xml"])
    for node in model.get_ops():
        if node.get_friendly_name() == name:
            constant = node.input_value(port).get_node()
            values = np.array(constant.data)
            values.flat[-1] = np.nextafter(values.flat[-1], np.float32(-9))
            fresh = openvino.opset8.constant(values) if hasattr(openvino, "opset8") else openvino.op.Constant(values)
            node.input(port).replace_source_output(fresh.output(0))
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return {"xml": folder / "model.xml", "bin": folder / "model.bin"}


def test_one_bit_of_a_weight_scale_fails_by_name(
    int8: Converted, network: SmallDeployable, table: Table, tmp_path: Path
) -> None:
    files = changed_constant(int8, tmp_path, "middle:weight:dequantize", 1)
    with pytest.raises(VerificationError, match="holds another scale for 'middle:weight' than the table"):
        check_scales(table, TARGET.read_scales(files, network), TARGET)


@pytest.mark.parametrize("port", [1, 4])
def test_one_bit_of_a_bound_fails_by_name(
    int8: Converted, network: SmallDeployable, table: Table, tmp_path: Path, port: int
) -> None:
    point = "join:concat" if table.grid == "full" else "down:input"
    files = changed_constant(int8, tmp_path, f"{point}:dequantize", port)
    with pytest.raises(VerificationError, match=f"quantizes '{point}' with bounds that are not int8 steps"):
        TARGET.read_scales(files, network)


def test_levels_that_are_not_int8_s_fail_by_name(
    int8: Converted, network: SmallDeployable, table: Table, tmp_path: Path
) -> None:
    point = "join:concat" if table.grid == "full" else "down:input"
    graph = ElementTree.parse(int8.files["xml"])
    (layer,) = [layer for layer in graph.iter("layer") if layer.get("name") == f"{point}:dequantize"]
    layer.find("data").set("levels", "16")
    graph.write(tmp_path / "model.xml")
    with pytest.raises(VerificationError, match=f"quantizes '{point}' with bounds that are not int8 steps"):
        TARGET.read_scales({"xml": tmp_path / "model.xml", "bin": int8.files["bin"]}, network)


def test_a_zero_point_moved_by_one_fails_by_name(int8: Converted, network: SmallDeployable, table: Table) -> None:
    point = "down:output" if table.grid == "full" else "down:input"
    moved = replace(table.entries[point], zero_point=table.entries[point].zero_point + 1)
    with pytest.raises(VerificationError, match=f"holds another scale for '{point}' than the table"):
        check_scales(
            replace(table, entries={**table.entries, point: moved}), TARGET.read_scales(int8.files, network), TARGET
        )


def test_float_arithmetic_on_8_bit_weights(network: SmallDeployable, tmp_path: Path) -> None:
    table = absmax_table(network, CROPS, W8)
    converted = TARGET.convert(network, table, Precision.W8, tmp_path, 1, lambda step: None)
    assert converted.convolutions == {"total": 8, "int8": 0}
    read = TARGET.read_scales(converted.files, network)
    check_scales(table, read, TARGET)
    assert len(read) == 8
    convolutions = sum(module.conv.weight.numel() for module in network.convolutions().values())
    tail = sum(parameter.numel() for parameter in network.tails.parameters())
    assert convolutions + 2 * tail < converted.files["bin"].stat().st_size < convolutions + 2 * tail + 4000
    expected = float_logits(fake_quantize(network, table), CROPS)
    for found, wanted, exact in zip(answers(converted), expected, float_logits(network, CROPS), strict=True):
        assert relative_rms(found, wanted) < 1e-3
        assert relative_rms(found, wanted) < 0.2 * relative_rms(found, exact)


def test_convolutions_left_in_float_stay_as_they_are(network: SmallDeployable, tmp_path: Path) -> None:
    mixed = absmax_table(network, CROPS, AFFINE).leaving_in_float(["down", "head"])
    converted = TARGET.convert(network, mixed, Precision.INT8_MIXED, tmp_path, 1, lambda step: None)
    assert converted.convolutions == {"total": 8, "int8": 6}
    check_scales(mixed, TARGET.read_scales(converted.files, network), TARGET)
    kinds = kernels(converted)
    assert kinds["f32"] == 2 and kinds.total() == 8
    expected = float_logits(fake_quantize(network, mixed, TARGET.carried(mixed.grid)), CROPS)
    for found, wanted in zip(answers(converted), expected, strict=True):
        assert relative_rms(found, wanted) < 0.015


def test_converting_opens_no_connection(
    network: SmallDeployable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the converter opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HOME", str(tmp_path))
    TARGET.convert(network, None, Precision.FP32, tmp_path, 1, lambda step: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]


def test_a_place_that_the_exporter_loses_fails_by_name(network: SmallDeployable) -> None:
    from rtmw_edge.targets.onnx import float_model
    from rtmw_edge.targets.onnx_between import name_quantizers, with_quantizers

    quantized = with_quantizers(network, absmax_table(network, CROPS, FULL).carrying(["sum"]))
    model = float_model(quantized, 1, lambda step: None)
    names = [node.name for node in model.graph.node if "quantize" in node.name]
    assert names == ["add:sum:quantize", "add:sum:dequantize"]
    with pytest.raises(VerificationError, match="The exporter lost 'add:sum:dequantize' or where it belongs"):
        name_quantizers(model, quantized)  # the notes are gone


@pytest.mark.parametrize(("dtype", "found"), [(np.int8, [0.25, 0.5]), (np.uint8, None), (np.float16, None)])
def test_only_weights_that_are_stored_as_int8_have_scales(dtype: type, found: list[float] | None) -> None:
    from openvino import opset8

    stored = opset8.convert(opset8.constant(np.ones((2, 3, 1, 1), dtype)), "f32")
    factors = opset8.constant(np.float32([0.25, 0.5]).reshape(2, 1, 1, 1))
    read = _scale_of_weight(opset8.multiply(stored, factors))
    assert (None if read is None else read.tolist()) == found

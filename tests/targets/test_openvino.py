"""OpenVINO: float parity, int8 kernels, scales bit for bit and back, and no word to anybody."""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.fake import fake_quantize
from small_deployable import SmallDeployable, absmax_table, float_logits, relative_rms, small_deployable, smooth_crops

from rtmw_edge.errors import VerificationError

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

from rtmw_edge.targets.base import Converted, Precision, check_scales  # noqa: E402
from rtmw_edge.targets.openvino import TARGET  # noqa: E402

CROPS = smooth_crops(6)


@pytest.fixture(scope="module")
def network() -> SmallDeployable:
    return small_deployable()


@pytest.fixture(scope="module")
def table(network: SmallDeployable) -> Table:
    return absmax_table(network, CROPS)


@pytest.fixture(scope="module")
def int8(network: SmallDeployable, table: Table, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return TARGET.convert(network, table, Precision.INT8, tmp_path_factory.mktemp("int8"), 1, lambda step: None)


def compiled(converted: Converted) -> openvino.CompiledModel:
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return openvino.Core().compile_model(str(converted.files["xml"]), "CPU", config)


def answers(converted: Converted, batch: int = 1) -> list[np.ndarray]:
    request = compiled(converted).create_infer_request()
    parts: list[list[np.ndarray]] = []
    for start in range(0, len(CROPS), batch):
        found = request.infer({converted.input["name"]: CROPS[start : start + batch]})
        parts.append([np.array(found[name]) for name in converted.outputs.values()])
    return [np.concatenate(axis) for axis in zip(*parts, strict=True)]


@pytest.mark.parametrize("batch", [1, 3])
def test_float_is_torch(network: SmallDeployable, tmp_path: Path, batch: int) -> None:
    converted = TARGET.convert(network, None, Precision.FP32, tmp_path, batch, lambda step: None)
    assert converted.input == {"name": "image", "dtype": "uint8", "layout": "NHWC"}
    assert converted.outputs == {"x": "simcc_x", "y": "simcc_y"}
    assert converted.convolutions == {"total": 8, "int8": 0}
    assert converted.tools.keys() == {"torch", "onnx", "onnxscript", "openvino"}
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
    assert read.keys() == table.entries.keys()
    check_scales(table, read, TARGET)
    for point, entry in table.entries.items():
        assert read[point].tobytes() == entry.scale.tobytes(), point


def test_every_convolution_runs_in_int8(int8: Converted) -> None:
    operations = compiled(int8).get_runtime_model().get_ops()
    kinds = Counter(
        operation.get_rt_info()["runtimePrecision"].astype(str)
        for operation in operations
        if "Convolution" in operation.get_rt_info()["layerType"].astype(str)
    )
    assert set(kinds) <= {"i8", "u8"} and kinds.total() == 8


def test_weights_are_int8_and_the_tail_half_in_the_file(int8: Converted, network: SmallDeployable) -> None:
    convolutions = sum(module.conv.weight.numel() for module in network.convolutions().values())
    tail = sum(parameter.numel() for parameter in network.tails.parameters())
    size = int8.files["bin"].stat().st_size
    assert convolutions + 2 * tail < size < convolutions + 2 * tail + 4000


def test_logits_are_those_of_fake_quantization(int8: Converted, network: SmallDeployable, table: Table) -> None:
    expected = float_logits(fake_quantize(network, table), CROPS)
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
            values.flat[-1] = np.nextafter(values.flat[-1], np.float32(0))
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


@pytest.mark.parametrize("port", [1, 2, 3, 4])
def test_one_bit_of_a_bound_fails_by_name(int8: Converted, network: SmallDeployable, tmp_path: Path, port: int) -> None:
    files = changed_constant(int8, tmp_path, "down:input:dequantize", port)
    with pytest.raises(VerificationError, match="quantizes 'down:input' with bounds that are not int8 steps"):
        TARGET.read_scales(files, network)


def test_float_files_have_no_scales(network: SmallDeployable, tmp_path: Path) -> None:
    converted = TARGET.convert(network, None, Precision.FP32, tmp_path, 1, lambda step: None)
    assert TARGET.read_scales(converted.files, network) == {}


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

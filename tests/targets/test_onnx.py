"""Float ONNX: parity with torch, half-precision weights, batches, names, and what the file does not say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_deployable import SmallDeployable, absmax_table, float_logits, relative_rms, small_deployable, smooth_crops

from rtmw_edge.errors import RtmwEdgeError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")

from onnx import numpy_helper  # noqa: E402
from rtmw_edge.quantization import W8  # noqa: E402
from rtmw_edge.targets import base  # noqa: E402
from rtmw_edge.targets.base import Converted, Precision  # noqa: E402
from rtmw_edge.targets.onnx import TARGET, float_model  # noqa: E402

CROPS = smooth_crops(6)


@pytest.fixture(scope="module")
def network() -> SmallDeployable:
    return small_deployable(("x", "y", "z"))


def convert(network: SmallDeployable, precision: Precision, folder: Path, batch: int = 1) -> Converted:
    steps: list[str] = []
    converted = TARGET.convert(network, None, precision, folder, batch, steps.append)
    assert steps == ["tracing the network", "writing model.onnx"]
    return converted


def answers(converted: Converted, batch: int = 1) -> list[np.ndarray]:
    opened = ort.InferenceSession(str(converted.files["model"]), providers=["CPUExecutionProvider"])
    parts = [
        opened.run(list(converted.outputs.values()), {"image": CROPS[start : start + batch]})
        for start in range(0, len(CROPS), batch)
    ]
    return [np.concatenate(axis) for axis in zip(*parts, strict=True)]


def test_float_is_torch_to_a_thousandth_of_a_percent(network: SmallDeployable, tmp_path: Path) -> None:
    converted = convert(network, Precision.FP32, tmp_path)
    assert (converted.dtype, converted.layout) == ("uint8", "NHWC")
    assert converted.outputs == {"x": "simcc_x", "y": "simcc_y", "z": "simcc_z"}
    assert converted.convolutions == {"total": 8, "int8": 0}
    for found, wanted in zip(answers(converted), float_logits(network, CROPS), strict=True):
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_a_batch_of_three_gives_the_same(network: SmallDeployable, tmp_path: Path) -> None:
    converted = convert(network, Precision.FP32, tmp_path, batch=3)
    graph = onnx.load(converted.files["model"]).graph
    assert [item.dim_value for item in graph.input[0].type.tensor_type.shape.dim] == [3, 64, 48, 3]
    for found, wanted in zip(answers(converted, batch=3), float_logits(network, CROPS), strict=True):
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_half_precision_is_in_the_weights_alone(network: SmallDeployable, tmp_path: Path) -> None:
    converted = convert(network, Precision.FP16, tmp_path)
    model = onnx.load(converted.files["model"])
    kinds = {numpy_helper.to_array(item).dtype.name for item in model.graph.initializer if len(item.dims) > 1}
    assert kinds == {"float16"}, "biases, mean and deviation are rows of float32"
    size = converted.files["model"].stat().st_size
    values = sum(parameter.numel() for parameter in network.parameters())
    assert 2 * values < size < 2 * values + 20_000
    rounded = small_deployable(("x", "y", "z"))
    with torch.no_grad():
        for parameter in rounded.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())
    for found, wanted, exact in zip(
        answers(converted), float_logits(rounded, CROPS), float_logits(network, CROPS), strict=True
    ):
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
        assert 1e-5 < relative_rms(found, exact) < 2e-3


def test_the_file_opens_in_old_runtimes_and_says_nothing_of_this_machine(
    network: SmallDeployable, tmp_path: Path
) -> None:
    path = convert(network, Precision.FP32, tmp_path).files["model"]
    model = onnx.load(path)
    assert model.ir_version == 8
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
    content = path.read_bytes()
    for word in (b"/site-packages/", b"/torch/", b"rewrites.py", b"small_deployable", str(Path.home()).encode() + b"/"):
        assert word not in content


def test_convolutions_carry_their_names(network: SmallDeployable) -> None:
    graph = float_model(network, 1, lambda step: None).graph
    assert [node.name for node in graph.node if node.op_type == "Conv"] == list(network.convolutions())


def test_biases_that_are_all_zero_are_written(tmp_path: Path) -> None:
    network = small_deployable()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.zeros_(module.bias)
    model = float_model(network, 1, lambda step: None)
    assert [len(node.input) for node in model.graph.node if node.op_type == "Conv"] == [3] * 8
    for found, wanted in zip(
        answers(convert(network, Precision.FP32, tmp_path)), float_logits(network, CROPS), strict=True
    ):
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.W8])
def test_convolutions_that_cannot_be_told_apart_need_not_be_where_weights_are_all(
    tmp_path: Path, precision: Precision
) -> None:
    twins = small_deployable()
    twins.attention.conv = torch.nn.Conv2d(24, 24, 3, 1, 1)
    twins.attention.conv.load_state_dict(twins.down.conv.state_dict())
    table = absmax_table(twins, CROPS, W8) if precision is Precision.W8 else None
    converted = TARGET.convert(twins, table, precision, tmp_path, 1, lambda step: None)
    if table is not None:
        base.check_scales(table, TARGET.read_scales(converted.files, twins), TARGET)
    for found, wanted in zip(answers(converted), float_logits(twins, CROPS), strict=True):
        assert relative_rms(found, wanted) < 0.02
    with pytest.raises(RtmwEdgeError, match="Convolutions 'down' and 'attention' have the same weights"):
        TARGET.convert(twins, absmax_table(twins, CROPS), Precision.INT8, tmp_path, 1, lambda step: None)

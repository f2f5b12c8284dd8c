"""A whole small network through pnnx and our writer: every layer of the int8 file against the integer reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ncnn_arithmetic
import numpy as np
import pytest
import torch
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.targets import ncnn as target_module
from rtmw_edge.targets.base import Converted, Precision, check_scales
from rtmw_edge.targets.ncnn_model import NcnnModel
from small_deployable import (
    HEIGHT,
    WIDTH,
    SmallDeployable,
    absmax_table,
    float_logits,
    relative_rms,
    small_deployable,
    smooth_crops,
)
from torch import nn

ncnn = pytest.importorskip("ncnn")
pytest.importorskip("pnnx")

TARGET = target_module.TARGET
CROPS = smooth_crops(8)


@pytest.fixture(scope="module")
def table(network: SmallDeployable) -> Table:
    return absmax_table(network, CROPS)


@pytest.fixture(scope="module")
def int8(network: SmallDeployable, table: Table, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return TARGET.convert(network, table, Precision.INT8, tmp_path_factory.mktemp("int8"), 1, lambda step: None)


def opened(converted: Converted, keep_blobs: bool = False) -> Any:
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.lightmode = not keep_blobs
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    assert net.load_param(str(converted.files["param"])) == 0
    assert net.load_model(str(converted.files["bin"])) == 0
    return net


def run(converted: Converted, crops: np.ndarray) -> list[np.ndarray]:
    net = opened(converted)
    answers: list[list[np.ndarray]] = []
    for crop in crops:
        extractor = net.create_extractor()
        extractor.input("image", ncnn.Mat.from_pixels(crop, ncnn.Mat.PixelType.PIXEL_BGR, WIDTH, HEIGHT))
        answers.append([np.array(extractor.extract(name)[1]) for name in converted.outputs.values()])
    return [np.stack(axis) for axis in zip(*answers, strict=True)]


def test_float_parity(network: SmallDeployable, tmp_path: Path) -> None:
    steps: list[str] = []
    converted = TARGET.convert(network, None, Precision.FP32, tmp_path, 1, steps.append)
    assert steps == ["tracing the network", "converting with pnnx"]
    assert (converted.dtype, converted.layout) == ("float32", "CHW")
    assert converted.outputs == {"x": "simcc_x", "y": "simcc_y"}
    assert converted.convolutions == {"total": 8, "int8": 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.param"]
    assert TARGET.read_scales(converted.files, network) == {}
    for found, expected in zip(run(converted, CROPS), float_logits(network, CROPS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_half_precision_weights(network: SmallDeployable, tmp_path: Path) -> None:
    converted = TARGET.convert(network, None, Precision.FP16, tmp_path, 1, lambda step: None)
    for layer in NcnnModel.load(converted.files["param"], converted.files["bin"]).layers:
        assert all(tensor.data.dtype == (np.float16 if tensor.tagged else np.float32) for tensor in layer.tensors)
    rounded = small_deployable()
    with torch.no_grad():
        for module in rounded.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(module.weight.half().float())
    for found, expected in zip(run(converted, CROPS), float_logits(rounded, CROPS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_three_outputs(tmp_path: Path) -> None:
    network = small_deployable(("x", "y", "z"))
    converted = TARGET.convert(network, None, Precision.FP32, tmp_path, 1, lambda step: None)
    assert list(converted.outputs) == ["x", "y", "z"]
    for found, expected in zip(run(converted, CROPS), float_logits(network, CROPS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_multipliers_are_the_tables(network: SmallDeployable, table: Table, int8: Converted) -> None:
    assert int8.convolutions == {"total": 8, "int8": 8}
    read = TARGET.read_scales(int8.files, network)
    assert len(read) == 16
    for point, stored in read.items():
        np.testing.assert_array_equal(stored.numbers, np.float32(1) / table.entries[point].scale)
    check_scales(table, read, TARGET)


def test_convolutions_left_in_float_stay_float(network: SmallDeployable, table: Table, tmp_path: Path) -> None:
    mixed = table.leaving_in_float(["middle", "depthwise", "head"])
    converted = TARGET.convert(network, mixed, Precision.INT8_MIXED, tmp_path, 1, lambda step: None)
    assert converted.convolutions == {"total": 8, "int8": 5}
    check_scales(mixed, TARGET.read_scales(converted.files, network), TARGET)
    rounded = fake_quantize(network, mixed, TARGET.carried(mixed.grid))
    for found, expected in zip(run(converted, CROPS), float_logits(rounded, CROPS), strict=True):
        assert relative_rms(found, expected) < 0.015


def test_every_convolution_computes_the_integer_reference(
    network: SmallDeployable, table: Table, int8: Converted
) -> None:
    """Each layer's own input through the numpy reference; depthwise ones within x86's approximate reciprocal."""
    model = NcnnModel.load(int8.files["param"], int8.files["bin"])
    net = opened(int8, keep_blobs=True)
    extractor = net.create_extractor()
    pixels = ncnn.Mat.from_pixels(CROPS[0], ncnn.Mat.PixelType.PIXEL_BGR, WIDTH, HEIGHT)
    extractor.input("image", pixels)
    checked = 0
    for layer in model.layers:
        module = network.convolutions().get(layer.name)
        if module is None:
            continue
        source, found = (np.array(extractor.extract(blob)[1]) for blob in (layer.bottoms[0], layer.tops[0]))
        weight, bias = (value.detach().numpy() for value in (module.conv.weight, module.conv.bias))
        expected = ncnn_arithmetic.convolution(
            source.reshape(weight.shape[1] * module.conv.groups, *source.shape[1:]),
            weight,
            bias,
            table.entries[f"{layer.name}:input"].scale[0],
            table.entries[f"{layer.name}:weight"].scale,
            stride=module.conv.stride[0],
            padding=module.conv.padding[0],
            groups=module.conv.groups,
        )
        low, high = {"relu": (0, np.inf), "relu6": (0, 6)}.get(module.activation, (-np.inf, np.inf))
        expected = expected.clip(low, high)
        tolerance = 4e-4 if module.conv.groups > 1 else 1e-5
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=layer.name)
        checked += 1
    assert checked == 8


def test_end_to_end_at_the_floor_of_rounding(network: SmallDeployable, table: Table, int8: Converted) -> None:
    """Outputs are not quantized in ncnn, so the torch figure leaves them out as well."""
    rounded = fake_quantize(network, table, TARGET.carried(table.grid))
    for found, expected in zip(run(int8, CROPS), float_logits(rounded, CROPS), strict=True):
        assert relative_rms(found, expected) < 0.015
    for found, expected in zip(run(int8, CROPS), float_logits(network, CROPS), strict=True):
        assert 0.001 < relative_rms(found, expected) < 0.08


def test_normalization_is_one_layer_of_the_graph(int8: Converted) -> None:
    layers = NcnnModel.load(int8.files["param"], int8.files["bin"]).layers
    assert [layer.type for layer in layers[:3]] == ["Input", "Scale", "Convolution"]
    gain, shift = (tensor.data for tensor in layers[1].tensors)
    np.testing.assert_allclose(gain, 1 / np.array([57.375, 57.12, 58.395]), rtol=1e-6)
    np.testing.assert_allclose(-shift / gain, [103.53, 116.28, 123.675], rtol=1e-6)

"""The real variants through ONNX and OpenVINO: float parity, three outputs, int8 with every scale exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from calm_network import calm_network
from rtmw_edge.calibration import Method
from rtmw_edge.calibration.collect import Settings, collect
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.targets import target_named
from rtmw_edge.targets.base import Converted, Precision, check_scales
from rtmw_edge.targets.rewrites import Deployable, deployable
from small_deployable import float_logits, relative_rms, smooth_crops

from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import load_weights
from rtmw_edge.models.weights import embedded
from rtmw_edge.runtime.onnx_session import session_options
from rtmw_edge.runtime.openvino_engine import FLOAT_KERNELS
from rtmw_edge.runtime.processor import int8_sums_overflow
from rtmw_edge.simcc import decode

pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")

pytestmark = pytest.mark.slow

Answer = Callable[[np.ndarray], list[np.ndarray]]


def opened(converted: Converted) -> Answer:
    names = list(converted.outputs.values())
    if "model" in converted.files:
        session = onnxruntime.InferenceSession(str(converted.files["model"]), session_options())
        one: Answer = lambda crops: session.run(names, {"image": crops})  # noqa: E731
    else:
        config = {"INFERENCE_PRECISION_HINT": "f32"} | (FLOAT_KERNELS if int8_sums_overflow() else {})
        request = openvino.Core().compile_model(str(converted.files["xml"]), "CPU", config).create_infer_request()

        def one(crops: np.ndarray) -> list[np.ndarray]:
            found = request.infer({"image": crops})
            return [np.array(found[name]) for name in names]

    return lambda crops: [np.concatenate(axis) for axis in zip(*(one(crop[None]) for crop in crops), strict=True)]


@pytest.mark.parametrize("target", ["onnx", "openvino"])
@pytest.mark.parametrize("variant", ["rtmw-m-256x192", "rtmw3d-n-256x192"])
def test_float_parity(variant: str, target: str, tmp_path: Path) -> None:
    network = deployable(calm_network(variant))
    crops = smooth_crops(3, network.variant.input_size)
    converted = target_named(target).convert(network, None, Precision.FP32, tmp_path, 1, lambda step: None)
    assert list(converted.outputs) == list(network.variant.axes)
    found, expected = opened(converted)(crops), float_logits(network, crops)
    for logits, wanted, bins in zip(found, expected, network.variant.bins.values(), strict=True):
        assert logits.shape == (3, 133, bins)
        assert np.abs(logits - wanted).max() <= 1e-3 * np.abs(wanted).max()
    distance = np.linalg.norm(decode(found[:2])[0] - decode(expected[:2])[0], axis=-1)
    assert np.percentile(distance, 99) == 0.0


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_int8_carries_every_scale(target: str, tmp_path: Path) -> None:
    network = deployable(calm_network("rtmw-n-256x192"))
    crops = smooth_crops(4, network.variant.input_size)
    table = collect(network, [crops])
    chosen = target_named(target)
    converted = chosen.convert(network, table, Precision.INT8, tmp_path, 1, lambda step: None)
    scales = chosen.read_scales(converted.files, network)
    check_scales(table, scales, chosen)
    assert converted.convolutions == {"total": 80, "int8": 80}
    assert len(scales) == {"onnx": 3, "openvino": 2}[target] * 80  # OpenVINO holds no outputs
    main, short = (f"backbone.stage2.1.{name}.conv:input" for name in ("main_conv", "short_conv"))
    assert np.array_equal(scales[main].numbers, scales[short].numbers), "two readers of one tensor"


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_int8_of_the_shipped_weights(target: str, tmp_path: Path) -> None:
    weights = embedded("rtmw-n-256x192")
    if weights is None:
        pytest.skip("no weights ship with this tree")
    from rtmw_edge.data.synthetic import Renderer

    network: Deployable = deployable(load(weights))
    calibration, renderer = Renderer("calibration"), Renderer("val")
    # Steps finer than the default's: the finer they are, the less roundings avalanche, and the closer a file must be.
    finer = Settings(Method.PERCENTILE, percentile=99.95)
    table = collect(network, [np.stack([calibration.crop(index).image for index in range(32)])], finer)
    crops = np.stack([renderer.crop(200_000 + index).image for index in range(8)])
    chosen = target_named(target)
    converted = chosen.convert(network, table, Precision.INT8, tmp_path, 1, lambda step: None)
    quantized = fake_quantize(network, table, chosen.carried(table.grid))
    found, expected = opened(converted)(crops), float_logits(quantized, crops)
    with torch.no_grad():
        for convolution in quantized.convolutions().values():
            convolution.conv.bias.mul_(1 + 1e-6)
    # A millionth of the biases sends some values to another integer, and what that changes spreads: no file is closer.
    for logits, wanted, nearly in zip(found, expected, float_logits(quantized, crops), strict=True):
        assert relative_rms(logits, wanted) < 1.3 * relative_rms(nearly, wanted) < 0.06
    (here, scores), (there, _) = decode(found), decode(expected)
    confident = scores > np.median(scores)
    # Rounding avalanches move a joint whose answer has two peaks; most have one.
    assert (np.linalg.norm(here - there, axis=-1)[confident] <= 1.0).mean() > 0.8


def load(weights: Path) -> torch.nn.Module:
    network = build("rtmw-n-256x192")
    load_weights(network, weights)
    return network

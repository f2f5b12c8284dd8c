"""The real variants through both converters: float parity, three outputs, a batch, and int8 with every scale exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from reference_weights import fill
from rtmw_edge.quantization import AFFINE, COMMON, FULL, W8, W8A16, Grid
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.targets import target_named
from rtmw_edge.targets.base import Converted, Precision, check_scales
from rtmw_edge.targets.rewrites import Deployable, deployable
from small_deployable import absmax_table, float_logits, relative_rms, smooth_crops

from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import load_weights
from rtmw_edge.models.weights import embedded
from rtmw_edge.simcc import decode

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")
pytest.importorskip("litert_torch")

from rtmw_edge.targets import tflite
from rtmw_edge.targets.tflite_model import GraphEditor

pytestmark = pytest.mark.slow

Answer = Callable[[np.ndarray], list[np.ndarray]]


def named(value: object) -> str:
    return value.name if isinstance(value, Grid) else str(value)


def reference_network(variant: str) -> Deployable:
    return deployable(fill(build(variant)))


def crops_for(network: Deployable, count: int = 4) -> np.ndarray:
    return smooth_crops(count, network.variant.input_size)


def opened(converted: Converted) -> Answer:
    return _opened_tflite(converted) if "model" in converted.files else _opened_ncnn(converted)


def _opened_tflite(converted: Converted) -> Answer:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(converted.files["model"]), num_threads=1)
    runner = interpreter.get_signature_runner()
    batch = int(interpreter.get_input_details()[0]["shape"][0])

    def answer(crops: np.ndarray) -> list[np.ndarray]:
        parts = [runner(image=crops[start : start + batch]) for start in range(0, len(crops), batch)]
        return [np.concatenate([part[name] for part in parts]) for name in converted.outputs.values()]

    return answer


def _opened_ncnn(converted: Converted) -> Answer:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    assert net.load_param(str(converted.files["param"])) == 0
    assert net.load_model(str(converted.files["bin"])) == 0

    def one(crop: np.ndarray) -> list[np.ndarray]:
        extractor = net.create_extractor()
        height, width = crop.shape[:2]
        extractor.input("image", ncnn.Mat.from_pixels(crop, ncnn.Mat.PixelType.PIXEL_BGR, width, height))
        return [np.array(extractor.extract(name)[1]) for name in converted.outputs.values()]

    return lambda crops: [np.stack(axis) for axis in zip(*(one(crop) for crop in crops), strict=True)]


def keypoints(logits: list[np.ndarray]) -> np.ndarray:
    """Crop pixels: two bins a pixel."""
    return np.stack([axis.argmax(-1) for axis in logits], -1) / 2


def assert_parity(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine - theirs).max() < 1e-3 * np.abs(theirs).max()
    assert np.percentile(np.abs(keypoints(found) - keypoints(expected)), 99) == 0


@pytest.mark.parametrize("target", ["tflite", "ncnn"])
@pytest.mark.parametrize("variant", ["rtmw-n-256x192", "rtmw-m-256x192", "rtmw3d-n-256x192"])
def test_float_parity(variant: str, target: str, tmp_path: Path) -> None:
    network = reference_network(variant)
    converted = target_named(target).convert(network, None, Precision.FP32, tmp_path, 1, lambda step: None)
    assert list(converted.outputs) == list(network.variant.axes)
    assert converted.convolutions == {"total": len(network.convolutions()), "int8": 0}
    crops = crops_for(network)
    assert_parity(opened(converted)(crops), float_logits(network, crops))


def test_a_batch_of_three_in_tflite(tmp_path: Path) -> None:
    network = reference_network("rtmw-n-256x192")
    converted = target_named("tflite").convert(network, None, Precision.FP32, tmp_path, 3, lambda step: None)
    crops = crops_for(network, 3)
    assert_parity(opened(converted)(crops), float_logits(network, crops))


@pytest.mark.parametrize(("target", "grid"), [("tflite", COMMON), ("tflite", FULL), ("ncnn", COMMON)], ids=named)
def test_every_convolution_of_rtmw_m_is_int8_with_the_tables_scales(target: str, grid: Grid, tmp_path: Path) -> None:
    """Weights that are random make int8 noise grow from layer to layer, so only scales are compared here."""
    network = reference_network("rtmw-m-256x192")
    table = absmax_table(network, crops_for(network), grid)
    writer = target_named(target)
    converted = writer.convert(network, table, Precision.INT8, tmp_path, 1, lambda step: None)
    assert converted.convolutions == {"total": 104, "int8": 104}
    check_scales(table, writer.read_scales(converted.files, network), writer)
    size = sum(path.stat().st_size for path in converted.files.values())
    assert 34e6 < size < 36e6
    for logits in opened(converted)(crops_for(network, 1)):
        assert np.isfinite(logits).all() and logits.std() > 0


@pytest.fixture(scope="module")
def trained() -> Deployable:
    weights = embedded("rtmw-n-256x192")
    if weights is None:
        pytest.skip("the package holds no trained rtmw-n-256x192")
    network = build("rtmw-n-256x192")
    load_weights(network, weights)
    return deployable(network)


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    from rtmw_edge.data.synthetic import Renderer

    renderer = Renderer("calibration")
    return np.stack([renderer.crop(index).image for index in range(12)])


@pytest.fixture(scope="module")
def trained_float(trained: Deployable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    return tflite.TARGET.convert(trained, None, Precision.FP32, folder, 1, lambda step: None).files["model"]


def assert_at_the_floor(found: list[np.ndarray], expected: list[np.ndarray], floor: float) -> None:
    for logits, wanted in zip(found, expected, strict=True):
        assert relative_rms(logits, wanted) < floor
    (here, scores), (there, _) = decode(found), decode(expected)
    confident = scores > np.median(scores)
    assert (np.linalg.norm(here - there, axis=-1)[confident] <= 1.0).mean() > 0.8


@pytest.mark.parametrize(
    ("grid", "floor"), [(COMMON, 0.08), (AFFINE, 0.08), (FULL, 0.08), (W8, 0.001), (W8A16, 0.001)], ids=named
)
def test_trained_weights_in_tflite_stay_at_the_floor(
    grid: Grid, floor: float, trained: Deployable, people: np.ndarray, trained_float: Path, tmp_path: Path
) -> None:
    """Rounding avalanches: on 8 bits the fake-quantized network differs from itself on another kernel by .01 to .05."""
    table = absmax_table(trained, people, grid)
    graph = GraphEditor(trained_float)
    tflite.quantize(graph, tflite.convolution_names(graph, trained), table, trained)
    graph.save(tmp_path / "model.tflite")
    converted = tflite.converted(trained, tmp_path / "model.tflite", {})
    check_scales(table, tflite.TARGET.read_scales(converted.files, trained), tflite.TARGET)
    expected = float_logits(fake_quantize(trained, table), people)
    assert_at_the_floor(opened(converted)(people), expected, floor)


def test_trained_weights_in_ncnn_stay_at_the_floor(trained: Deployable, people: np.ndarray, tmp_path: Path) -> None:
    table, writer = absmax_table(trained, people), target_named("ncnn")
    converted = writer.convert(trained, table, Precision.INT8, tmp_path, 1, lambda step: None)
    expected = float_logits(fake_quantize(trained, table, writer.carried(table.grid)), people)
    assert_at_the_floor(opened(converted)(people), expected, 0.08)

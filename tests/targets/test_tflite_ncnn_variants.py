"""The real variants through both converters: float parity, three outputs, a batch, and int8 with every scale exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from reference_weights import fill
from rtmw_edge.quantization import AFFINE, COMMON, FULL, W8, W8A16, Grid, Table
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.targets import ncnn_int8, target_named
from rtmw_edge.targets.base import Converted, Precision, check_scales
from rtmw_edge.targets.ncnn_int8 import convolutions, is_int8
from rtmw_edge.targets.ncnn_model import NcnnModel
from rtmw_edge.targets.rewrites import Deployable, deployable
from small_deployable import SmallDeployable, absmax_table, float_logits, relative_rms, smooth_crops

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


@pytest.fixture(scope="module")
def large() -> Deployable:
    return reference_network("rtmw-m-256x192")


@pytest.fixture(scope="module")
def large_float(large: Deployable, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Converted]:
    """`large` as a target writes it in float: converted once, for that takes up to half a minute."""

    @cache
    def convert(target: str) -> Converted:
        folder = tmp_path_factory.mktemp(target)
        return target_named(target).convert(large, None, Precision.FP32, folder, 1, lambda step: None)

    return convert


@pytest.mark.parametrize("target", ["tflite", "ncnn"])
def test_float_parity_in_3d(target: str, tmp_path: Path) -> None:
    network = reference_network("rtmw3d-n-256x192")
    check_float(network, target_named(target).convert(network, None, Precision.FP32, tmp_path, 1, lambda step: None))


@pytest.mark.parametrize("target", ["tflite", "ncnn"])
def test_float_parity_of_rtmw_m(target: str, large: Deployable, large_float: Callable[[str], Converted]) -> None:
    check_float(large, large_float(target))


def check_float(network: Deployable, converted: Converted) -> None:
    assert list(converted.outputs) == list(network.variant.axes)
    assert converted.convolutions == {"total": len(network.convolutions()), "int8": 0}
    crops = crops_for(network)
    assert_parity(opened(converted)(crops), float_logits(network, crops))


def test_a_batch_of_three_in_tflite(network: SmallDeployable, crops: np.ndarray, tmp_path: Path) -> None:
    converted = target_named("tflite").convert(network, None, Precision.FP32, tmp_path, 3, lambda step: None)
    assert_parity(opened(converted)(crops[:6]), float_logits(network, crops[:6]))


@pytest.mark.parametrize(("target", "grid"), [("tflite", COMMON), ("tflite", FULL), ("ncnn", COMMON)], ids=named)
def test_every_convolution_of_rtmw_m_is_int8_with_the_tables_scales(
    target: str, grid: Grid, large: Deployable, large_float: Callable[[str], Converted], tmp_path: Path
) -> None:
    """Weights that are random make int8 noise grow from layer to layer, so only scales are compared here."""
    table = absmax_table(large, crops_for(large), grid)
    writer = target_named(target)
    converted = on_integers(large_float(target), table, large, tmp_path)
    assert converted.convolutions == {"total": 104, "int8": 104}
    check_scales(table, writer.read_scales(converted.files, large), writer)
    size = sum(path.stat().st_size for path in converted.files.values())
    assert 34e6 < size < 36e6
    for logits in opened(converted)(crops_for(large, 1)):
        assert np.isfinite(logits).all() and logits.std() > 0


def on_integers(single: Converted, table: Table, network: Deployable, folder: Path) -> Converted:
    """What the target makes of its float file and a table."""
    if "model" in single.files:
        graph = GraphEditor(single.files["model"])
        tflite.quantize(graph, tflite.convolution_names(graph, network), table, network)
        graph.save(folder / "model.tflite")
        return tflite.converted(network, folder / "model.tflite")
    scales = {point: entry.scale for point, entry in table.entries.items()}
    model = ncnn_int8.quantized(NcnnModel.load(single.files["param"], single.files["bin"]), scales)
    files = {role: folder / path.name for role, path in single.files.items()}
    model.save(files["param"], files["bin"])
    layers = convolutions(model)
    counts = {"total": len(layers), "int8": sum(is_int8(layer) for layer in layers)}
    return replace(single, files=files, convolutions=counts)


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
def trained_float(trained: Deployable, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    folder = tmp_path_factory.mktemp("trained")
    return tflite.TARGET.convert(trained, None, Precision.FP32, folder, 1, lambda step: None)


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
    grid: Grid, floor: float, trained: Deployable, people: np.ndarray, trained_float: Converted, tmp_path: Path
) -> None:
    """Rounding avalanches: on 8 bits the fake-quantized network differs from itself on another kernel by .01 to .05."""
    table = absmax_table(trained, people, grid)
    converted = on_integers(trained_float, table, trained, tmp_path)
    check_scales(table, tflite.TARGET.read_scales(converted.files, trained), tflite.TARGET)
    expected = float_logits(fake_quantize(trained, table), people)
    assert_at_the_floor(opened(converted)(people), expected, floor)


def test_trained_weights_in_ncnn_stay_at_the_floor(trained: Deployable, people: np.ndarray, tmp_path: Path) -> None:
    table, writer = absmax_table(trained, people), target_named("ncnn")
    converted = writer.convert(trained, table, Precision.INT8, tmp_path, 1, lambda step: None)
    expected = float_logits(fake_quantize(trained, table, writer.carried(table.grid)), people)
    assert_at_the_floor(opened(converted)(people), expected, 0.08)

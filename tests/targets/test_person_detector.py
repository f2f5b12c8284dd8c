"""Our person detector in every format: the same boxes and scores, and the file in ONNX is what the others come from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rtmw_edge.targets.person_detector import DeployableDetector, export_detector, read_detector

from rtmw_edge.errors import BadInputError
from rtmw_edge.models.person_detector import PersonDetector
from rtmw_edge.runtime.detectors import open_detector

SIZE = (96, 64)
Answer = tuple[NDArray[np.float32], NDArray[np.float32]]


@pytest.fixture(scope="module")
def network() -> PersonDetector:
    """A network whose every weight and statistic is drawn."""
    generator = torch.Generator().manual_seed(0)
    drawn = PersonDetector().eval()
    for name, value in drawn.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.dtype.is_floating_point and value.ndim == 1:
            value.add_(torch.randn(value.shape, generator=generator) * 0.1)
    return drawn


@pytest.fixture(scope="module")
def detector(network: PersonDetector) -> DeployableDetector:
    return DeployableDetector(network, SIZE)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def in_torch(detector: DeployableDetector, picture: NDArray[np.uint8]) -> Answer:
    with torch.no_grad():
        boxes, scores = detector(torch.from_numpy(normalized(picture)))
    return boxes.numpy(), scores.numpy()


def in_onnx(files: dict[str, Path], picture: NDArray[np.uint8]) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(files["model"])
    boxes, scores = session.run(["boxes", "scores"], {"image": normalized(picture)})
    return boxes, scores


def in_openvino(files: dict[str, Path], picture: NDArray[np.uint8]) -> Answer:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(files["xml"]), "CPU", settings)
    found = compiled({"image": picture[None]})
    return found["boxes"], found["scores"]


def in_tflite(files: dict[str, Path], picture: NDArray[np.uint8]) -> Answer:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(files["model"])).get_signature_runner()
    found = runner(image=picture[None])
    return found["boxes"], found["scores"]


def in_ncnn(files: dict[str, Path], picture: NDArray[np.uint8]) -> Answer:
    import ncnn

    net = ncnn.Net()
    for option in ("use_fp16_arithmetic", "use_fp16_storage", "use_fp16_packed"):
        setattr(net.opt, option, False)
    assert net.load_param(str(files["param"])) == 0 and net.load_model(str(files["bin"])) == 0
    pixels = ncnn.Mat.from_pixels(picture, ncnn.Mat.PixelType.PIXEL_BGR, picture.shape[1], picture.shape[0])
    extractor = net.create_extractor()
    extractor.input("image", pixels)
    boxes, scores = (np.array(extractor.extract(name)[1], np.float32) for name in ("boxes", "scores"))
    return boxes.reshape(1, -1, 4), scores.reshape(1, -1, 1)


def normalized(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What RTMDet takes (mmdetection, configs/rtmdet: data_preprocessor)."""
    mean, std = np.float32([103.53, 116.28, 123.675]), np.float32([57.375, 57.12, 58.395])
    return np.ascontiguousarray(((picture - mean) / std).transpose(2, 0, 1)[None])


def test_folding_changes_nothing(
    network: PersonDetector, detector: DeployableDetector, picture: NDArray[np.uint8]
) -> None:
    with torch.no_grad():
        wanted = network(torch.from_numpy(normalized(picture)))
    boxes, scores = in_torch(detector, picture)
    assert np.abs(boxes - wanted.boxes.numpy()).max() < 1e-3
    assert np.abs(scores[..., 0] - wanted.logits.sigmoid().numpy()).max() < 1e-5


RUNS: dict[str, Callable[[dict[str, Path], NDArray[np.uint8]], Answer]] = {
    "onnx": in_onnx, "openvino": in_openvino, "tflite": in_tflite, "ncnn": in_ncnn,
}  # fmt: skip
NEEDS = {"onnx": "onnxscript", "openvino": "openvino", "tflite": "litert_torch", "ncnn": "pnnx"}


@pytest.mark.parametrize("target", [pytest.param(name, marks=[pytest.mark.slow] * (name == "tflite")) for name in RUNS])
def test_every_format_says_the_same(
    target: str, detector: DeployableDetector, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    pytest.importorskip(NEEDS[target], reason=f"the converter of {target} is not installed")
    rounded = copy.deepcopy(detector)
    for value in rounded.state_dict().values():
        value.copy_(value.half())  # as the files store them
    wanted, found = in_torch(rounded, picture), RUNS[target](export_detector(detector, target, tmp_path), picture)
    assert np.abs(found[0] - wanted[0]).max() < 0.05, "pixels"
    assert np.abs(found[1] - wanted[1]).max() < 1e-3


def test_the_onnx_file_is_the_detector(
    detector: DeployableDetector, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Half-precision weights are seen through their casts, opened as RTMDet, and read back as a network."""
    file = export_detector(detector, "onnx", tmp_path)["model"]
    assert open_detector(file).about == "RTMDet (before NMS), 96x64, ONNX Runtime, cpu"
    again = read_detector(file)
    assert again.size == SIZE
    boxes, scores = in_torch(again, picture)
    found = in_onnx({"model": file}, picture)
    assert np.abs(boxes - found[0]).max() < 0.05 and np.abs(scores - found[1]).max() < 1e-4


def test_what_cannot_be_is_said(detector: DeployableDetector, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="Unknown target of detectors 'ncn'; did you mean 'ncnn'"):
        export_detector(detector, "ncn", tmp_path)

"""Other people's libraries: rtmlib's call and result, supervision's annotators."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

import numpy as np
import pytest
from detector_files import end_to_end, write_detector
from numpy.typing import NDArray

import rtmw_edge
from rtmw_edge.errors import BadInputError
from rtmw_edge.keypoints import LIMBS
from rtmw_edge.poses import Poses
from rtmw_edge.runtime import load
from rtmw_edge.runtime.detection import Detections, Detector, looking_with
from rtmw_edge.runtime.frames import Frame, Origin
from rtmw_edge.runtime.wholebody import openpose


def picture() -> NDArray[np.uint8]:
    image = np.full((400, 300, 3), 20, np.uint8)
    image[188:193] = 200
    image[:, 108:113] = 200
    return image


def two_people(image: NDArray[np.uint8]) -> Detections:
    return Detections(np.array([[60, 80, 180, 280], [0, 0, 300, 400]], np.float32), np.ones(2, np.float32))


def nobody(image: NDArray[np.uint8]) -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def test_rtmlib_s_call_and_result(tiny_bundle: Path) -> None:
    """What rtmlib's readme writes, with the one import changed; in this picture there is nobody to be found."""
    wholebody = rtmw_edge.Wholebody(pose=tiny_bundle, to_openpose=False, backend="onnxruntime", device="cpu")
    keypoints, scores = wholebody(picture())
    assert wholebody.det_model(picture()).shape == (0, 4)
    assert keypoints.shape == (1, 133, 2) and scores.shape == (1, 133)
    assert (scores > 0).all() and (scores <= 1).all()
    with load(tiny_bundle) as runner:
        poses = runner(picture())
        assert np.array_equal(keypoints, poses.keypoints) and np.array_equal(scores, runner.confidence(poses))


def test_the_arguments_of_rtmlib_in_its_order() -> None:
    """rtmlib 0.0.16: det, det_input_size, pose, pose_input_size, mode, to_openpose, backend, device."""
    theirs = ["det", "det_input_size", "pose", "pose_input_size", "mode", "to_openpose", "backend", "device"]
    assert list(inspect.signature(rtmw_edge.Wholebody).parameters)[: len(theirs)] == theirs
    sizes_without_files = rtmw_edge.Wholebody(None, (640, 640), None, (288, 384), None, False, "onnxruntime", "cpu")
    assert sizes_without_files.runner.input_size == (192, 256)
    sizes_without_files.runner.close()


def test_without_det_the_package_s_detector_looks(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def opened(file: object, device: str, threads: int | None, *, size: object) -> Detector:
        asked.append((file, device, threads))
        return two_people

    monkeypatch.setattr("rtmw_edge.runtime.wholebody.open_detector", opened)
    keypoints, _ = rtmw_edge.Wholebody(pose=tiny_bundle, threads=1)(picture())
    assert asked == [("builtin", "cpu", 1)] and keypoints.shape == (2, 133, 2)


def test_nobody_is_looked_for_when_det_is_none_by_name(tiny_bundle: Path) -> None:
    wholebody = rtmw_edge.Wholebody("none", pose=tiny_bundle)
    assert wholebody.det_model(picture()).tolist() == [[0, 0, 300, 400]]
    assert wholebody(picture())[0].shape == (1, 133, 2)


def test_rtmlib_s_name_of_the_first_gpu(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    monkeypatch.setattr(
        "rtmw_edge.runtime.wholebody.load", lambda bundle, device, threads: devices.append(device) or load(bundle)
    )
    rtmw_edge.Wholebody("none", pose=tiny_bundle, device="cuda:0")
    assert devices == ["cuda"]


def test_a_detector_finds_the_people(tiny_bundle: Path) -> None:
    keypoints, scores = rtmw_edge.Wholebody(two_people, pose=tiny_bundle)(picture())
    assert keypoints.shape == (2, 133, 2) and scores.shape == (2, 133)
    alone, _ = rtmw_edge.Wholebody(nobody, pose=tiny_bundle)(picture())
    assert alone.shape == (1, 133, 2), "where nobody is found the whole image is one, as with rtmlib"


def test_a_detector_s_file_finds_the_people_too(tiny_bundle: Path, tmp_path: Path) -> None:
    rows = [[0, 0, 40, 60, 0.9], [45, 5, 90, 60, 0.8]]
    file = write_detector(tmp_path / "d.onnx", "yolox", end_to_end(rows, [0, 0]), ("w", "h"))
    wholebody = rtmw_edge.Wholebody(str(file), det_input_size=(96, 128), pose=tiny_bundle)
    boxes = wholebody.det_model(picture())  # 300 x 400 pixels become 96 x 128
    assert boxes == pytest.approx(np.array(rows)[:, :4] * 400 / 128, abs=0.01)
    assert wholebody(picture())[0].shape == (2, 133, 2)


def test_the_models_of_rtmlib_s_tracker(tiny_bundle: Path) -> None:
    """PoseTracker (rtmlib 0.0.16) calls det_model(image) and pose_model(image, bboxes=boxes), and reads det_mode."""
    wholebody = rtmw_edge.Wholebody(two_people, pose=tiny_bundle)
    assert wholebody.det_model.det_mode == "human"
    boxes = wholebody.det_model(picture())
    keypoints, _ = wholebody.pose_model(picture(), bboxes=[list(box) for box in boxes])
    assert boxes.shape == (2, 4) and np.array_equal(keypoints, wholebody(picture())[0])


@pytest.mark.parametrize("to_openpose", [False, True])
def test_rtmlib_s_tracker_goes_on_after_somebody_has_left(tiny_bundle: Path, to_openpose: bool) -> None:
    """Its boxes are those around the last keypoints, wherever these lie, and one answer a box is what it wants."""
    wholebody = rtmw_edge.Wholebody(two_people, pose=tiny_bundle, to_openpose=to_openpose)
    here, left, below, point, far = [60, 80, 180, 280], [-90, 0, -5, 99], [9, 400, 50, 700], [50] * 4, [-2e7, 0, 9, 9]
    keypoints, scores = wholebody.pose_model(picture(), bboxes=[left, here, below, point, far])
    alone, sure = wholebody.pose_model(picture(), bboxes=[here])
    assert keypoints.shape == (5, 134 if to_openpose else 133, 2) and keypoints.dtype == np.float32
    assert np.array_equal(keypoints[1:2], alone) and np.array_equal(scores[1:2], sure)
    assert not scores[[0, 2, 3, 4]].any() and (keypoints[0] == [-47.5, 49.5]).all()
    gone, none = wholebody.pose_model(picture(), bboxes=[left])
    assert gone.shape == alone.shape and not none.any()
    for box in ([60, 80, 50, 280], [float("nan"), 0, 9, 9]):
        with pytest.raises(BadInputError, match=r"^Box 0 \("):
            wholebody.pose_model(picture(), bboxes=[box])
    with pytest.raises(BadInputError, match=r"The boxes have shape \(\), not \(N,4\)"):
        wholebody.pose_model(picture(), bboxes=7)
    with pytest.raises(BadInputError, match="The boxes are not numbers"):
        wholebody.pose_model(picture(), bboxes=[[1, 2], [3]])  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="lies wholly outside the 300x400 image"):
        rtmw_edge.Wholebody(lambda image: [left], pose=tiny_bundle)(picture())


def test_openpose_s_order_by_name() -> None:
    """OpenPose: nose, neck, then right arm, left arm, right leg, left leg, eyes, ears; the rest as it was."""
    points = np.stack([np.arange(133.0), -np.arange(133.0)], axis=1)[None].astype(np.float32)
    scores = np.linspace(0.1, 1, 133, dtype=np.float32)[None]
    turned, marks = openpose(points, scores)
    assert turned.shape == (1, 134, 2)
    assert turned[0, :18, 0].tolist() == [0, 5.5, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
    assert marks[0, 1] == scores[0, 5] and np.array_equal(turned[0, 18:], points[0, 17:])


def test_openpose_is_wanted(tiny_bundle: Path) -> None:
    keypoints, scores = rtmw_edge.Wholebody(pose=tiny_bundle, to_openpose=True)(picture())
    assert keypoints.shape == (1, 134, 2) and scores.shape == (1, 134)


def test_a_mode_that_names_no_model_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        rtmw_edge.Wholebody(mode="balanced").runner.close()
    assert "mode 'balanced' names no model here; the builtin bundle runs" in caplog.text


@pytest.mark.parametrize(
    ("found", "people"),
    [
        (np.array([[60, 80, 180, 280], [0, 0, 300, 400]]), 2),
        ([[60, 80, 180, 280], [0, 0, 300, 400]], 2),
        (([60, 80, 180, 280], [0, 0, 300, 400]), 2),
        ((np.array([[60, 80, 180, 280]]), [0.9]), 1),
        (([[60, 80, 180, 280], [0, 0, 300, 400]], np.array([0.9, 0.8])), 2),
        (([], []), 0),
        ((np.zeros((0, 4)), np.zeros(0)), 0),
        ([], 0),
        ([np.array([[60, 80, 180, 280]]), np.array([0.9])], 1),
        ((np.array([[60, 80, 180, 280]]), np.array([0.9]), np.array([0])), 1),
        (np.zeros((0, 4)), 0),
        (Detections(np.array([]), np.array([])), 0),  # as a list of nobody becomes an array
        (Detections([[60, 80, 180, 280]], [0.9]), 1),  # type: ignore[arg-type]
    ],
)
def test_a_detector_gives_boxes_with_or_without_scores(tiny_bundle: Path, found: object, people: int) -> None:
    """rtmlib's own detectors give boxes alone; where they give none the whole picture is one person."""
    wholebody = rtmw_edge.Wholebody(det=lambda image: found, pose=tiny_bundle)
    assert wholebody.det_model(picture()).shape == (people, 4)
    assert len(wholebody(picture())[0]) == max(people, 1)
    looked = looking_with(lambda image: found)(Frame(Origin("a.png"), 0, 0.0, picture()))
    assert looked is not None and looked.boxes.shape == (people, 4) and looked.scores.shape == (people,)


@pytest.mark.parametrize(
    "found",
    [
        None,
        3,
        "boxes",
        [[1, 2, 3]],
        np.zeros((2, 5)),
        (np.ones((2, 4)), np.ones(3)),
        Detections(np.ones((2, 4)), np.ones(3)),
    ],
)
def test_what_is_no_answer_of_a_detector_is_one_sentence(tiny_bundle: Path, found: object) -> None:
    wholebody = rtmw_edge.Wholebody(det=lambda image: found, pose=tiny_bundle)
    with pytest.raises(BadInputError, match=r"it must give boxes \(N,4\) as x1, y1, x2, y2, or these and their scores"):
        wholebody(picture())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"pose": "https://a.b/rtmw.zip"}, "pose is the address https://a.b/rtmw.zip, and nothing is fetched here"),
        ({"det": "https://a.b/yolox.zip"}, "det is the address https://a.b/yolox.zip, and nothing is fetched here"),
        ({"mode": "fast"}, "Unknown mode 'fast'"),
        ({"det": "yolox_m.onnx"}, "There is no detector 'yolox_m.onnx': pass an ONNX file of RTMDet or YOLOX"),
        ({"det": 640}, "det is 640, not a detector: pass an ONNX file, 'builtin', a function from an image"),
        ({"pose": "rtmw.onnx"}, "pose is the bare network rtmw.onnx: pass a bundle, made with rtmw-edge export"),
        ({"backend": "opencv"}, "backend is 'opencv', but the bundle runs on ONNX Runtime: leave backend out"),
        ({"backend": "openvino"}, "backend is 'openvino', but the bundle runs on ONNX Runtime"),
        ({"pose_input_size": (288, 384)}, "pose_input_size is 288x384, but the bundle takes 48x64: leave it out"),
        ({"device": "cuda:1"}, "Unknown device 'cuda:1'"),
        ({"device": "mps"}, "Unknown device 'mps'"),
    ],
)
def test_what_is_not_the_same_is_refused(tiny_bundle: Path, arguments: dict[str, object], text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        rtmw_edge.Wholebody(**{"pose": tiny_bundle, **arguments})  # type: ignore[arg-type]


def test_supervision_s_annotators_draw_poses(tiny_bundle: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    with load(tiny_bundle) as runner:
        poses = runner(picture(), [[60, 80, 180, 280], [0, 0, 300, 400]])
    keypoints = poses.to_supervision()
    assert len(keypoints) == 2 and keypoints.xy.shape == (2, 133, 2)
    sure = poses.to_supervision(np.full((2, 133), 0.25, np.float32)).as_detections()
    assert len(sure) == 2
    image = picture()
    drawn = supervision.VertexAnnotator(radius=3).annotate(scene=image.copy(), key_points=keypoints)
    assert not np.array_equal(drawn, image)
    assert len(keypoints.as_detections()) == 2
    spread = Poses(np.random.default_rng(0).uniform(20, 280, (1, 133, 2)), np.ones((1, 133)), [[0, 0, 300, 300]], [1])
    lines = [(start + 1, end + 1) for start, end in LIMBS]
    bones = supervision.EdgeAnnotator(edges=lines).annotate(scene=image.copy(), key_points=spread.to_supervision())
    assert (bones != image).any(axis=2).sum() > 1000

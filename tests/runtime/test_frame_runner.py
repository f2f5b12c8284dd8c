"""Frames in, results out: single images, followed people, boxes of a file, metres."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fixed_engine import FixedEngine

from rtmw_edge.camera import ASSUMED_DEPTH, ASSUMED_FOCAL
from rtmw_edge.errors import BadInputError
from rtmw_edge.runtime import Runner, frame_runner
from rtmw_edge.runtime.boxes import BoxFile
from rtmw_edge.runtime.detection import Detections, listed_in, looking_with
from rtmw_edge.runtime.frame_runner import FrameRunner, View
from rtmw_edge.runtime.frames import Failure, Frame, Origin, Result
from rtmw_edge.runtime.smoothing import OneEuroOptions
from rtmw_edge.runtime.tracking import TrackingOptions

IMAGE = np.zeros((100, 200, 3), np.uint8)


def still(name: str = "a.jpg") -> Frame:
    return Frame(Origin(name), 0, 0.0, IMAGE)


def moving(index: int, name: str = "clip.mp4") -> Frame:
    return Frame(Origin(name, 30.0), index, index / 30, IMAGE)


def test_a_single_image_is_one_person_without_a_number() -> None:
    result = FrameRunner(Runner(FixedEngine()))(still())
    assert isinstance(result, Result) and result.ids is None and result.metres is None
    assert result.poses.boxes.tolist() == [[0, 0, 200, 100]] and set(result.ms) == {"read", "detect", "pose"}
    assert result.confidence.shape == (1, 133) and result.confidence[0, 0] == pytest.approx(0.8)
    assert result.poses.box_scores.tolist() == [1]


def test_looking_and_posing_are_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody looked, what following took is the pose's."""
    clock = iter([10.0, 10.25, 11.0, 20.0, 20.25, 21.0, 30.0, 30.25, 31.0])
    monkeypatch.setattr(frame_runner, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    process = FrameRunner(Runner(FixedEngine()))
    results = [process(replace(frame, read_ms=5.0)) for frame in (still(), moving(0), moving(1))]
    looked = {"read": 5.0, "detect": 250.0, "pose": 750.0}
    assert [result.ms for result in results] == [looked, looked, {"read": 5.0, "pose": 1000.0}]  # type: ignore[union-attr]


def test_two_boxes_of_one_person_in_an_image_are_one_unless_nobody_is_another() -> None:
    boxes = Detections(np.array([[0, 0, 40, 50], [1, 1, 41, 51]], np.float32), np.ones(2, np.float32))

    def people(**tracking: float) -> int:
        process = FrameRunner(Runner(FixedEngine()), lambda _: boxes, tracking=TrackingOptions(**tracking))  # type: ignore[arg-type]
        return len(process(still()).poses)  # type: ignore[union-attr]

    assert people() == 1 and people(same_oks=1) == 2


def test_single_images_are_not_smoothed_and_videos_are() -> None:
    boxes = [[0, 0, 40, 50], [20, 0, 60, 50]]
    engine = Runner(FixedEngine())

    def run(frames: list[Frame]) -> list[np.ndarray]:
        look = iter(boxes)
        process = FrameRunner(
            engine,
            lambda frame: Detections(np.array([next(look)], np.float32), np.ones(1, np.float32)),
            tracking=TrackingOptions(detect_every=1, match_iou=0.1),
            smoothing=OneEuroOptions(),
        )
        return [process(frame).poses.keypoints[0] for frame in frames]  # type: ignore[union-attr]

    first, second = run([still("a.jpg"), still("b.jpg")])
    assert (second - first)[:, 0] == pytest.approx(20)
    first, second = run([moving(0), moving(1)])
    assert 0 < (second - first)[:, 0].max() < 19.9


def test_videos_of_one_frame_are_not_smoothed_into_each_other() -> None:
    look = iter([[0, 0, 40, 50], [20, 0, 60, 50]])
    process = FrameRunner(
        Runner(FixedEngine()),
        lambda _: Detections(np.array([next(look)], np.float32), np.ones(1, np.float32)),
        smoothing=OneEuroOptions(),
    )
    first, second = (process(moving(0, name)).poses.keypoints[0] for name in ("a.mp4", "b.mp4"))  # type: ignore[union-attr]
    assert (second - first)[:, 0] == pytest.approx(20)


def test_every_video_begins_with_number_one() -> None:
    process = FrameRunner(Runner(FixedEngine()))
    assert [process(frame).ids for frame in (moving(0), moving(1), moving(0, "b.mp4"))] == [(1,), (1,), (1,)]  # type: ignore[union-attr]


def test_a_video_that_is_run_again_begins_anew() -> None:
    """Another upload under the same name must not begin with the people and boxes that the last one ended with."""
    boxes = iter([[[10, 10, 60, 90]], [[120, 10, 170, 90]]])
    process = FrameRunner(
        Runner(FixedEngine()),
        looking_with(lambda image: next(boxes)),
        tracking=TrackingOptions(detect_every=0),
        smoothing=OneEuroOptions(),
    )
    first, again = ([process(moving(index)) for index in range(3)] for _ in range(2))
    assert [result.ids for result in (*first, *again)] == [(1,)] * 6  # type: ignore[union-attr]
    assert again[0].poses.boxes.tolist() == [[120, 10, 170, 90]]  # type: ignore[union-attr]
    assert (again[0].poses.keypoints - first[0].poses.keypoints)[0, :, 0] == pytest.approx(110)  # type: ignore[union-attr]


def test_the_detector_is_asked_now_and_then() -> None:
    asked = []

    def detector(image: np.ndarray) -> Detections:
        asked.append(image.shape)
        return Detections(np.array([[10, 10, 60, 90]], np.float32), np.array([0.7], np.float32))

    process = FrameRunner(Runner(FixedEngine()), looking_with(detector), tracking=TrackingOptions(detect_every=4))
    results = [process(moving(index)) for index in range(9)]
    assert len(asked) == 3 and ["detect" in result.ms for result in results][:5] == [True, False, False, False, True]  # type: ignore[union-attr]
    assert all(result.poses.box_scores.tolist() == [pytest.approx(0.7)] for result in results)  # type: ignore[union-attr]


def test_without_a_detector_the_whole_picture_is_looked_at_once() -> None:
    process = FrameRunner(Runner(FixedEngine()))
    results = [process(moving(index)) for index in range(25)]
    assert ["detect" in result.ms for result in results] == [True, *[False] * 24]  # type: ignore[union-attr]


def test_all_people_are_one_batch() -> None:
    engine = FixedEngine(batch=8)
    ran = []
    run = engine.run
    engine.run = lambda crops: (ran.append(len(crops)), run(crops))[1]  # type: ignore[assignment, func-returns-value]
    look = looking_with(
        lambda image: Detections(
            np.array([[5 * k, 0, 60 + 5 * k, 90] for k in range(5)], np.float32), np.ones(5, np.float32)
        )
    )
    FrameRunner(Runner(engine), look)(still())
    assert ran == [5]


def test_boxes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    listed = {"a.jpg": [[1, 2, 30, 40]], "clip.mp4#2": [[5, 5, 50, 60, 0.5]], "clip.mp4": [[0, 0, 20, 30]], "b.jpg": []}
    path.write_text(json.dumps(listed))
    look = listed_in(BoxFile(path))
    assert look(still()).boxes.tolist() == [[1, 2, 30, 40]]  # type: ignore[union-attr]
    assert look(moving(2)).scores.tolist() == [0.5]  # type: ignore[union-attr]
    assert look(moving(3)).boxes.tolist() == [[0, 0, 20, 30]]  # type: ignore[union-attr]
    assert look(still("b.jpg")).boxes.shape == (0, 4) and look(still("c.jpg")) is None  # type: ignore[union-attr]
    process = FrameRunner(Runner(FixedEngine()), look)
    missing = process(still("c.jpg"))
    assert isinstance(missing, Result) and len(missing.poses) == 0 and not missing.boxed


def test_a_bad_box_fails_an_image_ends_a_video_and_stops_a_camera() -> None:
    outside = looking_with(lambda image: Detections(np.array([[900, 0, 950, 9]], np.float32), np.ones(1, np.float32)))
    process = FrameRunner(Runner(FixedEngine()), outside)
    failure = process(still())
    assert isinstance(failure, Failure) and failure.reason.startswith(
        "a.jpg: Box 0 (900, 0, 950, 9) lies wholly outside"
    )
    broken = process(moving(7))
    assert isinstance(broken, Failure) and broken.name == "clip.mp4"
    assert broken.reason.startswith("clip.mp4#7: Box 0 (900, 0, 950, 9) lies wholly outside the 200x100 image")
    with pytest.raises(BadInputError, match=r"cam#3: Box 0 .* lies wholly outside the 200x100 image"):
        process(Frame(Origin("cam", 30.0, live=True), 3, 0.1, IMAGE))


def test_a_camera_that_comes_back_smaller_is_looked_at_anew() -> None:
    looks: list[int] = []

    def seen(image: np.ndarray) -> Detections:
        looks.append(image.shape[1])
        x = image.shape[1] - 40
        return Detections(np.array([[x, 0, x + 40, 90]], np.float32), np.ones(1, np.float32))

    process = FrameRunner(Runner(FixedEngine()), looking_with(seen))
    camera = Origin("cam", 30.0, live=True)
    numbers = []
    for index, width in enumerate((200, 200, 90, 90)):
        result = process(Frame(camera, index, index / 30, IMAGE[:, :width]))
        assert isinstance(result, Result) and result.ids and result.poses.boxes[0, 0] < width
        numbers.append(result.ids[0])
    assert looks[0] == 200 and looks.count(90) >= 1
    assert numbers == [1, 1, 2, 2], "a number is one person's in the whole source"


def test_metres_of_the_assumed_camera() -> None:
    """The pinhole by hand, with the principal point in the middle of an image that is not square."""
    result = FrameRunner(Runner(FixedEngine(depth=True)))(still())
    assert isinstance(result, Result) and result.metres is not None
    x, y, z = result.poses.keypoints[0, 40].astype(float)
    wanted = ((x - 100) / ASSUMED_FOCAL[0] * (z + ASSUMED_DEPTH), (y - 50) / ASSUMED_FOCAL[1] * (z + ASSUMED_DEPTH))
    assert result.metres[0, 40] == pytest.approx([*wanted, z + ASSUMED_DEPTH], rel=1e-5)


def test_metres_of_a_given_camera_and_depth() -> None:
    view = View(np.array([[800.0, 0, 90], [0, 820.0, 60], [0, 0, 1]]), 3.0)
    result = FrameRunner(Runner(FixedEngine(depth=True)), view=view)(moving(0))
    assert isinstance(result, Result) and result.metres is not None
    x, y, z = result.poses.keypoints[0, 99].astype(float)
    assert result.metres[0, 99] == pytest.approx([(x - 90) / 800 * (z + 3), (y - 60) / 820 * (z + 3), z + 3], rel=1e-5)

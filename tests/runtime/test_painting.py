"""How results are drawn: labels, boxes, and the 3D view beside the picture."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from fixed_engine import FixedEngine
from numpy.typing import NDArray

from rtmw_edge.poses import Poses
from rtmw_edge.runtime import Runner
from rtmw_edge.runtime.drawing import LEFT, RIGHT, draw
from rtmw_edge.runtime.frame_runner import FrameRunner
from rtmw_edge.runtime.frames import Frame, Origin, Result
from rtmw_edge.runtime.painting import Painter
from rtmw_edge.runtime.view3d import SkeletonView

IMAGE = np.full((400, 600, 3), 90, np.uint8)


def result(*, depth: bool = False) -> Result:
    found = FrameRunner(Runner(FixedEngine(depth=depth)))(Frame(Origin("clip.mp4", 30.0), 0, 0.0, IMAGE))
    assert isinstance(found, Result)
    return found


def test_labels_and_boxes_are_drawn_when_wanted() -> None:
    plain = Painter(0.1)(result())
    boxed, numbered = Painter(0.1, boxes=True)(result()), Painter(0.1, ids=True)(result())
    assert plain.shape == IMAGE.shape and not np.array_equal(plain, boxed) and not np.array_equal(plain, numbered)
    assert (boxed[200, 0] != plain[200, 0]).any(), "the box of the whole image runs along its edge"
    assert np.array_equal(numbered[200:], plain[200:]), "a number alone draws no box"


@pytest.mark.parametrize("corner", [(0, 0), (-50, -50), (590, 395), (300, 200)])
def test_a_label_stays_in_the_picture(corner: tuple[float, float]) -> None:
    """The same number of bright pixels wherever the box is."""
    black = np.zeros((400, 600, 3), np.uint8)
    x, y = corner
    poses = Poses(np.zeros((1, 133, 2)), np.zeros((1, 133)), [[x, y, x + 40, y + 60]], [1])
    drawn = draw(black, poses, threshold=0.3, labels=["#12 0.50"])
    assert (drawn > 200).sum() == pytest.approx(_ink(), rel=0.02)


def _ink() -> int:
    poses = Poses(np.zeros((1, 133, 2)), np.zeros((1, 133)), [[200, 200, 240, 300]], [1])
    return int((draw(np.zeros((400, 600, 3), np.uint8), poses, threshold=0.3, labels=["#12 0.50"]) > 200).sum())


@pytest.mark.parametrize(("view3d", "width"), [("rotate", 1000), ("fixed", 1000), ("none", 600)])
def test_3d_stands_beside_the_picture(view3d: str, width: int) -> None:
    assert Painter(0.1, view3d=view3d)(result(depth=True)).shape == (400, width, 3)
    assert Painter(0.1, view3d=view3d)(result()).shape == IMAGE.shape, "2D has none"


def test_only_a_rotating_view_turns() -> None:
    now = result(depth=True)
    later = dataclasses.replace(now, frame=dataclasses.replace(now.frame, time_s=2.0))
    fixed, rotating = Painter(0.1, view3d="fixed"), Painter(0.1, view3d="rotate")
    assert np.array_equal(fixed(now), fixed(later)) and not np.array_equal(rotating(now), rotating(later))


def standing() -> NDArray[np.float64]:
    """Somebody in metres, 3 m away, facing the camera: the left side is on the right of the picture."""
    metres = np.zeros((1, 133, 3))
    metres[..., 2] = 3.0
    height = {0: -0.7, 5: -0.4, 6: -0.4, 11: 0.1, 12: 0.1, 13: 0.5, 14: 0.5, 15: 0.9, 16: 0.9}
    for keypoint, y in height.items():
        metres[0, keypoint, :2] = ((0.2 if keypoint % 2 else -0.2) if keypoint else 0, y)
    return metres


def columns(canvas: NDArray[np.uint8], colour: tuple[int, int, int]) -> float:
    """Mean column of the pixels that have nearly this hue."""
    unit = canvas / np.maximum(np.linalg.norm(canvas.astype(float), axis=2, keepdims=True), 1)
    like = (unit @ (np.array(colour) / np.linalg.norm(colour)) > 0.985) & (canvas.max(axis=2) > 60)
    return float(np.nonzero(like)[1].mean())


def confident(*keypoints: int) -> NDArray[np.float64]:
    scores = np.zeros((1, 133))
    scores[0, list(keypoints)] = 1
    return scores


def test_the_view_is_not_mirrored_and_stands_upright() -> None:
    view = SkeletonView(turn_deg_s=0)
    canvas = view(standing(), confident(*range(5, 17)), size=300, threshold=0.5)
    assert columns(canvas, LEFT) > columns(canvas, RIGHT)
    rows = np.nonzero((canvas.astype(int) - (28, 24, 22) > 60).any(axis=2))[0]
    assert rows.min() < 150 < rows.max()


def test_a_limb_that_is_unsure_is_left_out() -> None:
    view = SkeletonView(turn_deg_s=0)
    all_of_it = view(standing(), confident(*range(5, 17)), size=300, threshold=0.5)
    without_legs = view(standing(), confident(5, 6, 11, 12), size=300, threshold=0.5)
    assert (all_of_it > 100).sum() > (without_legs > 100).sum() > 0
    nothing = view(standing(), np.zeros((1, 133)), size=300, threshold=0.5)
    assert (nothing == nothing[0, 0]).all()


def test_far_is_darker() -> None:
    near, far = standing(), standing()
    near[0, 15:17, 2] -= 0.8
    far[0, 15:17, 2] += 0.8
    shins = confident(5, 6, 13, 14, 15, 16)
    bright = [SkeletonView(0)(metres, shins, size=300, threshold=0.5).max() for metres in (near, far)]
    assert bright[0] > bright[1] + 30


def test_the_view_is_cheap() -> None:
    """Four people at 1080 px take less processor time than a 30th of a second."""
    view, metres = (
        SkeletonView(),
        np.repeat(standing(), 4, axis=0) + np.random.default_rng(0).normal(0, 0.3, (4, 133, 3)),
    )
    spent = []
    for _ in range(5):
        start = time.process_time()
        view(metres, np.ones((4, 133)), size=1080)
        spent.append(time.process_time() - start)
    assert min(spent) < 1 / 30


def test_wild_depths_are_harmless() -> None:
    view = SkeletonView()
    for factor in (0.0, 1e3, 1e7):
        canvas = view(np.full((2, 133, 3), factor), np.ones((2, 133)), size=64)
        assert canvas.shape == (64, 64, 3)

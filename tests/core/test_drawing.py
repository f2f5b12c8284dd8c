"""Drawn people: what changes, what does not, and that opacity follows confidence."""

from __future__ import annotations

import numpy as np
import pytest

from rtmw_edge.errors import BadInputError
from rtmw_edge.keypoints import PARTS
from rtmw_edge.poses import Poses
from rtmw_edge.runtime.drawing import FINGER_COLOURS, LEFT, RIGHT, STROKES, draw


def _person(height: int, offset: float = 0.0) -> Poses:
    """Keypoints spread over a square of `height` px; each hand a fan of 30 % of it."""
    rng = np.random.default_rng(3)
    points = rng.uniform(0.1, 0.9, (1, 133, 2))
    for part, left in (("left_hand", 0.1), ("right_hand", 0.6)):
        fan = [(0.15, 0.3)] + [(0.03 + 0.06 * finger, 0.22 - 0.07 * joint) for finger in range(5) for joint in range(4)]
        points[0, PARTS[part]] = np.add(fan, (left, 0.3))
    return Poses(points * height + offset, np.ones((1, 133)), [[0, 0, height, height]], [1])


def _has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(image.astype(int) - colour).max(axis=2) <= 2).any())


def test_every_bone_and_contour_is_a_stroke() -> None:
    bones = {(stroke.start, stroke.end) for stroke in STROKES}
    assert len(STROKES) == 65 + 63, "limbs, and the 63 segments of nine contours"
    assert {stroke.start for stroke in STROKES} | {stroke.end for stroke in STROKES} == set(range(133))
    assert len(bones) == len(STROKES)
    thumb = [stroke for stroke in STROKES if stroke.end in range(92, 96)]
    assert {stroke.colour for stroke in thumb} == {FINGER_COLOURS[0]}


@pytest.mark.parametrize("height", [500, 1080])
def test_all_colours_show(height: int) -> None:
    image = np.zeros((height, height, 3), np.uint8)
    drawn = draw(image, _person(height), threshold=0.3)
    assert drawn.shape == image.shape and not image.any(), "the original stays as it is"
    assert all(_has(drawn, colour) for colour in (*FINGER_COLOURS, LEFT, RIGHT))


def test_small_images_are_enlarged() -> None:
    image = np.zeros((256, 192, 3), np.uint8)
    assert draw(image, Poses.empty(), threshold=0.3).shape == (768, 576, 3)
    assert draw(image, Poses.empty(), threshold=0.3, scale=1).shape == image.shape
    assert draw(np.zeros((1, 1, 3), np.uint8), _person(1), threshold=0.3).shape == (8, 8, 3)
    assert all(_has(draw(image, _person(192), threshold=0.3), colour) for colour in FINGER_COLOURS)


def test_below_the_threshold_nothing_is_drawn() -> None:
    image = np.full((400, 400, 3), 90, np.uint8)
    assert np.array_equal(draw(image, _person(400), threshold=1.01), image)
    hidden = Poses(_person(400).keypoints, np.zeros((1, 133)), [[0, 0, 9, 9]], [1])
    assert np.array_equal(draw(image, hidden, threshold=-5), image), "scores of zero have no place"


def test_confidence_is_opacity() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    strength = []
    for score in (0.31, 0.4, 0.5, 0.65):
        person = _person(400)
        poses = Poses(person.keypoints, np.full((1, 133), score), person.boxes, person.box_scores)
        strength.append(draw(image, poses, threshold=0.3).max())
    assert strength == sorted(strength) and 100 < strength[0] < 140 and strength[-1] == 255


def test_outside_and_far_away_is_harmless() -> None:
    image = np.full((400, 400, 3), 90, np.uint8)
    for offset in (-1e4, 1e4, 1e9):
        assert np.array_equal(draw(image, _person(400, offset), threshold=0.3), image)
    partly = _person(400, 300)
    assert not np.array_equal(draw(image, partly, threshold=0.3), image)


def test_boxes_and_depth() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    flat = Poses(np.full((1, 133, 3), 50.0), np.zeros((1, 133)), [[100, 100, 300, 300]], [1])
    assert not draw(image, flat, threshold=0.3).any()
    assert draw(image, flat, threshold=0.3, boxes=True)[100, 200].any()


@pytest.mark.parametrize("size", [(480, 640), (2160, 3840)])
def test_a_label_can_be_read_on_snow_and_a_box_be_seen(size: tuple[int, int]) -> None:
    height, width = size
    image = np.full((*size, 3), 250, np.uint8)
    box = [[width // 4, height // 4, width // 2, height // 2]]
    poses = Poses(np.zeros((1, 133, 2)), np.zeros((1, 133)), box, [1])
    drawn = draw(image, poses, threshold=0.3, boxes=True, labels=["0.47"])
    above = (drawn != image).any(axis=2)
    above[height // 4 - 4 :] = False
    rows, columns = np.nonzero(above)
    label = drawn[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert 0.3 < (label.max(axis=2) < 60).mean() < 0.95, "light letters on dark"
    line = (drawn[3 * height // 8, : 3 * width // 8] != image[0, 0]).any(axis=1).sum()
    assert line >= max(2, height / 600)


def test_bad_image() -> None:
    with pytest.raises(BadInputError, match="not uint8 BGR"):
        draw(np.zeros((5, 5)), Poses.empty(), threshold=0.3)  # type: ignore[arg-type]

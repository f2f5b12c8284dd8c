"""How far apart two sets of logits are, with peaks that a test has put where it knows them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge.evaluation.agreement import Agreement, Logits
from rtmw_edge.evaluation.intervals import resamples


def _peaks(bins: NDArray[np.integer], height: NDArray[np.floating], size: int = 100) -> NDArray[np.float32]:
    line = np.zeros((*bins.shape, size), np.float32)
    np.put_along_axis(line, bins[..., None], height[..., None].astype(np.float32), axis=2)
    return line


def _logits(x: NDArray[np.integer], y: NDArray[np.integer], height: NDArray[np.floating]) -> Logits:
    return _peaks(x, height), _peaks(y, height)


def test_pixels_and_flips() -> None:
    x, y, sure = np.full((2, 133), 40), np.full((2, 133), 50), np.full((2, 133), 5.0)
    moved_x, moved_y = x.copy(), y.copy()
    moved_x[0, 0] += 1  # a bin: half a pixel
    moved_x[0, 91:112] += 6  # the left hand of the first: 3 and 4 pixels
    moved_y[0, 91:112] -= 8
    agreement = Agreement()
    weighed = agreement.add(0, _logits(x[:1], y[:1], sure[:1]), _logits(moved_x[:1], moved_y[:1], sure[:1]))
    assert weighed == pytest.approx([5.0 * (0.5 + 21 * 5)], rel=1e-5)
    agreement.add(1, _logits(x[1:], y[1:], sure[1:]), _logits(moved_x[1:], moved_y[1:], sure[1:]))
    parts = agreement.result(resamples(2))
    assert {part.images for part in parts.values()} == {2}, "images, whatever the number of keypoints"
    assert parts["body"].keypoints == parts["body"].of == 34
    assert parts["body"].flipped.value == 1 / 34 and parts["body"].flipped_far.value == 0
    assert parts["left_hand"].flipped_far.value == 0.5
    assert parts["left_hand"].px["p50"].value == 0 and parts["left_hand"].px["p90"].value == 5
    # Of two images the first is drawn 0, 1 or 2 times: the share is anything from none to all.
    assert (parts["left_hand"].flipped.low, parts["left_hand"].flipped.high) == (0, 1)
    assert parts["whole"].px["p99"].value == 5 and parts["face"].px["p99"].value == 0


def test_only_what_the_reference_is_sure_of() -> None:
    x = np.full((1, 133), 40)
    height = np.full((1, 133), 8.0)
    height[0, 112:] = 3.9  # under half of the median
    height[0, 17:23] = -1.0
    agreement = Agreement()
    weighed = agreement.add(0, _logits(x, x, height), _logits(x + 20 * (height < 4), x, np.full((1, 133), 8.0)))
    parts = agreement.result(resamples(1))
    assert "right_hand" not in parts and "foot" not in parts
    assert parts["whole"].keypoints == 133 - 21 - 6 and parts["whole"].px["p99"].value == 0
    assert parts["whole"].of == 133 and parts["whole"].images == 1
    assert weighed == pytest.approx([21 * 3.9 * 10], rel=1e-5), "a guess counts as little as it scores"


def test_a_reference_that_scores_below_zero_is_sure_of_nothing() -> None:
    x, height = np.full((1, 133), 40), np.full((1, 133), 1.0)
    height[0, :17] = 1.9  # -0.1, which is above half of the median, -1
    line = _peaks(x, height) - np.float32(2)
    agreement = Agreement()
    placed = (np.roll(line, 9, axis=2) + np.float32(9), line + np.float32(9))  # 19.5 pixels and more from nowhere
    assert agreement.add(0, (line, line), placed).tolist() == [0]
    assert agreement.result(resamples(1)) == {}


def test_the_third_axis_flips_too() -> None:
    x, sure = np.full((1, 133), 40), np.full((1, 133), 5.0)
    line = _peaks(x, sure)
    agreement = Agreement()
    agreement.add(0, (line, line, line), (line, line, _peaks(x + 2, sure)))
    whole = agreement.result(resamples(1))["whole"]
    assert whole.flipped.value == whole.flipped_far.value == 1 and whole.px["p99"].value == 0


def test_nobody() -> None:
    agreement = Agreement()
    assert agreement.result(resamples(0)) == {}
    none = np.zeros((0, 133, 100), np.float32)
    assert len(agreement.add(0, (none, none), (none, none))) == 0
    assert agreement.result(resamples(1)) == {}

"""The two figures of agreement, against values worked out by hand, and golden vectors that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_models

from rtmw_edge.bundle import Tolerance, agreement, golden
from rtmw_edge.errors import BadInputError

EXACT = Tolerance(0.0, 0.0)


@pytest.fixture()
def vectors() -> golden.Golden:
    images = tiny_models.crops()
    return golden.make(images, tiny_models.logits(images))


def test_equal_answers_agree_exactly(vectors: golden.Golden) -> None:
    for found in agreement(vectors, vectors.logits, EXACT):
        assert found == golden.Agreement(0.0, 0.0, 133)
        assert found.within(EXACT)


def test_relative_rms_is_over_all_axes(vectors: golden.Golden) -> None:
    x, y = vectors.logits
    found = agreement(vectors, (x * 1.5, y), EXACT)[0]
    square_x, square_y = ((line[0].astype(float) ** 2).sum() for line in (x, y))
    assert found.relative_rms == pytest.approx(0.5 * np.sqrt(square_x / (square_x + square_y)), rel=1e-5)
    assert found.keypoint_px_p99 == 0.0


def test_depth_counts_in_the_logits_as_the_others_do(vectors: golden.Golden) -> None:
    """Keypoints are compared in two dimensions, so that nothing else would tell a wrong depth."""
    x, y = vectors.logits
    deep = golden.make(vectors.crops, (x, y, x))
    (same, *_), (found, *_) = (agreement(deep, (x, y, z), EXACT) for z in (x, 1.5 * x))
    square_x, square_y = ((line[0].astype(float) ** 2).sum() for line in (x, y))
    assert same.relative_rms == 0 and found.keypoint_px_p99 == 0
    assert found.relative_rms == pytest.approx(0.5 * np.sqrt(square_x / (2 * square_x + square_y)), rel=1e-5)


def test_a_shift_of_one_bin_is_half_a_pixel(vectors: golden.Golden) -> None:
    x, y = vectors.logits
    assert agreement(vectors, (np.roll(x, 1, axis=2), y), EXACT)[1].keypoint_px_p99 == 0.5
    both = agreement(vectors, (np.roll(x, 6, axis=2), np.roll(y, 8, axis=2)), EXACT)[1]
    assert both.keypoint_px_p99 == 5.0


def test_a_few_keypoints_that_moved_are_seen(vectors: golden.Golden) -> None:
    """Three of 133 are more than the hundredth that may lie anywhere."""
    x, y = (line.copy() for line in vectors.logits)
    x[:, :3], y[:, :3] = np.roll(x[:, :3], 6, axis=2), np.roll(y[:, :3], 8, axis=2)
    assert agreement(vectors, (x, y), EXACT)[1].keypoint_px_p99 == 5.0


def test_both_figures_must_be_within_the_tolerance() -> None:
    tolerance = Tolerance(0.1, 2.0)
    assert golden.Agreement(0.1, 2.0, 5).within(tolerance)
    assert not golden.Agreement(0.0, 9.0, 5).within(tolerance) and not golden.Agreement(0.9, 0.0, 5).within(tolerance)


def test_a_keypoint_between_two_rivals_is_not_compared() -> None:
    """Logits of rms 1 and a tolerance of 0.01: a lead must be above 0.06, against bins more than four away."""
    rng = np.random.default_rng(0)
    x, y = rng.choice([-1.0, 1.0], (2, 1, 133, 96)).astype(np.float32)
    x[..., 40], y[..., 40] = 3.0, 3.0
    x /= np.sqrt(np.mean(np.square(x)))
    top = x[0, 0, 40]
    x[0, 0, 50] = top - 0.05  # a rival, too near in height
    x[0, 1, 50] = top - 0.08  # a rival, low enough
    x[0, 2, 43] = top - 0.05  # the same peak, not a rival
    vectors = golden.make(np.zeros((1, 64, 48, 3), np.uint8), (x, y))
    (found,) = agreement(vectors, (x, y), Tolerance(0.01, 2.0))
    assert found.sure == 132
    flipped = x.copy()
    flipped[0, 0, 40] = top - 0.1
    assert agreement(vectors, (flipped, y), Tolerance(0.01, 2.0))[0].keypoint_px_p99 == 0.0
    (nothing,) = agreement(vectors, (x, y), Tolerance(1.0, 2.0))
    assert (nothing.sure, nothing.keypoint_px_p99) == (0, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_is_infinitely_far(vectors: golden.Golden, value: float) -> None:
    x = vectors.logits[0].copy()
    x[2, 5, 7] = value
    found = agreement(vectors, (x, vectors.logits[1]), EXACT)
    assert found[0].within(EXACT)
    assert found[2].relative_rms == float("inf") and not found[2].within(Tolerance(1.0, 64.0))


def test_stored_logits_lie_within_one_however_far_they_fall(vectors: golden.Golden, tmp_path: Path) -> None:
    """Their largest may be next to nothing, and half precision ends at 65504."""
    x, y = vectors.logits
    low = golden.make(vectors.crops, (x - x.max() + 1e-3, y))
    golden.save(low, tmp_path / "golden.npz", ("x", "y"))
    with np.load(tmp_path / "golden.npz") as stored:
        found = stored["logits_x"].astype(np.float32) * stored["peak_x"]
        assert np.abs(stored["logits_x"]).max() == 1
    assert found == pytest.approx(low.logits[0], abs=1e-3 * float(np.abs(low.logits[0]).max()))


def test_golden_vectors_must_be_finite_and_few() -> None:
    images = tiny_models.crops()
    x, y = tiny_models.logits(images)
    with pytest.raises(BadInputError, match="pass finite ones"):
        golden.make(images, (x * np.nan, y))
    with pytest.raises(BadInputError, match="9 golden crops: pass 1 to 8"):
        many = tiny_models.crops(9)
        golden.make(many, tiny_models.logits(many))

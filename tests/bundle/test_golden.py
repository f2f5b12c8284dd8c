"""The two figures of agreement, against values worked out by hand, and golden vectors that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models

from rtmw_edge.bundle import Tolerance, agreement, golden
from rtmw_edge.errors import BadInputError


@pytest.fixture()
def vectors() -> golden.Golden:
    images = tiny_models.crops()
    return golden.make(images, tiny_models.logits(images))


def test_equal_answers_agree_exactly(vectors: golden.Golden) -> None:
    for found in agreement(vectors, vectors.logits):
        assert found == golden.Agreement(0.0, 0.0)
        assert found.within(Tolerance(0.0, 0.0))


def test_relative_rms_is_over_all_axes(vectors: golden.Golden) -> None:
    x, y = vectors.logits
    found = agreement(vectors, (x * 1.5, y))[0]
    expected = 0.5 * np.sqrt(
        (x[0].astype(float) ** 2).sum() / ((x[0].astype(float) ** 2).sum() + (y[0].astype(float) ** 2).sum())
    )
    assert found.relative_rms == pytest.approx(expected, rel=1e-5)
    assert found.keypoint_px_p99 == 0.0


def test_a_shift_of_one_bin_is_half_a_pixel(vectors: golden.Golden) -> None:
    x, y = vectors.logits
    assert agreement(vectors, (np.roll(x, 1, axis=2), y))[1].keypoint_px_p99 == 0.5
    both = agreement(vectors, (np.roll(x, 6, axis=2), np.roll(y, 8, axis=2)))[1]
    assert both.keypoint_px_p99 == 5.0


def test_the_unsure_half_of_the_keypoints_is_not_compared(vectors: golden.Golden) -> None:
    x = vectors.logits[0].copy()
    unsure = np.argsort(np.minimum(x.max(axis=2), vectors.logits[1].max(axis=2))[0])[:60]
    x[0, unsure] = np.roll(x[0, unsure], 20, axis=1)
    found = agreement(vectors, (x, vectors.logits[1]))[0]
    assert found.keypoint_px_p99 == 0.0 and found.relative_rms > 0.1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_not_finite_is_infinitely_far(vectors: golden.Golden, value: float) -> None:
    x = vectors.logits[0].copy()
    x[2, 5, 7] = value
    found = agreement(vectors, (x, vectors.logits[1]))
    assert found[0].within(Tolerance(0.0, 0.0))
    assert found[2].relative_rms == float("inf") and not found[2].within(Tolerance(1.0, 64.0))


def test_golden_vectors_must_be_finite_and_few() -> None:
    images = tiny_models.crops()
    x, y = tiny_models.logits(images)
    with pytest.raises(BadInputError, match="pass finite ones"):
        golden.make(images, (x * np.nan, y))
    with pytest.raises(BadInputError, match="9 golden crops: pass 1 to 8"):
        many = tiny_models.crops(9)
        golden.make(many, tiny_models.logits(many))

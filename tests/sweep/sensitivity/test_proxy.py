"""Distances from the float network, against figures worked out by hand and by scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from rtmw_edge.evaluation.matching import oks
from rtmw_edge.keypoints import SIGMAS
from rtmw_edge.sweep.sensitivity.proxy import MEASURES, Distances, FloatAnswers, correlations, spearman

PEOPLE, BINS = 3, (384, 512)


def peaks(x: NDArray[np.int64], y: NDArray[np.int64], height: float = 9.0) -> tuple[NDArray[np.float32], ...]:
    """Logits (N,133,bins) whose maxima are at the bins x and y (N,133)."""
    lines = [np.zeros((len(x), 133, bins), np.float32) for bins in BINS]
    for line, places in zip(lines, (x, y), strict=True):
        np.put_along_axis(line, places[..., None], np.float32(height), axis=2)
    return tuple(lines)


@pytest.fixture()
def answers() -> FloatAnswers:
    at = np.full((PEOPLE, 133), 100)
    logits = peaks(at, at)
    logits[0][:, 5], logits[1][:, 5] = 0.1, 0.1  # the float network is not sure of keypoint 5
    return FloatAnswers.of(logits, np.full(PEOPLE, 5000.0))


def test_nothing_moved(answers: FloatAnswers) -> None:
    at = np.full((PEOPLE, 133), 100)
    found = answers.distances(peaks(at, at))
    assert list(found) == ["body", "foot", "face", "left_hand", "right_hand", "whole"]
    assert all(list(near.measures.values()) == [0, 0, 0, 0, 0] for near in found.values())


def test_distances_are_of_the_sure_keypoints_of_the_part(answers: FloatAnswers) -> None:
    x, y = np.full((PEOPLE, 133), 100), np.full((PEOPLE, 133), 100)
    x[:, 0] += 6  # 3 px to the right: one of the 16 sure keypoints of the body
    x[:, 1], y[:, 1] = 106, 108  # 3 and 4 px: 5 px
    x[:, 5] += 200
    found = answers.distances(peaks(x, y))
    assert found["body"].px == (0.0, 3.0, 5.0)
    assert found["body"].flips == pytest.approx(2 / 16) and found["whole"].flips == pytest.approx(2 / 132)
    assert list(found["face"].measures.values()) == [0, 0, 0, 0, 0]


def test_oks_loss_is_that_of_object_keypoint_similarity(answers: FloatAnswers) -> None:
    rng = np.random.default_rng(0)
    x, y = (100 + rng.integers(-8, 9, (PEOPLE, 133)) for _ in range(2))
    found = answers.distances(peaks(x, y))
    sure = answers.sure
    moved = np.stack([x, y], axis=2) / 2.0
    boxes, areas = np.zeros((1, 4)), np.array([5000.0])
    parts = {"whole": slice(0, 133), "left_hand": slice(91, 112)}
    for part, rows in parts.items():
        similarity = [
            oks(
                moved[n : n + 1, rows],
                np.full((1, 133, 2), 50.0)[:, rows],
                sure[n : n + 1, rows],
                boxes,
                areas,
                SIGMAS[rows],
            )
            for n in range(PEOPLE)
        ]
        assert found[part].oks_loss == pytest.approx(1 - np.mean(similarity))


def test_the_depth_axis_counts_among_the_flips() -> None:
    at = np.full((PEOPLE, 133), 100)
    depth = np.zeros((PEOPLE, 133, 288), np.float32)
    depth[..., 7] = 1
    deeper = np.roll(depth, 1, axis=2)
    answers = FloatAnswers.of((*peaks(at, at), depth), np.ones(PEOPLE))
    found = answers.distances((*peaks(at, at), deeper))
    assert found["whole"].flips == 1 and found["whole"].px == (0, 0, 0)


def test_fewer_crops_are_the_first_ones(answers: FloatAnswers) -> None:
    at = np.full((2, 133), 100)
    assert answers.distances(peaks(at, at))["whole"].flips == 0


def test_spearman_is_scipys_ties_and_all() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        one, other = rng.integers(0, 6, 40), rng.normal(size=40).round(1)
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_correlations_are_per_measure_and_part() -> None:
    def near(size: float) -> dict[str, Distances]:
        return {"body": Distances((size, size, -size), size, 0.0), "whole": Distances((1, 1, 1), size, size)}

    losses = [{"body": 1.0, "whole": 3.0}, {"body": 2.0, "whole": 2.0}, {"body": 4.0, "whole": 1.0}]
    found = correlations([near(1), near(2), near(3)], losses)
    assert list(found) == list(MEASURES)
    assert found["px p50"]["body"] == pytest.approx(1) and found["px p99"]["body"] == pytest.approx(-1)
    assert found["bin flips"]["whole"] == pytest.approx(-1) and math.isnan(found["OKS loss"]["body"])
    assert math.isnan(found["px p50"]["face"])

"""Bootstrap intervals against resampling done the long way, and against what statistics says they must cover."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge.evaluation.intervals import (
    Estimate,
    estimate,
    resampled_ap,
    resamples,
    weighted_means,
    weighted_percentiles,
)
from rtmw_edge.evaluation.matching import AREAS, THRESHOLDS, Matches, average


def _images(count: int, seed: int = 0, most: int = 4, boxes: int | None = None) -> list[Matches]:
    """Images of nobody to `most` people, with hits that get rarer as the threshold rises, misses and ignored ones."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        people, drawn = rng.integers(0, most + 1), rng.integers(0, most + 2)
        detections = boxes or drawn
        hit = np.zeros(detections)
        hit[:people] = rng.uniform(0.3, 1, min(people, detections))
        matched = np.broadcast_to(hit >= THRESHOLDS[:, None], (len(AREAS), len(THRESHOLDS), detections))
        ignored = np.broadcast_to(rng.random(detections) < 0.2, matched.shape)
        scores = np.sort(rng.uniform(0, 1, detections))[::-1]
        images.append(Matches(scores, matched, ignored & ~matched, np.full(len(AREAS), people)))
    return images


def _repeated(images: list[Matches], drawn: NDArray[np.integer]) -> list[Matches]:
    return [image for image, times in zip(images, drawn, strict=True) for _ in range(times)]


@pytest.mark.parametrize(("count", "most"), [(1, 3), (7, 1), (40, 4), (90, 2)])
def test_ap_of_resamples_is_that_of_the_images_repeated(count: int, most: int) -> None:
    images = _images(count, seed=count, most=most)
    weights = resamples(count, 30)
    expected = [average(_repeated(images, drawn))[0][0].mean() for drawn in weights]
    found = resampled_ap(images, weights)
    assert np.where(np.isnan(found), -1, found) == pytest.approx(np.array(expected), abs=1e-12)


def test_ap_at_recalls_that_floats_hit_exactly() -> None:
    """With 10, 20, 50 or 100 people every recall level is met to the last bit or missed by it: 35 of 100 are less
    than the level 0.35000000000000003. Precision must not be the same on both sides of it."""
    for people, hit in product((1, 3, 10, 20, 50, 100), (lambda k: k % 3 > 0, lambda k: k % 2 == 0)):
        hits = np.broadcast_to(hit(np.arange(people)), (len(AREAS), len(THRESHOLDS), people))
        one = np.full(len(AREAS), 1)
        images = [
            Matches(np.array([1 - k / people]), hits[..., k : k + 1], ~hits[..., :1] & False, one)
            for k in range(people)
        ]
        weights = np.ones((1, people), np.int32)
        assert resampled_ap(images, weights)[0] == pytest.approx(average(images)[0][0].mean(), abs=1e-14)


def test_nobody_to_find_is_no_figure() -> None:
    none = np.zeros((len(AREAS), len(THRESHOLDS), 0), bool)
    empty = [Matches(np.zeros(0), none, none, np.zeros(len(AREAS), int))] * 3
    assert np.isnan(resampled_ap(empty, resamples(3, 5))).all()
    assert np.isnan(resampled_ap([], resamples(0, 5))).all()
    there = [Matches(np.zeros(0), none, none, np.ones(len(AREAS), int))] * 3
    assert resampled_ap(there, resamples(3, 5)).tolist() == [0] * 5


def test_percentiles_of_resamples_are_those_of_the_values_repeated() -> None:
    rng = np.random.default_rng(1)
    owner = rng.integers(0, 12, 300)
    values = np.round(rng.exponential(2, 300) * 2) / 2  # ties, as half pixels have them
    weights = resamples(12, 40)
    found = weighted_percentiles(values, owner, weights, (50, 90, 99))
    for drawn, line in zip(weights, found, strict=True):
        repeated = np.repeat(values, drawn[owner])
        assert line.tolist() == np.percentile(repeated, (50, 90, 99), method="inverted_cdf").tolist()
    assert np.isnan(weighted_percentiles(np.zeros(0), np.zeros(0, int), weights, (50,))).all()


def test_means_of_resamples() -> None:
    owner = np.array([0, 0, 2, 3])
    sums, counts = np.array([1.0, 3.0, 10.0, 0.0]), np.array([1.0, 1.0, 2.0, 0.0])
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 0], [0, 0, 0, 4]], np.int32)
    assert weighted_means(sums, counts, owner, weights)[:2].tolist() == [14 / 4, 18 / 6]
    assert np.isnan(weighted_means(sums, counts, owner, weights)[2])


def test_resamples_that_have_no_figure_are_left_out_of_the_interval() -> None:
    samples = np.array([np.nan, 1.0, 2.0, np.nan, 3.0])
    found = estimate(2.0, samples)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 1.05, 2.95))
    assert estimate(2.0, np.full(3, np.nan)) == estimate(2.0, np.full(1, 2.0))
    assert Estimate(2.0, 1.0, 4.0).scaled(100) == Estimate(200.0, 100.0, 400.0)


def test_resamples_are_seeded_and_draw_as_many_as_there_are() -> None:
    weights = resamples(50, 200)
    assert np.array_equal(weights, resamples(50, 200)) and not np.array_equal(weights, resamples(50, 200, seed=1))
    assert (weights.sum(axis=1) == 50).all()
    # An image is missing from 1/e of the resamples.
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_an_interval_of_a_mean_is_what_the_central_limit_says() -> None:
    values = np.random.default_rng(2).normal(5, 2, 400)
    owner = np.arange(400)
    samples = weighted_means(values, np.ones(400), owner, resamples(400, 4000))
    found = estimate(float(values.mean()), samples)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.08 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.08 * half)


def test_paired_intervals_are_narrower() -> None:
    """Two runners that fail on the same images: the interval of the difference knows it."""
    images = _images(120, seed=3)
    rng = np.random.default_rng(4)
    worse = [Matches(m.scores, m.matched & (rng.random(m.matched.shape) > 0.03), m.ignored, m.people) for m in images]
    weights = resamples(120, 300)
    one, other = resampled_ap(images, weights), resampled_ap(worse, weights)
    paired = np.subtract(*np.quantile(one - other, [0.975, 0.025]))
    apart = np.subtract(*np.quantile(one - other[::-1], [0.975, 0.025]))
    assert 0 < paired < 0.5 * apart


def test_a_thousand_resamples_of_many_detections_take_a_second() -> None:
    """Twenty boxes an image, as detectors give them: nearly all are wrong at every level."""
    images = _images(500, boxes=20)
    weights = resamples(500)
    begun = time.process_time()
    resampled_ap(images, weights)
    assert time.process_time() - begun < 8, "it took 30"


def test_percentiles_of_a_million_distances_take_a_second() -> None:
    rng = np.random.default_rng(5)
    values, owner = rng.exponential(2, 1_000_000).astype(np.float32), rng.integers(0, 500, 1_000_000)
    weights = resamples(500)
    begun = time.process_time()
    found = weighted_percentiles(values, owner, weights, (50, 90, 99))
    assert time.process_time() - begun < 12, "it took 50"
    repeated = np.repeat(values, weights[7, owner])
    assert found[7].tolist() == np.percentile(repeated, (50, 90, 99), method="inverted_cdf").tolist()

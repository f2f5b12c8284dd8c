"""How sure a figure is: 95 % intervals by the bootstrap over images.

Images, not people or keypoints, are drawn again: what is in one image is not independent. A resample is a line of
weights, how often each image was drawn, so that nothing is matched again: AP is averaged anew from the matches, a
percentile from the sorted distances. Two runners on the same images take the same resamples, which makes the interval
of their difference narrow where they fail on the same people (Efron and Tibshirani 1993, percentile intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .matching import RECALLS, THRESHOLDS, Float, Matches

RESAMPLES = 1000
SEED = 0
COVERED = 0.95
BLOCK = 1 << 19
"""Numbers that are held at once while resamples are averaged."""

Weights = NDArray[np.int32]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval, in the figure's own unit."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """The same in a unit `factor` times as small."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def resamples(images: int, count: int = RESAMPLES, seed: int = SEED) -> Weights:
    """Weights (count, images): how often every image was drawn, `images` draws each time. The same seed, the same."""
    if not images:
        return np.zeros((count, 0), np.int32)
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.int32)


def estimate(value: float, samples: Float) -> Estimate:
    """`value` with the interval that holds the middle 95 % of `samples` (count,); NaN among them are left out."""
    known = samples[np.isfinite(samples)]
    if not known.size:
        return Estimate(value, value, value)
    low, high = np.quantile(known, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return Estimate(value, float(low), float(high))


def resampled_ap(images: Sequence[Matches], weights: Weights) -> Float:
    """AP over all sizes (count,) in 0..1 of every resample; NaN where nobody is to be found.

    The same as `matching.average` on the images repeated as often as they were drawn.
    """
    people = weights @ np.array([image.people[0] for image in images], np.int64).reshape(len(images))
    owner = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])
    order = np.argsort(-np.concatenate([np.zeros(0), *(image.scores for image in images)]), kind="mergesort")
    found = np.zeros(len(weights))
    for level in range(len(THRESHOLDS)):
        matched = np.concatenate([np.zeros(0, bool), *(image.matched[0, level] for image in images)])[order]
        ignored = np.concatenate([np.zeros(0, bool), *(image.ignored[0, level] for image in images)])[order]
        whose, right = owner[order][~ignored], matched[~ignored]
        rows = max(1, BLOCK // max(1, len(whose)))
        for start in range(0, len(weights), rows):
            times = weights[start : start + rows, whose].astype(np.float64)
            found[start : start + rows] += _precision(times, right, people[start : start + rows])
    found[people == 0] = np.nan
    return found / len(THRESHOLDS)


def _precision(times: Float, right: NDArray[np.bool_], people: NDArray[np.integer]) -> Float:
    """Mean interpolated precision (R,) of R resamples whose detections (D,), best first, count `times` (R,D).

    `right` (D,) tells which found somebody, of the `people` (R,) who are to be found.
    """
    count, detections = times.shape
    hits = np.cumsum(times * right, axis=1)
    precision = hits / (np.cumsum(times, axis=1) + np.spacing(1))
    envelope = np.zeros((count, detections + 1))
    envelope[:, :-1] = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # How many hits reach each recall level: the least h with h / people >= level, as floats compare.
    total = np.maximum(people, 1)[:, None].astype(np.float64)
    wanted = np.ceil(RECALLS * total)
    wanted -= (wanted - 1) / total >= RECALLS
    wanted += wanted / total < RECALLS
    # One search for all rows: keys rise along a row, and every row starts above the last.
    row = np.arange(count)[:, None]
    stride = float(max(hits.max(initial=0), wanted.max(initial=0)) + 1)
    index = np.searchsorted((hits + row * stride).ravel(), (wanted + row * stride).ravel()).reshape(wanted.shape)
    return np.take_along_axis(envelope, np.minimum(index - row * detections, detections), axis=1).mean(axis=1)


def weighted_percentiles(
    values: NDArray[np.floating], owner: NDArray[np.integer], weights: Weights, percentiles: Sequence[float]
) -> Float:
    """Percentiles (count, P) of `values` (V,), each counted as often as its image `owner` (V,) was drawn.

    The smallest value that at least so many percent do not exceed (numpy's "inverted_cdf"); NaN where none was drawn.
    """
    order = np.argsort(values, kind="stable")
    ranked, whose = values[order], owner[order]
    shares = np.asarray(percentiles, np.float64) / 100
    found = np.full((len(weights), len(shares)), np.nan)
    for index, drawn in enumerate(weights):
        running = np.cumsum(drawn[whose])
        if running.size and running[-1]:
            found[index] = ranked[np.searchsorted(running, np.maximum(shares * running[-1], 1), side="left")]
    return found


def weighted_means(sums: Float, counts: Float, owner: NDArray[np.integer], weights: Weights) -> Float:
    """Mean (count,) of every resample, of what `sums` (N,) adds up over `counts` (N,); NaN where nothing is counted."""
    images = weights.shape[1]
    totals = weights @ np.bincount(owner, sums, minlength=images)
    numbers = weights @ np.bincount(owner, counts, minlength=images)
    means: Float = np.divide(totals, numbers, out=np.full(len(weights), np.nan), where=numbers > 0)
    return means

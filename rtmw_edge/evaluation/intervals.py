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
GROUPS = 512
"""Stretches of the ranks that a percentile is first sought among."""

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

    The same as `matching.average` on the images repeated as often as they were drawn, where no two scores tie.
    """
    people = weights @ np.array([image.people[0] for image in images], np.int64).reshape(len(images))
    owner = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])
    order = np.argsort(-np.concatenate([np.zeros(0), *(image.scores for image in images)]), kind="mergesort")
    whose = owner[order]
    none = np.zeros((len(THRESHOLDS), 0), bool)
    matched = np.concatenate([none, *(image.matched[0] for image in images)], axis=1)[:, order]
    ignored = np.concatenate([none, *(image.ignored[0] for image in images)], axis=1)[:, order]
    # Most detections are wrong at every level: what they add up to between two others is added up once.
    told = np.flatnonzero((matched | ignored).any(axis=0))
    starts = np.concatenate([[0], told + 1])[: len(told)]
    found = np.zeros(len(weights))
    rows = max(1, BLOCK // max(1, len(whose)))
    for start in range(0, len(weights) if len(told) else 0, rows):
        block = slice(start, start + rows)
        times = weights[block, whose[: told[-1] + 1]]
        own = times[:, told]
        wrong = np.add.reduceat(times, starts, axis=1) - own
        for level in range(len(THRESHOLDS)):
            counted = ~ignored[level, told]
            right = np.flatnonzero(matched[level, told] & counted)
            totals = np.cumsum(wrong + own * counted, axis=1)[:, right]
            found[block] += _precision(np.cumsum(own[:, right], axis=1), totals, people[block])
    found[people == 0] = np.nan
    return found / len(THRESHOLDS)


def _precision(hits: NDArray[np.integer], totals: NDArray[np.integer], people: NDArray[np.integer]) -> Float:
    """Mean interpolated precision (R,) of R resamples: `hits` (R,H) of the `totals` (R,H) best detections are right.

    Of the detections, the H that found somebody, best first: precision falls between them. `people` (R,) are to be
    found.
    """
    count, detections = hits.shape
    envelope = np.zeros((count, detections + 1))
    precision = hits / (totals + np.spacing(1))
    envelope[:, :-1] = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # How many hits reach each recall level: the least h with h / people >= level, as floats compare.
    total = np.maximum(people, 1)[:, None].astype(np.float64)
    wanted = np.ceil(RECALLS * total)
    wanted -= (wanted - 1) / total >= RECALLS
    wanted += wanted / total < RECALLS
    # One search for all rows: keys rise along a row, and every row starts above the last.
    row = np.arange(count)[:, None]
    stride = int(max(hits.max(initial=0), wanted.max(initial=0)) + 1)
    keys, sought = hits + row * stride, wanted.astype(np.int64) + row * stride
    index = np.searchsorted(keys.ravel(), sought.ravel()).reshape(wanted.shape)
    return np.take_along_axis(envelope, np.minimum(index - row * detections, detections), axis=1).mean(axis=1)


def weighted_percentiles(
    values: NDArray[np.floating], owner: NDArray[np.integer], weights: Weights, percentiles: Sequence[float]
) -> Float:
    """Percentiles (count, P) of `values` (V,), each counted as often as its image `owner` (V,) was drawn.

    The smallest value that at least so many percent do not exceed (numpy's "inverted_cdf"); NaN where none was drawn.
    """
    found = np.full((len(weights), len(percentiles)), np.nan)
    if not values.size:
        return found
    order = np.argsort(values)
    ranked, whose = values[order], owner[order]
    # Found in two steps: first in which of GROUPS stretches of the ranks, then where in that one.
    length = -(-len(ranked) // GROUPS)
    groups = -(-len(ranked) // length)
    group = np.arange(len(ranked)) // length
    members = np.bincount(whose * groups + group, minlength=weights.shape[1] * groups).reshape(-1, groups)
    running = np.cumsum(weights.astype(np.float64) @ members.astype(np.float64), axis=1)
    for column, share in enumerate(np.asarray(percentiles, np.float64) / 100):
        sought = np.maximum(share * running[:, -1], 1)
        for row in np.flatnonzero(running[:, -1]):
            place = int(np.searchsorted(running[row], sought[row]))
            stretch = slice(place * length, (place + 1) * length)
            before = running[row, place - 1] if place else 0.0
            inside = before + np.cumsum(weights[row, whose[stretch]])
            found[row, column] = ranked[stretch][np.searchsorted(inside, sought[row])]
    return found


def weighted_means(sums: Float, counts: Float, owner: NDArray[np.integer], weights: Weights) -> Float:
    """Mean (count,) of every resample, of what `sums` (N,) adds up over `counts` (N,); NaN where nothing is counted."""
    images = weights.shape[1]
    totals = weights @ np.bincount(owner, sums, minlength=images)
    numbers = weights @ np.bincount(owner, counts, minlength=images)
    means: Float = np.divide(totals, numbers, out=np.full(len(weights), np.nan), where=numbers > 0)
    return means

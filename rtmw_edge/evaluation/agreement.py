"""How far two runners are apart on the same crops: pixels, and SimCC bins that flipped, per body part.

Counted are the keypoints that the reference is sure of: where it guesses itself, distances say nothing. Sure are those
that score above half the median of all its scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..keypoints import NUM_KEYPOINTS
from ..runtime.engine import Logits
from ..simcc import decode
from .intervals import Estimate, Weights, estimate, weighted_means, weighted_percentiles
from .whole_body_ap import EVALUATED_PARTS

SURE = 0.5
"""Share of the median score above which a keypoint is sure."""

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class PartAgreement:
    """One part. Percentiles of the distance in crop pixels, and shares of keypoints in 0..1, with their intervals.

    Attributes:
        images: on how many images there was one to count.
        keypoints: how many were counted, those that the reference is sure of; `of` how many there were.
        px: distance at the percentiles "p50", "p90", "p99".
        flipped: share whose argmax bin is another on any axis; `flipped_far` by more than one bin.
    """

    images: int
    keypoints: int
    of: int
    px: dict[str, Estimate]
    flipped: Estimate
    flipped_far: Estimate


class Agreement:
    """Compares logits image by image; `result()` gives the figures per part."""

    def __init__(self) -> None:
        self._images: list[NDArray[np.int64]] = []
        self._distances: list[NDArray[np.float32]] = []
        self._bins: list[NDArray[np.int64]] = []
        self._scores: list[NDArray[np.float32]] = []

    def add(self, image: int, reference: Logits, other: Logits) -> NDArray[np.float32]:
        """Count the people of image number `image`: logits (N,133,bins) per axis of both runners.

        Returns how far apart each person's keypoints are: the sum (N,) of the distances in crop pixels, each keypoint
        weighed by the reference's score.
        """
        (points, scores), (moved, _) = decode(reference[:2]), decode(other[:2])
        distance = np.linalg.norm(points - moved, axis=2)
        steps = [np.abs(a.argmax(axis=2) - b.argmax(axis=2)) for a, b in zip(reference, other, strict=True)]
        self._images.append(np.full(len(scores), image))
        self._distances.append(distance)
        self._bins.append(np.max(steps, axis=0))
        self._scores.append(scores)
        weighed: NDArray[np.float32] = (np.maximum(scores, 0) * distance).sum(axis=1)
        return weighed

    def sure(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the reference's `scores`, of any shape, belong to sure keypoints, by all that came so far."""
        seen = np.concatenate([np.zeros((0, NUM_KEYPOINTS), np.float32), *self._scores])
        median = np.median(seen) if seen.size else 0.0
        sure: NDArray[np.bool_] = (scores > SURE * median) & (scores > 0)
        return sure

    def result(self, weights: Weights) -> dict[str, PartAgreement]:
        """The figures of every part that has a sure keypoint; `weights` are resamples of the images."""
        if not self._scores:
            return {}
        owner = np.concatenate(self._images)
        distance, bins = np.concatenate(self._distances), np.concatenate(self._bins)
        sure = self.sure(np.concatenate(self._scores))
        parts = {}
        for part, rows in EVALUATED_PARTS.items():
            counted = sure[:, rows]
            whose = np.broadcast_to(owner[:, None], counted.shape)[counted]
            if whose.size:
                px = _percentiles(distance[:, rows][counted], whose, weights)
                flips = [_share(bins[:, rows][counted] > most, whose, weights) for most in (0, 1)]
                images = len(np.unique(whose))
                parts[part] = PartAgreement(images, int(whose.size), int(counted.size), px, *flips)
        return parts


def _percentiles(values: NDArray[np.float32], owner: NDArray[np.int64], weights: Weights) -> dict[str, Estimate]:
    samples = weighted_percentiles(values, owner, weights, PERCENTILES)
    found = np.percentile(values, PERCENTILES, method="inverted_cdf")
    return {
        f"p{name}": estimate(float(value), line)
        for name, value, line in zip(PERCENTILES, found, samples.T, strict=True)
    }


def _share(hit: NDArray[np.bool_], owner: NDArray[np.int64], weights: Weights) -> Estimate:
    samples = weighted_means(hit.astype(np.float64), np.ones(hit.size), owner, weights)
    return estimate(float(hit.mean()), samples)

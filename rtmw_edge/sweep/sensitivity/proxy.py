"""The fast proxy of AP: how far a network's keypoints lie from the float network's, on the same crops, part by part.

It needs no label, and far fewer crops than AP to be steady. How well it ranks layers is measured, by Spearman's rank
correlation with the change of AP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...evaluation.agreement import PERCENTILES, SURE
from ...evaluation.whole_body_ap import EVALUATED_PARTS
from ...keypoints import SIGMAS
from ...runtime.engine import Logits
from ...simcc import decode

MEASURES = ("px p50", "px p90", "px p99", "bin flips", "OKS loss")
"""What `Distances.measures` names."""


@dataclass(frozen=True)
class Distances:
    """How far one network is from the float network, over the keypoints of a part that the latter is sure of.

    px: 50th, 90th and 99th percentile of the distance in crop pixels. flips: share in 0..1 whose bin differs on any
    axis. oks_loss: 1 minus the mean object keypoint similarity to the float keypoints (sigmas and person areas as in
    AP), 0 when equal. It ranks layers and does not add up: on rtmw-n all of them lose a fifth of the sum of each
    alone, because a keypoint that has left its bin is lost only once.
    """

    px: tuple[float, float, float]
    flips: float
    oks_loss: float

    @property
    def measures(self) -> dict[str, float]:
        """All five figures by the names of `MEASURES`."""
        return dict(zip(MEASURES, (*self.px, self.flips, self.oks_loss), strict=True))


@dataclass(frozen=True, eq=False)
class FloatAnswers:
    """What the float network answers to N crops: keypoints (N,133,2) in crop pixels, bins (axes,N,133), which are sure
    (N,133), and the areas (N,) of the people in square pixels of the crop."""

    keypoints: NDArray[np.float32]
    bins: NDArray[np.int64]
    sure: NDArray[np.bool_]
    areas: NDArray[np.float64]

    @classmethod
    def of(cls, logits: Logits, areas: NDArray[np.float64]) -> FloatAnswers:
        """From logits (N,133,bins) per axis, x and y first, and `areas` (N,)."""
        keypoints, scores = decode(logits[:2])
        return cls(keypoints, _bins(logits), (scores > SURE * np.median(scores)) & (scores > 0), areas)

    def distances(self, logits: Logits) -> dict[str, Distances]:
        """By part, those of another network's `logits` on the first so many crops; parts with no sure keypoint lack."""
        found, _ = decode(logits[:2])
        count = len(found)
        squares = ((found.astype(np.float64) - self.keypoints[:count]) ** 2).sum(axis=2)
        # As evaluation.matching.oks, keypoint by keypoint.
        error = squares / (2 * SIGMAS) ** 2 / (self.areas[:count, None] + np.spacing(1)) / 2
        loss = 1 - np.exp(-error)
        flipped = (_bins(logits) != self.bins[:, :count]).any(axis=0)
        distances = {}
        for part, rows in EVALUATED_PARTS.items():
            sure = self.sure[:count, rows]
            if sure.any():
                px = np.percentile(np.sqrt(squares[:, rows][sure]), PERCENTILES, method="inverted_cdf")
                flips, oks_loss = flipped[:, rows][sure].mean(), loss[:, rows][sure].mean()
                distances[part] = Distances((float(px[0]), float(px[1]), float(px[2])), float(flips), float(oks_loss))
        return distances


def _bins(logits: Logits) -> NDArray[np.int64]:
    return np.stack([line.argmax(axis=2) for line in logits])


def correlations(
    distances: Sequence[Mapping[str, Distances]], losses: Sequence[Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Spearman's rank correlation over layers of the proxy with the lost AP, by measure and part; NaN without one."""
    out: dict[str, dict[str, float]] = {}
    for measure in MEASURES:
        out[measure] = {}
        for part in EVALUATED_PARTS:
            pairs = [
                (near[part].measures[measure], loss[part])
                for near, loss in zip(distances, losses, strict=True)
                if part in near and part in loss
            ]
            out[measure][part] = spearman(*zip(*pairs, strict=True)) if pairs else float("nan")
    return out


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank; NaN when either never changes."""
    a, b = _ranks(np.asarray(one, np.float64)), _ranks(np.asarray(other, np.float64))
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else float("nan")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return mean

"""Which crops of a comparison to look at: where the two are farthest apart on what the reference is sure of.

Who is sure is known at the end only, and not all crops can be kept: the CANDIDATES of the largest distances, each
keypoint weighed by its score, are kept on the way, and the worst of those are chosen at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtime.engine import Logits
from ..simcc import decode
from .agreement import Agreement
from .validation import WorstCrop

WORST = 16
"""Crops that are shown."""
CANDIDATES = 4 * WORST


@dataclass(frozen=True, eq=False)
class _Candidate:
    weighed: float
    image_id: int
    crop: NDArray[np.uint8]
    reference: NDArray[np.float32]
    scores: NDArray[np.float32]
    device: NDArray[np.float32]


class WorstCrops:
    """Keeps the candidates as images come; `result` chooses."""

    def __init__(self) -> None:
        self._kept: list[_Candidate] = []

    def add(
        self, image_id: int, weighed: NDArray[np.float32], crops: NDArray[np.uint8], reference: Logits, device: Logits
    ) -> None:
        """The people of one image: `weighed` (N,) as `Agreement.add` gives it, crops (N,H,W,3), both sides' logits.

        Only those that enter the list are decoded and copied.
        """
        least = self._kept[-1].weighed if len(self._kept) == CANDIDATES else 0.0
        rows = np.flatnonzero(weighed > least)
        if not rows.size:
            return
        points, scores = decode([line[rows] for line in reference[:2]])
        moved, _ = decode([line[rows] for line in device[:2]])
        entering = [
            _Candidate(float(weighed[row]), image_id, crops[row].copy(), points[i], scores[i], moved[i])
            for i, row in enumerate(rows)
        ]
        self._kept = sorted([*self._kept, *entering], key=lambda crop: -crop.weighed)[:CANDIDATES]

    def result(self, agreement: Agreement) -> tuple[WorstCrop, ...]:
        """The WORST of them by the mean distance of their sure keypoints, the worst first."""
        found = []
        for crop in self._kept:
            sure = agreement.sure(crop.scores)
            px = float(np.linalg.norm(crop.reference - crop.device, axis=1)[sure].mean()) if sure.any() else 0.0
            if px > 0:
                found.append(WorstCrop(crop.image_id, px, crop.crop, crop.reference, crop.device, sure))
        return tuple(sorted(found, key=lambda crop: -crop.px)[:WORST])

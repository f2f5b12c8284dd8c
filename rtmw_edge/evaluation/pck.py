"""PCK, the percentage of correct keypoints: the share that lies near its label, as measured by the person's box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..keypoints import NUM_KEYPOINTS
from .whole_body_ap import EVALUATED_PARTS

FINE, COARSE = 0.05, 0.1
"""Shares of the height and of the longer side of the box: as rendered people are, and as photographs are labelled."""


class Pck:
    """Counts keypoints person by person; `result()` gives the shares per part so far.

    Near is less than 5 % of the box's height, or with `coarse` 10 % of its longer side.
    """

    def __init__(self, *, coarse: bool = False) -> None:
        self._coarse = coarse
        self._right = np.zeros(NUM_KEYPOINTS)
        self._labelled = np.zeros(NUM_KEYPOINTS)

    def add(
        self,
        found: NDArray[np.floating],
        keypoints: NDArray[np.floating],
        visible: NDArray[np.floating],
        boxes: NDArray[np.floating],
    ) -> None:
        """Count N people: `found` and `keypoints` (N,133,2) in pixels, `visible` (N,133), `boxes` (N,4) xyxy."""
        labelled = visible > 0
        distance = np.linalg.norm(found - keypoints, axis=-1)
        width, height = (boxes[:, 2:] - boxes[:, :2]).T
        near = distance < (COARSE * np.maximum(width, height) if self._coarse else FINE * height)[:, None]
        self._right += (near & labelled).sum(axis=0)
        self._labelled += labelled.sum(axis=0)

    def result(self) -> dict[str, float]:
        """Share in 0..1 of the labelled keypoints of every part and of the whole, -1 where none is labelled."""
        counts = {part: (self._right[rows].sum(), self._labelled[rows].sum()) for part, rows in EVALUATED_PARTS.items()}
        return {part: float(right / total) if total else -1.0 for part, (right, total) in counts.items()}

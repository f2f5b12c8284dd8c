"""A few crops of a stream whose length nobody knows, spread evenly over it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KEPT = 32
"""How many crops are kept at most; at least half as many, when there were so many."""


class Kept:
    """Keeps every k-th crop; k doubles, and every other kept one goes, whenever there are more than `limit`."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit, self._stride, self._count = limit, 1, 0
        self._crops: list[NDArray[np.uint8]] = []

    def add(self, batch: NDArray[np.uint8]) -> None:
        """Look at a batch of crops (N,H,W,3)."""
        for crop in batch:
            if self._count % self._stride == 0:
                if len(self._crops) == self._limit:
                    self._crops = self._crops[::2]
                    self._stride *= 2
                if self._count % self._stride == 0:
                    self._crops.append(crop.copy())
            self._count += 1

    def crops(self) -> NDArray[np.uint8]:
        """The kept crops (K,H,W,3)."""
        return np.stack(self._crops)

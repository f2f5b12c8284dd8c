"""Streaming histograms of magnitudes: any number of images in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

BINS = 8192
MIN_EXPONENT = -40
"""Below 2**-40 a magnitude counts as zero."""


def _counts() -> np.ndarray:
    return np.zeros(BINS, np.int64)


@dataclass
class Histogram:
    """Counts of |x| in `BINS` equal bins over [0, 2**exponent), and the exact largest |x|.

    The upper end is a power of two and only grows, by merging bins in pairs. Bin edges of all such ranges nest exactly,
    so that the counts do not depend on the order of the values or on how they were split into batches.

    >>> histogram = Histogram()
    >>> histogram.add_counts(np.eye(1, BINS, 3, dtype=np.int64)[0], exponent=0, absmax=3.5 / BINS)
    >>> histogram.upper_edges()[3] * BINS
    4.0
    """

    counts: np.ndarray = field(default_factory=_counts)
    exponent: int | None = None
    absmax: float = 0.0

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def bin_width(self) -> float:
        return math.ldexp(1.0, (self.exponent or 0)) / BINS

    def upper_edges(self) -> np.ndarray:
        """Upper edges (BINS,) of the bins, in the unit of the values."""
        return (np.arange(BINS) + 1.0) * self.bin_width

    def range_for(self, absmax: float) -> int:
        """The exponent to count a batch with: its range holds `absmax` and everything before."""
        needed = max(math.frexp(absmax)[1], MIN_EXPONENT) if absmax > 0 else MIN_EXPONENT
        return needed if self.exponent is None else max(needed, self.exponent)

    def add_counts(self, counts: np.ndarray, exponent: int, absmax: float) -> None:
        """Add a batch's counts (BINS,), taken over [0, 2**exponent); `exponent` comes from `range_for`."""
        if self.exponent is not None:
            for _ in range(min(exponent - self.exponent, BINS.bit_length())):
                self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
        self.counts += counts
        self.exponent, self.absmax = exponent, max(self.absmax, absmax)

"""Streaming histograms of signed values: any number of images in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BINS = 8192
"""Bins on each side of zero."""

MIN_EXPONENT = -40
"""Below 2**-40 a magnitude counts as zero."""

FIXED_POINT = 149
"""Every float32 is a whole multiple of 2**-149, so that sums of them in whole numbers are exact."""


def _counts() -> NDArray[np.int64]:
    return np.zeros((2, BINS), np.int64)


@dataclass
class Histogram:
    """Counts of values by sign and magnitude in bins over [0, 2**exponent), their extremes, and those of each crop.

    The upper end is a power of two and only grows, by merging bins in pairs. Bin edges of all such ranges nest exactly,
    so that nothing here depends on the order of the values or on how they were split into batches.

    Attributes:
        counts: int64 (2, BINS): of values from zero up, and of values below zero by magnitude.
        minimum, maximum: the least and the largest value, and zero.
        crops: how many crops were counted.

    >>> histogram = Histogram()
    >>> histogram.add_extremes(np.float32([-0.25, 0.0]), np.float32([0.5, 0.75]))
    >>> histogram.minimum, histogram.maximum, histogram.mean_extremes()
    (-0.25, 0.75, (-0.125, 0.625))
    >>> histogram.widen(0.75), histogram.widen(3.0), histogram.widen(0.1)
    (0, 2, 2)
    """

    counts: NDArray[np.int64] = field(default_factory=_counts)
    exponent: int | None = None
    minimum: float = 0.0
    maximum: float = 0.0
    crops: int = 0
    _sums: list[int] = field(default_factory=lambda: [0, 0, 0])

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def absmax(self) -> float:
        """The largest magnitude."""
        return max(-self.minimum, self.maximum)

    @property
    def bin_width(self) -> float:
        return math.ldexp(1.0, (self.exponent or 0)) / BINS

    def magnitudes(self) -> NDArray[np.int64]:
        """Counts (BINS,) of magnitudes, whatever their sign."""
        return np.asarray(self.counts.sum(0))

    def upper_edges(self) -> NDArray[np.float64]:
        """Upper edges (BINS,) of the bins of magnitudes, in the unit of the values."""
        return np.asarray((np.arange(BINS) + 1.0) * self.bin_width, np.float64)

    def mean_extremes(self) -> tuple[float, float]:
        """Mean over the crops of each crop's least and largest value (and zero)."""
        return self._mean(0), self._mean(1)

    def mean_absmax(self) -> float:
        """Mean over the crops of each crop's largest magnitude."""
        return self._mean(2)

    def widen(self, absmax: float) -> int:
        """Widen the bins until they reach beyond `absmax`; the exponent of their range."""
        needed = max(math.frexp(absmax)[1], MIN_EXPONENT) if absmax > 0 else MIN_EXPONENT
        if self.exponent is None:
            self.exponent = needed
        if needed > self.exponent:
            for _ in range(min(needed - self.exponent, BINS.bit_length())):
                self.counts = np.pad(self.counts.reshape(2, -1, 2).sum(2), ((0, 0), (0, BINS // 2)))
            self.exponent = needed
        return self.exponent

    def add_extremes(self, minima: NDArray[np.float32], maxima: NDArray[np.float32]) -> None:
        """Add the least and the largest value (crops,) of each crop of a batch."""
        lows, highs = np.minimum(minima, 0).astype(np.float64), np.maximum(maxima, 0).astype(np.float64)
        self.crops += len(lows)
        self.minimum, self.maximum = min(self.minimum, float(lows.min())), max(self.maximum, float(highs.max()))
        for index, values in enumerate((lows, highs, np.maximum(-lows, highs))):
            self._sums[index] += sum(int(value) for value in np.ldexp(values, FIXED_POINT).tolist())

    def _mean(self, index: int) -> float:
        return self._sums[index] / (self.crops << FIXED_POINT) if self.crops else 0.0

"""From a histogram of magnitudes to the range that int8 covers: three methods."""

from __future__ import annotations

from enum import Enum

import numpy as np

from rtmw_edge.errors import unknown

from .histogram import Histogram

PERCENTILE = 99.98
"""Share of values, in percent, that `percentile` keeps inside the range.

Chosen on the shipped rtmw-n, 200 rendered crops to calibrate and 300 others to judge: int8 logits are 0.09 (relative
rms) from float and PCK at 5 % is float's 55.1; 99.99 gives 0.12 and 54.5, 99.95 0.16 and 55.2, mse 0.14 and 53.5,
minmax, which one odd image decides, 0.33 and 49.8.
"""

MSE_CANDIDATES = np.arange(20, 101) / 100.0
"""Ranges that `mse` tries, as shares of the largest magnitude."""


class Method(str, Enum):
    """How a range is chosen: the largest magnitude; a percentile of magnitudes; the least mean squared error."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def named(cls, name: str) -> Method:
        """The method called `name`; raises BadInputError with the nearest name otherwise."""
        if name not in {member.value for member in cls}:
            raise unknown("calibration method", name, [member.value for member in cls])
        return cls(name)


def range_of(histogram: Histogram, method: Method, *, percentile: float = PERCENTILE, high: int = 127) -> float:
    """The magnitude that the integer `high` stands for; 0 when the tensor was zero on all images.

    `percentile` and `mse` answer with numbers that change little when a value moves by a last bit from one machine to
    another: a bin edge, and a share of the largest magnitude.
    """
    if method is Method.MINMAX or histogram.absmax == 0.0:
        return histogram.absmax
    if method is Method.PERCENTILE:
        return percentile_range(histogram, percentile)
    return mse_range(histogram, high)


def percentile_range(histogram: Histogram, percentile: float) -> float:
    """Upper edge of the bin in which `percentile` % of all magnitudes is reached, at most the largest magnitude."""
    cumulated = np.cumsum(histogram.counts)
    bin_ = int(np.searchsorted(cumulated, percentile / 100.0 * cumulated[-1], side="left"))
    return float(min(histogram.upper_edges()[min(bin_, len(cumulated) - 1)], histogram.absmax))


def mse_range(histogram: Histogram, high: int) -> float:
    """The candidate range with the least mean squared error of rounding and clipping to [-high, high] steps."""
    occupied = np.flatnonzero(histogram.counts)
    counts = histogram.counts[occupied].astype(np.float64)
    centres = np.minimum((occupied + 0.5) * histogram.bin_width, histogram.absmax)
    best, least = histogram.absmax, np.inf
    for candidate in MSE_CANDIDATES[::-1] * histogram.absmax:
        step = candidate / high
        rounded = np.minimum(np.rint(centres / step), high) * step
        error = float(counts @ (centres - rounded) ** 2)
        if error < least:
            best, least = float(candidate), error
    return best

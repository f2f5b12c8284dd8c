"""From the histogram of a tensor to the range that its integers cover: five methods, and the word for the best of them.

Asymmetric grids take both ends from the values; symmetric ones take one magnitude for both.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rtmw_edge.quantization import Grid

from rtmw_edge.errors import unknown

from .histogram import BINS, Histogram

Float64 = NDArray[np.float64]

Range = tuple[float, float]
"""The least and the largest value that integers stand for; zero lies between them."""

PERCENTILE = 99.999
"""Share of values, in percent, that `percentile` keeps inside the range.

Chosen by `benchmarks/calibration_figures.py` on rtmw-n, 200 rendered crops to calibrate, people to judge that nothing
is reported on, grid `common`: of 26.1 whole AP int8 keeps 25.5, and of 32.8 on the face 31.9. 99.98 keeps 23.7 and
27.7, 99.99 24.5 and 29.4, mse 25.4 and 31.3. minmax keeps most, 25.8 and 32.4, but one odd image decides its ranges,
and its larger steps make answers that two runtimes round apart (0.1 relative rms instead of 0.04).
"""


def default_percentile(grid: Grid) -> float:
    """`PERCENTILE` on 8 bits. With 16 there are steps to spare and cutting off only harms: all values stay inside."""
    return PERCENTILE if grid.bits == 8 else 100.0


SHARES = np.round(0.97 ** np.arange(100), 4)
"""Ends that `entropy` and `mse` try, as shares of the extreme value: from all of it to a twentieth, by 3 %."""

ROUNDS = 2
"""How often they go over both ends of an asymmetric range, one at a time."""

MERGED = 4
"""They see four bins in one, 2048 on each side as TensorRT's entropy does: at least eight to a step of 8 bits."""

FILLED = 16
"""Values a bin that `entropy` wants on average; with fewer, bins are empty by chance, and it merges more of them."""


NEARLY_NONE = 1e-4
"""A count that stands for none where a logarithm needs some."""


class Method(str, Enum):
    """How a range is chosen from one tensor's values.

    `minmax`: the extremes. `moving-average`: the mean of every crop's extremes, which is what the moving average of
    PyTorch's and TensorFlow's observers tends to, without its dependence on the order. `percentile`: that share of the
    values, the rest lying outside in equal parts. `entropy`: the least Kullback-Leibler divergence between the values
    and their integers (Migacz, 8-bit inference with TensorRT, 2017). `mse`: the least mean squared error. `best`: of
    these, for each tensor, the one with the least error where the tensor is read (see `consumers`).
    """

    MINMAX = "minmax"
    MOVING_AVERAGE = "moving-average"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"
    BEST = "best"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def named(cls, name: str) -> Method:
        """The method called `name`; raises BadInputError with the nearest name otherwise."""
        if name not in {member.value for member in cls}:
            raise unknown("calibration method", name, [member.value for member in cls])
        return cls(name)

    def described(self, percentile: float) -> str:
        """The method with its parameter: "percentile 99.999"."""
        return f"{self} {percentile:g}" if self is Method.PERCENTILE else str(self)


SINGLE = tuple(method for method in Method if method is not Method.BEST)
"""The methods that look at one tensor alone."""


def range_of(histogram: Histogram, method: Method, grid: Grid, *, percentile: float = PERCENTILE) -> Range:
    """The range that `method` gives a tensor on `grid`; (0, 0) when it was zero on all images.

    All but the averages answer with numbers that change little when a value moves by a last bit from one machine to
    another: an extreme, a bin edge, a share of an extreme.
    """
    if method is Method.MINMAX or histogram.absmax == 0.0:
        return _ends(histogram.minimum, histogram.maximum, grid)
    if method is Method.MOVING_AVERAGE:
        mean = histogram.mean_absmax()
        return (-mean, mean) if grid.symmetric else histogram.mean_extremes()
    if method is Method.PERCENTILE:
        return _percentile(histogram, grid, percentile)
    if method is Method.ENTROPY:
        return _least(histogram, grid, _divergence(histogram, grid))
    if method is Method.MSE:
        return _least(histogram, grid, _squared_error(histogram, grid))
    raise ValueError(f"{method} does not look at one tensor alone")


def _ends(low: float, high: float, grid: Grid) -> Range:
    largest = max(-low, high)
    return (-largest, largest) if grid.symmetric else (low, high)


def _percentile(histogram: Histogram, grid: Grid, percentile: float) -> Range:
    """Outer edges of the bins in which the share is reached, no further out than the extremes."""
    edges = histogram.upper_edges()
    outside = round((100.0 - percentile) / 100.0 * histogram.total, 6)  # 99.99999999 of 100 is 100

    def end(counts: NDArray[np.int64], allowed: float) -> float:
        """The least edge with at most `allowed` counts beyond it, zero where all may be."""
        beyond = counts[::-1].cumsum()[::-1]
        bins = np.flatnonzero(beyond > allowed)
        return float(edges[bins[-1]]) if bins.size else 0.0

    if grid.symmetric:
        magnitude = min(end(histogram.magnitudes(), outside), histogram.absmax)
        return -magnitude, magnitude
    above, below = histogram.counts
    return -min(end(below, outside / 2), -histogram.minimum), min(end(above, outside / 2), histogram.maximum)


Cost = Callable[[float, float], float]


def _least(histogram: Histogram, grid: Grid, cost: Cost) -> Range:
    """The range of least cost: of all magnitudes, or one end at a time."""
    if grid.symmetric:
        magnitude = _least_end(histogram.absmax, lambda end: cost(-end, end))
        return -magnitude, magnitude
    low, high = histogram.minimum, histogram.maximum
    for _ in range(ROUNDS):
        if histogram.maximum > 0:
            high = _least_end(histogram.maximum, partial(cost, low))
        if histogram.minimum < 0:
            low = _least_end(histogram.minimum, partial(lambda high, low: cost(low, high), high))
    return low, high


def _least_end(extreme: float, cost: Callable[[float], float]) -> float:
    """The end of least cost among shares of `extreme`, the outer of equal ones: every fourth, then those about it."""
    ends = [float(share) * extreme for share in SHARES]
    best = 4 * min(range(len(ends) // 4), key=lambda place: cost(ends[4 * place]))
    return min(ends[max(best - 3, 0) : best + 4], key=cost)


def _bins(
    counts: NDArray[np.int64], bin_width: float, merged: int = MERGED
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middles and counts of `merged` bins in one from the first to the last that holds any, in ascending order.

    `counts` (1 or 2, BINS) are of values from zero up and, if there, of those below zero by magnitude.
    """
    sides = counts.reshape(len(counts), -1, merged).sum(2).astype(np.float64)
    middles = (np.arange(sides.shape[1]) + 0.5) * bin_width * merged
    if len(sides) == 1:
        values, found = middles, sides[0]
    else:
        values, found = np.concatenate([-middles[::-1], middles]), np.concatenate([sides[1, ::-1], sides[0]])
    held = np.flatnonzero(found)
    return values[held[0] : held[-1] + 1], found[held[0] : held[-1] + 1]


def _squared_error(histogram: Histogram, grid: Grid) -> Cost:
    """Sum of squared errors, a bin's values standing in its middle."""
    middles, found = _bins(histogram.counts, histogram.bin_width)
    values, counts = np.clip(middles, histogram.minimum, histogram.maximum)[found > 0], found[found > 0]

    def cost(low: float, high: float) -> float:
        scale, zero_point = grid.activation(low, high)
        step = float(scale[0])
        steps = values / step + zero_point
        errors = (np.clip(np.rint(steps), grid.low, grid.high) - steps) * step
        if step < MERGED * histogram.bin_width:  # 16 bits: a middle says nothing about rounding inside the bin
            errors = np.where((steps >= grid.low) & (steps <= grid.high), step / np.sqrt(12.0), errors)
        return float(counts @ errors**2)

    return cost


def _divergence(histogram: Histogram, grid: Grid) -> Cost:
    """Divergence of the values, those outside moved to the ends, from each integer's share spread over its bins."""
    sides, merged = histogram.magnitudes()[None] if grid.symmetric else histogram.counts, MERGED
    values, counts = _bins(sides, histogram.bin_width, merged)
    while histogram.total < FILLED * len(values) and merged < BINS:
        merged *= 2
        values, counts = _bins(sides, histogram.bin_width, merged)
    half = histogram.bin_width * merged / 2

    def cost(low: float, high: float) -> float:
        scale, zero_point = grid.activation(low, high)
        start = min(int(np.searchsorted(values + half, low, side="right")), len(values) - 1)
        stop = max(int(np.searchsorted(values - half, high)), start + 1)
        inside = counts[start:stop]
        moved = inside.copy()
        moved[0] += counts[:start].sum()
        moved[-1] += counts[stop:].sum()
        integers = np.clip(np.rint(values[start:stop] / float(scale[0]) + zero_point), grid.low, grid.high)
        firsts = np.flatnonzero(np.diff(integers, prepend=np.nan) != 0)
        held = (moved > 0).astype(np.float64)
        shares = np.add.reduceat(inside, firsts) / np.maximum(np.add.reduceat(held, firsts), 1.0)
        return _kullback_leibler(moved, np.repeat(shares, np.diff(np.append(firsts, len(inside)))))

    return cost


def _kullback_leibler(counts: Float64, other: Float64) -> float:
    """Divergence of the distribution in `counts` from that in `other` on the bins where the first has any.

    An `other` of zero there counts as `NEARLY_NONE`, as in ONNX Runtime, so that the divergence stays finite.
    """
    held = counts > 0
    p, q = counts[held], np.maximum(other[held], NEARLY_NONE)
    return float(np.sum(p / p.sum() * np.log(p / p.sum() / (q / q.sum()))))

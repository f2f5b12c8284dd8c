"""Ranges against brute force on all values: for symmetric and asymmetric grids, and for 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
from observed_values import heavy_tailed, observed, silu_like
from rtmw_edge.calibration.histogram import BINS, Histogram
from rtmw_edge.calibration.ranges import (
    SHARES,
    SINGLE,
    Method,
    _divergence,
    _least,
    _least_end,
    _squared_error,
    range_of,
)
from rtmw_edge.quantization import AFFINE, COMMON, W8A16, Grid

from rtmw_edge.errors import BadInputError


def error(values: np.ndarray, grid: Grid, low: float, high: float) -> float:
    """Mean squared error of rounding the values themselves, in float64."""
    scale, zero_point = grid.activation(low, high)
    exact = values.astype(np.float64)
    integers = np.clip(np.rint(exact / float(scale[0])) + zero_point, grid.low, grid.high)
    return float((((integers - zero_point) * float(scale[0]) - exact) ** 2).mean())


def test_minmax_is_the_extremes() -> None:
    values = silu_like()
    largest = float(values.max())
    assert range_of(observed(values), Method.MINMAX, COMMON) == (-largest, largest)
    assert range_of(observed(values), Method.MINMAX, AFFINE) == (float(values.min()), largest)


def test_moving_average_is_the_mean_of_the_crops_extremes() -> None:
    crops = heavy_tailed().reshape(-1, 1000)
    histogram = observed(*np.array_split(crops, 7))
    low, high = range_of(histogram, Method.MOVING_AVERAGE, AFFINE)
    assert (low, high) == pytest.approx((crops.min(1).mean(dtype=float), crops.max(1).mean(dtype=float)), rel=1e-12)
    low, high = range_of(histogram, Method.MOVING_AVERAGE, COMMON)
    assert -low == high == pytest.approx(np.abs(crops).max(1).mean(dtype=float), rel=1e-12)


@pytest.mark.parametrize("percentile", [50.1, 99.0, 99.9, 99.99, 100.0])
def test_percentile_keeps_that_share_inside(percentile: float) -> None:
    values = heavy_tailed()
    histogram = observed(values)
    outside = round(len(values) * (100 - percentile) / 100)
    low, high = range_of(histogram, Method.PERCENTILE, COMMON, percentile=percentile)
    assert -low == high and abs(high - beyond(np.abs(values), outside)) <= histogram.bin_width
    assert (np.abs(values) > high).sum() <= outside
    low, high = range_of(histogram, Method.PERCENTILE, AFFINE, percentile=percentile)
    for end, side in ((high, values), (-low, -values)):
        assert (side > end).sum() <= outside // 2 and abs(end - beyond(side, outside // 2)) <= histogram.bin_width


def beyond(values: np.ndarray, count: int) -> float:
    """The value that exactly `count` others exceed."""
    return float(np.sort(values)[len(values) - 1 - count])


@pytest.mark.parametrize("values", [heavy_tailed(50_000), silu_like(50_000)], ids=["heavy tails", "after SiLU"])
def test_mse_is_the_best_of_its_candidates_on_the_values_themselves(values: np.ndarray) -> None:
    low, high = range_of(observed(values), Method.MSE, COMMON)
    assert -low == high < 0.9 * np.abs(values).max()
    tried = SHARES * float(np.abs(values).max())
    assert error(values, COMMON, low, high) <= 1.02 * min(error(values, COMMON, -end, end) for end in tried)
    low, high = range_of(observed(values), Method.MSE, AFFINE)
    pairs = [(a * float(values.min()), b * float(values.max())) for a in SHARES[:72:6] for b in SHARES[:72:6]]
    assert error(values, AFFINE, low, high) <= 1.02 * min(error(values, AFFINE, *pair) for pair in pairs)
    assert error(values, AFFINE, low, high) < error(values, COMMON, *range_of(observed(values), Method.MSE, COMMON))


def divergence(values: np.ndarray, limit: float, absmax: float, bins: int = 2048, levels: int = 128) -> float:
    """KL as the slides of TensorRT have it, in plain loops: 128 levels over the bins up to `limit`."""
    counts, edges = np.histogram(np.abs(values), bins, (0, absmax))
    inside = round(float(limit / edges[1]))
    target = counts[:inside].astype(float)
    target[-1] += counts[inside:].sum()
    spread = np.zeros(inside)
    for level in range(levels):
        chosen = np.zeros(inside, bool)
        chosen[round(level * inside / levels) : round((level + 1) * inside / levels)] = True
        chosen &= target > 0
        if chosen.any():
            spread[chosen] = counts[:inside][chosen].sum() / chosen.sum()
    held = target > 0
    p, q = target[held] / target.sum(), np.maximum(spread[held], 1e-4) / np.maximum(spread, 1e-4)[held].sum()
    return float((p * np.log(p / q)).sum())


def test_entropy_is_near_the_least_divergence_by_plain_loops() -> None:
    values = heavy_tailed()
    absmax = float(np.abs(values).max())
    low, high = range_of(observed(values), Method.ENTROPY, COMMON)
    limits = np.geomspace(0.08, 1.0, 60) * absmax
    found = [divergence(values, limit, absmax) for limit in limits]
    assert -low == high and 0.05 * absmax < high < 0.9 * absmax
    assert divergence(values, high, absmax) <= 1.5 * min(found) < 0.5 * found[-1]


def test_entropy_takes_both_ends_of_an_asymmetric_range() -> None:
    values = silu_like()
    low, high = range_of(observed(values), Method.ENTROPY, AFFINE)
    assert -0.28 < low < -0.2 and 4 < high < values.max()


@pytest.mark.parametrize("method", [Method.ENTROPY, Method.MSE])
def test_sixteen_bits_cut_nothing_off(method: Method) -> None:
    values = silu_like()
    assert range_of(observed(values), method, W8A16)[1] == pytest.approx(float(values.max()))


@pytest.mark.parametrize("method", SINGLE)
@pytest.mark.parametrize("grid", [COMMON, AFFINE, W8A16], ids=lambda grid: grid.name)
def test_every_range_holds_zero_and_lies_within_the_extremes(method: Method, grid: Grid) -> None:
    for values in (np.zeros(10, np.float32), np.float32([3.0, 4.0]), np.float32([-5.0, -0.1]), np.float32([1e-30])):
        low, high = range_of(observed(values), method, grid)
        assert low <= 0 <= high
        ends = (min(0.0, float(values.min())), max(0.0, float(values.max())))
        largest = max(-ends[0], ends[1])
        bounds = (-largest, largest) if grid.symmetric else ends
        assert bounds[0] <= low and high <= bounds[1]


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(BadInputError, match="Unknown calibration method 'percentil'; did you mean 'percentile'"):
        Method.named("percentil")


@pytest.mark.parametrize("place", [0, 1, 2, 3, 5, 50, 97, 99])
def test_every_share_of_an_extreme_may_be_the_end(place: int) -> None:
    wanted = 2.5 * float(SHARES[place])
    assert _least_end(2.5, lambda end: abs(end - wanted)) == wanted


def test_of_ends_that_cost_the_same_the_outer_is_taken() -> None:
    assert _least_end(2.5, lambda end: 1.0) == 2.5


def test_the_ends_of_an_asymmetric_range_are_chosen_anew_for_each_other() -> None:
    """The upper end is best at 0.6 of the magnitude of the lower one, which was not known when it was chosen first."""
    histogram = Histogram(minimum=-1.0, maximum=1.0)
    low, high = _least(histogram, AFFINE, lambda low, high: (high + 0.6 * low) ** 2 + (low + 0.3) ** 2)
    first = min(SHARES, key=lambda share: (share - 0.6) ** 2)
    then = max(-SHARES, key=lambda share: -((first + 0.6 * share) ** 2 + (share + 0.3) ** 2))
    second = min(SHARES, key=lambda share: (share + 0.6 * then) ** 2)
    last = max(-SHARES, key=lambda share: -((second + 0.6 * share) ** 2 + (share + 0.3) ** 2))
    assert (low, high) == (last, second) != (then, first)


def test_the_error_of_sixteen_bits_is_that_of_rounding_whatever_the_bins() -> None:
    """A bin is wider than a step there, and its middle falls on no step that says anything."""
    histogram = observed(heavy_tailed(5000))
    end = histogram.absmax
    assert _squared_error(histogram, W8A16)(-end, end) == pytest.approx(5000 * (end / 32767) ** 2 / 12)


def test_a_value_stands_no_further_out_than_the_extremes() -> None:
    assert _squared_error(observed(np.float32([1.0, -1.0])), COMMON)(-1.0, 1.0) == pytest.approx(0, abs=1e-12)


def test_the_divergence_spreads_an_integer_over_the_bins_that_hold_something() -> None:
    """Two bins share the integer 0, one has the integer 127: 20000, 20000 and 10000 stand for what there is."""
    histogram = Histogram(np.zeros((2, BINS), np.int64), exponent=0, minimum=0.0, maximum=0.9999)
    histogram.counts[0, [0, 12, BINS - 1]] = 30_000, 10_000, 10_000
    p, q = np.array([3, 1, 1]) / 5, np.array([2, 2, 1]) / 5
    assert _divergence(histogram, COMMON)(-1.0, 1.0) == pytest.approx(float(np.sum(p * np.log(p / q))), abs=1e-9)


def test_the_bin_that_an_end_lies_in_takes_what_lies_outside() -> None:
    """Four bins count as one. The range ends a tenth into the one from 0.5 on, which 10000 beyond it are moved to."""
    histogram = Histogram(np.zeros((2, BINS), np.int64), exponent=0, minimum=0.0, maximum=0.9999)
    histogram.counts[0, [0, BINS // 2, BINS - 1]] = 30_000, 10_000, 10_000
    end = 0.5 + 0.1 * 4 / BINS
    p, q = np.array([3, 2]) / 5, np.array([3, 1]) / 4
    assert _divergence(histogram, COMMON)(-end, end) == pytest.approx(float(np.sum(p * np.log(p / q))), abs=1e-9)


def test_few_values_in_many_bins_are_judged_in_fewer() -> None:
    """Most bins of 3000 values are empty by chance, which looks like a loss: the half of the range would be cut off."""
    few = observed(heavy_tailed(3000))
    low, high = range_of(few, Method.ENTROPY, COMMON)
    assert -low == high > 0.95 * few.absmax

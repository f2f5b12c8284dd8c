"""Histograms and ranges against brute force on all values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rtmw_edge.calibration.collect import Observer
from rtmw_edge.calibration.histogram import BINS, Histogram
from rtmw_edge.calibration.ranges import MSE_CANDIDATES, Method, range_of

from rtmw_edge.errors import BadInputError


def observed(*batches: np.ndarray) -> Histogram:
    observer = Observer("here:input")
    for batch in batches:
        observer(torch.from_numpy(batch.copy()))
    return observer.histogram


def heavy_tailed(count: int = 200_000) -> np.ndarray:
    return np.random.default_rng(7).standard_t(3, count).astype(np.float32)


def test_counts_are_those_of_numpy() -> None:
    values = heavy_tailed()
    histogram = observed(values)
    edges = np.concatenate([[0.0], histogram.upper_edges()])
    assert np.array_equal(histogram.counts, np.histogram(np.abs(values), edges)[0])
    assert histogram.absmax == np.abs(values).max() and histogram.total == values.size
    assert edges[-1] / 2 <= histogram.absmax < edges[-1]


def test_counts_do_not_depend_on_order_or_batches() -> None:
    values = heavy_tailed()
    whole = observed(values)
    for pieces in (
        np.array_split(np.sort(values), 9),
        np.array_split(values[::-1].copy(), 3),
        [values[:5], values[5:]],
    ):
        other = observed(*pieces)
        assert np.array_equal(other.counts, whole.counts) and other.exponent == whole.exponent


def test_a_range_that_grows_by_more_than_all_bins() -> None:
    histogram = observed(np.float32([1e-9, 0.0]), np.float32([1e9]))
    assert histogram.counts[0] == 2 and histogram.total == 3


def test_minmax_is_the_largest_magnitude() -> None:
    values = heavy_tailed()
    assert range_of(observed(values), Method.MINMAX) == float(np.abs(values).max())


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.9, 99.99, 100.0])
def test_percentile_keeps_that_share_inside(percentile: float) -> None:
    values = np.abs(heavy_tailed())
    histogram = observed(values)
    limit = range_of(histogram, Method.PERCENTILE, percentile=percentile)
    assert (values <= limit).mean() >= percentile / 100
    assert abs(limit - np.percentile(values, percentile, method="inverted_cdf")) <= histogram.bin_width


def test_mse_is_the_best_of_its_candidates_on_the_values_themselves() -> None:
    values = np.abs(heavy_tailed()).astype(np.float64)

    def error(limit: float) -> float:
        step = limit / 127
        return float(((np.minimum(np.rint(values / step), 127) * step - values) ** 2).mean())

    errors = {share: error(share * values.max()) for share in MSE_CANDIDATES}
    chosen = range_of(observed(values.astype(np.float32)), Method.MSE)
    assert chosen < values.max() * 0.9
    assert error(chosen) <= min(errors.values()) * 1.02


def test_a_tensor_of_zeros_has_range_zero() -> None:
    for method in Method:
        assert range_of(observed(np.zeros(10, np.float32)), method) == 0.0


def test_memory_does_not_grow() -> None:
    histogram = observed(*(np.full(10, 2.0**k, np.float32) for k in range(20)))
    assert histogram.counts.shape == (BINS,) and histogram.total == 200


def test_a_network_that_gives_nan_is_named() -> None:
    with pytest.raises(BadInputError, match="The network gives nan at 'here:input' on a calibration image"):
        observed(np.float32([1.0, np.nan]))


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(BadInputError, match="Unknown calibration method 'percentil'; did you mean 'percentile'"):
        Method.named("percentil")

"""Histograms of signed values against numpy on all values."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from observed_values import heavy_tailed, observed
from rtmw_edge.calibration.counting import SMALL, BinCounter
from rtmw_edge.calibration.histogram import BINS, Histogram
from rtmw_edge.calibration.observing import Observer, Seen

from rtmw_edge.errors import BadInputError


def by_numpy(values: np.ndarray, histogram: Histogram) -> np.ndarray:
    edges = np.concatenate([[0.0], histogram.upper_edges()])
    return np.stack([np.histogram(side, edges)[0] for side in (values[values >= 0], -values[values < 0])])


def test_counts_and_extremes_are_those_of_numpy() -> None:
    values = heavy_tailed()
    histogram = observed(values)
    assert np.array_equal(histogram.counts, by_numpy(values, histogram)) and histogram.total == values.size
    assert (histogram.minimum, histogram.maximum) == (values.min(), values.max())
    assert np.array_equal(histogram.magnitudes(), histogram.counts[0] + histogram.counts[1])
    assert histogram.bin_width * BINS / 2 <= histogram.absmax < histogram.bin_width * BINS


def test_several_threads_count_the_same() -> None:
    values = heavy_tailed(SMALL + 5)
    one, three = observed(values), observed(values, threads=3)
    assert np.array_equal(one.counts, three.counts)


def test_nothing_depends_on_order_or_batches() -> None:
    values = heavy_tailed(199_998).reshape(-1, 6)  # crops of six values
    whole = observed(values)
    by_size = values[np.argsort(np.abs(values).max(1))]
    for pieces in (np.array_split(by_size, 9), np.array_split(values[::-1], 3), [values[:1], values[1:]]):
        other = observed(*pieces)
        assert np.array_equal(other.counts, whole.counts) and other.exponent == whole.exponent
        assert (other.minimum, other.maximum, other.crops) == (whole.minimum, whole.maximum, len(values))
        assert other.mean_extremes() == whole.mean_extremes() and other.mean_absmax() == whole.mean_absmax()


def test_means_of_the_crops_extremes_are_exact() -> None:
    values = heavy_tailed(600).reshape(-1, 6)
    histogram = observed(values)

    def mean(each: np.ndarray) -> float:
        return float(sum(map(Fraction, each.tolist()), Fraction()) / len(each))

    assert histogram.mean_extremes() == (mean(np.minimum(values.min(1), 0)), mean(np.maximum(values.max(1), 0)))
    assert histogram.mean_absmax() == mean(np.abs(values).max(1))


def test_a_range_that_grows_by_more_than_all_bins() -> None:
    histogram = observed(np.float32([1e-9, -1e-9, 0.0]), np.float32([1e9]))
    assert histogram.counts[0, 0] == 2 and histogram.counts[1, 0] == 1 and histogram.total == 4


def test_memory_does_not_grow() -> None:
    histogram = observed(*(np.full(10, 2.0**k, np.float32) for k in range(20)))
    assert histogram.counts.shape == (2, BINS) and histogram.total == 200


def test_channels_last_is_counted_crop_by_crop() -> None:
    values = torch.from_numpy(heavy_tailed(2 * 3 * 40 * 30).reshape(2, 3, 40, 30))
    histogram = Histogram()
    for layout in (torch.contiguous_format, torch.channels_last):
        observer = Observer("here:input", BinCounter(1), Seen())
        observer(values.contiguous(memory_format=layout))
        if layout is torch.contiguous_format:
            histogram = observer.histogram
    assert np.array_equal(observer.histogram.counts, histogram.counts)
    assert observer.histogram.mean_extremes() == histogram.mean_extremes()


def test_one_tensor_is_counted_once() -> None:
    seen, values = Seen(), torch.ones(2, 3)
    first, second, other = (Observer(f"{name}:input", BinCounter(1), seen) for name in "abc")
    for _ in range(2):
        second(first(values))
        other(values.clone())
    assert second.histogram is first.histogram and other.histogram is not first.histogram
    assert first.histogram.total == other.histogram.total == 12


def test_a_network_that_gives_nan_is_named() -> None:
    for bad, shown in ((np.nan, "nan"), (-np.inf, "inf")):
        with pytest.raises(BadInputError, match=f"The network gives {shown} at 'here:input' on a calibration image"):
            observed(np.float32([1.0, bad]))

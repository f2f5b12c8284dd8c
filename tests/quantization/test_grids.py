"""The arithmetic of the common grid against plain integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtmw_edge.quantization import AFFINE, COMMON, GRIDS, W8, W8A16
from rtmw_edge.quantization.grids import BIAS_LIMIT, SMALLEST_SCALE, ZERO_SCALE, integer_bias

from rtmw_edge.errors import BadInputError


def test_scale_is_absmax_over_127_in_float32() -> None:
    rng = np.random.default_rng(0)
    absmax = rng.uniform(1e-6, 50, 1000).astype(np.float32)
    for scale, largest in zip(COMMON.scale_of_range(absmax), absmax, strict=True):
        exact = Fraction(float(largest)) / 127
        below, above = (np.nextafter(scale, np.float32(end)) for end in (0, np.inf))
        assert abs(Fraction(float(scale)) - exact) <= abs(Fraction(float(below)) - exact)
        assert abs(Fraction(float(scale)) - exact) <= abs(Fraction(float(above)) - exact)


def test_zero_range_gives_a_scale_that_still_represents_zero() -> None:
    scale = COMMON.scale_of_range(0.0)
    assert scale.dtype == np.float32 and scale.tolist() == [ZERO_SCALE]
    assert COMMON.scale_of_range(np.float32([0.0, 1e-30, 127.0])).tolist() == [ZERO_SCALE, ZERO_SCALE, 1.0]
    weight = np.zeros((1, 3), np.float32)
    scale = COMMON.weight_scale(weight, np.zeros(1, np.float32), 0.1)
    assert scale.tolist() == [SMALLEST_SCALE] and COMMON.quantize_weight(weight, scale).tolist() == [[0, 0, 0]]


def test_quantize_rounds_half_to_even_and_clips_to_127() -> None:
    scale = np.float32([0.5])
    values = np.float32([[0.25, 0.75, -0.25, -0.75, 1.0, 63.5, 64.0, -63.5, -64.0, 1e9]])
    assert COMMON.quantize_weight(values, scale).tolist() == [[0, 2, 0, -2, 2, 127, 127, -127, -127, 127]]


def test_weights_use_their_whole_range_per_output_channel() -> None:
    rng = np.random.default_rng(1)
    weight = (rng.normal(size=(16, 8, 3, 3)) * rng.uniform(1e-3, 10, (16, 1, 1, 1))).astype(np.float32)
    scale = COMMON.weight_scale(weight, np.zeros(16, np.float32), 0.1)
    assert np.array_equal(scale, np.abs(weight).max((1, 2, 3)) / np.float32(127))
    integers = COMMON.quantize_weight(weight, scale)
    assert integers.dtype == np.int8
    assert (np.abs(integers.astype(int)).max((1, 2, 3)) == 127).all()
    assert np.abs(integers * scale[:, None, None, None] - weight).max() <= scale.max() / 2 * (1 + 1e-6)


@pytest.mark.parametrize("large", [3.0, -3.0])
def test_a_dead_channel_with_a_bias_keeps_its_bias_in_int32(large: float) -> None:
    weight, bias = np.zeros((2, 4, 1, 1), np.float32), np.float32([large, 0.0])
    weight[0, 0] = 1e-12
    scale = COMMON.weight_scale(weight, bias, 0.05)
    assert abs(bias[0] / (np.float64(0.05) * scale[0])) <= BIAS_LIMIT * (1 + 1e-6) < 2**31
    assert scale[1] == SMALLEST_SCALE


def test_a_bias_without_a_step_or_beyond_int32_is_refused() -> None:
    for bias, step in ((0.0, 0.0), (1.0, 0.0), (3.0, 1e-9)):
        with pytest.raises(BadInputError, match="The bias of 'stem' does not fit into 32 bits at the table's scales"):
            integer_bias("stem", np.float32([0.1, bias]), np.float32([0.1, step]))
    assert integer_bias("stem", np.float32([0.5, -1.0]), np.float32([0.5, 2.0**-30])).tolist() == [1.0, -(2.0**30)]


def test_a_bias_beyond_32_bits_is_refused() -> None:
    one = np.ones(1, np.float32)
    assert integer_bias("stem", np.array([2.0**31 - 1]), one).tolist() == [2**31 - 1]
    for bias in (2.0**31, -(2.0**31)):
        with pytest.raises(BadInputError, match=r"The bias of 'stem' does not fit into 32 bits .*; calibrate again\."):
            integer_bias("stem", np.array([bias]), one)


def test_integer_ranges_of_the_grids() -> None:
    assert {name: (grid.low, grid.high) for name, grid in GRIDS.items()} == {
        "common": (-127, 127),
        "affine": (-128, 127),
        "full": (-128, 127),
        "w8": (-127, 127),
        "w8a16": (-32767, 32767),
    }
    assert not W8.calibrated and W8A16.calibrated


def test_affine_spends_no_steps_beyond_silus_least_value() -> None:
    scale, zero_point = AFFINE.activation(-0.278, 6.0)
    assert scale.dtype == np.float32 and scale[0] == np.float32(np.float32(6.0) - np.float32(-0.278)) / np.float32(255)
    assert zero_point == -117  # round(-128 + 0.278 / 0.02462) = round(-116.71)
    assert AFFINE.activation(-4.0, -1.0)[1] == 127  # widened to hold zero
    assert AFFINE.activation(0.0, 0.0) == (ZERO_SCALE, -128)


@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32))
def test_affine_holds_zero_exactly_and_its_range_to_a_step(first: float, second: float) -> None:
    minimum, maximum = min(first, second), max(first, second)
    scale, zero_point = AFFINE.activation(minimum, maximum)
    step = float(scale[0])
    assert AFFINE.low <= zero_point <= AFFINE.high
    assert (AFFINE.low - zero_point) * step <= min(minimum, 0) + 0.51 * step
    assert (AFFINE.high - zero_point) * step >= max(maximum, 0) - 0.51 * step


def test_weights_alone_need_no_input_scale() -> None:
    weight, bias = np.full((1, 4, 1, 1), 1e-6, np.float32), np.float32([1e6])
    assert W8.weight_scale(weight, bias, None)[0] == np.float32(1e-6) / np.float32(127)

"""The arithmetic of ncnn's int8 layers in numpy: what a written file must compute, to the last integer.

An ncnn scale is a *multiplier*: q = clamp(round(x * multiplier), -127, 127), rounded half away from zero. Weights are
integers in the file, rounded as the table's grid has it. A convolution adds up int8 products in int32 and hands out
float32: sum / (input multiplier * weight multiplier) + bias, then the activation; nothing is quantized at the output.
Source: ncnn's `quantize.cpp` and `convolution.cpp` (`forward_int8`).
ncnn's depthwise kernel for x86 divides by an approximate reciprocal: the integer sums are these, but each channel's
output is off by a constant factor of up to 1 +- 4e-4, a hundredth of a quantization step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rtmw_edge.quantization import COMMON
from rtmw_edge.targets.ncnn_int8 import multiplier

Array = NDArray[np.float32]


def quantize(values: Array, factor: Array | np.float32) -> NDArray[np.int8]:
    """clamp(round half away from zero (values * factor), -127, 127); `factor` broadcasts against `values`."""
    scaled = np.asarray(values, np.float32) * np.asarray(factor, np.float32)
    return np.clip(np.trunc(scaled + np.copysign(np.float32(0.5), scaled)), -127, 127).astype(np.int8)


def convolution(
    x: Array,
    weight: Array,
    bias: Array,
    input_scale: np.float32,
    weight_scale: Array,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Array:
    """An int8 convolution before its activation: x (C,H,W) float32, weight (O,C/groups,kh,kw) -> (O,H',W') float32."""
    factor_x, factor_w = multiplier(input_scale), multiplier(weight_scale)
    sums = _integer_convolution(
        quantize(x, factor_x), COMMON.quantize_weight(weight, weight_scale), stride, padding, groups
    )
    dequantize = np.float32(1) / (factor_x * factor_w)
    return sums.astype(np.float32) * dequantize[:, None, None] + bias[:, None, None]


def _integer_convolution(
    x: NDArray[np.int8], weight: NDArray[np.int8], stride: int, padding: int, groups: int
) -> NDArray[np.int64]:
    padded = np.pad(x.astype(np.int64), ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    windows = windows.reshape(groups, -1, *windows.shape[1:])
    kernels = weight.astype(np.int64).reshape(groups, -1, *weight.shape[1:])
    return np.einsum("gihwyx,goiyx->gohw", windows, kernels, optimize=True).reshape(len(weight), *windows.shape[2:4])

"""Grids: one kind of integer arithmetic, and which tensors of the network are put on it.

A grid is a value. `COMMON` is the one that ONNX Runtime, OpenVINO, LiteRT and ncnn all carry with equal scales; a
target names the grids that it can honour (`targets.base.Target.grids`). Rounding is half to even everywhere but in
ncnn, which rounds half away from zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtmw_edge.errors import BadInputError, unknown

SMALLEST_SCALE = np.float32(2.0**-40)
"""The least scale that there is; that of a channel of weights that are all zero, which any number represents."""

ZERO_SCALE = np.float32(2.0**-7)
"""Scale of an activation that is zero on all images, or as good as zero. With one near zero the factor from a
convolution's sums to its output would be larger than LiteRT can hold; with a large one biases would be coarse."""

NOTHING = np.float32(2.0**-24)
"""An activation that never is larger than this is as good as zero."""

BIAS_LIMIT = 2.0**30
"""An int32 bias is bias / (input scale * weight scale); weight scales are raised until it stays below this."""

WEIGHT_HIGH = 127


@dataclass(frozen=True)
class Grid:
    """real = scale * (integer - zero point). Weights: int8 in [-127, 127], zero point 0, one scale per output channel.

    Activations have one scale per tensor and `bits` bits: symmetric (zero point 0, integers in [-high, high]) or not.

    Attributes:
        precision: the word of the command line that asks for this arithmetic: "int8", "w8" or "w8a16".
        points: the tensors of every convolution that are quantized, of "input", "weight" and "output" (before SiLU,
            after ReLU and ReLU6).
        between: whether every tensor from the first convolution to the attention tail is quantized too; an input that
            another operator makes then has that operator's point and none of its own.
    """

    name: str
    precision: str = "int8"
    points: tuple[str, ...] = ("input", "weight", "output")
    symmetric: bool = True
    bits: int = 8
    between: bool = False

    @property
    def high(self) -> int:
        """The largest integer of an activation."""
        return 2 ** (self.bits - 1) - 1

    @property
    def low(self) -> int:
        """The smallest integer of an activation."""
        return -self.high if self.symmetric else -self.high - 1

    @property
    def calibrated(self) -> bool:
        """Whether activations are quantized, so that a table needs images."""
        return self.points != ("weight",)

    def scale_of_range(self, absmax: np.ndarray | float) -> np.ndarray:
        """Scale (float32, shape of `absmax`, at least one axis) of a symmetric activation: float32(absmax) / high.

        `ZERO_SCALE` where the range is as good as zero.
        """
        return _activation_scale(absmax, self.high)

    def activation(self, minimum: float, maximum: float) -> tuple[np.ndarray, int]:
        """Scale (1,) float32 and zero point of an activation that lies in [minimum, maximum].

        Zero is always exactly representable, as padding needs it. Asymmetric, with the range widened to hold zero:
        scale = (maximum - minimum) / (2^bits - 1), zero point = round(low - minimum / scale), half to even.
        """
        if self.symmetric:
            return self.scale_of_range(max(abs(minimum), abs(maximum))), 0
        lowest, highest = np.float32(min(minimum, 0.0)), np.float32(max(maximum, 0.0))
        scale = _activation_scale(highest - lowest, 2**self.bits - 1)
        zero_point = int(np.clip(np.rint(self.low - np.float64(lowest) / np.float64(scale[0])), self.low, self.high))
        return scale, zero_point

    def weight_scale(self, weight: np.ndarray, bias: np.ndarray, input_scale: float | None) -> np.ndarray:
        """Scales (C,) of a weight (C, ...): absmax/127 per output channel.

        A channel with nearly no weight and a large bias (batch norm with a gain near zero) would need a bias beyond
        int32 at `input_scale`; its scale is raised to keep the bias below `BIAS_LIMIT` steps. None: the input is float.
        """
        scale = _scale(np.abs(weight.reshape(len(weight), -1)).max(1), WEIGHT_HIGH)
        if input_scale is None:
            return scale
        floor = np.abs(bias.astype(np.float64)) / (BIAS_LIMIT * float(input_scale))
        return np.maximum(scale, floor.astype(np.float32)).astype(np.float32)

    def quantize_weight(self, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Integers (int8) of a weight (C, ...) with scales (C,): round half to even, then clip to [-127, 127].

        What is rounded is weight * (1 / scale) in float32, as torch's fake quantization has it. With float16 weights
        halves are common, and a quotient sends some to the other integer: few, and every later layer feels them.
        """
        inverse = np.float32(1) / scale.astype(np.float32)
        rounded = np.rint(weight.astype(np.float32) * inverse.reshape((-1,) + (1,) * (weight.ndim - 1)))
        return np.clip(rounded, -WEIGHT_HIGH, WEIGHT_HIGH).astype(np.int8)


def integer_bias(name: str, bias: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The bias (C,) of a convolution in `steps` (C,) of input scale times weight scale, whole numbers as float64.

    Raises BadInputError where one does not fit into int32.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rounded = np.rint(bias.astype(np.float64) / steps.astype(np.float64))
    if not np.abs(rounded).max(initial=0) < 2**31:  # NaN, of a step of zero, fits no more
        raise BadInputError(f"The bias of '{name}' does not fit into 32 bits at the table's scales; calibrate again.")
    return np.asarray(rounded)


def _activation_scale(extent: np.ndarray | float, steps: int) -> np.ndarray:
    return np.where(np.asarray(extent) < NOTHING, ZERO_SCALE, _scale(extent, steps))


def _scale(absmax: np.ndarray | float, high: int) -> np.ndarray:
    scale = np.atleast_1d(np.asarray(absmax, np.float32)) / np.float32(high)
    return np.maximum(scale, SMALLEST_SCALE).astype(np.float32)


COMMON = Grid("common")
"""Input, weight and output of every convolution; everything else, the attention tail included, stays float."""

AFFINE = Grid("affine", symmetric=False)
"""The same tensors with zero points: SiLU's output starts at -0.278, which wastes a bit on the symmetric grid."""

FULL = Grid("full", points=("weight", "output"), symmetric=False, between=True)
"""As `affine`, and every tensor between convolutions too: SiLU, sums, concatenations and products run on integers."""

W8 = Grid("w8", precision="w8", points=("weight",))
"""Weights alone; arithmetic stays float."""

W8A16 = Grid("w8a16", precision="w8a16", bits=16)
"""8-bit weights and 16-bit symmetric activations at every convolution."""

GRIDS = {grid.name: grid for grid in (COMMON, AFFINE, FULL, W8, W8A16)}


def grid_named(name: str) -> Grid:
    """The grid called `name`; raises BadInputError with the nearest name when there is none."""
    if name not in GRIDS:
        raise unknown("grid", name, GRIDS)
    return GRIDS[name]

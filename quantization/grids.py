"""Grids: one kind of integer arithmetic, and which tensors of the network are put on it.

A grid is a value; `COMMON` is the one that ONNX Runtime, OpenVINO, LiteRT and ncnn all carry with equal scales.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RELU6_SCALE = np.float32(np.float32(6.0) / np.float32(127.0))
"""Scale of every ReLU6 output: its range is known, and a converter that folds the clamp in must cover all of [0, 6]."""

SMALLEST_SCALE = np.float32(2.0**-40)
"""Scale of a tensor that is zero on all images; any positive number represents zero exactly."""

BIAS_LIMIT = 2.0**30
"""An int32 bias is bias / (input scale * weight scale); weight scales are raised until it stays below this."""


@dataclass(frozen=True)
class Grid:
    """Symmetric integers in [low, high] with zero point 0: real = scale * integer.

    Activations have one scale per tensor, weights one per output channel. `points` are the tensors of every convolution
    that are quantized: "input", "weight", "output" (before SiLU, after ReLU and ReLU6).
    """

    name: str
    bits: int
    low: int
    high: int
    points: tuple[str, ...]

    def scale_of_range(self, absmax: np.ndarray | float) -> np.ndarray:
        """Scale (float32, shape of `absmax`, at least one axis) whose `high` is `absmax`: float32(absmax) / high."""
        scale = np.atleast_1d(np.asarray(absmax, np.float32)) / np.float32(self.high)
        return np.maximum(scale, SMALLEST_SCALE).astype(np.float32)

    def weight_scale(self, weight: np.ndarray, bias: np.ndarray, input_scale: float) -> np.ndarray:
        """Scales (C,) of a weight (C, ...): absmax/high per output channel.

        A channel with nearly no weight and a large bias (batch norm with a gain near zero) would need a bias beyond
        int32 at `input_scale`; its scale is raised to keep the bias below `BIAS_LIMIT` steps.
        """
        scale = self.scale_of_range(np.abs(weight.reshape(len(weight), -1)).max(1))
        floor = np.abs(bias.astype(np.float64)) / (BIAS_LIMIT * float(input_scale))
        return np.maximum(scale, floor.astype(np.float32)).astype(np.float32)

    def quantize(self, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Integers (int8) of `values`: round half to even, then clip; `scale` is (1,), or (C,) along the first axis."""
        steps = scale.reshape((-1,) + (1,) * (values.ndim - 1)) if scale.size > 1 else scale.reshape(())
        rounded = np.rint(values.astype(np.float32) / steps)
        return np.clip(rounded, self.low, self.high).astype(np.int8)


COMMON = Grid("common", bits=8, low=-127, high=127, points=("input", "weight", "output"))
"""Input, weight and output of every convolution; everything else, the attention tail included, stays float."""

GRIDS = {grid.name: grid for grid in (COMMON,)}

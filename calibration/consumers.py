"""Which of several ranges does the least harm where a tensor is read; what the method `best` goes by.

The harm of a range is measured at the tensor's consumer, on a few crops, everything else in float:

- an input: in the result of the convolution that reads it, with that convolution's weights as integers too;
- an output: after its activation, which is what all its readers get;
- a tensor between convolutions: in the convolutions that read this very tensor; where there is none, in itself.

It is the sum of squared differences from the float result over the sum of its squares, added up over consumers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rtmw_edge.quantization import Entry, Grid
from rtmw_edge.quantization.fake import FakeQuantizeChannels, FakeQuantizeTensor, weight_arrays
from torch import Tensor, nn

from .observing import normalized
from .ranges import Range

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import ActConv, Deployable

CROPS = 16
"""How many of the kept crops are run: one forward pass, and every convolution once more for each range tried."""

BATCH = 8

ResultOf = Callable[[Tensor, Entry | None], Tensor]


def activation_entry(grid: Grid, ends: Range, source: str = "") -> Entry:
    """The entry of an activation on `grid` that lies between `ends`."""
    scale, zero_point = grid.activation(*ends)
    return Entry(scale, zero_point, grid.bits, low=grid.low, high=grid.high, source=source)


def weight_entry(grid: Grid, convolution: ActConv, input_scale: float | None) -> Entry:
    """The entry of a convolution's weight when its input has `input_scale`; None: it is float."""
    return Entry(grid.weight_scale(*weight_arrays(convolution), input_scale), axis=0, source="weights")


def errors_at_consumers(
    deployable: Deployable, crops: NDArray[np.uint8], candidates: Mapping[str, Sequence[Range]], grid: Grid
) -> dict[str, NDArray[np.float64]]:
    """For each point of `candidates` the error of every range tried there, on `crops` uint8 (N,H,W,3)."""
    network = copy.deepcopy(deployable)
    trials: dict[str, Trial] = {}

    def trial(point: str, result_of: ResultOf) -> Trial | nn.Identity:
        if point not in candidates:
            return nn.Identity()
        trials[point] = Trial([activation_entry(grid, ends) for ends in candidates[point]], result_of)
        return trials[point]

    for name, convolution in network.convolutions().items():
        convolution.quant_in = trial(f"{name}:input", _Convolved(convolution, grid))
        silu = convolution.activation == "silu"
        convolution.quant_out = trial(f"{name}:output", _rounded_then_silu if silu else _rounded)
    if grid.between:
        for point, place in network.between().items():
            place.quant = trial(point, _rounded)
    with torch.inference_mode():
        for start in range(0, len(crops), BATCH):
            network(normalized(crops[start : start + BATCH], deployable.variant))
    return {point: found.errors() for point, found in trials.items()}


class Trial(nn.Module):
    """Identity that tries ranges: `result_of(values, entry)` is what a consumer makes of the values rounded by `entry`,
    or with `entry` None of the values themselves."""

    def __init__(self, entries: Sequence[Entry], result_of: ResultOf) -> None:
        super().__init__()
        self._entries, self._result_of = entries, result_of
        self._squares, self._size = np.zeros(len(entries)), 0.0

    def forward(self, values: Tensor) -> Tensor:
        exact = self._result_of(values, None)
        self._size += float(exact.square().sum())
        for index, entry in enumerate(self._entries):
            self._squares[index] += float((self._result_of(values, entry) - exact).square().sum())
        return values

    def errors(self) -> NDArray[np.float64]:
        """Sum of squared differences over the sum of squares, by range."""
        return self._squares / max(self._size, np.finfo(np.float64).tiny)


def _rounded(values: Tensor, entry: Entry | None) -> Tensor:
    return values if entry is None else FakeQuantizeTensor(entry)(values)


def _rounded_then_silu(values: Tensor, entry: Entry | None) -> Tensor:
    return F.silu(_rounded(values, entry))


class _Convolved:
    """The result of a convolution on rounded values, its weights rounded as they are with that input scale."""

    def __init__(self, convolution: ActConv, grid: Grid) -> None:
        self._convolution, self._grid = convolution, grid

    def __call__(self, values: Tensor, entry: Entry | None) -> Tensor:
        conv = self._convolution.conv
        weight = conv.weight
        if entry is not None:
            weight = FakeQuantizeChannels(weight_entry(self._grid, self._convolution, float(entry.scale[0])))(weight)
        values = _rounded(values, entry)
        return F.conv2d(values, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)

"""Fake quantization: the float network computing with the table's rounding, so that int8 can be judged in PyTorch.

The only module of this package that imports torch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from rtmw_edge.errors import BadInputError

from .grids import GRIDS
from .table import KINDS, Entry, Table


class Convolution(Protocol):
    """A convolution with a place for a quantizer at its input, at its weight, and at its output before SiLU."""

    conv: nn.Conv2d
    quant_in: nn.Module
    quant_w: nn.Module
    quant_out: nn.Module

    @property
    def activation(self) -> str: ...


class Convolutional(Protocol):
    """A network that gives its convolutions by name."""

    def convolutions(self) -> Mapping[str, Convolution]: ...


Network = TypeVar("Network", bound=Convolutional)


class FakeQuantizeTensor(nn.Module):
    """Round a tensor to the integers of one scale and back: `torch.fake_quantize_per_tensor_affine`.

    The scale is a Python float, which tracers and exporters keep as a constant.
    """

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.scale = float(entry.scale[0])
        self.zero_point, self.low, self.high = entry.zero_point, entry.low, entry.high

    def forward(self, values: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(values, self.scale, self.zero_point, self.low, self.high)


class FakeQuantizeChannels(nn.Module):
    """Round a weight (C, ...) to the integers of its C scales and back: `torch.fake_quantize_per_channel_affine`."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.register_buffer("scale", torch.from_numpy(entry.scale.copy()), persistent=False)
        zero_point = torch.full((entry.scale.size,), entry.zero_point, dtype=torch.int32)
        self.register_buffer("zero_point", zero_point, persistent=False)
        self.low, self.high = entry.low, entry.high

    def forward(self, weight: Tensor) -> Tensor:
        return torch.fake_quantize_per_channel_affine(weight, self.scale, self.zero_point, 0, self.low, self.high)


def fake_quantize(network: Network, table: Table, kinds: Sequence[str] = KINDS) -> Network:
    """A copy of `network` that quantizes and dequantizes the tensors of every convolution.

    `kinds` are those that are quantized, of "input", "weight" and "output": a format may carry fewer than all three.
    Raises BadInputError when the table is not for this network (see `check_table`).
    """
    check_table(network, table)
    quantized = copy.deepcopy(network)
    for name, convolution in quantized.convolutions().items():
        if "input" in kinds:
            convolution.quant_in = FakeQuantizeTensor(table.entries[f"{name}:input"])
        if "weight" in kinds:
            convolution.quant_w = FakeQuantizeChannels(table.entries[f"{name}:weight"])
        if "output" in kinds:
            convolution.quant_out = FakeQuantizeTensor(table.entries[f"{name}:output"])
    return quantized


def weight_arrays(convolution: Convolution) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, ...) and bias (C,) of a convolution as float32 arrays."""
    weight = convolution.conv.weight.detach().cpu().float().numpy()
    bias = cast(Tensor, convolution.conv.bias).detach().cpu().float().numpy()
    return weight, bias


def check_table(network: Convolutional, table: Table) -> None:
    """Raise BadInputError unless `table` has exactly the network's points, with scales made for the network's weights.

    The weight scales follow from the weights alone, so a table made for other weights is told by them; they may differ
    in the last bits, where batch norm was folded on another machine.
    """
    grid = GRIDS[table.grid]
    convolutions = network.convolutions()
    expected = {f"{name}:{kind}" for name in convolutions for kind in grid.points}
    missing, extra = sorted(expected - set(table.entries)), sorted(set(table.entries) - expected)
    if missing or extra:
        point, what = (missing[0], "lacks") if missing else (extra[0], "has, and the network has not,")
        raise BadInputError(
            f"The quantization table is for another network ({table.variant}): it {what} '{point}'; calibrate again."
        )
    for name, convolution in convolutions.items():
        scale = table.entries[f"{name}:weight"].scale
        wanted = grid.weight_scale(*weight_arrays(convolution), float(table.entries[f"{name}:input"].scale[0]))
        if scale.shape != wanted.shape or not np.allclose(scale, wanted, rtol=1e-4, atol=0):
            raise BadInputError(
                f"The quantization table was made for other weights: the scales of '{name}:weight' differ; "
                "calibrate again with these weights."
            )

"""Fake quantization: the float network computing with the table's rounding, so that int8 can be judged in PyTorch."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from rtmw_edge.errors import BadInputError

from .grids import GRIDS, WEIGHT_HIGH, Grid
from .table import BETWEEN, KINDS, Entry, Table, role_of

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import ActConv, Deployable


PLACES = {"input": "quant_in", "weight": "quant_w", "output": "quant_out"}
"""Where the quantizer of each of a convolution's points goes."""


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


def fake_quantize(network: Deployable, table: Table, kinds: Sequence[str] = (*KINDS, *BETWEEN)) -> Deployable:
    """A copy of `network` that quantizes and dequantizes what the table names, with the table's bias corrections.

    `kinds` are those that are quantized, of "input", "weight", "output" and, on the grid `full`, the roles of
    `BETWEEN`: a format may carry fewer than all.

    Raises BadInputError when the table is not for this network (see `check_table`).
    """
    check_table(network, table)
    quantized = corrected(network, table)
    put_quantizers(quantized, table.carrying(kinds))
    return quantized


def put_quantizers(network: Deployable, table: Table) -> None:
    """Let `network` quantize and dequantize at every point of it that the table has, in place."""
    for name, convolution in network.convolutions().items():
        for kind, place in PLACES.items():
            entry = table.entries.get(f"{name}:{kind}")
            if entry is not None:
                setattr(convolution, place, (FakeQuantizeTensor if kind != "weight" else FakeQuantizeChannels)(entry))
    for point, between in network.between().items():
        if point in table.entries:
            between.quant = FakeQuantizeTensor(table.entries[point])


def corrected(network: Deployable, table: Table) -> Deployable:
    """A copy of `network` with the table's bias corrections added; what every target converts."""
    changed = copy.deepcopy(network)
    convolutions = changed.convolutions()
    for name, correction in table.bias_corrections.items():
        bias = cast(Tensor, convolutions[name].conv.bias)
        with torch.no_grad():
            bias += torch.from_numpy(correction.copy()).to(bias)
    return changed


def weight_arrays(convolution: ActConv) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, ...) and bias (C,) of a convolution as float32 arrays."""
    weight = convolution.conv.weight.detach().cpu().float().numpy()
    bias = cast(Tensor, convolution.conv.bias).detach().cpu().float().numpy()
    return weight, bias


def weights_sha256(network: Deployable) -> str:
    """Hash of the weights and biases of all convolutions by name, as float32: what a table's scales were made for."""
    digest = hashlib.sha256()
    for name, convolution in sorted(network.convolutions().items()):
        for array in weight_arrays(convolution):
            digest.update(f"{name} {array.shape} ".encode())
            digest.update((array + np.float32(0)).tobytes())  # -0.0 counts as 0.0
    return digest.hexdigest()


def weights_table(network: Deployable, grid: Grid) -> Table:
    """The table of a grid on which weights alone are quantized, which needs no images."""
    entries = {
        f"{name}:weight": Entry(grid.weight_scale(*weight_arrays(convolution), None), axis=0, source="weights")
        for name, convolution in network.convolutions().items()
    }
    return Table(network.variant.name, entries, grid.name, {"method": "weights"}, weights_sha256(network))


def points_of(network: Deployable, grid: Grid, floats: Collection[str] = ()) -> set[str]:
    """The points that a table of `grid` has for `network` when the convolutions in `floats` stay in float.

    On the grid `full` they are those between convolutions, and of the inputs the first convolution's, the image.
    """
    convolutions = network.convolutions()
    points = {f"{name}:{kind}" for name in convolutions if name not in floats for kind in grid.points}
    if grid.between:
        points |= {f"{next(iter(convolutions))}:input", *network.between()}
    return points


def check_table(network: Deployable, table: Table) -> None:
    """Raise BadInputError unless `table` was made for the network's variant and weights and has exactly its points.

    What it has of each must be of its grid, and of as many channels as the convolution.
    """
    if table.variant != network.variant.name:
        raise BadInputError(
            f"The quantization table is for {table.variant}, not for {network.variant.name}; calibrate again."
        )
    expected = points_of(network, GRIDS[table.grid], table.floats)
    kinds = {role_of(point) for point in expected}
    present = {point for point in table.entries if role_of(point) in kinds}
    missing, extra = sorted(expected - present), sorted(present - expected)
    if missing or extra:
        point, what = (missing[0], "lacks") if missing else (extra[0], "has, and the network has not,")
        raise BadInputError(f"The quantization table is for another network: it {what} '{point}'; calibrate again.")
    mine = weights_sha256(network)
    if table.weights_sha256 != mine:
        raise BadInputError(
            f"The quantization table was made for other weights (sha256 {table.weights_sha256[:12] or 'not given'}, "
            f"these have {mine[:12]}); calibrate again with these weights."
        )
    convolutions = network.convolutions()
    for name in (*table.floats, *table.bias_corrections):
        if name not in convolutions:
            raise BadInputError(
                f"The quantization table names a convolution '{name}', which the network has not; calibrate again."
            )
    for name, correction in table.bias_corrections.items():
        _check_channels(f"{name}: its bias correction", correction.size, convolutions[name])
    grid = GRIDS[table.grid]
    for point in present:
        entry = table.entries[point]
        name, _, role = point.rpartition(":")
        numbers = (entry.bits, entry.axis, entry.low, entry.high)
        allowed: tuple[int, int | None, int, int] = (grid.bits, None, grid.low, grid.high)
        if role == "weight":
            allowed = (8, 0, -WEIGHT_HIGH, WEIGHT_HIGH)
            _check_channels(point, entry.scale.size, convolutions[name])
        if numbers != allowed or (entry.zero_point and (role == "weight" or grid.symmetric)):
            raise BadInputError(
                f"The quantization table has for '{point}' bits {entry.bits}, axis {entry.axis}, zero point "
                f"{entry.zero_point} and range [{entry.low}, {entry.high}], which is not of the grid {grid.name}; "
                "calibrate again."
            )


def _check_channels(what: str, count: int, convolution: ActConv) -> None:
    channels = convolution.conv.out_channels
    if count != channels:
        raise BadInputError(
            f"The quantization table does not fit '{what}': {count} numbers for {channels} output channels; "
            "calibrate again."
        )

"""Quantizers that train: activation scales that are learned, weight scales that follow the weights.

Fine-tuning with them is quantization-aware training (`rtmw_edge.quantization.qat`); `learned_table` is its result.
Rounding passes gradients on as if it were the identity (straight through).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from .fake import PLACES, FakeQuantizeTensor, weight_arrays, weights_sha256
from .grids import GRIDS, SMALLEST_SCALE, WEIGHT_HIGH
from .table import Entry, Table

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import Deployable

LEARNED = ("input", "output")
"""The points whose scales are learned; those of weights follow the weights."""


class _Round(torch.autograd.Function):
    """Rounding to the integers low..high of a scale and a zero point, and back; the bits of torch.fake_quantize_*.

    Torch's own learnable quantizer (`torch._fake_quantize_learnable_per_tensor_affine`) has the same value and the same
    gradients, and takes four times as long on a CPU: it keeps a gradient of the scale for every element before it sums
    them. With y the result, g its gradient and g_x that of x, which is g inside the range and 0 outside:

        d / d log(scale) = sum g (y - x) inside + sum g y outside = <g, y> - <g_x, x>
        d / d zero point = -scale * sum g outside                  = -scale * (sum g - sum g_x)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, factor: float) -> Tensor:
        y = x * (1.0 / scale)
        y.round_()
        if x.device.type == "cpu":  # plain numbers are faster there; elsewhere reading them would wait for the device
            zero = float(zero_point)
            y.clamp_(low - zero, high - zero)
        else:
            torch.clamp(y, low - zero_point, high - zero_point, out=y)
        y.mul_(scale)
        ctx.save_for_backward(x, y, scale, zero_point)
        ctx.low, ctx.high, ctx.factor = low, high, factor
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None, None]:
        (g,) = gradients
        x, y, scale, zero_point = ctx.saved_tensors
        lowest, highest = (ctx.low - 0.5 - zero_point) * scale, (ctx.high + 0.5 - zero_point) * scale
        if x.device.type == "cpu":
            g_x = torch.ops.aten.hardtanh_backward(g, x, float(lowest), float(highest))
        else:
            g_x = torch.where((x > lowest) & (x < highest), g, 0.0)
        g_scale = g_zero = None
        if ctx.needs_input_grad[1]:
            g_scale = ((_dot(g, y) - _dot(g_x, x)) * ctx.factor / scale).reshape(scale.shape)
        if ctx.needs_input_grad[2]:
            g_zero = ((g_x.sum() - g.sum()) * scale * ctx.factor).reshape(zero_point.shape)
        return g_x, g_scale, g_zero, None, None, None


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """The sum of products of two tensors of one shape, without a copy where their memory has one order."""
    if one.ndim == 4 and other.is_contiguous(memory_format=torch.channels_last):
        one, other = one.permute(0, 2, 3, 1), other.permute(0, 2, 3, 1)
    return torch.dot(one.reshape(-1), other.reshape(-1))


class LearnedTensor(nn.Module):
    """Rounds a tensor to the integers of a learned scale, and where the grid has one a learned zero point.

    The scale's parameter is its logarithm over the scale that it began with, so that one learning rate is right for all
    magnitudes and no step makes it negative; the zero point's is its way from the start in 128 integers. Gradients are
    weighted as in LSQ (arXiv 1902.08153), by 1 / sqrt(elements * high). Computes in float32 also under autocast.
    """

    start: Tensor

    def __init__(self, entry: Entry, *, symmetric: bool) -> None:
        super().__init__()
        self.register_buffer("start", torch.from_numpy(entry.scale.copy()), persistent=False)
        self.start_zero, self.low, self.high = entry.zero_point, entry.low, entry.high
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.zero = None if symmetric else nn.Parameter(torch.zeros(1))

    @property
    def scale(self) -> Tensor:
        """(1,) float32, positive."""
        return (self.start * self.log_scale.exp()).clamp(min=float(SMALLEST_SCALE))

    @property
    def zero_point(self) -> Tensor:
        """(1,) float32, an integer between low and high; its gradient is that of the number before rounding."""
        if self.zero is None:
            return torch.full_like(self.start, self.start_zero)
        exact = self.start_zero + 128.0 * self.zero
        return exact + (exact.round().clamp(self.low, self.high) - exact).detach()

    def forward(self, values: Tensor) -> Tensor:
        factor = 1.0 / math.sqrt(values.numel() * self.high)
        rounded: Tensor = _Round.apply(values.float(), self.scale, self.zero_point, self.low, self.high, factor)
        return rounded

    @torch.no_grad()
    def entry(self, bits: int, source: str) -> Entry:
        """What was learned, for a table."""
        zero_point = round(float(self.zero_point))
        return Entry(self.scale.cpu().numpy(), zero_point, bits, None, self.low, self.high, source)


class Tied(nn.Module):
    """The quantizer of another convolution that reads the same tensor: they keep one scale, so that files have one."""

    def __init__(self, quantizer: LearnedTensor) -> None:
        super().__init__()
        self._quantizer = (quantizer,)  # not a submodule: its parameters are another's

    @property
    def quantizer(self) -> LearnedTensor:
        return self._quantizer[0]

    def forward(self, values: Tensor) -> Tensor:
        rounded: Tensor = self.quantizer(values)
        return rounded


class FixedTensor(FakeQuantizeTensor):
    """A scale that is known and not learned: ReLU6's. Computes in float32 also under autocast."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values.float())


class AbsmaxChannels(nn.Module):
    """Rounds a weight (C, ...) to 8 bits at absmax/127 of each of its channels as they are now.

    Nothing is ever clipped, so the gradient is the identity's. `Grid.weight_scale` raises the scales of channels with
    nearly no weight and a large bias; here they are not raised, as those channels are constants either way.
    """

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            exact = weight.float()
            scale = exact.abs().amax(tuple(range(1, exact.ndim)), keepdim=True).div_(WEIGHT_HIGH)
            scale.clamp_(min=float(SMALLEST_SCALE))
            change = exact.mul(scale.reciprocal()).round_().mul_(scale).sub_(exact)
        return weight + change


def learnable(network: Deployable, start: Table) -> None:
    """Put quantizers that train into a network's convolutions, in place, beginning with the scales of `start`.

    Convolutions that read one tensor and start with one scale keep one scale. Whether the table is for this network is
    for the caller to check (`fake.check_table`).
    """
    symmetric = GRIDS[start.grid].symmetric
    sources = _inputs(network)
    readers: dict[tuple[int, bytes, int], LearnedTensor] = {}
    for name, convolution in network.convolutions().items():
        if name in start.floats:
            continue
        convolution.quant_w = AbsmaxChannels()
        for kind in LEARNED:
            entry = start.entries[f"{name}:{kind}"]
            quantizer: nn.Module
            if kind == "output" and convolution.activation == "relu6":
                quantizer = FixedTensor(entry)
            else:
                quantizer = LearnedTensor(entry, symmetric=symmetric)
            if kind == "input":
                key = (sources[name], entry.scale.tobytes(), entry.zero_point)
                first = readers.setdefault(key, cast(LearnedTensor, quantizer))
                quantizer = quantizer if first is quantizer else Tied(first)
            setattr(convolution, PLACES[kind], quantizer)


def _inputs(network: Deployable) -> dict[str, int]:
    """Which tensor each convolution reads: equal numbers for the same tensor, by running the network once."""
    seen: dict[str, Tensor] = {}
    handles = [
        convolution.register_forward_pre_hook(lambda _, arguments, name=name: seen.__setitem__(name, arguments[0]))
        for name, convolution in network.convolutions().items()
    ]
    width, height = network.variant.input_size
    with torch.inference_mode():
        network(torch.zeros(1, 3, height, width))
    for handle in handles:
        handle.remove()
    return {name: id(tensor) for name, tensor in seen.items()}


def learned_parameters(network: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of all quantizers: what has a learning rate of its own and must not decay."""
    for module in network.modules():
        if isinstance(module, LearnedTensor):
            yield from module.parameters(recurse=False)


@torch.no_grad()
def round_biases(network: Deployable, table: Table) -> None:
    """Move biases to whole steps of input scale times weight scale, in place.

    ONNX and TFLite store them so, in 32 bits; the others keep float32. The rounding is far below a step of any output,
    and yet it sends a few values in a thousand to another integer, which is a hundred times what float32 sums do.
    """
    for name, convolution in network.convolutions().items():
        if name in table.floats:
            continue
        scales = (table.entries[f"{name}:{kind}"].scale for kind in ("input", "weight"))
        steps = np.prod(np.broadcast_arrays(*scales), axis=0, dtype=np.float32).astype(np.float64)
        bias = weight_arrays(convolution)[1].astype(np.float64)
        cast(Tensor, convolution.conv.bias).copy_(torch.from_numpy(np.rint(bias / steps) * steps))


def learned_table(
    network: Deployable, quantized: Deployable, start: Table, source: str, provenance: Mapping[str, Any]
) -> Table:
    """The table for `network`, which has the final weights, with the activation scales that `quantized` has learned.

    `quantized` is what `learnable` was done to; weight scales follow from the weights of `network` alone.
    """
    grid = GRIDS[start.grid]
    learned = quantized.convolutions()
    entries: dict[str, Entry] = {}
    for name, convolution in network.convolutions().items():
        if name in start.floats:
            continue
        for kind in LEARNED:
            quantizer = getattr(learned[name], PLACES[kind])
            quantizer = quantizer.quantizer if isinstance(quantizer, Tied) else quantizer
            point = f"{name}:{kind}"
            fixed = isinstance(quantizer, FixedTensor)
            entries[point] = start.entries[point] if fixed else quantizer.entry(grid.bits, source)
        scale = grid.weight_scale(*weight_arrays(convolution), float(entries[f"{name}:input"].scale[0]))
        entries[f"{name}:weight"] = Entry(np.asarray(scale), axis=0, source="weights")
    return Table(start.variant, entries, start.grid, provenance, weights_sha256(network), start.floats)

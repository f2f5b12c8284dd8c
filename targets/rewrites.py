"""The network as every target takes it: batch norm folded and a few blocks said in simpler, safer, equal arithmetic.

Each rewrite computes the same function as the official formulation (`tests/targets/test_rewrites.py` holds each to it
in float64), so one golden output serves every runtime:

- batch norm is folded into its convolution (in float64), which gets a bias;
- ScaleNorm divides by 64 before squaring: inputs near 274 over 432 cells sum to 3.6e6, which overflows float16, turns
  the norm into infinity and every logit into zero;
- the 9x9 and 13x13 max poolings are the 5x5 one applied twice and three times;
- hardsigmoid(conv(x)) is relu6(conv(x) + 3) / 6 with the 3 in the convolution's bias;
- gated attention slices instead of split and unbind, and forms queries and keys as two rank-3 products;
- the stem's input channels are reversed, so that the network takes BGR as cameras and OpenCV give it.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtmw_edge.models.attention import SCALE_NORM_EPS, GatedAttention, ScaleNorm
from rtmw_edge.models.layers import Add, ChannelAttention, ConvUnit, Join, SpatialPyramidPooling
from rtmw_edge.models.rtmw import RTMW, PoseNetwork
from rtmw_edge.models.variants import MEAN_RGB, STD_RGB

Activation = Literal["silu", "relu", "relu6", "none"]

HALF_SAFE = 64.0
"""A power of two, so dividing by it changes no bit of the mantissa."""


class Place(nn.Module):
    """The result of an operation between convolutions; a module put into `quant` quantizes or observes it.

    `point` is its name in a quantization table on the grid `full`: "<path>:<role>" with a role of
    `quantization.table.BETWEEN`. Without an operation it stands for its input.
    """

    def __init__(self, point: str, operation: nn.Module | None = None) -> None:
        super().__init__()
        self.point = point
        self.operation = nn.Identity() if operation is None else operation
        self.quant: nn.Module = nn.Identity()

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self.quant(self.operation(*inputs))
        return result


class SiLU(nn.Module):
    """x * sigmoid(x). Where integers compute it (LiteRT), the sigmoid is rounded too, to steps of 1/256."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.sigmoid = Place(f"{name}:sigmoid")
        self.product = Place(f"{name}:silu")

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.sigmoid.quant, nn.Identity):  # whole, as converters recognize it
            return self.product(F.silu(x))
        return self.product(x * self.sigmoid(torch.sigmoid(x)))


class ActConv(nn.Module):
    """A convolution with bias and its activation; every convolution of a Deployable is one of these.

    `name` is the path of the convolution in the original network ("backbone.stem.0.conv"). `quant_in`, `quant_w` and
    `quant_out` are where quantization hooks in; ReLU and ReLU6 come before `quant_out`, SiLU after it.
    """

    def __init__(self, name: str, conv: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        self.name = name
        self.conv = conv
        self.activation = activation
        self.quant_in: nn.Module = nn.Identity()
        self.quant_w: nn.Module = nn.Identity()
        self.quant_out: nn.Module = nn.Identity()
        self.silu = SiLU(name) if activation == "silu" else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant_in(x)
        conv = self.conv
        if isinstance(self.quant_w, nn.Identity):
            x = conv(x)  # as a module: pnnx recognizes it by its class
        else:
            weight = self.quant_w(conv.weight)
            x = F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        if self.activation == "relu":
            x = F.relu(x)
        elif self.activation == "relu6":
            x = F.relu6(x)
        x = self.quant_out(x)
        return x if self.silu is None else self.silu(x)


class ReLU6ChannelAttention(nn.Module):
    """x * relu6(fc(mean(x))) / 6, where fc's bias already holds hardsigmoid's 3."""

    def __init__(self, original: ChannelAttention, path: str) -> None:
        super().__init__()
        conv = copy.deepcopy(original.fc)
        assert conv.bias is not None
        with torch.no_grad():
            conv.bias += 3.0
        self.fc = ActConv(f"{path}.fc", conv, "relu6")
        self.mean = Place(f"{path}:mean")
        self.product = Place(f"{path}:product")

    def forward(self, x: Tensor) -> Tensor:
        # Adaptive pooling exports as gathers (ONNX) and symbolic reshapes (ncnn).
        mean = self.mean(x.mean((2, 3), keepdim=True))
        return self.product(x * (self.fc(mean) * (1.0 / 6.0)))


class RepeatedPyramidPooling(nn.Module):
    """Spatial pyramid pooling with one 5x5 maximum, applied once, twice and three times for 5x5, 9x9 and 13x13."""

    def __init__(self, original: SpatialPyramidPooling, path: str) -> None:
        super().__init__()
        self.conv1 = folded(original.conv1, f"{path}.conv1")
        self.pooling = nn.MaxPool2d(5, stride=1, padding=2)
        self.conv2 = folded(original.conv2, f"{path}.conv2")

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        five = self.pooling(x)
        nine = self.pooling(five)
        return self.conv2(torch.cat((x, five, nine, self.pooling(nine)), dim=1))


class HalfSafeScaleNorm(nn.Module):
    """ScaleNorm whose sum of squares fits float16: the root of sum((x / 64)^2), times 64 after."""

    def __init__(self, original: ScaleNorm) -> None:
        super().__init__()
        self.scale = original.scale * HALF_SAFE
        self.g = nn.Parameter(original.g.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        small = x * (1.0 / HALF_SAFE)
        rms = torch.sqrt(torch.sum(small * small, dim=-1, keepdim=True)) * self.scale
        return x / torch.clamp(rms, min=SCALE_NORM_EPS) * self.g


class RankThreeAttention(nn.Module):
    """Gated attention without split, unbind or rank-4 tensors; half of 1/sqrt(s) is folded into each of q and k.

    Half each keeps queries and keys of one size, so that neither overflows float16 sooner than the other.
    """

    def __init__(self, original: GatedAttention) -> None:
        super().__init__()
        self.hidden = original.hidden
        self.uv = original.uv
        self.o = original.o
        self.ln = HalfSafeScaleNorm(original.ln)
        self.res_scale = original.res_scale
        half = original.key_dim**-0.25
        gamma, beta = original.gamma.detach() * half, original.beta.detach() * half
        self.q_scale, self.k_scale = (nn.Parameter(row.clone()[None, None]) for row in gamma)
        self.q_shift, self.k_shift = (nn.Parameter(row.clone()[None, None]) for row in beta)

    def forward(self, x: Tensor) -> Tensor:
        uv = F.silu(self.uv(self.ln(x)))
        u = uv[:, :, : self.hidden]
        v = uv[:, :, self.hidden : 2 * self.hidden]
        base = uv[:, :, 2 * self.hidden :]
        q = base * self.q_scale + self.q_shift
        k = base * self.k_scale + self.k_shift
        attention = F.relu(torch.matmul(q, k.transpose(1, 2)))
        return self.res_scale(x) + self.o(u * torch.matmul(attention * attention, v))


class Deployable(PoseNetwork):
    """An RTMW in deployment form: normalized BGR crops (N, 3, H, W) -> logits (N, 133, bins) per axis."""

    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        self.variant = network.variant
        self.backbone, self.neck, self.head = network.backbone, network.neck, network.head

    def convolutions(self) -> dict[str, ActConv]:
        """Every convolution by the path that it has in the original network, in that network's order of definition."""
        return {module.name: module for module in self.modules() if isinstance(module, ActConv)}

    def between(self) -> dict[str, Place]:
        """Every tensor that is quantized between convolutions on the grid `full`, by point.

        The maxima of the pyramid pooling, their concatenation, upsampling and the pixel shuffle have none: they keep
        the integers of what they read.
        """
        return {module.point: module for module in self.modules() if isinstance(module, Place)}


class FromPixels(nn.Module):
    """BGR pixels (N, 3, H, W), float 0..255 -> logits; mean and standard deviation are inside the graph."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, network: Deployable) -> None:
        super().__init__()
        self.variant = network.variant
        self.network = network
        like = next(network.parameters())
        mean, std = (torch.tensor(rgb[::-1], dtype=torch.float64).reshape(1, 3, 1, 1) for rgb in (MEAN_RGB, STD_RGB))
        self.register_buffer("mean", mean.to(like), persistent=False)
        self.register_buffer("inverse_std", (1.0 / std).to(like), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.network((pixels - self.mean) * self.inverse_std)


class FromUint8(FromPixels):
    """BGR crops as images are in memory, uint8 (N, H, W, 3) -> logits.

    Normalized row by row: against three numbers at a time, as they lie in memory, ONNX Runtime and XNNPACK take as
    long as some convolutions.
    """

    mean_row: Tensor
    inverse_std_row: Tensor

    def __init__(self, network: Deployable) -> None:
        super().__init__(network)
        width, _ = self.variant.input_size
        self.register_buffer("mean_row", self.mean.flatten().repeat(width), persistent=False)
        self.register_buffer("inverse_std_row", self.inverse_std.flatten().repeat(width), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        rows = (pixels.flatten(2).to(self.mean_row.dtype) - self.mean_row) * self.inverse_std_row
        return self.network(rows.unflatten(2, (-1, 3)).permute(0, 3, 1, 2))


def deployable(network: RTMW) -> Deployable:
    """A rewritten copy of `network` in evaluation mode; `network` is left as it is.

    >>> logits_x, logits_y = FromUint8(deployable(build("rtmw-n-256x192")))(crops_uint8)
    """
    result = Deployable(copy.deepcopy(network)).eval()
    rewrite(result)
    stem = next(iter(result.convolutions().values())).conv
    with torch.no_grad():
        stem.weight.copy_(stem.weight.flip(1))
    return result.eval()


def folded(unit: ConvUnit, path: str) -> ActConv:
    """The unit's convolution with its batch norm (running statistics) folded in; `path` is the unit's."""
    conv, bn = unit.conv, unit.bn
    assert bn.running_mean is not None and bn.running_var is not None
    factor = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
    shift = bn.bias.double() - bn.running_mean.double() * factor
    result = copy.deepcopy(conv)
    result.weight = nn.Parameter((conv.weight.double() * factor[:, None, None, None]).to(conv.weight.dtype).detach())
    result.bias = nn.Parameter(shift.to(conv.weight.dtype).detach())
    return ActConv(f"{path}.conv", result, "relu" if isinstance(unit.activate, nn.ReLU) else "silu")


def rewrite(parent: nn.Module, prefix: str = "") -> None:
    """Put the equal blocks of this module in place of those of any network, which is in evaluation mode."""
    for name, child in list(parent.named_children()):
        path = f"{prefix}{name}"
        replacement = _rewritten(child, path)
        if replacement is None:
            rewrite(child, f"{path}.")
        else:
            setattr(parent, name, replacement)


def _rewritten(module: nn.Module, path: str) -> nn.Module | None:
    if isinstance(module, ConvUnit):
        return folded(module, path)
    if isinstance(module, ChannelAttention):
        return ReLU6ChannelAttention(module, path)
    if isinstance(module, SpatialPyramidPooling):
        return RepeatedPyramidPooling(module, path)
    if isinstance(module, Add):
        return Place(f"{path}:sum", module)
    if isinstance(module, Join):
        return Place(f"{path}:concat", module)
    if isinstance(module, ScaleNorm):
        return HalfSafeScaleNorm(module)
    if isinstance(module, GatedAttention):
        return RankThreeAttention(module)
    return None

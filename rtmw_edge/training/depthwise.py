"""Depthwise convolutions whose weight gradient is computed in float32: on CPUs the bf16 one is 3 to 4 times slower.

oneDNN has no fast kernel for the bf16 weight gradient of a depthwise convolution; at RTMW's shapes it takes a fifth of
the training step. Everything else stays in bf16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: list[int]) -> Tensor:
        low = x.to(torch.bfloat16)
        kernel = weight.to(torch.bfloat16)
        ctx.save_for_backward(low, kernel)
        ctx.padding, ctx.groups = padding, x.shape[1]
        return F.conv2d(low, kernel, None, 1, padding, 1, ctx.groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        x, kernel = ctx.saved_tensors

        def gradient_of(g: Tensor, a: Tensor, w: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
            return torch.ops.aten.convolution_backward(
                g, a, w, None, [1, 1], ctx.padding, [1, 1], False, [0, 0], ctx.groups, wanted
            )

        to_x = gradient_of(gradient, x, kernel, [True, False, False])[0]
        to_weight = gradient_of(gradient.float(), x.float(), kernel.float(), [False, True, False])[1]
        return to_x, to_weight, None


class _Forward:
    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv = conv
        self.padding = [int(p) for p in conv.padding]

    def __call__(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
            out: Tensor = _Depthwise.apply(x, self.conv.weight, self.padding)
            return out
        return nn.Conv2d.forward(self.conv, x)


def float32_weight_gradients(network: nn.Module) -> None:
    """Make the depthwise convolutions (stride 1, no bias) of a network on the CPU use the faster gradient, in place."""
    for module in network.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.groups == module.in_channels > 1
            and module.bias is None
            and module.stride == (1, 1)
        ):
            module.forward = _Forward(module)  # type: ignore[method-assign, assignment]

"""The bricks of CSPNeXt: convolution units, the CSP layer, channel attention and spatial pyramid pooling.

Attribute names and shapes are those of MMPose 1.3 (mmdet's CSPNeXt), so official state dicts load without a map.
Every tensor is (N, C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BATCH_NORM_EPS = 1e-5
"""RTMW's configs replace RTMDet's 1e-3; the wrong value shifts every folded weight without an error."""


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm, activation; padded: (N, C, H, W) -> (N, out, H/stride, W/stride)."""

    def __init__(
        self, channels: int, out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, relu: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=BATCH_NORM_EPS)
        self.activate: nn.Module = nn.ReLU(inplace=True) if relu else nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.bn(self.conv(x)))


class DepthwiseSeparable(nn.Module):
    """5x5 depthwise unit, then 1x1 unit; both are activated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvUnit(channels, channels, 5, groups=channels)
        self.pointwise_conv = ConvUnit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


class Add(nn.Module):
    """x + y; a module, so that whoever quantizes or observes the sum finds it by its path."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Join(nn.Module):
    """Concatenation along channels, as a module for the same reason."""

    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, dim=1)


class CSPNeXtBlock(nn.Module):
    """3x3 unit, then the depthwise-separable unit; adds its input when `residual`."""

    def __init__(self, channels: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels, 3)
        self.conv2 = DepthwiseSeparable(channels)
        self.add = Add() if residual else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        return out if self.add is None else self.add(out, x)


class ChannelAttention(nn.Module):
    """Scale each channel by hardsigmoid(1x1 convolution of its mean); hardsigmoid(x) = relu6(x + 3) / 6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.act(self.fc(self.global_avgpool(x)))


class CSPLayer(nn.Module):
    """Two 1x1 units of half the width; `blocks` on the main one; concat [main, short]; attention; 1x1 unit."""

    def __init__(self, channels: int, out: int, blocks: int, *, residual: bool, attention: bool) -> None:
        super().__init__()
        middle = out // 2
        self.main_conv = ConvUnit(channels, middle)
        self.short_conv = ConvUnit(channels, middle)
        self.final_conv = ConvUnit(2 * middle, out)
        self.blocks = nn.Sequential(*(CSPNeXtBlock(middle, residual) for _ in range(blocks)))
        self.join = Join()
        self.attention: nn.Module | None = ChannelAttention(2 * middle) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        both = self.join(self.blocks(self.main_conv(x)), self.short_conv(x))
        return self.final_conv(both if self.attention is None else self.attention(both))


class SpatialPyramidPooling(nn.Module):
    """1x1 unit to half the width; concat of it and its 5x5, 9x9 and 13x13 maxima; 1x1 unit back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels // 2)
        self.poolings = nn.ModuleList(nn.MaxPool2d(kernel, stride=1, padding=kernel // 2) for kernel in (5, 9, 13))
        self.conv2 = ConvUnit(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pool(x) for pool in self.poolings)], dim=1))

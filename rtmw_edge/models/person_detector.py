"""Our own person detector: the backbone of rtmw-n, a narrow PAFPN, and one box a cell at strides 8, 16 and 32.

It takes what RTMDet takes, normalized BGR, and gives its boxes and scores before suppression, which
`runtime/detectors/heads.py` reads. One class, so that the score is the only logit; boxes are distances from a cell's
middle to the four sides (FCOS, arXiv 1904.01355).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .backbone import STAGES, CSPNeXt
from .layers import ConvUnit, CSPLayer, DepthwiseSeparable, Join
from .rtmw import RTMW
from .variants import Variant, variant_named

STRIDES = (8, 16, 32)
TEACHER = "rtmw-n-256x192"
"""The pose network whose backbone this one has, and begins with."""
WIDTH = 48
"""Channels of neck and heads."""
RARE = 0.01
"""The score that a fresh network gives every cell (RetinaNet's prior, arXiv 1708.02002)."""
LARGEST_LOG = 5.0
"""Of a distance over its stride: 148 strides, beyond every picture."""


class Prediction(NamedTuple):
    """`boxes` (N,A,4) xyxy in pixels of the input, `logits` (N,A) of there being a person; by level, then by row."""

    boxes: Tensor
    logits: Tensor


def cells(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Middles (A,2) x, y in pixels, and strides (A,) of all cells of an input."""
    middles, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        middles.append((torch.stack([x.flatten(), y.flatten()], dim=1) + 0.5) * stride)
        strides.append(torch.full((x.numel(),), float(stride)))
    return torch.cat(middles), torch.cat(strides)


def boxes_of(sides: Tensor, middles: Tensor, strides: Tensor) -> Tensor:
    """Boxes (N,A,4) xyxy in pixels from sides (N,A,4), and middles (A,2) and strides (A,1) of the cells."""
    distances = sides.clamp(max=LARGEST_LOG).exp() * strides
    return torch.cat([middles - distances[..., :2], middles + distances[..., 2:]], dim=2)


class Neck(nn.Module):
    """Three maps -> three of `width` channels, after a pass down and one up."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(ConvUnit(count, width) for count in channels)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.joins = nn.ModuleList(Join() for _ in range(4))
        self.down = nn.ModuleList(self._csp(width) for _ in range(2))
        self.shrink = nn.ModuleList(ConvUnit(width, width, 3, stride=2) for _ in range(2))
        self.up = nn.ModuleList(self._csp(width) for _ in range(2))

    @staticmethod
    def _csp(width: int) -> CSPLayer:
        return CSPLayer(2 * width, width, 1, residual=False, attention=False)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        r3, r4, r5 = (reduce(x) for reduce, x in zip(self.reduce, maps, strict=True))
        t4 = self.down[0](self.joins[0](self.upsample(r5), r4))
        n3 = self.down[1](self.joins[1](self.upsample(t4), r3))
        n4 = self.up[0](self.joins[2](self.shrink[0](n3), t4))
        n5 = self.up[1](self.joins[3](self.shrink[1](n4), r5))
        return n3, n4, n5


class LevelHead(nn.Module):
    """A map (N,C,h,w) -> logits (N,1,h,w), and sides (N,4,h,w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score_tower, self.side_tower = DepthwiseSeparable(width), DepthwiseSeparable(width)
        self.score, self.sides = nn.Conv2d(width, 1, 1), nn.Conv2d(width, 4, 1)
        assert self.score.bias is not None and self.sides.bias is not None
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(self.score.bias, math.log(RARE / (1 - RARE)))
        nn.init.normal_(self.sides.weight, std=0.01)
        nn.init.constant_(self.sides.bias, math.log(3.0))  # boxes of six cells

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.score(self.score_tower(x)), self.sides(self.side_tower(x))


class PersonDetector(nn.Module):
    """Normalized BGR pixels (N,3,H,W), whose sides are multiples of 32 -> a `Prediction`.

    >>> boxes, logits = PersonDetector().eval()(torch.zeros(1, 3, 320, 320))      # (1,2100,4), (1,2100)
    """

    def __init__(self) -> None:
        super().__init__()
        variant: Variant = variant_named(TEACHER)
        self.backbone = CSPNeXt(variant.depth, variant.width)
        self.neck = Neck(tuple(int(out * variant.width) for _, out, _ in STAGES[1:]), WIDTH)
        self.heads = nn.ModuleList(LevelHead(WIDTH) for _ in STRIDES)

    def forward(self, pixels: Tensor) -> Prediction:
        logits, sides = self.raw(pixels)
        middles, strides = cells(pixels.shape[2], pixels.shape[3])
        return Prediction(boxes_of(sides, middles, strides[:, None]), logits)

    def raw(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N,A), and sides (N,A,4): logarithms of the distances left, up, right and down over the stride."""
        logits, sides = [], []
        for head, x in zip(self.heads, self.neck(self.backbone(pixels)), strict=True):
            score, side = head(x)
            logits.append(score.flatten(1))
            sides.append(side.flatten(2))
        return torch.cat(logits, dim=1), torch.cat(sides, dim=2).transpose(1, 2)

    @torch.no_grad()
    def begin_with(self, pose: RTMW) -> None:
        """Take over the backbone of a pose network of the variant `TEACHER`, which sees RGB."""
        self.backbone.load_state_dict(pose.backbone.state_dict())
        stem = self.backbone.stem[0]
        assert isinstance(stem, ConvUnit)
        stem.conv.weight.copy_(stem.conv.weight.flip(1))

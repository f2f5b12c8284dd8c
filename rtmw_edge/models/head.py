"""The RTMW head: a coarse and a fine token per keypoint, gated attention, one linear classifier per axis."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..keypoints import NUM_KEYPOINTS
from .attention import GatedAttention, ScaleNorm
from .layers import ConvUnit, Join
from .variants import Variant

HIDDEN = 256
KERNEL = 7


class RTMWHead(nn.Module):
    """(N, b, H/16, W/16), (N, c, H/32, W/32) -> logits per axis, each (N, 133, bins)."""

    def __init__(self, channels: tuple[int, int], variant: Variant, *, dropout: float = 0.0) -> None:
        super().__init__()
        fine, coarse = channels
        width, height = variant.input_size
        cells = (width // 32) * (height // 32)
        shuffled = coarse // 4
        self.axes = variant.axes
        self.conv_dec = ConvUnit(shuffled, shuffled, KERNEL, relu=True)
        self.final_layer = ConvUnit(coarse, NUM_KEYPOINTS, KERNEL, relu=True)
        self.final_layer2 = ConvUnit(shuffled + fine, NUM_KEYPOINTS, KERNEL, relu=True)
        self.ps: nn.Module = nn.PixelShuffle(2)
        self.join = Join()
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, HIDDEN // 2, bias=False))
        self.mlp2 = nn.Sequential(ScaleNorm(4 * cells), nn.Linear(4 * cells, HIDDEN // 2, bias=False))
        self.gau = GatedAttention(HIDDEN, dropout=dropout)
        for axis, bins in variant.bins.items():
            self.add_module(f"cls_{axis}", nn.Linear(HIDDEN, bins, bias=False))

    def forward(self, features: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        enc_b, enc_t = features
        coarse = self.mlp(self.final_layer(enc_t).flatten(2))
        detail = self.join(self.conv_dec(self.ps(enc_t)), enc_b)
        fine = self.mlp2(self.final_layer2(detail).flatten(2))
        tokens = self.gau(torch.cat((coarse, fine), dim=-1))
        return tuple(self.get_submodule(f"cls_{axis}")(tokens) for axis in self.axes)

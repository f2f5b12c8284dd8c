"""CSPNeXt-PAFPN as RTMW configures it: a top-down and a bottom-up pass, of which strides 16 and 32 leave.

In every concat the resampled map comes first; the bottom-up pass joins the *reduced* maps, not the top-down outputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from .layers import ConvUnit, CSPLayer, Join

BLOCKS = 2
"""Blocks per CSP layer, whatever the depth of the backbone."""


class CSPNeXtPAFPN(nn.Module):
    """(P3, P4, P5) of a, b, c channels -> (N, b, H/16, W/16) and (N, c, H/32, W/32)."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        a, b, c = channels
        self.reduce_layers = nn.ModuleList([ConvUnit(c, b), ConvUnit(b, a)])
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.top_down_joins = nn.ModuleList(Join() for _ in range(2))
        self.top_down_blocks = nn.ModuleList([self._csp(2 * b, b), self._csp(2 * a, a)])
        self.downsamples = nn.ModuleList([ConvUnit(a, a, 3, stride=2), ConvUnit(b, b, 3, stride=2)])
        self.bottom_up_joins = nn.ModuleList(Join() for _ in range(2))
        self.bottom_up_blocks = nn.ModuleList([self._csp(2 * a, b), self._csp(2 * b, c)])

    @staticmethod
    def _csp(channels: int, out: int) -> CSPLayer:
        return CSPLayer(channels, out, BLOCKS, residual=False, attention=False)

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        p3, p4, p5 = features
        r5 = self.reduce_layers[0](p5)
        r4 = self.reduce_layers[1](self.top_down_blocks[0](self.top_down_joins[0](self.upsample(r5), p4)))
        n3 = self.top_down_blocks[1](self.top_down_joins[1](self.upsample(r4), p3))
        n4 = self.bottom_up_blocks[0](self.bottom_up_joins[0](self.downsamples[0](n3), r4))
        n5 = self.bottom_up_blocks[1](self.bottom_up_joins[1](self.downsamples[1](n4), r5))
        return n4, n5

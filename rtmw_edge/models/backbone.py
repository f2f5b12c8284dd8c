"""CSPNeXt, arch P5 (RTMDet, arXiv 2212.07784): feature maps at strides 8, 16 and 32."""

from __future__ import annotations

from torch import Tensor, nn

from .layers import ConvUnit, CSPLayer, SpatialPyramidPooling

STAGES = ((64, 128, 3), (128, 256, 6), (256, 512, 6), (512, 1024, 3))
"""(input channels, output channels, blocks) of the four stages at depth 1 and width 1."""


class CSPNeXt(nn.Module):
    """(N, 3, H, W) -> (P3, P4, P5): (N, 256w, H/8, W/8), (N, 512w, H/16, W/16), (N, 1024w, H/32, W/32), w = `width`."""

    def __init__(self, depth: float, width: float) -> None:
        super().__init__()
        first = int(64 * width)
        self.stem = nn.Sequential(
            ConvUnit(3, first // 2, 3, stride=2), ConvUnit(first // 2, first // 2, 3), ConvUnit(first // 2, first, 3)
        )
        stages: list[nn.Sequential] = []
        for channels, out, blocks in STAGES:
            channels, out, blocks = int(channels * width), int(out * width), max(round(blocks * depth), 1)
            last = len(stages) == len(STAGES) - 1
            stage: list[nn.Module] = [ConvUnit(channels, out, 3, stride=2)]
            if last:
                stage.append(SpatialPyramidPooling(out))
            stage.append(CSPLayer(out, out, blocks, residual=not last, attention=True))
            stages.append(nn.Sequential(*stage))
        self.stage1, self.stage2, self.stage3, self.stage4 = stages

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3 = self.stage2(self.stage1(self.stem(x)))
        p4 = self.stage3(p3)
        return p3, p4, self.stage4(p4)

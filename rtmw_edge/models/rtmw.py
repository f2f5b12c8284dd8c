"""RTMW and RTMW3D whole: backbone, neck, head, and their initialization for training from nothing."""

from __future__ import annotations

from torch import Tensor, nn

from .backbone import STAGES, CSPNeXt
from .head import RTMWHead
from .neck import CSPNeXtPAFPN
from .variants import Variant, variant_named


class PoseNetwork(nn.Module):
    """Three parts in turn: normalized crops (N, 3, H, W) -> one tensor of logits (N, 133, bins) per axis."""

    variant: Variant
    backbone: nn.Module
    neck: nn.Module
    head: nn.Module

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.head(self.neck(self.backbone(images)))


class RTMW(PoseNetwork):
    """Normalized RGB crops (N, 3, H, W) -> one tensor of logits (N, 133, bins) per axis: x, y and, in 3D, z."""

    backbone: CSPNeXt
    neck: CSPNeXtPAFPN
    head: RTMWHead

    def __init__(self, variant: Variant, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.variant = variant
        a, b, c = (int(out * variant.width) for _, out, _ in STAGES[1:])
        self.backbone = CSPNeXt(variant.depth, variant.width)
        self.neck = CSPNeXtPAFPN((a, b, c))
        self.head = RTMWHead((b, c), variant, dropout=dropout)
        self.initialize()

    def initialize(self) -> None:
        """Draw fresh weights as the official configs do: Kaiming-uniform trunk, near-zero head, unit gains.

        torch draws every Conv2d Kaiming-uniform (a = sqrt(5), fan in) by itself; only its bias is not zero.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for module in self.head.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.001)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)


def build(variant: str | Variant, *, dropout: float = 0.0) -> RTMW:
    """The network of a variant with fresh weights, in training mode; `dropout` acts on the head's attention matrix.

    Raises BadInputError for an unknown name.

    >>> network = build("rtmw-n-256x192").eval()
    >>> x, y = network(torch.zeros(1, 3, 256, 192))     # (1, 133, 384), (1, 133, 512)
    """
    return RTMW(variant_named(variant) if isinstance(variant, str) else variant, dropout=dropout)

"""Fake quantization for networks that are run many times and never trained: the same bits, many times faster.

On a CPU `torch.fake_quantize_per_tensor_affine` also writes down where gradients would pass, element by element, and
takes 20 to 40 times as long as rounding does; and weights are rounded anew in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .fake import FakeQuantizeChannels, FakeQuantizeTensor

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import Deployable


class RoundTensor(nn.Module):
    """round(x / scale), half to even, clipped, times scale, in the order of torch's operator: equal to the last bit."""

    def __init__(self, fake: FakeQuantizeTensor) -> None:
        super().__init__()
        self.scale = fake.scale
        self.inverse = float(torch.tensor(1.0) / torch.tensor(fake.scale))
        self.low, self.high = fake.low - fake.zero_point, fake.high - fake.zero_point

    def forward(self, values: Tensor) -> Tensor:
        return values.mul(self.inverse).round_().clamp_(self.low, self.high).mul_(self.scale)


def for_inference(network: Deployable) -> Deployable:
    """Change a fake-quantized `network` in place: weights rounded once, activations by `RoundTensor`. Returns it."""
    with torch.no_grad():
        for convolution in network.convolutions().values():
            if isinstance(convolution.quant_w, FakeQuantizeChannels):
                convolution.conv.weight.copy_(convolution.quant_w(convolution.conv.weight))
                convolution.quant_w = nn.Identity()
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, FakeQuantizeTensor):
                setattr(module, name, RoundTensor(child))
    return network

"""The faster depthwise gradient against float64."""

import torch
from torch import nn

from rtmw_edge.training.depthwise import float32_weight_gradients


def test_gradients_are_those_of_float64_within_bfloat16():
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False)
    exact = nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False).double()
    exact.weight.data.copy_(conv.weight)
    float32_weight_gradients(conv)
    x, g = torch.randn(4, 16, 20, 12), torch.randn(4, 16, 20, 12)
    low, high = x.clone().requires_grad_(), x.double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(low)
    assert out.dtype == torch.bfloat16
    (out.float() * g).sum().backward()
    (exact(high) * g).sum().backward()
    for ours, theirs in ((low.grad, high.grad), (conv.weight.grad, exact.weight.grad)):
        assert (ours.double() - theirs).norm() < 0.01 * theirs.norm()


def test_without_autocast_nothing_changes():
    conv = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)
    x = torch.randn(2, 8, 9, 9)
    before = conv(x)
    float32_weight_gradients(conv)
    assert torch.equal(before, conv(x))

"""Convolutions by Fourier transforms against float64 and against oneDNN's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rtmw_edge.models import build
from rtmw_edge.training.spectral import FEWEST_SAMPLES, conv2d, spectral_convolutions, transforms


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.detach().double() - b.detach()).norm() / b.detach().norm())


@pytest.mark.parametrize(("size", "kernel"), [((16, 12), 7), ((8, 6), 7), ((7, 5), 7), ((3, 2), 7), ((6, 9), 9)])
def test_the_convolution_and_its_gradients_are_those_of_float64(size: tuple[int, int], kernel: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(4, 5, kernel, kernel).contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = F.conv2d(x.double(), weight.double(), padding=kernel // 2)
    weights = torch.randn_like(expected)
    gradients = torch.autograd.grad(expected, (x, weight), weights)
    out = conv2d(x, weight)
    assert out.dtype == torch.float32 and out.is_contiguous(memory_format=torch.channels_last)
    assert relative(out, expected) < 1e-6
    for mine, theirs in zip(torch.autograd.grad(out, (x, weight), weights.float()), gradients, strict=True):
        assert relative(mine, theirs.double()) < 1e-6


def test_it_learns_also_where_it_was_only_asked_before() -> None:
    transforms.cache_clear()
    x, weight = torch.randn(2, 3, 5, 4), torch.randn(3, 3, 7, 7, requires_grad=True)
    with torch.inference_mode():
        conv2d(x, weight)
    conv2d(x, weight).sum().backward()
    assert weight.grad is not None
    (expected,) = torch.autograd.grad(F.conv2d(x.double(), weight.double(), padding=3).sum(), weight)
    assert relative(weight.grad, expected.double()) < 1e-6


def test_the_heads_three_large_convolutions_work_on_transforms() -> None:
    torch.manual_seed(0)
    network = build("rtmw-n-256x192")
    names = list(network.state_dict())
    images = torch.randn(FEWEST_SAMPLES, 3, 256, 192)
    with torch.no_grad():
        expected = network(images)
        fewer = network(images[:2])
        spectral_convolutions(network)
        replaced = [name for name, module in network.named_modules() if "forward" in vars(module)]
        assert replaced == ["head.conv_dec.conv", "head.final_layer.conv", "head.final_layer2.conv"]
        assert list(network.state_dict()) == names
        for mine, theirs in zip(network(images), expected, strict=True):
            assert relative(mine, theirs.double()) < 1e-4
        for mine, theirs in zip(network(images[:2]), fewer, strict=True):
            assert torch.equal(mine, theirs)


def test_under_autocast_and_with_another_shape_nothing_changes() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, 7, padding=3, bias=False)
    x = torch.randn(FEWEST_SAMPLES, 4, 8, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = conv(x)
        spectral_convolutions(conv)
        out = conv(x)
    assert "forward" in vars(conv) and out.dtype == torch.bfloat16 and torch.equal(out, expected)
    for other in (
        nn.Conv2d(4, 4, 5, padding=2, bias=False),
        nn.Conv2d(4, 4, 7, padding=3),
        nn.Conv2d(4, 4, 7, 2, 3, bias=False),
        nn.Conv2d(4, 4, 7, bias=False),
        nn.Conv2d(4, 4, 7, padding=3, groups=4, bias=False),
        nn.Conv2d(4, 4, 7, padding=3, padding_mode="reflect", bias=False),
    ):
        spectral_convolutions(other)
        assert "forward" not in vars(other)

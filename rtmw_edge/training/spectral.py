"""Convolutions with a large kernel on a small map as products of discrete Fourier transforms, for training on a CPU.

The head's three 7x7 convolutions are a third of RTMW-m's arithmetic. On a map of 16x12 their transforms have 152
frequencies, so that a pair of channels takes 608 products where the sum over 49 taps takes 9408; the transforms are
matrix products themselves, with tables of cosines. At a batch of 16 forward and backward together take a third of
oneDNN's time, at 32 a fifth, and the rounding error over a map is less than half of its: fewer products are summed. It
is the same everywhere on the map, though: where a value is a million times smaller than others of its sample, only a
sum over taps keeps its digits.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

SMALLEST_KERNEL = 7
"""With 3x3 kernels the transforms of the weights cost more than they save."""
FEWEST_SAMPLES = 8
"""Below this the transforms of the weights, which every pass needs once, are most of the work."""


@lru_cache
@torch.inference_mode(False)  # kept for training too, which refuses tensors that inference made
def transforms(size: tuple[int, int], kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    """The transforms of maps (2F, H*W), of kernels (2F, kernel^2), and back (H*W, 2F), as real matrices in float32.

    Rows, or columns, are real and imaginary parts in turn, of those F frequencies that a real map needs. The period is
    `kernel // 2` longer than the map: what wraps around it meets zeros, or outputs that nobody asks for.
    """
    height, width = size
    reach = kernel // 2
    rows, columns = height + reach, width + reach
    down = torch.arange(rows, dtype=torch.float64)[:, None, None, None] / rows
    along = torch.arange(columns // 2 + 1, dtype=torch.float64)[:, None, None] / columns

    def parts(ys: Tensor, xs: Tensor) -> Tensor:
        phase = (2 * math.pi * (down * ys[:, None] + along * xs)).flatten(0, 1).flatten(1)
        return torch.stack((phase.cos(), -phase.sin()), dim=1)

    maps = parts(torch.arange(height), torch.arange(width))
    taps = torch.arange(kernel) - reach
    single = (along[:, 0, 0] == 0) | (along[:, 0, 0] == 0.5)
    counts = torch.where(single, 1.0, 2.0).repeat(rows) / (rows * columns)  # the others stand for their conjugates too
    back = maps * counts[:, None, None]
    return maps.flatten(0, 1).float(), parts(taps, taps).flatten(0, 1).float(), back.flatten(0, 1).T.float()


def conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """What a convolution of stride 1 padded by half its kernel gives: (N, C, H, W) and (O, C, k, k) -> (N, O, H, W).

    Both are float32. Autograd finds the gradients, which are the same kind of products.
    """
    number, channels, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    maps, kernels, back = transforms((height, width), kernel)
    pixels = x.permute(0, 2, 3, 1).reshape(number, height * width, channels)
    real, imaginary = torch.matmul(maps, pixels).view(number, -1, 2, channels).permute(2, 1, 0, 3)
    # x conj(w) for all frequencies at once: the rows are real and imaginary parts of the result.
    left = torch.cat((torch.cat((real, imaginary), dim=2), torch.cat((imaginary, -real), dim=2)), dim=1)
    right = kernels @ weight.permute(2, 3, 1, 0).reshape(kernel * kernel, channels * outputs)
    products = torch.bmm(left, right.view(-1, 2 * channels, outputs))
    result = back @ products.view(-1, number * outputs)
    return result.view(height, width, number, outputs).permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)


class _Forward:
    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv = conv

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) < FEWEST_SAMPLES or torch.is_autocast_enabled("cpu"):
            return nn.Conv2d.forward(self.conv, x)
        return conv2d(x, self.conv.weight)


def spectral_convolutions(network: nn.Module) -> None:
    """Make the convolutions with large kernels of a network on the CPU work on transforms, in place, in float32."""
    for module in network.modules():
        if (
            type(module) is nn.Conv2d
            and module.kernel_size[0] == module.kernel_size[1] >= SMALLEST_KERNEL
            and module.padding == (module.kernel_size[0] // 2,) * 2
            and module.padding_mode == "zeros"
            and (module.stride, module.dilation, module.groups) == ((1, 1), (1, 1), 1)
            and module.bias is None
        ):
            module.forward = _Forward(module)  # type: ignore[method-assign, assignment]

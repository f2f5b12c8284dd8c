"""Count multiply-accumulates of one crop, without computing any: the network runs on torch's meta device."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def multiply_accumulates(network: nn.Module, input_size: tuple[int, int]) -> dict[str, int]:
    """Multiply-accumulates per module path for one crop of `input_size` (width, height); "" is the whole network.

    Convolutions and matrix products count (the attention's too); biases, norms and activations do not. `network` takes
    (1, 3, H, W) float images; parents hold the sum of their children.

    >>> multiply_accumulates(build("rtmw-m-256x192"), (192, 256))["head.final_layer.conv"] / 1e9
    """
    width, height = input_size
    meta = copy.deepcopy(network).float().to("meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        meta(torch.empty(1, 3, height, width, device="meta"))
    root = type(network).__name__
    counts = {"": counter.get_total_flops() // 2}
    for path, operations in counter.get_flop_counts().items():
        if path.startswith(f"{root}."):
            counts[path.removeprefix(f"{root}.")] = sum(operations.values()) // 2
    return counts

"""Exponential moving average of weights and BatchNorm buffers, with mmengine's ramp."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class Ema:
    """average <- average + momentum (value - average), momentum = (1 - m) exp(-(1 + step) / ramp) + m, m = 1 - decay.

    The ramp lets the average follow the first steps closely (mmengine, ExpMomentumEMA). Integer buffers are copied.
    `network` is the average, in evaluation mode.
    """

    def __init__(self, network: nn.Module, decay: float, ramp: int) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.floor = 1.0 - decay
        self.ramp = ramp

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards `network` after its step 0, 1, ..."""
        momentum = (1.0 - self.floor) * math.exp(-(1 + step) / self.ramp) + self.floor
        floats: list[Tensor] = []
        sources: list[Tensor] = []
        for average, value in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.dtype.is_floating_point:
                floats.append(average)
                sources.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(floats, sources, momentum)

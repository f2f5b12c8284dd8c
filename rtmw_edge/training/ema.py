"""Exponential moving average of weights and BatchNorm buffers, with mmengine's ramp."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Ema(Generic[Network]):
    """average <- average + momentum (value - average), momentum = (1 - m) exp(-(1 + step) / ramp) + m, m = 1 - decay.

    The ramp lets the average follow the first steps closely (mmengine, ExpMomentumEMA). Integer buffers are copied.
    `network` is the average, in evaluation mode.
    """

    def __init__(self, network: Network, decay: float, ramp: int) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.floor = 1.0 - decay
        self.ramp = ramp
        self._pairs: list[tuple[list[Tensor], list[Tensor]]] = []

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards `network` after its step 0, 1, ...; it is always the same one, changed in place."""
        momentum = (1.0 - self.floor) * math.exp(-(1 + step) / self.ramp) + self.floor
        self._pairs = self._pairs or _pairs(self.network, network)
        (averages, values), (counts, latest) = self._pairs
        torch._foreach_lerp_(averages, values, momentum)
        if counts:
            torch._foreach_copy_(counts, latest)


def _pairs(average: nn.Module, network: nn.Module) -> list[tuple[list[Tensor], list[Tensor]]]:
    """The tensors of both by name, the floating ones and the others: walking the modules takes longer than a step."""
    theirs = network.state_dict()
    pairs = [(tensor, theirs[name]) for name, tensor in average.state_dict().items()]
    kinds = [[pair for pair in pairs if pair[0].dtype.is_floating_point is floating] for floating in (True, False)]
    return [([one for one, _ in kind], [other for _, other in kind]) for kind in kinds]

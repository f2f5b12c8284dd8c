"""Batch norms that quantization-aware training left with nothing to do, given back statistics to train on with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # also of those that span the ranks


def does_nothing(norm: _BatchNorm) -> bool:
    """Whether a batch norm, as `rtmw-edge qat` writes it, only adds its bias."""
    assert norm.running_mean is not None and norm.running_var is not None
    neutral = not norm.running_mean.any() and bool((norm.weight == 1).all())
    return neutral and bool((norm.running_var + norm.eps - 1).abs().max() < 1e-6)


@torch.no_grad()
def revive(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Give the batch norms that do nothing the statistics of `batches` (normalized images); returns how many.

    A norm's gain becomes the deviation and its bias takes the mean up, so that the network in evaluation mode computes
    what it did, to float32's rounding, and in training mode nearly that, instead of being normalized anew. Every norm
    sees what comes from the others as they are, so one pass serves all.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and does_nothing(m)]
    if not norms:
        return 0
    sums: dict[nn.Module, Tensor] = {}
    count = 0

    def watch(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double()
        moments = torch.stack((values.mean((0, 2, 3)), values.square().mean((0, 2, 3))))
        sums[norm] = sums.get(norm, 0.0) + moments

    hooks = [norm.register_forward_pre_hook(watch) for norm in norms]
    training = network.training
    network.eval()
    for images in batches:
        network(images)
        count += 1
    network.train(training)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, square = sums[norm] / count
        variance = (square - mean.square()).clamp(min=1e-6)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)
    return len(norms)

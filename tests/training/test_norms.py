"""Batch norms that came back from quantization-aware training: the same function, and fit to be trained on."""

from __future__ import annotations

import copy

import torch
from rtmw_edge.quantization.official import official_state
from rtmw_edge.targets.rewrites import deployable
from small_runs import TINY
from torch import nn

from rtmw_edge.models import build
from rtmw_edge.training.norms import does_nothing, revive


def trained() -> nn.Module:
    """A network whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    network = build(TINY)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2.0)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.3)
    return network.eval()


def images(count: int, seed: int) -> torch.Tensor:
    width, height = TINY.input_size
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_folded_norms_get_statistics_and_the_network_stays_the_same_function() -> None:
    network = trained()
    assert revive(copy.deepcopy(network), [images(2, 1)]) == 0  # its norms do something: nothing to revive
    folded = build(TINY).eval()
    folded.load_state_dict(official_state(deployable(network)))
    norms = [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(does_nothing(norm) for norm in norms)
    with torch.no_grad():
        before = folded.double()(images(2, 2).double())
        count = revive(folded, [images(1, seed).double() for seed in range(8)])
        after = folded(images(2, 2).double())
    assert count == len(norms) and not any(does_nothing(norm) for norm in norms)
    for old, new in zip(before, after, strict=True):
        assert (new - old).norm() < 1e-6 * old.norm()


def test_norms_that_span_the_ranks_are_revived_too() -> None:
    folded = build(TINY).eval()
    folded.load_state_dict(official_state(deployable(trained())))
    count = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert revive(nn.SyncBatchNorm.convert_sync_batchnorm(folded), [images(1, 1)]) == count


def test_training_mode_is_near_evaluation_mode_again() -> None:
    folded = build(TINY).eval()
    folded.load_state_dict(official_state(deployable(trained())))
    first = next(m for m in folded.modules() if isinstance(m, nn.BatchNorm2d))
    seen: list[torch.Tensor] = []
    first.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    batch = images(16, 3)
    with torch.no_grad():
        folded(batch)
        folded.train()(batch)  # normalized anew: another function
        folded.load_state_dict(official_state(deployable(trained())))
        revive(folded, batch.split(1))
        folded.train()(batch)
    wanted, anew, revived = seen[0], seen[1], seen[-1]
    assert (revived - wanted).norm() < 0.02 * wanted.norm() < (anew - wanted).norm()

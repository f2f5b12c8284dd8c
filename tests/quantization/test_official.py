"""Folded weights under official names: folding them again gives the very same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from calm_network import calm_network
from rtmw_edge.quantization.official import NEUTRAL_VARIANCE, official_state
from rtmw_edge.targets.rewrites import deployable, folded
from small_runs import forget, register

from rtmw_edge.models import build
from rtmw_edge.models.layers import ConvUnit


def refolded(weights: torch.Tensor, biases: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (C, I) and biases (C,) behind a neutral batch norm, folded."""
    unit = ConvUnit(weights.shape[1], weights.shape[0]).eval()
    with torch.no_grad():
        unit.conv.weight.copy_(weights[:, :, None, None])
        unit.bn.bias.copy_(biases)
        unit.bn.running_var.fill_(NEUTRAL_VARIANCE)
    conv = folded(unit, "unit").conv
    return conv.weight[:, :, 0, 0], conv.bias


def test_every_half_and_a_million_singles_come_back_to_the_last_bit() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].astype(np.float32)
    rng = np.random.default_rng(0)
    singles = (rng.standard_normal(1_000_000) * 10.0 ** rng.uniform(-20, 20, 1_000_000)).astype(np.float32)
    # Where a relative error weighs most: just below and above powers of two.
    powers = np.float32(2.0) ** np.arange(-60, 60, dtype=np.float32)
    edges = np.concatenate([np.nextafter(powers, np.float32(0)), powers, np.nextafter(powers, np.float32(1e30))])
    for values in (halves, singles, edges):
        tensor = torch.from_numpy(values)
        weight, bias = refolded(tensor[None], tensor[:1])
        assert weight[0].detach().numpy().tobytes() == values.tobytes()
        assert torch.equal(bias, tensor[:1])


@pytest.mark.parametrize("variant", ["rtmw-tiny-64x96", "rtmw3d-tiny-64x96"])
def test_a_network_goes_there_and_back(variant: str) -> None:
    register()
    original = calm_network(variant)
    first = deployable(original)
    state = official_state(first)
    network = build(variant)
    network.load_state_dict(state, strict=True)
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in original.state_dict().items()
    }
    second = deployable(network)
    for name, convolution in first.convolutions().items():
        other = second.convolutions()[name]
        assert torch.equal(convolution.conv.weight, other.conv.weight), name
        if name.endswith(".fc"):
            torch.testing.assert_close(convolution.conv.bias, other.conv.bias, rtol=0, atol=1e-6)
        else:
            assert torch.equal(convolution.conv.bias, other.conv.bias), name
    images = torch.randn(1, 3, 96, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = original.double()(images)
        for ours, theirs in zip(network.eval().double()(images), expected, strict=True):
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-5  # float32's rounding when folding
    forget()

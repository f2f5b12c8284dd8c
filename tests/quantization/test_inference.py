"""The fast spelling of fake quantization computes the bits of torch's operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import Entry
from rtmw_edge.quantization.fake import FakeQuantizeChannels, FakeQuantizeTensor, fake_quantize
from rtmw_edge.quantization.inference import RoundTensor, for_inference
from small_deployable import absmax_table, float_logits, small_deployable, smooth_crops


@pytest.mark.parametrize(
    ("zero_point", "low", "high"), [(0, -127, 127), (-91, -128, 127), (57, -128, 127), (0, -32767, 32767)]
)
@pytest.mark.parametrize("scale", [3.1e-6, 0.0123, 1.0, 477.7])
def test_rounding_equals_the_operator_ties_and_all(scale: float, zero_point: int, low: int, high: int) -> None:
    fake = FakeQuantizeTensor(Entry(np.array([scale]), zero_point, bits=8 if high < 128 else 16, low=low, high=high))
    steps = torch.arange(-400, 400, dtype=torch.float32)
    noise = torch.randn(20000, generator=torch.Generator().manual_seed(0)) * 90
    values = torch.cat([steps, steps + 0.5, noise, torch.tensor([0.0, -0.0, 1e30, -1e30, 1e-40])]) * fake.scale
    kept = values.clone()
    assert torch.equal(RoundTensor(fake)(values), fake(values)) and torch.equal(values, kept)


def test_a_network_keeps_its_answers() -> None:
    network, crops = small_deployable(), smooth_crops(3)
    slow = fake_quantize(network, absmax_table(network, crops))
    expected = float_logits(slow, crops)
    fast = for_inference(slow)
    assert all(np.array_equal(a, b) for a, b in zip(float_logits(fast, crops), expected, strict=True))
    assert not any(isinstance(module, FakeQuantizeTensor | FakeQuantizeChannels) for module in fast.modules())

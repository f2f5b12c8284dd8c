"""Golden vectors on a small network: which crops are taken, and how far noise moves their answers."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.targets.golden import CANDIDATES, DISTURBANCE, FIRST, golden_vectors, relative_change
from rtmw_edge.targets.rewrites import FromPixels
from small_deployable import absmax_table, float_logits, small_deployable, smooth_crops

from rtmw_edge.errors import BadInputError

CROPS = smooth_crops(CANDIDATES, seed=3)


@pytest.fixture(autouse=True)
def _clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clouds in place of rendered people, by the same index."""

    def crop(index: int, size: tuple[int, int]) -> SimpleNamespace:
        assert size == (48, 64)
        return SimpleNamespace(image=CROPS[index - FIRST])

    monkeypatch.setattr("rtmw_edge.data.synthetic.Renderer", lambda split: {"val": SimpleNamespace(crop=crop)}[split])


def test_the_two_calmest_crops_are_taken_and_the_larger_movement_told() -> None:
    network = small_deployable()
    table = absmax_table(network, CROPS)
    kinds = ("input", "weight", "output")
    crops, logits, movement = golden_vectors(network, table, kinds)  # type: ignore[arg-type]
    quantized = FromPixels(fake_quantize(network, table, kinds))
    pixels = torch.from_numpy(CROPS).permute(0, 3, 1, 2).float()
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = quantized(pixels), quantized(pixels + DISTURBANCE * noise)
    stacked, changed = (
        np.concatenate([axis.flatten(1).numpy() for axis in answer], axis=1) for answer in (before, after)
    )
    moved = np.linalg.norm(changed - stacked, axis=1) / np.linalg.norm(stacked, axis=1)
    one, other = sorted(np.argsort(moved)[:2])
    np.testing.assert_array_equal(crops, CROPS[[one, other]])
    for axis, wanted in zip(logits, before, strict=True):
        np.testing.assert_allclose(axis, wanted[[one, other]].numpy(), rtol=1e-4, atol=1e-4)
    assert moved[one] != moved[other] and movement == pytest.approx(max(moved[one], moved[other]), rel=0.05)


def test_in_float_the_first_crops_are_taken_and_nothing_moves() -> None:
    network = small_deployable()
    crops, logits, movement = golden_vectors(network, None, ())  # type: ignore[arg-type]
    assert movement == 0.0
    np.testing.assert_array_equal(crops, CROPS[:2])
    for axis, wanted in zip(logits, float_logits(network, CROPS[:2]), strict=True):
        np.testing.assert_array_equal(axis, wanted)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_network_that_says_nothing_is_refused_before_it_is_converted(value: float) -> None:
    network = small_deployable()
    for weight in network.tails.parameters():
        weight.data.fill_(value)
    with pytest.raises(BadInputError, match="In float the network answers a picture with nothing but zeros"):
        golden_vectors(network, None, ())  # type: ignore[arg-type]


def test_the_change_is_relative_to_the_answer_before_over_all_axes() -> None:
    before = torch.tensor([[[3.0]], [[6.0]]]), torch.tensor([[[4.0]], [[8.0]]])
    after = torch.tensor([[[3.0]], [[0.0]]]), torch.tensor([[[9.0]], [[0.0]]])
    np.testing.assert_allclose(relative_change(before, after), [1.0, 1.0])
    np.testing.assert_allclose(relative_change(before, (before[0], before[1] + 2.0)), [0.4, 0.2], rtol=1e-6)

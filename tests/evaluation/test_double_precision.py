"""The reference against float64: right where it is float32, refused where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import small_runs
import torch
from label_runners import contender
from small_deployable import smooth_crops

from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.evaluation import double_precision
from rtmw_edge.evaluation.datasets import SyntheticPeople
from rtmw_edge.evaluation.double_precision import CROPS, check, first_crops, relative_error
from rtmw_edge.evaluation.evaluate import clipped_boxes
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.runtime import Runner
from rtmw_edge.runtime.detection import Detections
from rtmw_edge.runtime.torch_engine import TorchEngine


@pytest.fixture(scope="module", autouse=True)
def tiny_variants() -> Iterator[None]:
    small_runs.register()
    yield
    small_runs.forget()


def rounded(values: torch.Tensor, bits: int) -> torch.Tensor:
    """float32 with `bits` bits of mantissa: TF32 has 10, bfloat16 has 7."""
    unit = 1 << (23 - bits)
    whole = (values.contiguous().view(torch.int32) + unit // 2) & -unit
    return whole.view(torch.float32)


def multiply_rounded(network: torch.nn.Module, bits: int) -> None:
    """Make every convolution and product of `network` see rounded operands, as a GPU's tensor cores do."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.weight.data = rounded(module.weight.data, bits)
            module.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0], bits),))


@pytest.mark.parametrize("variant", [small_runs.TINY, small_runs.TINY_3D])
def test_float32_is_right_and_tf32_is_refused(variant: object, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(variant.name).eval()  # type: ignore[attr-defined]
    weights = tmp_path / "tiny.safetensors"
    save_safetensors(network, weights, torch.float32)
    crops = smooth_crops(2, network.variant.input_size)
    error = relative_error(Runner(TorchEngine(network)), weights, crops)
    assert 1e-9 < error < 1e-4
    check(error, "torch:cpu")
    multiply_rounded(network, 10)
    error = relative_error(Runner(TorchEngine(network)), weights, crops)
    assert 1e-4 < error < 1e-2
    with pytest.raises(VerificationError, match=r"The reference torch:cuda is no reference: its logits are 0\.00\d+ "):
        check(error, "torch:cuda")
    with pytest.raises(VerificationError, match=r"same network in float64, at most 0\.0001 is believed"):
        check(float("nan"), "torch:cuda")


def test_other_weights_are_far_off(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network, other = build(small_runs.TINY.name).eval(), build(small_runs.TINY.name).eval()
    save_safetensors(other, tmp_path / "other.safetensors", torch.float32)
    crops = smooth_crops(2, network.variant.input_size)
    assert relative_error(Runner(TorchEngine(network)), tmp_path / "other.safetensors", crops) > 0.5


def test_one_wrong_crop_of_many_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    people = SyntheticPeople(1)
    crowd = {0: Detections(np.array([[0, 0, 20 + k, 50] for k in range(CROPS + 3)], np.float32), np.ones(CROPS + 3))}
    crops = first_crops(contender(people).runner, people, crowd)
    assert len(crops) == CROPS
    exact = [np.ones((CROPS, 133, bins)) for bins in (384, 512)]
    found = [axis.astype(np.float32) for axis in exact]
    found[1][2] = 1.5
    runner = contender(people).runner
    monkeypatch.setattr(runner, "logits", lambda crops: found)
    monkeypatch.setattr(double_precision, "float64_logits", lambda *_: exact)
    assert relative_error(runner, Path(), crops) == pytest.approx((0.25 * 512 / (384 + 512)) ** 0.5)


def test_the_first_crops_are_those_that_are_compared() -> None:
    people = SyntheticPeople(2)
    runner = contender(people).runner
    crops = first_crops(runner, people)
    assert crops.shape == (2, 256, 192, 3) and CROPS > 2
    item = next(iter(people))
    box = clipped_boxes(item, np.array([0]))
    assert np.array_equal(crops[0], runner.cut(item.image, box).crops[0]) and not np.array_equal(crops[0], crops[1])
    with pytest.raises(BadInputError, match="The data set synthetic:val:2 holds nobody to compare on"):
        first_crops(runner, people, {})

"""The networks against figures of the official implementation (tests/reference), and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_weights import fill
from small_runs import TINY, forget, register

from rtmw_edge.errors import BadInputError
from rtmw_edge.models import VARIANTS, build
from rtmw_edge.models.macs import multiply_accumulates

FAST = ("rtmw-m-256x192",)
OFFICIAL = [
    name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
    for name, variant in VARIANTS.items()
    if variant.official
]
PUBLISHED_GMAC = {  # spec tables of the issue: ours, and "FLOPS(G)" of the MMPose model zoo
    "rtmw-n-256x192": 0.72,
    "rtmw-t-256x192": 1.25,
    "rtmw-s-256x192": 1.99,
    "rtmw-m-256x192": 4.3,
    "rtmw-l-256x192": 7.9,
    "rtmw-x-256x192": 13.1,
    "rtmw-l-384x288": 17.7,
    "rtmw-x-384x288": 29.3,
}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As the figures were computed: on one thread oneDNN adds in another order, which is 1e-4 on the x variants."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", OFFICIAL)
def test_logits_equal_the_official_implementation(name: str, reference_dir: Path) -> None:
    network = fill(build(name))
    expected = np.load(reference_dir / f"{name}.npz")
    width, height = VARIANTS[name].input_size
    images = np.random.default_rng(0).normal(size=(2, 3, height, width)).astype(np.float32)
    with torch.no_grad():
        logits = [axis.numpy() for axis in network(torch.from_numpy(images))]
    assert sum(parameter.numel() for parameter in network.parameters()) == int(expected["params"])
    assert len(logits) == len(VARIANTS[name].axes)
    for axis, values in zip(VARIANTS[name].axes, logits, strict=True):
        sample = expected[f"{axis}_sample"]
        assert np.abs(values[:, ::9, ::16] - sample).max() / np.abs(sample).max() < 1e-4
        assert np.linalg.norm(values.astype(np.float64)) == pytest.approx(float(expected[f"{axis}_norm"]), rel=1e-5)
        top = np.sort(values, axis=-1)
        clear = top[..., -1] - top[..., -2] > 1e-3 * np.abs(values).max()
        assert clear.mean() > 0.5
        np.testing.assert_array_equal(values.argmax(-1)[clear], expected[f"{axis}_argmax"][clear])


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.official])
def test_state_dict_has_the_official_names_shapes_and_order(name: str, reference_dir: Path) -> None:
    with torch.device("meta"):
        state = build(name).state_dict()
    own = [f"{key} {'x'.join(map(str, value.shape)) or 'scalar'}" for key, value in state.items()]
    assert own == (reference_dir / f"{name}.state.txt").read_text().splitlines()


@pytest.mark.parametrize("name", VARIANTS)
def test_cost_literals_are_those_of_the_built_network(name: str) -> None:
    with torch.device("meta"):
        network = build(name)
    variant = VARIANTS[name]
    gmac = multiply_accumulates(network, variant.input_size)[""] / 1e9
    assert sum(parameter.numel() for parameter in network.parameters()) == variant.parameters
    assert gmac == pytest.approx(variant.gmac, abs=0.005)
    assert gmac == pytest.approx(PUBLISHED_GMAC.get(name, gmac), rel=0.01)


def test_costs_by_part_are_those_of_the_specification() -> None:
    with torch.device("meta"):
        counts = multiply_accumulates(build("rtmw-m-256x192"), (192, 256))
    assert [round(counts[part] / 1e9, 2) for part in ("backbone", "neck", "head")] == [1.88, 1.01, 1.41]
    sevens = sum(counts[f"head.{name}.conv"] for name in ("conv_dec", "final_layer", "final_layer2"))
    assert sevens / 1e9 == pytest.approx(1.31, abs=0.01)


def test_shapes_of_the_small_3d_variant() -> None:
    with torch.no_grad():
        logits = build("rtmw3d-n-256x192").eval()(torch.zeros(2, 3, 256, 192))
    assert [tuple(axis.shape) for axis in logits] == [(2, 133, 384), (2, 133, 512), (2, 133, 384)]


def test_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(
        BadInputError, match=r"Unknown variant 'rtmw-m-256x129'; did you mean 'rtmw-m-256x192'\? Choose"
    ):
        build("rtmw-m-256x129")


def test_fresh_weights_learn_and_fresh_logits_are_small() -> None:
    torch.manual_seed(0)
    register()
    network = build(TINY.name, dropout=0.1)
    forget()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    images = torch.randn(2, 3, 96, 64)
    bins = [torch.randint(0, count, (2, 133)) for count in network.variant.bins.values()]
    losses = []
    for _ in range(5):
        logits = network(images)
        loss = sum(
            torch.nn.functional.cross_entropy(axis.flatten(0, 1), target.flatten())
            for axis, target in zip(logits, bins, strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    # Nothing learnt is log(128) + log(192); near-zero logits start there.
    assert losses[0] == pytest.approx(np.log(128) + np.log(192), rel=0.02)
    assert losses[-1] < losses[0] - 1
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = fill(build("rtmw-n-256x192", dropout=0.5))
    image = torch.randn(1, 3, 256, 192)
    with torch.no_grad():
        assert torch.equal(network(image)[0], network(image)[0])
        network.head.gau.train()
        assert not torch.equal(network(image)[0], network(image)[0])

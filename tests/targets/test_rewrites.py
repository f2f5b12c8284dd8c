"""Every exact rewrite against the official formulation in float64, and the whole deployable network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from reference_weights import fill
from rtmw_edge.quantization.table import BETWEEN
from rtmw_edge.targets.rewrites import (
    ActConv,
    FromPixels,
    FromUint8,
    HalfSafeScaleNorm,
    Place,
    RankThreeAttention,
    ReLU6ChannelAttention,
    RepeatedPyramidPooling,
    SiLU,
    deployable,
    folded,
)
from torch import Tensor, nn

from rtmw_edge.models import MEAN_RGB, STD_RGB, build
from rtmw_edge.models.attention import GatedAttention, ScaleNorm
from rtmw_edge.models.layers import ChannelAttention, ConvUnit, Join, SpatialPyramidPooling
from rtmw_edge.models.macs import multiply_accumulates

NAME = "rtmw-n-256x192"
TOLERANCE = 1e-9


def difference(actual: Tensor, expected: Tensor) -> float:
    """Relative: the norm of the difference by the norm of what is expected."""
    assert actual.dtype == expected.dtype == torch.float64
    return float((actual - expected).norm() / expected.norm())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def network() -> Any:
    return fill(build(NAME)).double()


@pytest.mark.parametrize(
    "unit", [ConvUnit(6, 8, 3, stride=2), ConvUnit(6, 6, 5, groups=6), ConvUnit(6, 7, 7, relu=True)]
)
def test_batch_norm_folds_into_the_convolution(unit: ConvUnit) -> None:
    fill(unit).double()
    x = noise(2, 6, 16, 12)
    result = folded(unit, "stem.0")
    assert result.name == "stem.0.conv"
    assert result.activation == ("relu" if isinstance(unit.activate, nn.ReLU) else "silu")
    assert difference(result(x), unit(x)) < TOLERANCE


def test_scale_norm_divides_before_it_squares() -> None:
    original = fill(ScaleNorm(432)).double()
    x = noise(2, 133, 432) * 274
    x[0, 0] = 0  # a token without any activation: the floor of the norm
    x[0, 1] *= 1e-9  # below the floor
    assert difference(HalfSafeScaleNorm(original)(x), original(x)) < TOLERANCE
    assert torch.count_nonzero(HalfSafeScaleNorm(original)(x)[0, 0]) == 0


def test_scale_norm_survives_float16_where_the_official_form_overflows() -> None:
    original = fill(ScaleNorm(432)).double()
    x = noise(1, 133, 432).abs() * 274
    half = x.half()
    assert torch.isinf((half * half).sum(dim=-1)).all()  # what a float16 runtime computes: 1 / inf zeroes the head
    rewritten = HalfSafeScaleNorm(original).half()(half)
    assert torch.isfinite(rewritten).all()
    assert difference(rewritten.double(), original(x)) < 2e-3


def test_pooling_5x5_three_times_is_5_9_13() -> None:
    original = fill(SpatialPyramidPooling(8)).double()
    x = noise(2, 8, 12, 9)
    rewritten = RepeatedPyramidPooling(original, "spp")
    assert difference(rewritten(x), original(x)) < TOLERANCE
    five = rewritten.pooling(x)
    nine, thirteen = original.poolings[1](x), original.poolings[2](x)
    assert torch.equal(rewritten.pooling(five), nine)
    assert torch.equal(rewritten.pooling(rewritten.pooling(five)), thirteen)


def test_hardsigmoid_is_relu6_with_the_three_in_the_bias() -> None:
    original = fill(ChannelAttention(8)).double()
    original.fc.weight *= 40  # reach both flat ends
    x = noise(4, 8, 6, 5)
    gate = original.act(original.fc(original.global_avgpool(x)))
    assert bool((gate == 0).any()) and bool((gate == 1).any()) and bool(((gate > 0) & (gate < 1)).any())
    rewritten = ReLU6ChannelAttention(original, "stage.attention")
    assert rewritten.fc.name == "stage.attention.fc"
    assert difference(rewritten(x), original(x)) < TOLERANCE


@pytest.fixture(scope="module")
def attention() -> GatedAttention:
    return fill(GatedAttention(256)).double()  # type: ignore[return-value]


def test_attention_as_rank_three_products(attention: GatedAttention) -> None:
    x = noise(2, 133, 256)
    rewritten = RankThreeAttention(attention)
    assert difference(rewritten(x), attention(x)) < TOLERANCE
    graph = torch.jit.trace(rewritten, x).graph
    ranks = {len(value.type().sizes() or ()) for node in graph.nodes() for value in node.outputs() if is_tensor(value)}
    assert max(ranks) == 3


def is_tensor(value: Any) -> bool:
    return value.type().kind() == "TensorType" and value.type().sizes() is not None


def test_stem_takes_bgr(network: Any) -> None:
    images = noise(1, 3, 256, 192)
    stem = deployable(network).convolutions()["backbone.stem.0.conv"]
    assert difference(stem(images.flip(1)), network.backbone.stem[0](images)) < TOLERANCE


def test_whole_network(network: Any) -> None:
    images = noise(2, 3, 256, 192)
    expected = network(images)
    rewritten = deployable(network)
    for actual, logits in zip(rewritten(images.flip(1)), expected, strict=True):
        assert difference(actual, logits) < TOLERANCE
    assert not rewritten.training
    assert all(torch.equal(again, logits) for again, logits in zip(network(images), expected, strict=True))


def test_whole_3d_network() -> None:
    network = fill(build("rtmw3d-n-256x192")).double()
    images = noise(1, 3, 256, 192)
    actual, expected = deployable(network)(images.flip(1)), network(images)  # type: ignore[arg-type]
    assert len(actual) == 3
    assert max(difference(*pair) for pair in zip(actual, expected, strict=True)) < TOLERANCE


def test_uint8_front(network: Any) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 256, 192, 3), dtype=np.uint8)
    rgb = crops[..., ::-1].astype(np.float64)
    expected = network(torch.from_numpy(((rgb - MEAN_RGB) / STD_RGB).transpose(0, 3, 1, 2)))
    front = FromUint8(deployable(network))
    pixels = torch.from_numpy(crops.transpose(0, 3, 1, 2).astype(np.float64))
    for logits in (front(torch.from_numpy(crops)), FromPixels(deployable(network))(pixels)):
        assert max(difference(*pair) for pair in zip(logits, expected, strict=True)) < TOLERANCE


def test_every_convolution_has_its_original_name_and_hooks(network: Any) -> None:
    convolutions = deployable(network).convolutions()
    assert list(convolutions) == [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    kinds = {"silu": 0, "relu": 0, "relu6": 0, "none": 0}
    for module in convolutions.values():
        assert module.conv.bias is not None
        kinds[module.activation] += 1
    assert kinds == {"silu": 73, "relu": 3, "relu6": 4, "none": 0}
    plain = [module for module in deployable(network).modules() if isinstance(module, nn.BatchNorm2d | nn.Hardsigmoid)]
    assert not plain


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.mark.parametrize("activation", ["silu", "relu", "relu6", "none"])
def test_hooks_stand_before_silu_and_after_relu(activation: Any) -> None:
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2).double()
    module = ActConv("c", conv, activation)
    x = noise(1, 4, 8, 8)
    module.quant_in = module.quant_w = module.quant_out = Doubled()
    inner = nn.functional.conv2d(2 * x, 2 * conv.weight, conv.bias, stride=2, padding=1, groups=2)
    expected = {
        "silu": nn.functional.silu(2 * inner),
        "relu": 2 * inner.clamp(min=0),
        "relu6": 2 * inner.clamp(0, 6),
        "none": 2 * inner,
    }[activation]
    assert difference(module(x), expected) < TOLERANCE


def test_every_tensor_between_convolutions_has_a_place(network: Any) -> None:
    """Counted by hand for rtmw-n: 73 SiLUs, 3 residual blocks, 4 + 4 + 4 + 1 concatenations, 4 attentions."""
    places = deployable(network).between()
    roles = Counter(point.rpartition(":")[2] for point in places)
    assert roles == {"silu": 73, "sigmoid": 73, "sum": 3, "concat": 13, "mean": 4, "product": 4}
    assert set(roles) == set(BETWEEN)
    assert all(point.rpartition(":")[0] in dict(network.named_modules()) for point in places)
    assert "backbone.stage1.1.blocks.0.add:sum" in places and "neck.top_down_joins.1:concat" in places


def test_places_stand_after_their_operations() -> None:
    join = Place("join:concat", Join())
    join.quant = Doubled()
    assert torch.equal(
        join(noise(1, 2, 3, 3), noise(1, 1, 3, 3)), 2 * torch.cat((noise(1, 2, 3, 3), noise(1, 1, 3, 3)), 1)
    )
    silu = SiLU("conv")
    x = noise(2, 3)
    assert difference(silu(x), nn.functional.silu(x)) < TOLERANCE
    silu.sigmoid.quant = Doubled()
    assert difference(silu(x), 2 * nn.functional.silu(x)) < TOLERANCE
    silu.product.quant = Doubled()
    assert difference(silu(x), 4 * nn.functional.silu(x)) < TOLERANCE


def test_rewrites_cost_nothing(network: Any) -> None:
    size = network.variant.input_size
    assert multiply_accumulates(deployable(network), size)[""] == multiply_accumulates(network, size)[""]

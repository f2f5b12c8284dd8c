"""Fake quantization against a convolution computed in integers with numpy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import COMMON, W8, Entry, Table
from rtmw_edge.quantization.fake import (
    check_table,
    corrected,
    fake_quantize,
    put_quantizers,
    weight_arrays,
    weights_sha256,
    weights_table,
)
from rtmw_edge.quantization.learned import AbsmaxChannels
from rtmw_edge.targets.rewrites import ActConv, Place
from torch import Tensor, nn

from rtmw_edge.errors import BadInputError
from rtmw_edge.models.variants import Variant


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.variant = Variant("test", (64, 64), 1.0, 1.0, 0, 0.0, ("x", "y"))
        self.first = ActConv("first", nn.Conv2d(3, 8, 3, stride=2, padding=1), "relu")
        self.second = ActConv("second", nn.Conv2d(8, 8, 5, padding=2, groups=8), "none")

    def convolutions(self) -> dict[str, ActConv]:
        return {"first": self.first, "second": self.second}

    def between(self) -> dict[str, Place]:
        return {}

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def table_for(net: Net) -> Table:
    scales = {"first:input": 0.02, "first:output": 0.011, "second:input": 0.013, "second:output": 0.009}
    entries = {point: Entry(np.float32([scale])) for point, scale in scales.items()}
    for name, unit in net.convolutions().items():
        entries[f"{name}:weight"] = Entry(COMMON.weight_scale(*weight_arrays(unit), scales[f"{name}:input"]), axis=0)
    return Table("test", entries, weights_sha256=weights_sha256(net))


def integer_convolution(integers: np.ndarray, weight: np.ndarray, stride: int, padding: int, groups: int) -> np.ndarray:
    """(C,H,W) int8 with (O,I,k,k) int8 -> (O,H',W') int64, by plain loops over the kernel."""
    x = np.pad(integers.astype(np.int64), ((0, 0), (padding, padding), (padding, padding)))
    out, inner, kernel, _ = weight.shape
    size = [(x.shape[i] - kernel) // stride + 1 for i in (1, 2)]
    y = np.zeros((out, *size), np.int64)
    for o in range(out):
        first = (o * groups // out) * inner
        for i in range(inner):
            for a in range(kernel):
                for b in range(kernel):
                    taps = x[first + i, a : a + size[0] * stride : stride, b : b + size[1] * stride : stride]
                    y[o] += taps * int(weight[o, i, a, b])
    return y


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_fake_quantized_convolution_equals_integer_arithmetic(net: Net, name: str) -> None:
    table = table_for(net)
    unit = fake_quantize(net, table).convolutions()[name]
    channels = 3 if name == "first" else 8
    x = np.random.default_rng(5).normal(0, 0.8, (channels, 12, 9)).astype(np.float32)
    with torch.no_grad():
        found = unit(torch.from_numpy(x)[None])[0].numpy()
    scale_in, scale_w, scale_out = (table.entries[f"{name}:{kind}"].scale for kind in ("input", "weight", "output"))
    conv = net.convolutions()[name].conv
    weight, bias = weight_arrays(net.convolutions()[name])
    sums = integer_convolution(
        np.clip(np.rint(x / scale_in), -127, 127),
        COMMON.quantize_weight(weight, scale_w),
        conv.stride[0],
        conv.padding[0],
        conv.groups,
    )
    real = sums * (np.float64(scale_in[0]) * scale_w.astype(np.float64))[:, None, None] + bias[:, None, None]
    if name == "first":
        real = np.maximum(real, 0)
    expected = np.clip(np.rint(real / scale_out[0]), -127, 127)
    # A sum that lies between two integers of the output within float32 rounding may go to either.
    steps = found / scale_out[0]
    assert np.abs(steps - np.rint(steps)).max() < 1e-4
    assert np.abs(np.rint(steps) - expected).max() <= 1 and (np.rint(steps) == expected).mean() > 0.995


def test_float16_weights_fall_to_the_integers_that_torch_has() -> None:
    """Among so many, some are a half of their scale, and w / scale sends a few of those to the other integer."""
    weight = torch.randn(64, 16384, generator=torch.Generator().manual_seed(0)).half().float()
    scale = COMMON.weight_scale(weight.numpy(), np.zeros(64, np.float32), None)
    torchs = torch.fake_quantize_per_channel_affine(
        weight, torch.from_numpy(scale), torch.zeros(64, dtype=torch.int32), 0, -127, 127
    )
    integers = COMMON.quantize_weight(weight.numpy(), scale)
    assert np.array_equal(integers * scale[:, None], torchs.numpy())
    assert np.array_equal(np.rint(AbsmaxChannels()(weight).numpy() / scale[:, None]), integers), "as trained with"
    assert (integers != np.rint(weight.numpy() / scale[:, None])).any()


def test_only_what_a_format_carries_is_rounded(net: Net) -> None:
    x = torch.randn(1, 3, 12, 9, generator=torch.Generator().manual_seed(3))
    table = table_for(net)
    carried = fake_quantize(net, table, ("input", "weight"))
    without = {point: entry for point, entry in table.entries.items() if not point.endswith(":output")}
    expected = corrected(net, table)
    put_quantizers(expected, replace(table, entries=without))
    assert torch.equal(carried(x), expected(x)) and not torch.equal(carried(x), fake_quantize(net, table)(x))


def test_weights_have_one_hash_in_whatever_order_they_are_listed(net: Net) -> None:
    turned = dict(reversed(net.convolutions().items()))
    expected = weights_sha256(net)
    net.convolutions = lambda: turned  # type: ignore[method-assign]
    assert weights_sha256(net) == expected


def test_the_float_network_is_left_alone(net: Net) -> None:
    x = torch.randn(1, 3, 12, 9)
    before = net(x)
    quantized = fake_quantize(net, table_for(net))
    assert torch.equal(net(x), before) and not torch.equal(quantized(x), before)


def test_a_table_for_another_network_is_refused(net: Net) -> None:
    table = table_for(net)
    without = {point: entry for point, entry in table.entries.items() if point != "second:input"}
    with pytest.raises(BadInputError, match=r"is for another network: it lacks 'second:input'; calibrate again"):
        check_table(net, Table("test", without))
    more = {**table.entries, "third:input": table.entries["first:input"]}
    with pytest.raises(BadInputError, match="it has, and the network has not, 'third:input'"):
        check_table(net, Table("test", more))
    with pytest.raises(BadInputError, match="is for rtmw-m-256x192, not for test; calibrate again"):
        check_table(net, replace(table, variant="rtmw-m-256x192"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"entries": {"first:weight": Entry(np.ones(4), axis=0)}},
            "does not fit 'first:weight': 4 numbers for 8 output channels; calibrate again.",
        ),
        (
            {"entries": {"first:weight": Entry(np.ones(8), axis=0, zero_point=3)}},
            "has for 'first:weight' bits 8, axis 0, zero point 3 and range [-127, 127], which is not of",
        ),
        (
            {"entries": {"first:weight": Entry(np.ones(8), axis=0, low=-128)}},
            "has for 'first:weight' bits 8, axis 0, zero point 0 and range [-128, 127], which is not of the grid",
        ),
        (
            {"entries": {"first:weight": Entry(np.ones(8), axis=0, bits=16)}},
            "has for 'first:weight' bits 16, axis 0, zero point 0 and range [-127, 127], which is not of the grid",
        ),
        (
            {"entries": {"first:input": Entry(np.ones(1), axis=0)}},
            "has for 'first:input' bits 8, axis 0, zero point 0 and range [-127, 127], which is not of the grid common",
        ),
        (
            {"entries": {"second:output": Entry(np.ones(1), -128, low=-128)}},
            "bits 8, axis None, zero point -128 and range [-128, 127], which is not of the grid common; calibrate",
        ),
        (
            {"entries": {"second:output": Entry(np.ones(1), bits=16, low=-32767, high=32767)}},
            "bits 16, axis None, zero point 0 and range [-32767, 32767], which is not of the grid common; calibrate",
        ),
        ({"floats": ("frist",)}, "names a convolution 'frist', which the network has not; calibrate again."),
        (
            {"bias_corrections": {"secnd": np.ones(8, np.float32)}},
            "names a convolution 'secnd', which the network has not; calibrate again.",
        ),
        (
            {"bias_corrections": {"second": np.ones(3, np.float32)}},
            "does not fit 'second: its bias correction': 3 numbers for 8 output channels; calibrate again.",
        ),
    ],
)
def test_a_table_with_numbers_of_another_grid_or_network_is_refused(
    net: Net, change: dict[str, Any], text: str
) -> None:
    table = table_for(net)
    change = {**change, "entries": {**table.entries, **change.get("entries", {})}}
    with pytest.raises(BadInputError) as caught:
        fake_quantize(net, replace(table, **change))
    assert text in str(caught.value)


def test_weights_have_no_zero_point_where_activations_have_one(net: Net) -> None:
    table = table_for(net)
    entries = {
        point: entry if point.endswith("weight") else replace(entry, low=-128, zero_point=5)
        for point, entry in table.entries.items()
    }
    affine = replace(table, grid="affine", entries=entries)
    check_table(net, affine)
    shifted = {**entries, "first:weight": replace(entries["first:weight"], zero_point=3)}
    with pytest.raises(BadInputError, match=r"'first:weight' bits 8, axis 0, zero point 3 .* not of the grid affine;"):
        check_table(net, replace(affine, entries=shifted))


def test_a_table_for_other_weights_is_refused(net: Net) -> None:
    table = table_for(net)
    before = weights_sha256(net)
    with torch.no_grad():
        net.second.conv.weight[0, 0, 0, 0] += 1e-6
    after = weights_sha256(net)
    text = rf"made for other weights \(sha256 {before[:12]}, these have {after[:12]}\); calibrate again"
    with pytest.raises(BadInputError, match=text):
        fake_quantize(net, table)


def test_the_hash_of_weights_does_not_see_the_sign_of_zero(net: Net) -> None:
    with torch.no_grad():
        net.first.conv.bias[0] = 0.0
    before = weights_sha256(net)
    with torch.no_grad():
        net.first.conv.bias[0] = -0.0
    assert weights_sha256(net) == before


def test_convolutions_left_in_float_compute_as_the_float_network(net: Net) -> None:
    table = table_for(net).leaving_in_float(["second"])
    assert table.floats == ("second",) and not [point for point in table.entries if point.startswith("second")]
    quantized = fake_quantize(net, table)
    x = torch.randn(1, 8, 6, 5)
    assert torch.equal(quantized.second(x), net.second(x)) and not torch.equal(quantized.first.quant_in(x), x)
    with pytest.raises(BadInputError, match=r"quantized convolution 'secnd'.*second"):
        table_for(net).leaving_in_float(["secnd"])


def test_bias_corrections_are_added_once_where_the_table_is_used(net: Net) -> None:
    table = replace(table_for(net), bias_corrections={"first": np.full(8, 0.25, np.float32)})
    for changed in (corrected(net, table), fake_quantize(net, table)):
        moved = changed.first.conv.bias - net.first.conv.bias
        assert torch.allclose(moved, torch.tensor(0.25), atol=1e-6)


def test_weights_alone_need_no_images(net: Net) -> None:
    table = weights_table(net, W8)
    quantized = fake_quantize(net, table)
    weight = net.first.conv.weight.detach()
    found = quantized.first.quant_w(weight)
    assert (found - weight).abs().max() <= weight.abs().max() / 127 / 2 * 1.001 and not torch.equal(found, weight)
    assert isinstance(quantized.first.quant_in, nn.Identity)

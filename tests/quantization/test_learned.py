"""Quantizers that train: against torch's operators, and against the table that they began with."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import AFFINE, COMMON, Entry, Table
from rtmw_edge.quantization.fake import check_table, fake_quantize, weight_arrays
from rtmw_edge.quantization.grids import Grid
from rtmw_edge.quantization.learned import (
    AbsmaxChannels,
    LearnedTensor,
    Tied,
    learnable,
    learned_parameters,
    learned_table,
    round_biases,
)
from small_deployable import HEIGHT, WIDTH, SmallDeployable, absmax_table, small_deployable, smooth_crops
from torch import Tensor

CROPS = smooth_crops(4)
IMAGES = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def quantized(grid: Grid = COMMON) -> tuple[SmallDeployable, SmallDeployable]:
    """The float network, and one that learns its quantization."""
    network = small_deployable()
    learning = copy.deepcopy(network)
    learnable(learning, absmax_table(network, CROPS, grid))
    return network, learning


# torch's own gradient truncates a negative zero point towards zero, so the peer is asked on unsigned integers.
@pytest.mark.parametrize(("zero_point", "low", "high"), [(0, -127, 127), (91, 0, 255)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_value_and_gradients_are_those_of_torch(zero_point: int, low: int, high: int, channels_last: bool) -> None:
    x = torch.randn(3, 5, 7, 9, generator=torch.Generator().manual_seed(1))
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    outer = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    quantizer = LearnedTensor(Entry(np.float32([0.013]), zero_point, 16, low=low, high=high), symmetric=False)
    factor = 1 / np.sqrt(x.numel() * high)
    mine = x.clone().requires_grad_()
    y = quantizer(mine)
    assert torch.equal(y, torch.fake_quantize_per_tensor_affine(x, float(quantizer.start), zero_point, low, high))
    (y * outer).sum().backward()
    theirs = x.clone().requires_grad_()
    scale, zero = quantizer.start.clone().requires_grad_(), torch.tensor([float(zero_point)], requires_grad=True)
    peer = torch._fake_quantize_learnable_per_tensor_affine(theirs, scale, zero, low, high, factor)
    (peer * outer).sum().backward()
    assert torch.equal(mine.grad, theirs.grad)
    assert 0 < float((mine.grad == 0).float().mean()) < 0.9  # some are outside
    # Of the logarithm, and of 1/128 of the zero point.
    torch.testing.assert_close(quantizer.log_scale.grad, scale.grad * quantizer.start, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(quantizer.zero.grad, zero.grad * 128, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("zero_point", [0, 5])
def test_a_value_is_inside_as_far_as_it_is_rounded_to_the_last_integer(zero_point: int) -> None:
    """Up to half a step beyond the largest integer's own value nothing is clipped, and the gradient passes."""
    steps = torch.tensor([126.6, 127.4, 127.6, -126.6, -127.4, -127.6]) - zero_point
    x = (0.5 * steps).requires_grad_()
    quantizer = LearnedTensor(Entry(np.float32([0.5]), zero_point, low=-127, high=127), symmetric=False)
    quantizer(x).sum().backward()
    assert x.grad.tolist() == [1, 1, 0, 1, 1, 0]


def test_the_scale_s_gradient_leads_to_less_error() -> None:
    """From a range that is four times too wide or too narrow, the squared error falls to that of the best scale."""
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0))

    def error(scale: float) -> float:
        return float((torch.fake_quantize_per_tensor_affine(x, scale, 0, -7, 7) - x).square().mean())

    best = min(error(scale) for scale in np.geomspace(0.02, 2, 200))
    for begin in (0.1, 1.6):
        quantizer = LearnedTensor(Entry(np.float32([begin]), low=-7, high=7), symmetric=True)
        optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
        for _ in range(120):
            optimizer.zero_grad()
            (quantizer(x) - x).square().mean().backward()
            optimizer.step()
        assert error(begin) > 2 * best and error(float(quantizer.scale.detach())) < 1.02 * best


def test_a_zero_point_moves_in_whole_steps_and_stays_an_integer_of_the_grid() -> None:
    quantizer = LearnedTensor(Entry(np.float32([0.02]), -126, low=-128, high=127), symmetric=False)
    with torch.no_grad():
        quantizer.zero.add_(0.7 / 128)
        assert quantizer.entry(8, "here").zero_point == -125
        quantizer.zero.sub_(9 / 128)
    entry = quantizer.entry(8, "qat step 3")
    assert (entry.zero_point, entry.low, entry.high, entry.source) == (-128, -128, 127, "qat step 3")
    assert entry.scale.tobytes() == np.float32([0.02]).tobytes()


def test_weights_are_rounded_at_absmax_of_every_channel_as_the_grid_says() -> None:
    weight = torch.randn(12, 4, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.no_grad():
        weight[5] = 0
    rounded = AbsmaxChannels()(weight)
    array = weight.detach().numpy()
    scale = COMMON.weight_scale(array, np.zeros(12, np.float32), None)
    expected = COMMON.quantize_weight(array, scale) * scale.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(rounded.detach().numpy(), expected, rtol=0, atol=1e-7)
    rounded.backward(torch.full_like(rounded, 2.5))
    assert torch.equal(weight.grad, torch.full_like(weight, 2.5))


@pytest.mark.parametrize("grid", [COMMON, AFFINE], ids=str)
def test_the_first_step_computes_what_the_table_says(grid: Grid) -> None:
    network, learning = quantized(grid)
    expected = fake_quantize(network, absmax_table(network, CROPS, grid))(IMAGES)
    for ours, theirs in zip(learning(IMAGES), expected, strict=True):
        # Weights differ in the last bit, and a value between two integers may go to either.
        assert ((ours - theirs).norm() / theirs.norm()).item() < 0.01


def test_every_scale_learns_and_relu6_s_does_not() -> None:
    _, learning = quantized()
    sum(axis.square().mean() for axis in learning(IMAGES)).backward()
    # 8 inputs and 7 outputs, of which none reads another's tensor.
    assert len(list(learned_parameters(learning))) == 15
    assert not list(learning.attention.quant_out.parameters())
    check_gradients(learning)


def test_zero_points_learn_too_where_the_grid_has_them() -> None:
    _, learning = quantized(AFFINE)
    assert len(list(learned_parameters(learning))) == 2 * 15


def test_a_scale_never_falls_below_the_least_that_a_table_takes() -> None:
    quantizer = LearnedTensor(Entry(np.float32([2.0**-39])), symmetric=True)
    with torch.no_grad():
        quantizer.log_scale.fill_(-3.0)
    assert quantizer.entry(8, "here").scale.tolist() == [2.0**-40]


def check_gradients(learning: SmallDeployable) -> None:
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning.parameters())
    # `down` reads what ReLU's quantizer has put on the very same grid: it rounds nothing, and clips nothing.
    still = {name for name, p in learning.named_parameters() if "log_scale" in name and not float(p.grad.abs())}
    assert still <= {"down.quant_in.log_scale"}


class Twice(SmallDeployable):
    """Two convolutions that read one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = copy.deepcopy(self.middle)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(images)
        return self.middle(x), self.pair(x)

    def convolutions(self) -> dict:
        return {"stem": self.stem, "middle": self.middle, "pair": self.pair}


def twice_table(grid: Grid = COMMON, **others: Entry) -> Table:
    points = [f"{name}:{kind}" for name in ("stem", "middle", "pair") for kind in ("input", "output")]
    same = Entry(np.float32([0.02]), low=grid.low, high=grid.high)
    return Table("small", {**dict.fromkeys(points, same), **others}, grid.name)


def test_convolutions_that_read_one_tensor_keep_one_scale() -> None:
    network, table = Twice(), twice_table()
    learnable(network, table)
    assert isinstance(network.pair.quant_in, Tied) and network.pair.quant_in.quantizer is network.middle.quant_in
    assert len(list(learned_parameters(network))) == 2 + 3 and "pair.quant_in.log_scale" not in network.state_dict()
    again = copy.deepcopy(network)
    assert again.pair.quant_in.quantizer is again.middle.quant_in
    with torch.no_grad():
        network.middle.quant_in.log_scale.fill_(0.5)
    entries = learned_table(network, network, table, "here", {}).entries
    assert entries["pair:input"].scale.tobytes() == entries["middle:input"].scale.tobytes()
    assert float(entries["pair:input"].scale[0]) == pytest.approx(0.02 * np.exp(0.5))


@pytest.mark.parametrize(
    "other", [Entry(np.float32([0.03]), low=-128), Entry(np.float32([0.02]), 7, low=-128)], ids=str
)
def test_convolutions_that_began_with_other_scales_or_zero_points_keep_their_own(other: Entry) -> None:
    network = Twice()
    learnable(network, twice_table(AFFINE, **{"pair:input": other}))
    assert isinstance(network.pair.quant_in, LearnedTensor)
    assert network.pair.quant_in.entry(8, "").zero_point == other.zero_point
    assert network.pair.quant_in.scale.tolist() == other.scale.tolist()


@pytest.mark.parametrize("grid", [COMMON, AFFINE], ids=str)
def test_the_table_has_what_was_learned_and_fits_the_network(grid: Grid) -> None:
    network, learning = quantized(grid)
    start = absmax_table(network, CROPS, grid)
    same = learned_table(network, learning, start, "qat step 0", {"method": "qat"})
    for point, entry in start.entries.items():
        assert same.entries[point].scale.tobytes() == entry.scale.tobytes(), point
        assert same.entries[point].zero_point == entry.zero_point
    with torch.no_grad():
        for parameter in learning.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
        network.load_state_dict({name: value for name, value in learning.state_dict().items() if "quant" not in name})
    table = learned_table(network, learning, start, "qat step 1", {})
    check_table(network, table)
    equal = {point for point, entry in start.entries.items() if np.array_equal(entry.scale, table.entries[point].scale)}
    assert equal == {"attention:output"}
    logits, expected = learning(IMAGES), fake_quantize(network, table)(IMAGES)
    for ours, theirs in zip(logits, expected, strict=True):
        assert ((ours - theirs).norm() / theirs.norm()).item() < 0.01


def test_what_stays_in_float_has_no_quantizer_and_is_named_again() -> None:
    network = small_deployable()
    start = absmax_table(network, CROPS).leaving_in_float(["down"])
    learning = copy.deepcopy(network)
    learnable(learning, start)
    bias = network.down.conv.bias.detach().clone()
    assert not list(learned_parameters(learning.down))
    table = learned_table(network, learning, start, "here", {})
    assert table.floats == ("down",) and table.entries.keys() == start.entries.keys()
    round_biases(network, table)
    assert torch.equal(network.down.conv.bias, bias)


def test_a_dead_channel_with_a_bias_keeps_it_in_int32() -> None:
    network = small_deployable()
    with torch.no_grad():
        network.middle.conv.weight[0] = 1e-12
        network.middle.conv.bias[0] = 3.0
    start = absmax_table(network, CROPS)
    learning = copy.deepcopy(network)
    learnable(learning, start)
    entries = learned_table(network, learning, start, "here", {}).entries
    assert 3.0 / (float(entries["middle:input"].scale[0]) * float(entries["middle:weight"].scale[0])) < 2**31


@pytest.mark.parametrize("grid", [COMMON, AFFINE], ids=str)
def test_biases_lie_on_the_integers_that_files_store(grid: Grid) -> None:
    network = small_deployable()
    table = absmax_table(network, CROPS, grid)
    before = {name: weight_arrays(unit)[1].copy() for name, unit in network.convolutions().items()}
    round_biases(network, table)
    for name, unit in network.convolutions().items():
        steps = table.entries[f"{name}:input"].scale * table.entries[f"{name}:weight"].scale
        after = weight_arrays(unit)[1].astype(np.float64)
        integers = np.rint(after / steps)
        assert np.array_equal((integers * steps.astype(np.float64)).astype(np.float32), after.astype(np.float32))
        assert np.all(np.abs(after - before[name]) <= 0.5001 * steps) and not np.array_equal(after, before[name])
    assert not torch.equal(network.stem.conv.bias, small_deployable().stem.conv.bias)
    again = {name: weight_arrays(unit)[1].copy() for name, unit in network.convolutions().items()}
    round_biases(network, table)
    for name, unit in network.convolutions().items():
        assert np.array_equal(weight_arrays(unit)[1], again[name])


def test_under_autocast_quantizers_compute_in_float32() -> None:
    _, learning = quantized()
    kept: list[Tensor] = []
    learning.middle.quant_in.register_forward_hook(lambda _, inputs, output: kept.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        logits = learning(IMAGES)
        assert logits[0].dtype == torch.bfloat16
    (after,) = kept
    assert after.dtype == torch.float32
    steps = after / learning.middle.quant_in.scale
    assert (steps - steps.round()).abs().max().item() < 1e-4
    sum(axis.float().square().mean() for axis in logits).backward()
    assert all(p.grad.dtype == torch.float32 for p in learning.parameters())
    check_gradients(learning)

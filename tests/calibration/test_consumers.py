"""Errors at consumers and bias corrections, each against the arithmetic written out by hand in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rtmw_edge.calibration.bias import bias_corrections
from rtmw_edge.calibration.collect import Settings, table_of
from rtmw_edge.calibration.consumers import errors_at_consumers
from rtmw_edge.calibration.observing import normalized, observe
from rtmw_edge.calibration.ranges import SINGLE, Method, range_of
from rtmw_edge.quantization import AFFINE, COMMON, FULL, Grid
from rtmw_edge.quantization.fake import fake_quantize, weight_arrays
from small_deployable import SmallDeployable, smooth_crops
from torch import Tensor, nn

CROPS = smooth_crops(6, seed=4)


def passing(network: nn.Module, module: nn.Module) -> np.ndarray:
    """What enters a module on the way of CROPS, in float64."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(normalized(CROPS, network.variant))
    handle.remove()
    return seen[0].double().numpy()


def rounded(values: np.ndarray, scale: float, zero_point: int, low: int, high: int) -> np.ndarray:
    return (np.clip(np.rint(values / scale) + zero_point, low, high) - zero_point) * scale


@pytest.mark.parametrize("grid", [COMMON, AFFINE], ids=lambda grid: grid.name)
def test_an_inputs_error_is_that_of_the_convolution(network: SmallDeployable, grid: Grid) -> None:
    ranges = [(-3.0, 3.0), (-0.5, 1.0)]
    found = errors_at_consumers(network, CROPS, {"middle:input": ranges}, grid)["middle:input"]
    conv = network.middle.conv
    values, (weight, bias) = passing(network, conv), weight_arrays(network.middle)
    kernel, offset = conv.weight.detach().double(), conv.bias.detach().double()
    exact = F.conv2d(torch.from_numpy(values), kernel, offset, padding=1)
    for error, ends in zip(found, ranges, strict=True):
        (scale,), zero_point = grid.activation(*ends)
        steps = grid.weight_scale(weight, bias, float(scale))[:, None, None, None].astype(np.float64)
        quantized = np.clip(np.rint(weight / steps), -127, 127) * steps
        inputs = torch.from_numpy(rounded(values, float(scale), zero_point, grid.low, grid.high))
        result = F.conv2d(inputs, torch.from_numpy(quantized), offset, padding=1)
        assert error == pytest.approx(float((result - exact).square().sum() / exact.square().sum()), rel=1e-3)


def test_an_outputs_error_is_taken_after_the_activation(network: SmallDeployable) -> None:
    points = {"middle:output": "silu", "pointwise:output": "relu"}
    found = errors_at_consumers(network, CROPS, {point: [(-2.0, 2.0)] for point in points}, COMMON)
    for point, activation in points.items():
        values = passing(network, network.convolutions()[point.partition(":")[0]].quant_out)
        result = rounded(values, 2 / 127, 0, -127, 127)
        if activation == "silu":
            values, result = values / (1 + np.exp(-values)), result / (1 + np.exp(-result))
        assert found[point][0] == pytest.approx(((result - values) ** 2).sum() / (values**2).sum(), rel=1e-3)


@pytest.mark.parametrize("grid", [COMMON, FULL], ids=lambda grid: grid.name)
def test_best_takes_the_range_of_least_error(network: SmallDeployable, grid: Grid) -> None:
    observed = observe(network, [CROPS], grid)
    best = table_of(network, observed, Settings(Method.BEST, grid))
    point, reader = ("stem:silu", "middle:input") if grid.between else ("middle:input", "middle:input")
    ranges = [range_of(observed.histograms[point], method, grid) for method in SINGLE]
    errors = errors_at_consumers(network, CROPS, {reader: ranges}, grid)[reader]
    scale, zero_point = grid.activation(*ranges[int(np.argmin(errors))])
    assert (best.entries[point].scale, best.entries[point].zero_point) == (scale, zero_point)


def test_a_tensor_between_convolutions_is_judged_by_the_convolutions_that_read_it(network: SmallDeployable) -> None:
    observed = observe(network, [CROPS], FULL)
    assert observed.histograms["stem:silu"] is observed.histograms["middle:input"]
    assert observed.histograms["add:sum"] is observed.histograms["pointwise:input"]
    assert observed.histograms["join:concat"] is not observed.histograms["head:input"], "a maximum lies between"


def test_after_bias_correction_the_means_are_those_of_the_float_network(network: SmallDeployable) -> None:
    observed = observe(network, [CROPS], COMMON)
    plain = table_of(network, observed, Settings(Method.PERCENTILE, percentile=97.0))
    table = table_of(network, observed, Settings(Method.PERCENTILE, percentile=97.0, bias_correction=True))
    assert plain.entries["stem:input"].scale == table.entries["stem:input"].scale
    assert table.bias_corrections.keys() == network.convolutions().keys()
    exact, before, after = network, fake_quantize(network, plain), fake_quantize(network, table)
    for name, convolution in network.convolutions().items():
        if convolution.activation in ("relu", "relu6"):
            continue  # what enters quant_out there is cut at zero already
        means = [passing(each, each.convolutions()[name].quant_out).mean((0, 2, 3)) for each in (exact, before, after)]
        shift, left = np.abs(means[1] - means[0]).max(), np.abs(means[2] - means[0]).max()
        assert left < 1e-5 < shift, name


def test_float_convolutions_get_no_correction(network: SmallDeployable) -> None:
    observed = observe(network, [CROPS], COMMON)
    table = table_of(network, observed, Settings()).leaving_in_float(["middle"])
    assert "middle" not in bias_corrections(network, table, CROPS)

"""Hand-made one-layer networks: ncnn itself must compute what the numpy integer reference computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ncnn_arithmetic
import numpy as np
import pytest
from rtmw_edge.targets import ncnn_int8
from rtmw_edge.targets.ncnn_model import TAG_INT8, Layer, NcnnModel, Tensor

from rtmw_edge.errors import BadInputError

ncnn = pytest.importorskip("ncnn")


def one_convolution(
    weight: np.ndarray, bias: np.ndarray, stride: int = 1, padding: int = 0, groups: int = 1, activation: str = "0"
) -> NcnnModel:
    """input -> convolution -> output, in float."""
    out, _, height, width = weight.shape
    params = {0: out, 1: width, 11: height, 3: stride, 4: padding, 5: 1, 6: weight.size, 9: activation}
    kind = "Convolution" if groups == 1 else "ConvolutionDepthWise"
    if groups != 1:
        params[7] = groups
    if activation == "3":
        params[-23310] = "2,0.0,6.0"
    texts = {key: str(value) for key, value in params.items()}
    tensors = (Tensor(weight.astype(np.float32).reshape(-1), True), Tensor(bias.astype(np.float32), False))
    return NcnnModel((Layer("Input", "in0", (), ("in0",), {}), Layer(kind, "c", ("in0",), ("out0",), texts, tensors)))


def run(model: NcnnModel, folder: Path, x: np.ndarray, threads: int = 1, output: str = "out0") -> np.ndarray:
    model.save(folder / "m.param", folder / "m.bin")
    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    assert net.load_param(str(folder / "m.param")) == 0
    assert net.load_model(str(folder / "m.bin")) == 0
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(np.ascontiguousarray(x)))
    return np.array(extractor.extract(output)[1])


def random_layer(out: int, inp: int, kernel: int, groups: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.3, (out, inp // groups, kernel, kernel)).astype(np.float32)
    return weight, rng.normal(0, 0.5, out).astype(np.float32)


def absmax_scales(weight: np.ndarray) -> np.ndarray:
    return (np.abs(weight).reshape(len(weight), -1).max(1) / np.float32(127)).astype(np.float32)


def without_channel_factors(result: np.ndarray, expected: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Undo the constant factor a channel that ncnn's approximate reciprocal leaves in depthwise sums on x86."""
    sums, wanted = result - bias[:, None, None], expected - bias[:, None, None]
    factor = (sums * wanted).sum((1, 2)) / np.square(wanted).sum((1, 2))
    np.testing.assert_allclose(factor, 1, atol=4e-4)
    return sums / factor[:, None, None] + bias[:, None, None]


SHAPES = [
    # out, in, kernel, stride, padding, groups, size: stem, 1x1, 3x3 (Winograd), 7x7 head, 5x5 depthwise, odd counts
    (12, 3, 3, 2, 1, 1, (16, 12)),
    (32, 16, 1, 1, 0, 1, (16, 12)),
    (16, 16, 3, 1, 1, 1, (16, 12)),
    (64, 64, 3, 1, 1, 1, (16, 12)),
    (133, 32, 7, 1, 3, 1, (8, 6)),
    (24, 24, 5, 1, 2, 24, (16, 12)),
    (64, 64, 5, 1, 2, 64, (8, 6)),
    (7, 5, 3, 1, 1, 1, (9, 7)),
    (64, 64, 1, 1, 0, 1, (1, 1)),
]


@pytest.mark.parametrize(("out", "inp", "kernel", "stride", "padding", "groups", "size"), SHAPES)
def test_ncnn_computes_the_integer_reference(
    tmp_path: Path, out: int, inp: int, kernel: int, stride: int, padding: int, groups: int, size: tuple[int, int]
) -> None:
    weight, bias = random_layer(out, inp, kernel, groups, seed=out + kernel)
    x = np.random.default_rng(1).normal(0, 1, (inp, *size)).astype(np.float32)
    scale_in, scale_weight = np.float32(2.5 / 127), absmax_scales(weight)
    model = one_convolution(weight, bias, stride, padding, groups)
    model = ncnn_int8.quantized(model, {"c:input": np.array([scale_in]), "c:weight": scale_weight})

    expected = ncnn_arithmetic.convolution(
        x, weight, bias, scale_in, scale_weight, stride=stride, padding=padding, groups=groups
    )
    for threads in (1, 2):
        result = run(model, tmp_path, x, threads)
        if groups > 1:
            result = without_channel_factors(result, expected, bias)
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("activation", "function"), [("1", lambda v: v.clip(0)), ("3", lambda v: v.clip(0, 6))])
def test_fused_activations_follow_the_integer_sum(
    tmp_path: Path, activation: str, function: Callable[[np.ndarray], np.ndarray]
) -> None:
    weight, bias = random_layer(8, 8, 1, 1, seed=3)
    x = np.random.default_rng(2).normal(0, 4, (8, 5, 4)).astype(np.float32)
    scale_in, scale_weight = np.float32(0.1), absmax_scales(weight)
    model = one_convolution(weight, bias, activation=activation)
    model = ncnn_int8.quantized(model, {"c:input": np.array([scale_in]), "c:weight": scale_weight})
    expected = function(ncnn_arithmetic.convolution(x, weight, bias, scale_in, scale_weight))
    assert expected.max() > 3
    np.testing.assert_allclose(run(model, tmp_path, x), expected, rtol=1e-5, atol=2e-6)


def test_halves_round_away_from_zero_and_clamp_at_127(tmp_path: Path) -> None:
    x = np.array([0.5, -0.5, 1.5, 2.5, -2.5, 126.5, 127.4, 500, -500, 0.49], np.float32)
    expected = [1, -1, 2, 3, -3, 127, 127, 127, -127, 0]
    assert ncnn_arithmetic.quantize(x, np.float32(1)).tolist() == expected

    model = one_convolution(np.full((1, 1, 1, 1), 127, np.float32), np.zeros(1))
    model = ncnn_int8.quantized(model, {"c:input": np.ones(1, np.float32), "c:weight": np.ones(1, np.float32)})
    np.testing.assert_array_equal(run(model, tmp_path, x.reshape(1, 1, -1)).ravel() / 127, expected)


def test_multipliers_come_back_out_of_the_files_bit_for_bit(tmp_path: Path) -> None:
    weight, bias = random_layer(40, 8, 3, 1, seed=5)
    scales = {"c:input": np.array([0.0371], np.float32), "c:weight": absmax_scales(weight)}
    ncnn_int8.quantized(one_convolution(weight, bias), scales).save(tmp_path / "m.param", tmp_path / "m.bin")
    found = ncnn_int8.multipliers_of(NcnnModel.load(tmp_path / "m.param", tmp_path / "m.bin"))
    assert found.keys() == scales.keys()
    for point, scale in scales.items():
        np.testing.assert_array_equal(found[point], np.float32(1) / scale)


def test_a_convolution_without_scales_stays_float(tmp_path: Path) -> None:
    weight, bias = random_layer(4, 4, 1, 1, seed=6)
    model = one_convolution(weight, bias)
    assert ncnn_int8.quantized(model, {}) == model
    assert ncnn_int8.multipliers_of(model) == {}


def test_groups_of_several_channels_are_refused_by_name() -> None:
    weight, bias = random_layer(8, 8, 1, 2, seed=7)
    scales = {"c:input": np.ones(1, np.float32), "c:weight": absmax_scales(weight)}
    with pytest.raises(BadInputError, match=r"Convolution 'c' has 2 groups of several channels, .*; take it out of"):
        ncnn_int8.quantized(one_convolution(weight, bias, groups=2), scales)


@pytest.mark.parametrize("bad", [[0.0, 1, 1, 1], [1.0], [np.nan, 1, 1, 1], [-1.0, 1, 1, 1]])
def test_an_unusable_scale_is_refused_by_name(bad: list[float]) -> None:
    weight, bias = random_layer(4, 4, 1, 1, seed=7)
    scales = {"c:input": np.ones(1, np.float32), "c:weight": np.array(bad, np.float32)}
    with pytest.raises(BadInputError, match=r"scale for 'c:weight' must be 4 positive number\(s\), but it has"):
        ncnn_int8.quantized(one_convolution(weight, bias), scales)


def test_a_missing_input_scale_is_refused_by_name() -> None:
    weight, bias = random_layer(4, 4, 1, 1, seed=8)
    with pytest.raises(BadInputError, match="no scale for 'c:input'; make the table again"):
        ncnn_int8.quantized(one_convolution(weight, bias), {"c:weight": absmax_scales(weight)})


def test_the_bytes_are_laid_out_as_ncnn_reads_them(tmp_path: Path) -> None:
    """Tag, 6 int8 weights padded to 8 bytes, 2 biases, 2 weight multipliers, the input multiplier."""
    weight = np.array([1, -2, 3, 127, 5, -127], np.float32).reshape(2, 3, 1, 1)
    model = one_convolution(weight, np.array([0.5, -0.5]))
    scales = {"c:input": np.array([0.25], np.float32), "c:weight": np.array([1, 0.5], np.float32)}
    ncnn_int8.quantized(model, scales).save(tmp_path / "m.param", tmp_path / "m.bin")
    data = (tmp_path / "m.bin").read_bytes()
    assert int.from_bytes(data[:4], "little") == TAG_INT8
    assert np.frombuffer(data[4:12], np.int8).tolist() == [1, -2, 3, 127, 10, -127, 0, 0]
    assert np.frombuffer(data[12:], "<f4").tolist() == [0.5, -0.5, 1, 2, 4]
    assert " 8=2" in (tmp_path / "m.param").read_text()

"""The .param/.bin reader and writer: round trips, storage tags, and damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rtmw_edge.targets.ncnn_model import Layer, NcnnModel, Tensor, _scale_sizes

from rtmw_edge.errors import BadInputError


def values(count: int, dtype: type = np.float32) -> np.ndarray:
    return np.arange(1, count + 1).astype(dtype)


def example() -> NcnnModel:
    """Every kind of layer with weights that the reader knows, with odd sizes so that padding matters."""
    return NcnnModel(
        (
            Layer("Input", "in0", (), ("in0",), {}),
            Layer("Scale", "norm", ("in0",), ("1",), {0: "3", 1: "1"}, (Tensor(values(3), False),) * 2),
            Layer(
                "Convolution",
                "a",
                ("1",),
                ("2",),
                {0: "5", 1: "1", 5: "1", 6: "15", 8: "2"},
                (
                    Tensor(values(15, np.int8), True),
                    Tensor(values(5), False),
                    Tensor(values(5), False),
                    Tensor(values(1), False),
                ),
            ),
            Layer(
                "ConvolutionDepthWise",
                "b",
                ("2",),
                ("3",),
                {0: "5", 1: "1", 5: "0", 6: "5", 7: "5"},
                (Tensor(values(5, np.float16), True),),
            ),
            Layer(
                "InnerProduct",
                "fc",
                ("3",),
                ("4",),
                {0: "2", 1: "1", 2: "10"},
                (Tensor(values(10), True), Tensor(values(2), False)),
            ),
            Layer(
                "Gemm",
                "gemm",
                ("4",),
                ("5",),
                {3: "1", 5: "1", 6: "1", 8: "3", 9: "7", 10: "4"},
                (Tensor(values(21, np.float16), True), Tensor(values(3), True)),
            ),
            Layer("MemoryData", "constant", (), ("6",), {0: "3", 1: "2"}, (Tensor(values(6), False),)),
            Layer("BinaryOp", "add", ("5", "6"), ("out0",), {0: "0", -23301: "2,1.0,2.0"}),
        )
    )


def save(model: NcnnModel, folder: Path) -> tuple[Path, Path]:
    paths = folder / "m.param", folder / "m.bin"
    model.save(*paths)
    return paths


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = example()
    read = NcnnModel.load(*save(written, tmp_path))
    assert len(read.layers) == len(written.layers)
    for ours, theirs in zip(written.layers, read.layers, strict=True):
        assert (ours.type, ours.name, ours.bottoms, ours.tops, ours.params) == (
            theirs.type,
            theirs.name,
            theirs.bottoms,
            theirs.tops,
            theirs.params,
        )
        for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
            assert mine.data.dtype == other.data.dtype
            np.testing.assert_array_equal(mine.data, other.data)


def test_the_header_counts_layers_and_blobs(tmp_path: Path) -> None:
    param, _ = save(example(), tmp_path)
    assert param.read_text().split("\n")[:2] == ["7767517", "8 8"]


def test_a_cut_bin_names_the_layer(tmp_path: Path) -> None:
    param, binary = save(example(), tmp_path)
    binary.write_bytes(binary.read_bytes()[:40])
    with pytest.raises(BadInputError, match="ends at byte 40, inside layer 'a'"):
        NcnnModel.load(param, binary)


def test_bytes_that_no_layer_owns_are_refused(tmp_path: Path) -> None:
    param, binary = save(example(), tmp_path)
    binary.write_bytes(binary.read_bytes() + b"\0\0\0\0")
    with pytest.raises(BadInputError, match="the two files do not belong together"):
        NcnnModel.load(param, binary)


def test_an_unknown_tag_is_named(tmp_path: Path) -> None:
    param, binary = save(example(), tmp_path)
    data = bytearray(binary.read_bytes())
    data[24:28] = b"\x83\x8b\x34\x01"
    binary.write_bytes(bytes(data))
    with pytest.raises(BadInputError, match="layer 'a' under the unknown tag 0x01348B83"):
        NcnnModel.load(param, binary)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7767517", "7767518", "is not an ncnn .param file: it starts with '7767518'"),
        ("8 8\n", "9 8\n", "states 9 layers and holds 8"),
        ("0=5 1=1 5=1", "0=5 1=1 five", "has a damaged line 'Convolution a 1 1 1 2"),
    ],
)
def test_a_damaged_param_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    param, binary = save(example(), tmp_path)
    param.write_text(param.read_text().replace(old, new, 1))
    with pytest.raises(BadInputError, match=message):
        NcnnModel.load(param, binary)


@pytest.mark.parametrize(
    ("kind", "term", "sizes"),
    [
        ("Convolution", "0", []),
        ("Convolution", "2", [5, 1]),
        ("Convolution", "102", [5, 1, 1]),
        ("ConvolutionDepthWise", "1", [5, 1]),
        ("ConvolutionDepthWise", "2", [1, 1]),
        ("ConvolutionDepthWise", "101", [5, 1, 1]),
        ("ConvolutionDepthWise", "102", [1, 1, 1]),
    ],
)
def test_the_int8_term_says_how_many_scales_there_are(kind: str, term: str, sizes: list[int]) -> None:
    """One a channel or one for all, one of the input, and above 100 one of the output (ncnn's load_model)."""
    assert [count for count, _ in _scale_sizes(Layer(kind, "a", (), (), {8: term}), 5)] == sizes

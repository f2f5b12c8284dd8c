"""The ncnn format: a text graph (.param) and its weights (.bin), read and written in pure Python.

.param: the magic 7767517, a line with the number of layers and of blobs, then a line a layer: type, name, number of
bottoms, number of tops, their names, and `id=value` parameters, whose meaning depends on the type.
.bin: the weights of the layers in order, without names. A *tagged* tensor starts with a uint32 that tells its storage
and is padded to 4 bytes; a raw one is plain float32. Which layer holds which tensors: `_tensors` below.

Source: ncnn's `modelbin.cpp` and the `load_model` of each layer (release 1.0.20261020).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError

MAGIC = "7767517"
TAG_FLOAT32 = 0x0002C056
TAG_FLOAT16 = 0x01306B47
TAG_INT8 = 0x000D4B38

MAX_LAYERS = 100_000
"""More layers than any network here has by a factor of 100: a larger figure is a damaged file."""


@dataclass(frozen=True)
class Tensor:
    """One block of .bin: float32, float16 or int8, flat; only a tagged one may be something else than float32."""

    data: NDArray[np.generic]
    tagged: bool

    def encode(self) -> bytes:
        """The bytes as ncnn's `ModelBin::load` reads them."""
        if not self.tagged:
            return self.data.astype("<f4").tobytes()
        if self.data.dtype == np.int8:
            return _padded(struct.pack("<I", TAG_INT8) + self.data.tobytes())
        if self.data.dtype == np.float16:
            return _padded(struct.pack("<I", TAG_FLOAT16) + self.data.astype("<f2").tobytes())
        return struct.pack("<I", 0) + self.data.astype("<f4").tobytes()


@dataclass(frozen=True)
class Layer:
    """One line of .param with its blocks of .bin."""

    type: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    params: Mapping[int, str]
    tensors: tuple[Tensor, ...] = ()

    def integer(self, key: int, default: int = 0) -> int:
        """Parameter `key` as an integer."""
        return int(self.params.get(key, default))

    def line(self) -> str:
        """The line of .param."""
        blobs = " ".join(self.bottoms + self.tops)
        params = " ".join(f"{key}={value}" for key, value in self.params.items())
        return f"{self.type:<24} {self.name:<24} {len(self.bottoms)} {len(self.tops)} {blobs} {params}".rstrip()


@dataclass(frozen=True)
class NcnnModel:
    """A whole network, layers in the order in which they run."""

    layers: tuple[Layer, ...]

    def save(self, param: Path, binary: Path) -> None:
        """Write both files."""
        blobs = sum(len(layer.tops) for layer in self.layers)
        lines = [MAGIC, f"{len(self.layers)} {blobs}", *(layer.line() for layer in self.layers)]
        Path(param).write_text("\n".join(lines) + "\n", encoding="utf-8")
        with open(binary, "wb") as file:
            for layer in self.layers:
                for tensor in layer.tensors:
                    file.write(tensor.encode())

    @classmethod
    def load(cls, param: Path, binary: Path) -> NcnnModel:
        """Read both files; raises BadInputError when they are damaged or do not belong together."""
        layers = list(_parse(Path(param)))
        reader = _Reader(Path(binary))
        layers = [
            replace(layer, tensors=tuple(reader.read(n, tagged, layer) for n, tagged in _tensors(layer)))
            for layer in layers
        ]
        reader.finish(Path(param))
        return cls(tuple(layers))


def _padded(block: bytes) -> bytes:
    return block + b"\0" * (-len(block) % 4)


def _parse(path: Path) -> Iterator[Layer]:
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[0].strip() != MAGIC:
        raise BadInputError(f"{path} is not an ncnn .param file: it starts with '{lines[0][:20]}', not with {MAGIC}.")
    rows = [line.split() for line in lines[2:] if line.strip()]
    stated = lines[1].split()[0] if len(lines) > 1 and lines[1].strip() else "0"
    if stated != str(len(rows)) or len(rows) > MAX_LAYERS:
        raise BadInputError(
            f"{path} states {stated} layers and holds {len(rows)}: the file is damaged; export it again."
        )
    for row in rows:
        try:
            bottoms, tops = int(row[2]), int(row[3])
            ends = (4 + bottoms, 4 + bottoms + tops)
            params = dict(_parameter(token) for token in row[ends[1] :])
            yield Layer(row[0], row[1], tuple(row[4 : ends[0]]), tuple(row[ends[0] : ends[1]]), params)
        except (IndexError, ValueError) as error:
            raise BadInputError(f"{path} has a damaged line '{' '.join(row)[:80]}'; export the model again.") from error


def _parameter(token: str) -> tuple[int, str]:
    key, value = token.split("=", 1)
    return int(key), value


def _tensors(layer: Layer) -> list[tuple[int, bool]]:
    """(elements, tagged) of each tensor of a layer, in the order of .bin."""
    get = layer.integer
    if layer.type in ("Convolution", "ConvolutionDepthWise"):
        scales = _scale_sizes(layer, get(7) if layer.type == "ConvolutionDepthWise" else get(0))
        return [(get(6), True)] + [(get(0), False)] * (get(5) == 1) + scales
    if layer.type == "InnerProduct":
        return [(get(2), True)] + [(get(0), False)] * (get(1) == 1) + _scale_sizes(layer, get(0))
    if layer.type == "Gemm":
        m, n, k = get(7), get(8), get(9)
        c = {-1: 0, 0: 1, 1: m, 2: m, 3: m * n, 4: n}[get(10)]
        return [(m * k, True)] * get(4) + [(n * k, True)] * get(5) + [(c, True)] * (get(6) == 1 and c > 0)
    if layer.type == "MemoryData":
        return [(math.prod(get(key) for key in (0, 1, 11, 2) if get(key)), get(21, 1) == 0)]
    if layer.type == "Scale":
        return [(get(0), False)] * (1 + get(1))
    return []


def _scale_sizes(layer: Layer, channels: int) -> list[tuple[int, bool]]:
    term = layer.integer(8)
    if term == 0:
        return []
    per_tensor = layer.type == "ConvolutionDepthWise" and term % 100 == 2
    return [(1 if per_tensor else channels, False), (1, False)] + [(1, False)] * (term > 100)


class _Reader:
    """Walks through .bin."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.read_bytes()
        self.offset = 0

    def _take(self, dtype: str, count: int, layer: Layer) -> NDArray[np.generic]:
        size = count * np.dtype(dtype).itemsize
        if count < 0 or self.offset + size > len(self.data):
            raise BadInputError(
                f"{self.path} ends at byte {len(self.data)}, inside layer '{layer.name}': "
                "the file is cut off or belongs to another .param; export it again."
            )
        block = np.frombuffer(self.data, dtype, count, self.offset)
        self.offset += size
        return block

    def read(self, count: int, tagged: bool, layer: Layer) -> Tensor:
        if not tagged:
            return Tensor(self._take("<f4", count, layer), tagged=False)
        tag = int(self._take("<u4", 1, layer)[0])
        storage = {0: "<f4", TAG_FLOAT32: "<f4", TAG_FLOAT16: "<f2", TAG_INT8: "i1"}.get(tag)
        if storage is None:
            raise BadInputError(
                f"{self.path} stores layer '{layer.name}' under the unknown tag 0x{tag:08X}; export the model again."
            )
        tensor = Tensor(self._take(storage, count, layer), tagged=True)
        self.offset += -self.offset % 4
        return tensor

    def finish(self, param: Path) -> None:
        """Every byte belongs to a layer, or a layer with weights was not understood."""
        if self.offset != len(self.data):
            raise BadInputError(
                f"{self.path} holds {len(self.data)} bytes, but the layers of {param} account for {self.offset}: "
                "the two files do not belong together, or a layer with weights is of an unknown type."
            )

"""The quantization table: every quantized tensor's scale and where it came from, as one JSON file.

A table is what calibration and quantization-aware training both produce, and what every target writes into its
format. A point is "<path>:<role>": a convolution's "input", "weight" or "output", named by its path in the network as
in the official state dict ("backbone.stem.0.conv:input"), or on the grid `full` also what stands between convolutions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtmw_edge.errors import BadInputError, unknown
from rtmw_edge.files import atomic_write

from .grids import GRIDS, SMALLEST_SCALE

FORMAT = "rtmw-edge quantization table"
VERSION = 2
KINDS = ("input", "weight", "output")
BETWEEN = ("silu", "sum", "concat", "product", "mean", "sigmoid")
"""Roles of the points between convolutions, on the grid `full` alone.

"sigmoid" is the factor of SiLU that LiteRT rounds; a format that computes SiLU whole does not carry it.
"""
MAX_BYTES = 64 << 20
"""Larger files are refused unread; the largest variant's table has about 1 MB."""

MAX_ORIGIN = 200
"""Characters of `Table.origin`, which a manifest has room for."""
WRITTEN_BY_QAT = ("table.json", "best.json")
"""The tables that a run of `rtmw-edge qat` writes beside its last and its best weights."""


def printable(origin: str) -> str:
    """What a manifest can hold of a text that says where scales are from."""
    return "".join(letter if letter.isprintable() else "?" for letter in origin)[:MAX_ORIGIN]


def role_of(point: str) -> str:
    """Which of `KINDS` or `BETWEEN` a point is."""
    return point.rpartition(":")[2]


@dataclass(frozen=True, eq=False)
class Entry:
    """One quantized tensor: real = scale * (integer - zero_point), integers in [low, high].

    `scale` is float32, (1,) per tensor (`axis` None) or (C,) per output channel (`axis` 0). `source` says where the
    scale came from: "percentile 99.99", "weights", "fixed".
    """

    scale: np.ndarray
    zero_point: int = 0
    bits: int = 8
    axis: int | None = None
    low: int = -127
    high: int = 127
    source: str = ""

    def __post_init__(self) -> None:
        scale = np.ascontiguousarray(self.scale, np.float32)
        if scale.ndim != 1 or not scale.size or (self.axis is None and scale.size != 1):
            raise BadInputError(f"A scale has shape {scale.shape} for axis {self.axis}; it must be (1,) or (C,).")
        if not (np.isfinite(scale).all() and (scale >= SMALLEST_SCALE).all()):
            raise BadInputError("A scale is not a finite number of at least 2^-40; calibrate again.")
        if self.bits not in (8, 16) or self.axis not in (None, 0):
            raise BadInputError(f"It has {self.bits} bits and axis {self.axis}; there are 8 and 16 bits, None and 0.")
        most = 2 ** (self.bits - 1)
        if not (-most <= self.low < self.high < most and self.low <= self.zero_point <= self.high):
            raise BadInputError(
                f"Zero point {self.zero_point} in the range [{self.low}, {self.high}] is none of {self.bits} bits; "
                "calibrate again."
            )
        scale.setflags(write=False)
        object.__setattr__(self, "scale", scale)


SIGMOID = Entry(np.array([2.0**-8]), zero_point=-128, low=-128, source="fixed")
"""Every sigmoid's entry: LiteRT allows no other."""


@dataclass(frozen=True, eq=False)
class Table:
    """Entries by point, for one variant's weights on one grid.

    Attributes:
        weights_sha256: of the float weights that the table was made for (`quantization.fake.weights_sha256`).
        floats: the convolutions that stay in float ("int8-mixed"); they have no entries.
        bias_corrections: float32 (C,) by convolution, added to its bias wherever the table is used.
        provenance: the calibration manifest: images (path, sha256), seed, method, tool versions; or the training run.
    """

    variant: str
    entries: Mapping[str, Entry]
    grid: str = "common"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    floats: tuple[str, ...] = ()
    bias_corrections: Mapping[str, np.ndarray] = field(default_factory=dict)

    def leaving_in_float(self, convolutions: Iterable[str]) -> Table:
        """The table with more convolutions left in float.

        Raises BadInputError for one that it does not quantize, and on a grid that quantizes between convolutions.
        """
        more = sorted(set(convolutions))
        if more and GRIDS[self.grid].between:
            raise BadInputError(
                f"On the grid {self.grid} integers pass from one convolution to the next, so that none can be left in "
                "float; choose a grid that quantizes around convolutions alone, such as affine."
            )
        for name in more:
            if f"{name}:weight" not in self.entries:
                raise unknown("quantized convolution", name, [p[:-7] for p in self.entries if p.endswith(":weight")])
        kept = {point: entry for point, entry in self.entries.items() if point.rpartition(":")[0] not in more}
        corrections = {name: values for name, values in self.bias_corrections.items() if name not in more}
        return replace(self, entries=kept, floats=tuple(sorted({*self.floats, *more})), bias_corrections=corrections)

    def carrying(self, roles: Collection[str]) -> Table:
        """The table with the points of these roles alone: what a format holds of it."""
        return replace(self, entries={point: entry for point, entry in self.entries.items() if role_of(point) in roles})

    @property
    def origin(self) -> str:
        """Where the scales are from, in a few printable words: "percentile 99.999, 200 crops of synthetic:200"."""
        given = self.provenance
        if given.get("method") == "qat":
            data = given.get("data")
            source = data.get("source") if isinstance(data, Mapping) else None
            text = f"qat, {given.get('steps')} steps on {source}"
        elif "crops" in given:
            text = f"{given.get('method')}, {given['crops']} crops of {given.get('source')}"
        else:
            text = str(given.get("method", "not said"))
        if self.bias_corrections:
            text += ", biases corrected"
        return printable(text)

    @property
    def sha256(self) -> str:
        """Hash of the bytes that `save` writes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same table gives the same bytes. A float32 is written as the double that equals it."""
        document = {
            "format": FORMAT,
            "version": VERSION,
            "variant": self.variant,
            "grid": self.grid,
            "weights_sha256": self.weights_sha256,
            "floats": list(self.floats),
            "bias_corrections": {
                name: [float(value) for value in values] for name, values in self.bias_corrections.items()
            },
            "provenance": self.provenance,
            "entries": {point: _entry_to_json(self.entries[point]) for point in sorted(self.entries)},
        }
        return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()

    def save(self, path: Path) -> None:
        """Write the table to `path`, whole or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read a table; raises BadInputError that says what is wrong with the file."""
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise BadInputError(f"{path} has {size} bytes, more than any quantization table; give another --table.")
            document = json.loads(path.read_bytes())
        except OSError as error:
            raise BadInputError(f"Cannot read the quantization table {path}: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise BadInputError(f"{path} is not a quantization table: not JSON ({error}).") from error
        try:
            return _table_from_json(document)
        except BadInputError as error:
            raise BadInputError(f"{path} is not a quantization table that can be used: {error}") from error
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadInputError(
                f"{path} is not a quantization table that can be used: {type(error).__name__} at {error}."
            ) from error


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    return {
        "scale": [float(scale) for scale in entry.scale],
        "zero_point": entry.zero_point,
        "bits": entry.bits,
        "axis": entry.axis,
        "range": [entry.low, entry.high],
        "source": entry.source,
    }


def _table_from_json(document: Any) -> Table:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadInputError(f'it does not say "format": "{FORMAT}".')
    if document["version"] != VERSION:
        raise BadInputError(f"its version is {document['version']!r}, not {VERSION}; use a newer rtmw-edge.")
    if document["grid"] not in GRIDS:
        raise BadInputError(f"its grid is {document['grid']!r}, this tool knows {', '.join(GRIDS)}.")
    entries = {}
    for point, item in document["entries"].items():
        if role_of(point) not in (*KINDS, *BETWEEN):
            raise BadInputError(f"point '{point}' does not end in one of :{', :'.join((*KINDS, *BETWEEN))}.")
        low, high = item["range"]
        with np.errstate(over="ignore"):
            scale = np.asarray(item["scale"], np.float32)
        numbers = (item["zero_point"], item["bits"], item["axis"], low, high)
        if any(type(number) is not int for number in numbers if number is not None) or None in numbers[:2]:
            raise BadInputError(f"point '{point}': zero_point, bits, axis and range are whole numbers.")
        try:
            entries[point] = Entry(scale, *numbers, source=str(item["source"]))
        except BadInputError as error:
            raise BadInputError(f"point '{point}': {error}") from error
    for key, kind in (("variant", str), ("weights_sha256", str), ("floats", list), ("provenance", dict)):
        if type(document[key]) is not kind:
            raise BadInputError(f"its {key} is not a {'text' if kind is str else kind.__name__}.")
    json.dumps(document["provenance"], allow_nan=False)
    corrections = {str(name): np.asarray(values, np.float32) for name, values in document["bias_corrections"].items()}
    if not all(values.ndim == 1 and np.isfinite(values).all() for values in corrections.values()):
        raise BadInputError("a bias correction is not a list of finite numbers.")
    return Table(
        document["variant"],
        entries,
        document["grid"],
        document["provenance"],
        document["weights_sha256"],
        tuple(str(name) for name in document["floats"]),
        corrections,
    )

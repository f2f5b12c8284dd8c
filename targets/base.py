"""What every target is: a format that one deployable network and one quantization table are written into.

A target is a class in `targets/NAME.py` with the methods of `Target` and a module-level instance `TARGET`. It never
calibrates: the scales come from the table, and `read_scales` reads them back out of the written files, so that
`check_scales` can compare number by number. The converters of today's targets live in one environment; a target whose
converter clashes with the others would start it in a process of its own from inside `convert`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from rtmw_edge.quantization import GRIDS, Entry, Grid, Table, grid_named

from rtmw_edge.errors import BadInputError, NotAvailableError, VerificationError, unknown

if TYPE_CHECKING:
    from .rewrites import Deployable

OnStep = Callable[[str], None]
"""Called with one short line ("tracing", "writing model.onnx") before each step of a long job."""


class Precision(str, Enum):
    """How weights and arithmetic are stored.

    `fp16` is half-precision weights, with arithmetic asked for in float32; `w8` the same with 8-bit weights; `w8a16`
    has 16-bit activations at the convolutions; `int8-mixed` is int8 with some convolutions left in float.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    W8 = "w8"
    W8A16 = "w8a16"
    INT8 = "int8"
    INT8_MIXED = "int8-mixed"

    def __str__(self) -> str:
        return self.value

    @classmethod
    def named(cls, name: str) -> Precision:
        """The precision called `name`; raises BadInputError with the nearest name otherwise."""
        if name not in {member.value for member in cls}:
            raise unknown("precision", name, [member.value for member in cls])
        return cls(name)


INPUT = "image"
"""What every graph calls its input."""


def output_names(network: Deployable) -> dict[str, str]:
    """A graph's outputs by axis, called as in the official exports: simcc_x, simcc_y, simcc_z."""
    return {axis: f"simcc_{axis}" for axis in network.variant.axes}


@dataclass(frozen=True)
class Converted:
    """What a conversion wrote.

    `files` maps a role ("model"; "xml", "bin"; "param", "bin") to the file; `outputs` maps an axis ("x", "y", "z") to
    the graph's output name; `convolutions` counts "total" and "int8" in the written file; `dtype` and `layout` are of
    the graph's input, which is called `INPUT`.
    """

    files: dict[str, Path]
    outputs: dict[str, str]
    convolutions: dict[str, int]
    dtype: str = "uint8"
    layout: str = "NHWC"


@dataclass(frozen=True)
class Stored:
    """What a file holds of one point: float32 numbers in the format's spelling, and the zero point of the table."""

    numbers: np.ndarray
    zero_point: int = 0


class Target(Protocol):
    """One format. `name` is the word of the command line.

    `grids` are the names of those that it can honour, the first of a precision being its default; `max_batch` is how
    many crops a graph may take at once.
    """

    name: str
    grids: tuple[str, ...]
    max_batch: int

    def carried(self, grid: str) -> tuple[str, ...]:
        """The roles of a table's points, of `KINDS` and `BETWEEN`, that a file on `grid` holds."""
        ...

    def requirements(self) -> list[str]:
        """The distributions (names of the package index) that `convert` imports; for callers to check before."""
        ...

    def convert(
        self, network: Deployable, table: Table | None, precision: Precision, out_dir: Path, batch: int, on_step: OnStep
    ) -> Converted:
        """Write the network's files into the existing directory `out_dir`.

        `table` is given for the precisions that have one (all but fp32 and fp16); the network has its bias corrections
        already. The convolutions in `table.floats` stay in float. The graph has a static batch of `batch` crops, and
        takes uint8 NHWC BGR (ncnn: float32 CHW BGR 0..255), with mean, std and channel order inside.
        """
        ...

    def spell(self, entry: Entry) -> np.ndarray:
        """The float32 numbers that this format stores for an entry: its scale, multipliers such as 1/scale, bounds."""
        ...

    def read_scales(self, files: Mapping[str, Path], network: Deployable) -> dict[str, Stored]:
        """What is stored in the written files, by point ("<convolution>:input"), in this format's spelling.

        Reads the files alone; `network` serves only to tell which convolution is which where the format keeps no
        names. A point whose role is `carried` and that is not found is left out, and `check_scales` names it.
        """
        ...


def precisions(target: Target) -> tuple[Precision, ...]:
    """The precisions of a target: float ones, and those of the grids that it can honour."""
    quantized = {Precision(GRIDS[name].precision) for name in target.grids}
    if Precision.INT8 in quantized:
        quantized.add(Precision.INT8_MIXED)
    return (Precision.FP32, Precision.FP16, *(kind for kind in Precision if kind in quantized))


def grid_of(target: Target, precision: Precision, name: str | None) -> Grid | None:
    """The grid for a precision of `target`: the one called `name`, or its default; None for float precisions.

    Raises BadInputError when the target has no such precision, or cannot honour that grid in it.
    """
    if precision not in precisions(target):
        from . import TARGETS, target_named

        pairs = "; ".join(f"{each}: {', '.join(precisions(target_named(each)))}" for each in TARGETS)
        raise BadInputError(f"{target.name} has no {precision}. The pairs that exist are {pairs}.")
    asked = Precision.INT8 if precision is Precision.INT8_MIXED else precision
    there = [grid for grid in target.grids if GRIDS[grid].precision == asked]
    if name is None:
        return GRIDS[there[0]] if there else None
    grid = grid_named(name)
    if name not in there:
        have = f"it has {', '.join(there)}" if there else "that precision has no grid"
        raise BadInputError(f"{target.name} cannot honour the grid {name} in {precision}: {have}.")
    return grid


def installed(requirements: Iterable[str], extra: str = "export") -> dict[str, str]:
    """Versions of the distributions in `requirements`, which the product's `extra` brings.

    Raises NotAvailableError naming those that are missing.
    """
    versions: dict[str, str] = {}
    missing: list[str] = []
    for name in dict.fromkeys(requirements):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        raise NotAvailableError(
            f"This export needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed. "
            f'Run: pip install "rtmw-edge[{extra}]".'
        )
    return versions


def check_scales(table: Table, read: Mapping[str, Stored], target: Target) -> None:
    """Compare what a file holds with the table, number by number; raise VerificationError naming the first difference.

    Every point of the table whose role the target carries must be in `read`, and `read` must hold nothing else.
    """
    expected = table.carrying(target.carried(table.grid)).entries
    for point, entry in expected.items():
        if point not in read:
            raise VerificationError(f"The written {target.name} file holds no scale for '{point}'; nothing was kept.")
        wanted = np.asarray(target.spell(entry), np.float32).ravel()
        found = np.asarray(read[point].numbers)
        if found.dtype != np.float32 or not np.array_equal(wanted, found.ravel()):
            raise VerificationError(
                f"The written {target.name} file holds another scale for '{point}' than the table: "
                f"{_difference(wanted, found.ravel())}; nothing was kept."
            )
        if read[point].zero_point != entry.zero_point:
            raise VerificationError(
                f"The written {target.name} file holds the zero point {read[point].zero_point} for '{point}' and the "
                f"table {entry.zero_point}; nothing was kept."
            )
    extra = sorted(set(read) - set(expected))
    if extra:
        raise VerificationError(
            f"The written {target.name} file quantizes '{extra[0]}', which is not in the table; nothing was kept."
        )


def _difference(wanted: np.ndarray, found: np.ndarray) -> str:
    if wanted.size != found.size:
        return f"{found.size} numbers instead of {wanted.size}"
    if found.dtype != np.float32:
        return f"stored as {found.dtype}, not float32"
    index = int(np.flatnonzero(wanted != found)[0])
    return f"{found[index]!s} instead of {wanted[index]!s} at channel {index}"

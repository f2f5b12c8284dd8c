"""In words: whether to quantize on this board, target by target, and which cell to take.

The rule: a quantized cell is worth it when it keeps every limit of the gate and is faster than fp32 of the same target
beyond doubt, with the whole interval of the ratio below `FASTER`. It is not when it breaks a limit that lies outside
the figure's interval, or is surely no faster. Where that is so of every cell, it is the advice; else none is given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ..bundle import GateCheck
from ..runtime.processor import EXACT_FLAGS
from .cells import Cell
from .rows import Row
from .tables import bundle_of

TIED = 1.02
"""Cells whose times are within this of the fastest are as fast; the most accurate of them is named."""

FASTER = 0.95
"""Share of the float cell's time that the upper end of the interval must stay below."""

TENSORRT = "tensorrt"
"""The target and the device."""

LINUX_ON_ARM = re.compile(r"Linux-.*-(aarch64|arm)")
"""What Python calls a system: "Linux-6.6.31-v8+-aarch64-with-glibc2.36"; no other tells what its processor has."""


class Advice(str, Enum):
    """What to do."""

    QUANTIZE = "quantize"
    DO_NOT = "do not quantize on this board"
    UNDECIDED = "not decided"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Verdict:
    """The advice for one variant on one target, and why, in one sentence."""

    variant: str
    target: str
    advice: Advice
    why: str

    def sentence(self) -> str:
        """ "rtmw-n-256x192 on onnx: do not quantize on this board: ..." """
        return f"{self.variant} on {self.target}: {self.advice}: {self.why}."


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """One verdict for every variant, target, board, device and number of threads with quantized cells and figures."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if not row.is_float and row.accuracy and row.gate:
            cell = row.cell
            groups.setdefault((cell.variant, cell.target, cell.board, cell.device, cell.threads), []).append(row)
    return [_verdict(mine[0].cell, mine) for mine in groups.values()]


def _verdict(cell: Cell, rows: Sequence[Row]) -> Verdict:
    variant, where = cell.variant, f"{cell.target} {cell.place}".strip()
    if _elsewhere(cell):
        why = 'TensorRT did not run, only ONNX Runtime; sweep with devices = ["tensorrt"] on a machine that has it'
        return Verdict(variant, where, Advice.UNDECIDED, why)
    hopeful = [row for row in rows if _keeps(row) is not False and _faster(row) is not False]
    if not hopeful:
        return Verdict(variant, where, Advice.DO_NOT, _why_not(rows))
    best = min(hopeful, key=lambda row: (not (_keeps(row) and _faster(row)), _keeps(row) is None, _ratio(row)))
    name, time = _name(best), _time(best)
    if not _keeps(best):
        why = f"{name} breaks the gate by less than chance, where {best.broken[0].sentence()}; it takes {time}"
        images = best.accuracy["images"]
        too = "" if _faster(best) else " and a quieter machine" if best.ratio else " and its time"
        more = f"; more images than these {images}{too} decide"
        return Verdict(variant, where, Advice.UNDECIDED, f"{why}{_nothing_in_int8(rows)}{more}")
    if not _faster(best):
        why = f"{name} keeps the gate and takes {time}{_nothing_in_int8(rows)}"
        return Verdict(variant, where, Advice.UNDECIDED, why)
    bundle = f"; it is {bundle_of(best)}" if bundle_of(best) else ""
    return Verdict(variant, where, Advice.QUANTIZE, f"{name} keeps the gate and takes {time}{bundle}")


def _why_not(rows: Sequence[Row]) -> str:
    keeping = [row for row in rows if row.passed] or [row for row in rows if _keeps(row) is not False]
    if keeping:
        best = min(keeping, key=_ratio)
        keeps = "keeps the gate" if best.passed else "may keep the gate on more images"
        why = f"{_name(best)}, the fastest that {keeps}, is not faster: it takes {_time(best)}"
    else:
        best = min(rows, key=_broken)
        worst = next(filter(_is_sure, best.broken))
        count = f"none of {len(rows)} quantized cells keeps the gate; nearest is {_name(best)}"
        why = f"{count}, where {worst.sentence()}; it takes {_time(best)}"
    return why + _nothing_in_int8(rows)


def _elsewhere(cell: Cell) -> bool:
    """Whether a bundle for TensorRT ran without it, in ONNX Runtime's own kernels."""
    return cell.target == TENSORRT and cell.device != TENSORRT


def _keeps(row: Row) -> bool | None:
    """Whether a cell keeps the gate, by its own rule; None where it breaks it by no more than chance."""
    return True if row.passed else False if _broken(row)[0] else None


def _broken(row: Row) -> tuple[int, int]:
    """How many limits a cell breaks for sure, and how many at all."""
    return sum(map(_is_sure, row.broken)), len(row.broken)


def _is_sure(broken: GateCheck) -> bool:
    """Whether more images would not change that a limit is broken: it was measured, and lies outside the interval."""
    return broken.value is not None and not broken.within_noise


def _faster(row: Row) -> bool | None:
    """Whether a cell is faster than float; None where the interval leaves that open, or nothing was timed."""
    if row.ratio is None:
        return None
    return True if row.ratio.high < FASTER else None if row.ratio.low < FASTER else False


def _ratio(row: Row) -> float:
    return math.inf if row.ratio is None else row.ratio.value


def _time(row: Row) -> str:
    """The time in words, with what is wrong with it."""
    found = row.ratio
    if found is None:
        return "a time that was not measured against float"
    noise = f"; these times are noisy ({row.noisy})" if row.noisy else ""
    return f"{found.value:.2f} times as long as fp32 ({found.low:.2f} to {found.high:.2f}){noise}"


def _name(row: Row) -> str:
    cell = row.cell
    words = [cell.lane, cell.grid if cell.grid != cell.precision else "", cell.calibrator, cell.method, cell.table]
    return " ".join(word for word in words if word)


def _nothing_in_int8(rows: Sequence[Row]) -> str:
    """The runtime may take an int8 file and compute in float: then it cannot be faster."""
    runs = [row.accuracy["runs"] for row in rows if row.cell.precision.startswith("int8")]
    if runs and not any(ran["int8"] for ran in runs):
        return f"; {runs[0]['runtime']} runs none of its convolutions in int8 on this processor"
    return ""


def fastest(rows: Sequence[Row]) -> list[str]:
    """The fastest cell that keeps the gate (or is float), in one sentence for each variant, board, device and threads.

    Across those paces do not compare: each is over ONNX on as many threads, and that of CUDA over itself.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.pace and (row.passed or row.cell.precision == "fp32") and not _elsewhere(row.cell):
            cell = row.cell
            groups.setdefault((cell.variant, cell.board, cell.device, cell.threads), []).append(row)
    out = []
    for mine in groups.values():
        least = min(row.pace or 0.0 for row in mine)
        tied = [row for row in mine if (row.pace or 0.0) <= TIED * least]
        best = max(tied, key=_whole)
        ap = f", AP whole {_whole(best):.1f}" if best.ap("whole") else ""
        pace = f" ({best.pace:.2f} of the time of ONNX in fp32)" if best.speed["paced_by"] else ""
        spent = f"{best.speed['ms_p50']:.1f} ms{pace}{', times that are noisy' if best.noisy else ''}"
        out.append(
            f"{best.cell.variant}: {_among(best, rows)}the fastest that keeps the gate is {best.label}, {spent}{ap}."
        )
    return out


def _among(best: Row, rows: Sequence[Row]) -> str:
    """ "on cuda, with 4 threads, " where `rows` have other devices and numbers of threads too."""
    devices, threads = {row.cell.device for row in rows}, {row.cell.threads for row in rows}
    count = best.speed["threads"]
    words = f"on {best.cell.device}, " if len(devices) > 1 else ""
    return words + (f"with {count} thread{'s' if count > 1 else ''}, " if len(threads) > 1 else "")


def _whole(row: Row) -> float:
    whole = row.ap("whole")
    return whole.value if whole else -1.0


def about_processor(environment: Mapping[str, str]) -> str:
    """A sentence on int8 arithmetic where the processor is known for having little; "" otherwise."""
    flags = environment.get("int8 instructions", "")
    if "avx2" in flags and not any(name in flags for name in EXACT_FLAGS):
        return (
            "This processor has no VNNI: int8 products take as many instructions as float ones, so that int8 may be no "
            "faster than fp32 here, whatever it gains on a processor that has it."
        )
    if "asimddp" not in flags and LINUX_ON_ARM.match(environment.get("system", "")):
        return (
            "This processor has no dot product instructions (ARMv8.2), so that int8 gains less here than on newer ones."
        )
    return ""

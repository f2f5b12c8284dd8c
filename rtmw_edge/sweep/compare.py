"""Two runs beside each other, cell by cell: what became worse beyond noise, what became better, what came and went.

A figure of accuracy is worse when the whole 95 % interval of its change is, and the change is at least `LEAST_AP`.
Runs on the same images are compared image by image (the bootstrap draws the same ones), others as independent. A time
is worse when the intervals of the two ratios to float do not touch; milliseconds of two days are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInputError
from ..evaluation.intervals import Estimate, estimate
from ..runtime.environment import differences
from .cells import Cell
from .rows import PART_ORDER, PENDING, Row
from .store import OK
from .tables import with_ends

LEAST_AP = 0.1
"""Points; one person's keypoint that rounds to another bin moves an AP by less."""
LEAST_PERCENT = 0.2
"""Percent of MPJPE, for the same reason."""
LEAST_SIZE = 0.01
LEAST_MEMORY = 0.10
"""Shares that a file and a process may grow by."""


@dataclass(frozen=True)
class Change:
    """One thing that changed from the first run to the second. `worse`: a regression; else better, or told for its own
    sake (None)."""

    cell: str
    what: str
    worse: bool | None


def compare(before: Sequence[Row], after: Sequence[Row]) -> list[Change]:
    """What changed beyond noise, in the order of `before`, and cells that only one of them has.

    Raises BadInputError when they have no cell in common: nothing would be compared.
    """
    old = {row.cell.wherever: row for row in before}
    new = {row.cell.wherever: row for row in after}
    if not old.keys() & new.keys():
        raise BadInputError(
            f"The two runs have no cell in common ({_name(before[0].cell)}, and {_name(after[0].cell)}), so that there "
            "is nothing to compare; name runs of the same sweep."
        )
    changes = [
        Change("accuracy", f"measured on {one}, and now on {other}", None)
        for one, other in [(_measured_on(before), _measured_on(after))]
        if one != other
    ]
    for cell, row in old.items():
        if cell not in new:
            changes.append(Change(_name(cell), "is no longer there", None))
        else:
            changes += _changes(row, new[cell])
    changes += [Change(_name(cell), "is new", None) for cell in new if cell not in old]
    return changes


def environments_apart(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What the environments of two runs' documents do not share, of this machine and of every board of both."""
    apart = differences(before["environment"], after["environment"])
    for board, facts in before["boards"].items():
        if board in after["boards"]:
            apart += [f"{board}: {line}" for line in differences(facts, after["boards"][board])]
    return apart


def _measured_on(rows: Sequence[Row]) -> str:
    cell = rows[0].cell
    return f"{cell.data}, {cell.images} images" if cell.images else cell.data


def _changes(old: Row, new: Row) -> Iterator[Change]:
    name = _name(old.cell)
    if PENDING in (old.status, new.status):
        if old.status != new.status:
            yield Change(name, "is not done yet" if new.status == PENDING else "was not done before", None)
    elif old.status == OK and new.status != OK:
        yield Change(name, f"worked, and now: {new.status} {new.reason}".strip(), True)
    elif old.status != OK and new.status == OK:
        yield Change(name, f"works now; before: {old.status} {old.reason}".strip(), False)
    if old.passed and new.passed is False:
        yield Change(name, "passed the gate, and now fails", True)
    elif old.passed is False and new.passed:
        yield Change(name, "failed the gate, and now passes", False)
    yield from _accuracy(name, old, new)
    yield from _speed(name, old, new)
    yield from _cost(name, old, new)


def _accuracy(name: str, old: Row, new: Row) -> Iterator[Change]:
    for part in PART_ORDER:
        before, after = old.ap(part), new.ap(part)
        if before is not None and after is not None:
            change = estimate(after.value - before.value, 100 * _difference(new, old, f"ap {part}"))
            if abs(change.value) >= LEAST_AP and _beyond_noise(change):
                moved = f"{before.value:.2f} -> {after.value:.2f} ({_ends(change)} points)"
                yield Change(name, f"AP of {part.replace('_', ' ')} {moved}", change.value < 0)
    for part in old.accuracy.get("mpjpe", {}):
        before, after = old.mpjpe(part), new.mpjpe(part)
        if before is not None and after is not None:
            change = estimate(after.value - before.value, _difference(new, old, f"mpjpe {part}"))
            if 100 * abs(change.value) >= LEAST_PERCENT * before.value and _beyond_noise(change):
                moved = f"{before.value:.1f} -> {after.value:.1f} mm ({_ends(change)})"
                yield Change(name, f"MPJPE of {part.replace('_', ' ')} {moved}", change.value > 0)


def _speed(name: str, old: Row, new: Row) -> Iterator[Change]:
    before, after = old.ratio, new.ratio
    if before is None or after is None or (before.low <= after.high and after.low <= before.high):
        return
    if Cell(**old.speed["paced_by"]).wherever != Cell(**new.speed["paced_by"]).wherever:
        return
    words = f"time against float {with_ends(before)} -> {with_ends(after)}"
    if old.noisy or new.noisy:
        yield Change(name, f"{words}, but one of them was noisy: measure again", None)
    else:
        yield Change(name, words, after.value > before.value)


def _cost(name: str, old: Row, new: Row) -> Iterator[Change]:
    figures = (
        ("file", old.accuracy.get("megabytes"), new.accuracy.get("megabytes"), LEAST_SIZE),
        ("memory", old.speed.get("memory_mb"), new.speed.get("memory_mb"), LEAST_MEMORY),
    )
    for what, before, after, least in figures:
        if before and after and abs(after / before - 1) > least:
            yield Change(name, f"{what} {before:.1f} -> {after:.1f} MB", after > before)
    if old.accuracy and new.accuracy:
        ran, runs = (row.accuracy["runs"]["int8"] for row in (old, new))
        if ran != runs:
            yield Change(name, f"convolutions that run in int8 {ran} -> {runs}", runs < ran)


def _difference(new: Row, old: Row, name: str) -> NDArray[np.float64]:
    """Resampled changes: image by image where both ran on the same images, else as of two independent draws."""
    mine, theirs = new.samples[name].astype(np.float64), old.samples[name].astype(np.float64)
    same = all(new.accuracy[key] == old.accuracy[key] for key in ("dataset", "images"))
    difference: NDArray[np.float64] = mine - (theirs if same else theirs[::-1])
    return difference


def _beyond_noise(change: Estimate) -> bool:
    return change.low > 0 or change.high < 0


def _ends(change: Estimate) -> str:
    return f"{change.low:+.2f} to {change.high:+.2f}"


def _name(cell: Cell) -> str:
    return f"{cell.variant} {cell.label}"

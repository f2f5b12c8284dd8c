"""What a sweep found, cell by cell: a run's records beside each other, drops against float, the gate's verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import GateCheck
from ..errors import BadInputError
from ..evaluation.gates import ONLY_3D, Gate, parse_gate
from ..evaluation.intervals import Estimate, estimate
from ..evaluation.whole_body_ap import EVALUATED_PARTS
from ..models.variants import variant_named
from .cells import Cell, short_labels
from .store import OK, Record, Run, Store

PART_ORDER = tuple(EVALUATED_PARTS)


@dataclass(frozen=True, eq=False)
class Row:
    """One cell and all that is known of it.

    Attributes:
        accuracy, speed: the records' data; {} while there is none. `reason`: why there is none, when it failed.
        samples: resampled figures by "ap PART" and "mpjpe PART", to compare with another row of the same images.
        drop: points of AP (0..100) lost against the float cell, per part, with their interval; {} for float cells.
        mpjpe_more: percent of hip-aligned MPJPE above the float cell's, per part of 3D variants.
        gate: every check of the gate; () for fp32, which there is nothing to compare with.
        label: the cell's label, shortened to what tells it from the other cells of its run.
        pace: its time over that of ONNX in fp32 of the same variant and threads, by the ratios of runs in turns, which
            load on the machine moves less than milliseconds; None where the chain of ratios is broken.
    """

    cell: Cell
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    speed: Mapping[str, Any] = field(default_factory=dict)
    status: str = ""
    reason: str = ""
    samples: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    drop: Mapping[str, Estimate] = field(default_factory=dict)
    mpjpe_more: Mapping[str, Estimate] = field(default_factory=dict)
    gate: tuple[GateCheck, ...] = ()
    label: str = ""
    pace: float | None = None

    @property
    def is_float(self) -> bool:
        return self.cell.precision in ("fp32", "fp16")

    @property
    def passed(self) -> bool | None:
        """Whether the gate was passed; None where nothing was judged."""
        return all(check.passed for check in self.gate) if self.gate else None

    @property
    def broken(self) -> list[GateCheck]:
        """The limits of the gate that are not kept."""
        return [check for check in self.gate if not check.passed]

    @property
    def ratio(self) -> Estimate | None:
        """Its time over that of the float cell that it was timed in turns with; None where there was none."""
        if not self.speed or self.speed["paced_by"] is None:
            return None
        return Estimate(*(self.speed[end] for end in ("ratio", "ratio_low", "ratio_high")))

    @property
    def noisy(self) -> str:
        """Why its times are not to be trusted; "" where nothing speaks against them."""
        return "; ".join(self.speed.get("noisy", ()))

    def ap(self, part: str) -> Estimate | None:
        """AP in points of 0..100 with its interval; None where there is none."""
        found = self.accuracy.get("ap", {}).get(part)
        return None if found is None or found["value"] < 0 else Estimate(**found).scaled(100)

    def mpjpe(self, part: str) -> Estimate | None:
        """Hip-aligned MPJPE in mm; None for 2D variants."""
        found = self.accuracy.get("mpjpe", {}).get(part)
        return None if found is None or found["value"] < 0 else Estimate(**found)

    def px(self, part: str, percentile: str = "p99") -> Estimate | None:
        """Crop pixels that keypoints are from the PyTorch network's, at "p50", "p90" or "p99"; those it is sure of."""
        found = self.accuracy.get("px", {}).get(part, {}).get(percentile)
        return None if found is None else Estimate(**found)


PENDING = "pending"


def run_of(store: Store, number: int | None = None) -> Run:
    """A run of the store, its last when no number is given; BadInputError where there is none such."""
    runs = store.runs()
    if not runs:
        raise BadInputError(f"The sweep in '{store.folder}' has no run yet; start it with rtmw-edge sweep.")
    if number is None:
        return runs[-1]
    for run in runs:
        if run.id == number:
            return run
    raise BadInputError(f"There is no run {number} in '{store.folder}'; it has 1 to {runs[-1].id}.")


def rows_of(store: Store, run: Run) -> list[Row]:
    """The cells that a run planned, with the newest records that there were when the next run began.

    What has no record until then has that of a later run, or of one beside it: the same job has the same outcome.
    """
    entries = run.document["cells"]
    jobs = [entry[kind] for entry in entries for kind in ("accuracy", "speed")]
    records = store.records(jobs, until=run.id)
    cells = [Cell(**entry["cell"]) for entry in entries]
    plain = {
        cell: _row(cell, records.get(entry["accuracy"]), records.get(entry["speed"]))
        for cell, entry in zip(cells, entries, strict=True)
    }
    gate = parse_gate(run.document["gate"]["limits"], run.document["gate"]["name"])
    labels = short_labels(cells)
    rows = []
    # The record of a time may be of a run on other data, which the cell that it was paced by names.
    wherever = {cell.wherever: row for cell, row in plain.items()}
    for cell, entry in zip(cells, entries, strict=True):
        base = plain[Cell(**entry["base"])] if entry["base"] else None
        found = _compared(plain[cell], base, gate)
        rows.append(replace(found, label=labels[cell], pace=_pace(plain[cell], wherever)))
    return rows


def _pace(row: Row, rows: Mapping[Cell, Row]) -> float | None:
    """The product of ratios down to ONNX in fp32, among the rows by `Cell.wherever`."""
    pace = 1.0
    while row.speed:
        if row.speed["paced_by"] is None:
            return pace if (row.cell.target, row.cell.precision) == ("onnx", "fp32") else None
        pace *= row.speed["ratio"]
        found = rows.get(Cell(**row.speed["paced_by"]).wherever)
        if found is None:
            return None
        row = found
    return None


def _row(cell: Cell, accuracy: Record | None, speed: Record | None) -> Row:
    told = [record for record in (accuracy, speed) if record is not None and record.status != OK]
    status = told[0].status if told else OK if accuracy and speed else PENDING
    return Row(
        cell,
        accuracy.data if accuracy and accuracy.status == OK else {},
        speed.data if speed and speed.status == OK else {},
        status,
        str(told[0].data["reason"]) if told else "",
        accuracy.arrays if accuracy else {},
    )


def _compared(row: Row, base: Row | None, gate: Gate) -> Row:
    if base is None or not row.accuracy or not base.accuracy:
        return row
    drop = {part: found for part in PART_ORDER if (found := ap_drop(base, row, part)) is not None}
    more = {part: found for part in row.accuracy.get("mpjpe", {}) if (found := mpjpe_more(base, row, part)) is not None}
    # A base that finds nobody has nothing to lose.
    figures = {(part, "ap_drop"): found for part, found in drop.items() if (ap := base.ap(part)) and ap.value > 0}
    figures |= {(part, ONLY_3D): found for part, found in more.items()}
    for part, px in row.accuracy.get("px", {}).items():
        figures |= {(part, f"px_{name}"): Estimate(**found) for name, found in px.items()}
    in_3d = variant_named(row.cell.variant).z_range is not None
    return replace(row, drop=drop, mpjpe_more=more, gate=gate.judge(figures, in_3d=in_3d))


def ap_drop(base: Row, row: Row, part: str) -> Estimate | None:
    """Points of AP that `row` is below `base`, paired by the images of the resamples; None where one has no AP."""
    before, after = base.ap(part), row.ap(part)
    if before is None or after is None:
        return None
    value, name = before.value - after.value, f"ap {part}"
    return estimate(value, 100 * (base.samples[name].astype(np.float64) - row.samples[name]))


def mpjpe_more(base: Row, row: Row, part: str) -> Estimate | None:
    """Percent by which `row`'s hip-aligned MPJPE is above `base`'s; None where one has none."""
    before, after = base.mpjpe(part), row.mpjpe(part)
    if before is None or after is None or not before.value:
        return None
    name = f"mpjpe {part}"
    samples = row.samples[name].astype(np.float64) / base.samples[name] - 1
    return estimate(100 * (after.value / before.value - 1), 100 * samples)

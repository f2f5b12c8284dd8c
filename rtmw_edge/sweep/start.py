"""A sweep as the command line starts it: store, gate, processes, a line for every job, the report at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ..evaluation.gates import DEFAULT, Gate, read_gate
from .bench import Bench, cores
from .cells import ACCURACY, Planned
from .config import SweepConfig
from .plan import Plan
from .run import Event, document, jobs_of, sweep
from .store import FAILED, OK, Store


@dataclass(frozen=True)
class Ready:
    """What a process of the sweep needs to begin: the cells, and its share of the cores."""

    planned: tuple[Planned, ...]
    threads: int

    def __call__(self, store: Store) -> Bench:
        return Bench(store, self.planned, self.threads)


def start(
    config: SweepConfig, plan: Plan, folder: Path, console: Console, *, processes: int = 1, retry: bool = False
) -> int:
    """Work a plan off in the store at `folder` and write its report; how many cells failed."""
    with Store.create(folder) as store:
        retry_until = store.last_record() if retry else 0
        run = store.begin(document(plan, config, gate_document(read_gate(config.gate or DEFAULT))))
    jobs = jobs_of(plan.cells)
    labels = _labels(plan.cells)
    with console.status("starting") as status:

        def on_event(event: Event) -> None:
            line = f"{labels[event.job]}: {event.text}".rstrip(": ")
            if not event.status:
                status.update(line)
                return
            mark = "✓" if event.status == OK else "✗"
            console.print(f"{mark} {line} ({event.seconds:.0f} s)")

        sweep(
            folder, run, jobs, Ready(plan.cells, max(1, cores() // processes)), on_event,
            processes=processes, retry_until=retry_until,
        )  # fmt: skip
    return finished(folder, run, console)


def finished(folder: Path, run: int, console: Console) -> int:
    """Write the report of a run; how many of its cells failed."""
    from .rows import rows_of, run_of

    with Store.open(folder) as store:
        rows = rows_of(store, run_of(store, run))
    failed = [row for row in rows if row.status == FAILED]
    console.print(f"{len(rows)} cells, {len(failed)} failed; results: rtmw-edge results show {folder}")
    return len(failed)


def gate_document(gate: Gate) -> dict[str, Any]:
    """A gate as a run records it: the name, and limits by part and measure."""
    limits: dict[str, dict[str, float]] = {}
    for (part, measure), limit in gate.limits.items():
        limits.setdefault(part, {})[measure] = limit
    return {"name": gate.name, "limits": limits}


def _labels(planned: Sequence[Planned]) -> dict[str, str]:
    """Words for every job; of cells that share one, those of the first."""
    found: dict[str, str] = {}
    for item in planned:
        for job, what in ((item.accuracy_id, ACCURACY), (item.speed_id, "speed")):
            found.setdefault(job, f"{item.cell.variant} {item.cell.label}, {what}")
    return found

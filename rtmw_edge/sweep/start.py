"""A sweep as the command line starts it: store, gate, processes, a line for every job, the report at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from ..errors import NotAvailableError
from ..fleet.link import Link
from ..fleet.work import ACCURACY, SPEED
from ..runtime.processor import cores
from .bench import Bench
from .boards import Boards, no_worker
from .cells import EXPORT, Planned
from .config import SweepConfig
from .dispatch import Fleet, dispatch
from .plan import Plan, plan_of
from .report import REPORT, write_report
from .rows import PENDING, Row, rows_of, run_of
from .run import Crew, Event, document, jobs_of, sweep, work_off
from .store import FAILED, NOT_POSSIBLE, OK, Run, Store
from .verdicts import fastest, verdicts

FleetOf = Callable[[Store], Fleet]
"""Joins the boards, in the process that gives them their cells."""


@dataclass(frozen=True)
class Options:
    """How to work a plan off: in the store at `folder`, `processes` side by side; `retry`: what failed, once more."""

    folder: Path
    processes: int = 1
    retry: bool = False

    @property
    def threads(self) -> int:
        """Each process's share of the cores."""
        return max(1, cores() // self.processes)

    def retry_until(self, store: Store) -> int:
        """The last record that does not count if it is of a failure; 0 for none."""
        return store.last_record() if self.retry else 0


def start(plan: Plan, options: Options, console: Console, fleet: FleetOf | None = None) -> int:
    """Work a plan off, write its report, say what it advises; how many cells failed.

    Raises NotAvailableError when none of them is possible on this machine.
    """
    run, rows = carry_out(plan, options, console, fleet)
    report = options.folder / REPORT
    write_report(report, rows, run.document)
    for verdict in verdicts(rows):
        console.print(verdict.sentence())
    for line in fastest(rows):
        console.print(line)
    failed = sum(row.status in (FAILED, PENDING) for row in rows)
    not_here = sum(row.status == NOT_POSSIBLE for row in rows)
    more = f", {not_here} not possible here" if not_here else ""
    console.print(f"{len(rows)} cells, {failed} failed{more}. Report: {report}")
    if not_here == len(rows):
        raise NotAvailableError(f"Nothing of the sweep is possible here: {rows[0].reason}")
    return failed


def start_with_boards(config: SweepConfig, link: Link, wait: float, options: Options, console: Console) -> int:
    """The same where boards take part, which are waited for at `link` for so many seconds."""
    with Boards(link, options.folder) as boards:
        console.print(f"listening at {link.address} for {', '.join(config.away)}; on each board: rtmw-edge worker")
        with console.status("starting", refresh_per_second=2) as status:
            facts = boards.wait_for(config.away, wait, status.update)
        for name in config.away:
            if name in facts:
                machine = facts[name].get("board") or facts[name].get("processor") or "a machine"
                console.print(f"{name} is there: {machine}, {facts[name]['cores']} cores")
            else:
                console.print(no_worker(name, wait))
        plan = plan_of(config, facts)
        fleet = partial(Fleet, planned=plan.cells, boards=facts, link=boards.client_link, wait=wait)
        return start(plan, options, console, fleet)


def carry_out(plan: Plan, options: Options, console: Console, fleet: FleetOf | None = None) -> tuple[Run, list[Row]]:
    """Work a plan off, with a line on `console` for every job; the run and its rows.

    `fleet` gives cells of boards to those; a plan without such cells needs none.
    """
    mine, boards = jobs_of(plan.cells), jobs_of(plan.cells, away=True)
    with Store.create(options.folder) as store:
        retry_until = options.retry_until(store)
        known = store.records([job.id for job in (*mine, *boards)]).values()
        settled = {record.job for record in known if record.status == OK or not options.retry}
        number = store.begin(document(plan))
    labels, ended = _labels(plan.cells), 0
    left = len({job.id for job in (*mine, *boards)} - settled)
    with console.status("starting", refresh_per_second=2) as status:

        def on_event(event: Event) -> None:
            nonlocal ended
            if event.status:
                ended += 1
                line = f"{labels[event.job]}: {event.text}".rstrip(": ")
                mark = "✓" if event.status == OK else "✗"
                console.print(f"{mark} {line} ({event.seconds:.0f} s)", highlight=False, soft_wrap=True)
            else:  # what changes first: the line may be cut
                status.update(f"{ended} of {left} done; {event.text or 'beginning'}: {labels[event.job]}")

        bench = partial(Bench, planned=plan.cells, threads=options.threads)
        crews: list[Crew] = [partial(work_off, run=number, jobs=mine, prepare=bench, retry_until=retry_until)]
        crews *= options.processes
        if fleet is not None:
            crews.append(partial(dispatch, run=number, jobs=boards, prepare=fleet, retry_until=retry_until))
        sweep(options.folder, number, crews, on_event)
    with Store.open(options.folder) as store:
        run = run_of(store, number)
        return run, rows_of(store, run)


def _labels(planned: Sequence[Planned]) -> dict[str, str]:
    """Words for every job; of cells that share one, those of the first."""
    found: dict[str, str] = {}
    for item in planned:
        for job, what in ((item.export_id, EXPORT), (item.accuracy_id, ACCURACY), (item.speed_id, SPEED)):
            found.setdefault(job, f"{item.cell.variant} {item.cell.label}, {what}")
    return found

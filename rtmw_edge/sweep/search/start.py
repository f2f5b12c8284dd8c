"""A search as the command line starts it: trials that are cells of a sweep's store, a line for each, the front."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from rtmw_edge.targets.base import OnStep

from ...errors import BadInputError, RtmwEdgeError, VerificationError, importing
from ...evaluation.gates import Gate
from ...files import reported_disk_errors
from ..bench import Bench
from ..cells import Planned
from ..config import SweepConfig
from ..estimate import expected_of
from ..plan import Plan
from ..report import REPORT, write_report
from ..rows import Row, rows_of, run_of
from ..run import Event, document, jobs_of, sweep, work_off
from ..start import Options
from ..store import OK, Store
from ..verdicts import verdicts
from .front import export_line, front_table, nearest, sentence
from .problem import Problem, problem_of
from .space import IN_FLOAT
from .tables import Tables
from .trials import Asked, Outcome, Tried

JOURNAL = "search.journal"
LOCK = "search.lock"

TOGETHER = 4
"""Trials that one process measures in a row before the sampler hears of them: starting a process takes seconds."""

WIDE = 140
"""Columns where there is no terminal."""


def start(config: SweepConfig, options: Options, console: Console) -> None:
    """Search in the store, going on where an earlier search of the same space was, and say what is best.

    Raises NotAvailableError without Optuna, BadInputError for a file that is no search and where another process
    searches in this store, VerificationError when nothing tried keeps the budget.
    """
    with importing("A search", "rtmw-edge[search]"):
        from .study import Study, run
    problem = problem_of(config)
    search = problem.search
    with Store.create(options.folder) as store:
        retry_until = options.retry_until(store)
    with _alone(options.folder):
        study = Study(options.folder / JOURNAL, problem.name, problem.space, search.seed)
        trials = Trials(problem, options, console, retry_until)
        before = study.tried()
        trials.remember(before)
        trials.measure_float()
        if before:
            console.print(f"{len(before)} of {search.trials} trials are done already")
        run(
            study, search.trials, TOGETHER * options.processes, trials.measure,
            lambda tried: console.print(sentence(tried, search.part)), retry=options.retry,
        )  # fmt: skip
        _tell(problem, study.tried(), study.front(), trials, console)


def describe(config: SweepConfig, console: Console) -> None:
    """Say what a search would choose among, and how long its trials take."""
    problem = problem_of(config)
    cell, space = problem.float_cell.cell, problem.space
    console.print(f"{cell.variant} on {cell.target}, {problem.search.trials} trials under {problem.search.budget.text}")
    for name, choices in space.choices.items():
        if len(choices) > 1 and not name.startswith(IN_FLOAT):
            words = f"0 to {choices[-1]}" if isinstance(choices, range) else ", ".join(map(str, choices))
            console.print(f"  {name}: {words}")
    if space.groups:
        console.print(f"  in float or not: {', '.join(space.groups)}")
    expected = expected_of([problem.float_cell], None, 1).of(problem.float_cell)
    minutes = expected * (problem.search.trials + 1) / 60
    console.print(f"about {expected:.0f} s each, {minutes:.0f} min on this machine, when it is quiet")


def _tell(problem: Problem, tried: Sequence[Tried], front: Sequence[Tried], trials: Trials, console: Console) -> None:
    """The front, what it means for this machine, and how the fastest of it is exported."""
    failed = sum(bool(each.outcome.reason) for each in tried)
    kept = sum(each.outcome.kept for each in tried)
    console.print(f"{len(tried)} trials, {failed} failed, {kept} keep the budget. Report: {trials.report}")
    if not front:
        best = nearest(tried)
        words = f"; nearest is trial {best.number}, {best.settings.words}" if best else ""
        raise VerificationError(
            f"None of {len(tried)} trials keeps {problem.search.budget.text}{words}: allow more, try more trials, or "
            "fine-tune with rtmw-edge qat first."
        )
    if not console.is_terminal:
        console.width = WIDE
    console.print(front_table(front, trials.rows, trials.float_row, problem), soft_wrap=False)
    for verdict in verdicts(list(trials.rows.values())):
        console.print(verdict.sentence())
    for each in front:
        line = export_line(problem, each, trials.rows[each.number], trials.table(each))
        console.print(f"trial {each.number}, {each.settings.words}:\n  {line}")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other searches out of the store; the system lets go of it when this process ends, however it ends."""
    path = folder / LOCK
    with reported_disk_errors(path), path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInputError(
                f"Another process searches in '{folder}'; wait for it, or give that one more --processes."
            ) from None
        yield


class Trials:
    """Measures trials as cells of the store, and keeps its report up to date.

    Attributes:
        rows: by the number of a trial, its cell as the newest run has it. float_row: what all are compared with.
        report: the page, which every run writes again.
    """

    def __init__(self, problem: Problem, options: Options, console: Console, retry_until: int = 0) -> None:
        self._problem, self._options, self._console = problem, options, console
        self._folder, self._retry_until = options.folder, retry_until
        self.report = options.folder / REPORT
        self._tables = Tables(problem, self._folder / "tables")
        self._limits = problem.search.budget.limits
        self._planned: dict[int, Planned] = {}
        self.rows: dict[int, Row] = {}
        self.float_row = Row(problem.float_cell.cell)

    def table(self, trial: Tried) -> Path:
        """The file of a trial's quantization table."""
        return self._tables.path(trial.settings)

    def remember(self, tried: Sequence[Tried]) -> None:
        """Take the cells of earlier trials into the report; of those that failed, where they had one."""
        for each in tried:
            if not each.outcome.reason or self.table(each).exists():
                self._plan(each, lambda _: None)

    def measure_float(self) -> None:
        """Measure what every trial is compared with, unless that is done; RtmwEdgeError where it cannot be."""
        cell = self._problem.float_cell
        with Store.open(self._folder) as store:
            done = store.records([cell.accuracy_id, cell.speed_id])
        there = len(done) == 2 and all(record.status == OK for record in done.values())
        with self._console.status("starting", refresh_per_second=2) as status:
            self._run([] if there else [cell], status.update)
        row = self.float_row
        if row.status != OK:
            raise RtmwEdgeError(
                f"The float network cannot be measured, which every trial is compared with ({row.reason}); mend that, "
                "and search again with --retry."
            )
        for part in (*self._limits, self._problem.search.part):
            if row.ap(part) is None:
                raise BadInputError(f"Nobody in {row.cell.data} has a label on {part}: leave it out of the search.")

    def measure(self, asked: Sequence[Asked]) -> list[Outcome]:
        """The outcomes of a few trials."""
        reasons: dict[int, str] = {}
        with self._console.status("starting", refresh_per_second=2) as status:
            for each in asked:
                try:
                    self._plan(each, status.update)
                except RtmwEdgeError as error:
                    reasons[each.number] = str(error)
            self._run([self._planned[each.number] for each in asked if each.number not in reasons], status.update)
        return [
            Outcome(reason=reasons[each.number]) if each.number in reasons else self._outcome(self.rows[each.number])
            for each in asked
        ]

    def _plan(self, trial: Asked | Tried, on_step: OnStep) -> None:
        table = self._tables.made(trial.settings, on_step)
        self._planned[trial.number] = self._problem.planned(trial.number, trial.settings, table)

    def _run(self, these: Sequence[Planned], on_step: OnStep) -> None:
        """Measure cells as one run of the store, which lists all cells so far; read them, and write the report."""
        gate = Gate(
            f"budget {self._problem.search.budget.text}",
            {(part, "ap_drop"): points for part, points in self._limits.items()},
        )
        cells = (self._problem.float_cell, *(self._planned[number] for number in sorted(self._planned)))
        with Store.open(self._folder) as store:
            number = store.begin(document(Plan(cells, gate)))
        if these:
            labels = {job: each.cell.label for each in these for job in (each.accuracy_id, each.speed_id)}
            bench = partial(Bench, planned=(self._problem.float_cell, *these), threads=self._options.threads)
            crew = partial(work_off, run=number, jobs=jobs_of(these), prepare=bench, retry_until=self._retry_until)
            sweep(self._folder, number, [crew] * self._options.processes, partial(_show, on_step, labels))
        with Store.open(self._folder) as store:
            run = run_of(store, number)
            rows = rows_of(store, run)
        of_cell = {row.cell: row for row in rows}
        self.float_row = of_cell[self._problem.float_cell.cell]
        self.rows = {number: of_cell[each.cell] for number, each in self._planned.items()}
        write_report(self.report, rows, run.document)

    def _outcome(self, row: Row) -> Outcome:
        if row.status != OK:
            return Outcome(reason=row.reason)
        ap = row.ap(self._problem.search.part)
        assert ap is not None
        over = {part: row.drop[part].value - points for part, points in self._limits.items()}
        return Outcome(ap.value, row.speed["ratio"], over)


def _show(on_step: OnStep, labels: dict[str, str], event: Event) -> None:
    if not event.status:
        on_step(f"{labels[event.job]}: {event.text}")

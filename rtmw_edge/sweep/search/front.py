"""What a search found, in words: a line for every trial, and the table of those that nothing beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from ...models.weights import cached, embedded
from ..rows import Row
from ..tables import ratio
from .problem import Problem
from .trials import Tried


def sentence(tried: Tried, part: str) -> str:
    """A trial in one line: what it reached, whether it keeps the budget, and what it was."""
    outcome, name = tried.outcome, f"trial {tried.number}, {tried.settings.words}"
    if outcome.reason:
        return f"✗ {name}: {outcome.reason}"
    over = [f"{limited.replace('_', ' ')} {points:.2f}" for limited, points in outcome.over.items() if points > 0]
    verdict = "keeps the budget" if outcome.kept else f"points over the budget: {', '.join(over)}"
    figures = f"{part.replace('_', ' ')} {outcome.ap:.2f} AP, {outcome.time:.2f} of fp32's time"
    return f"{'✓' if outcome.kept else '-'} {name}: {figures}, {verdict}"


def front_table(front: Sequence[Tried], rows: Mapping[int, Row], float_row: Row, problem: Problem) -> Table:
    """The front, fastest first, below the float network: AP, what each part of the budget loses, and the time."""
    part, limits = problem.search.part, problem.search.budget.limits
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.title = f"{part.replace('_', ' ')} AP, points lost by part, and time: within {problem.search.budget.text}"
    for head in ("trial", "AP", *(name.replace("_", " ") for name in limits), "ms", "time against fp32"):
        table.add_column(head, justify="right", no_wrap=True)
    ap = float_row.ap(part)
    milliseconds = f"{float_row.speed['ms_p50']:.1f}"
    table.add_row("fp32", f"{ap.value:.2f}" if ap else "-", *("" for _ in limits), milliseconds, "")
    for each in front:
        row = rows[each.number]
        lost = [f"{round(row.drop[name].value, 2) + 0.0:.2f}" for name in limits]
        table.add_row(str(each.number), f"{each.outcome.ap:.2f}", *lost, f"{row.speed['ms_p50']:.1f}", ratio(row))
    return table


def export_line(problem: Problem, trial: Tried, row: Row, table: Path) -> str:
    """The command that exports a trial, whose cell is that of `row`."""
    cell, weights = row.cell, problem.weights_of(trial.settings)
    words = ["rtmw-edge export", cell.variant, "--target", cell.target, "--precision", cell.precision]
    words += [] if weights == (embedded(cell.variant) or cached(cell.variant)) else ["--weights", str(weights)]
    return " ".join([*words, "--table", str(table), "--out BUNDLE"])


def nearest(tried: Sequence[Tried]) -> Tried | None:
    """Of what was measured, the one that is least over its budget."""
    measured = [each for each in tried if not each.outcome.reason]
    return min(measured, key=lambda each: max(each.outcome.over.values()), default=None)

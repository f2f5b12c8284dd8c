"""Accuracy against cost as SVG: a point a cell, intervals, Pareto fronts. For the report, and alone for papers.

Colours are CSS variables (report.css), so that a chart follows dark and light; targets differ in colour, precisions in
shape; what failed its gate is hollow. Every point is a link to its row, which the keyboard reaches.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cells import Cell
from .rows import Row

WIDTH, HEIGHT = 860, 440
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 14, 46

COSTS = {
    "ms": "milliseconds a crop (median)",
    "pace": "time of a crop, ONNX in fp32 = 1, by runs in turns",
    "mb": "file, MB",
    "memory": "memory of the process, MB",
}
"""What a cell costs, and the axis's words."""

UNITS = {"ms": "{:.1f} ms", "pace": "{:.2f} of ONNX in fp32", "mb": "{:.1f} MB", "memory": "{:.0f} MB of memory"}

SHAPES = {
    "fp32": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
    "fp16": "M-5-5h10v10h-10z",
    "w8": "M0-6l6 11h-12z",
    "w8a16": "M0-7l6 7-6 7-6-7z",
    "int8 PTQ": "M-6-3h3v-3h6v3h3v6h-3v3h-6v-3h-3z",
    "int8 QAT": "M0-8l2.2 5 5.6.5-4.2 3.6 1.3 5.4-4.9-2.9-4.9 2.9 1.3-5.4-4.2-3.6 5.6-.5z",
}
OTHER = "M-6-6h12l-6 12z"
SHAPES |= {"int8-mixed PTQ": OTHER, "int8-mixed QAT": "M-7-7l7 4 7-4-4 7 4 7-7-4-7 4 4-7z"}

STYLE = Path(__file__).with_name("chart.css")


@dataclass(frozen=True)
class Point:
    """A cell on the chart; `low` and `high` are the ends of the AP's interval, `row` the number of its table row.

    `group` names the cells that its cost compares with.
    """

    row: int
    cost: float
    ap: float
    low: float
    high: float
    target: str
    lane: str
    variant: str
    words: str
    failed: bool
    group: str = ""


def points(rows: Sequence[Row], part: str, cost: str) -> list[Point]:
    """The cells that have both figures; a cell that failed its gate says so in its words."""
    found = []
    for number, row in enumerate(rows):
        ap, spent = row.ap(part), cost_of(row, cost)
        if ap is None or spent is None:
            continue
        words = f"{row.cell.variant} {row.label}: {ap.value:.1f} % AP of {part.replace('_', ' ')}, "
        words += UNITS[cost].format(spent)
        if row.passed is not None:
            words += ", gate passed" if row.passed else ", gate failed"
        cell = row.cell
        shown = cell.target, cell.lane, cell.variant, words, row.passed is False, _group(cell, cost)
        found.append(Point(number, spent, ap.value, ap.low, ap.high, *shown))
    return found


def _group(cell: Cell, cost: str) -> str:
    """What has a front of its own: a board, device and number of threads, and for a pace, which is over the variant's
    own ONNX in fp32, a variant too; of files, which are as large anywhere, all cells together."""
    if cost == "mb":
        return ""
    parts = [cell.variant if cost == "pace" else "", cell.board, cell.device, cell.threads]
    return " ".join(map(str, parts))


def cost_of(row: Row, cost: str) -> float | None:
    """Milliseconds, time over ONNX in fp32, megabytes of the file or of memory; None where it was not measured."""
    found = {
        "ms": row.speed.get("ms_p50"),
        "pace": row.pace,
        "mb": row.accuracy.get("megabytes"),
        "memory": row.speed.get("memory_mb"),
    }
    return found[cost]


def pareto(found: Sequence[Point]) -> list[Point]:
    """The points that no other beats in both: cheapest first, each more accurate than all before it."""
    front: list[Point] = []
    for point in sorted(found, key=lambda point: (point.cost, -point.ap)):
        if not front or point.ap > front[-1].ap:
            front.append(point)
    return front


def scatter(found: Sequence[Point], part: str, cost: str, *, alone: bool = False) -> str:
    """The chart as an <svg>; `alone` brings its own style, for a file of its own."""
    if not found:
        return "<p>No cell has both figures.</p>"
    x, x_ticks = _logarithmic([point.cost for point in found])
    y, y_ticks = _linear([value for point in found for value in (point.low, point.high)])
    title = f"AP of {part.replace('_', ' ')} against {COSTS[cost]}"
    out = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="{title}"']
    out[0] += ' xmlns="http://www.w3.org/2000/svg">' if alone else ">"
    if alone:
        out.append(f"<style>{STYLE.read_text(encoding='utf-8')}</style><title>{title}</title>")
    for value in y_ticks:
        out.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text class="tick" x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in x_ticks:
        out.append(f'<path class="grid" d="M{x(value):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        out.append(
            f'<text class="tick" x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{COSTS[cost]}</text>')
    out.append(
        f'<text class="axis" transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">AP, %</text>'
    )
    for group in dict.fromkeys(point.group for point in found):
        front = pareto([point for point in found if point.group == group])
        data = "" if alone else f' data-group="{html.escape(group)}"'
        out.append(f'<path class="front"{data} d="{_stairs([(x(point.cost), y(point.ap)) for point in front])}"/>')
    for point in found:
        out.append(_mark(point, x(point.cost), y(point.ap), y(point.low), y(point.high), alone))
    if alone:
        out.append(_legend(found))
    return "\n".join([*out, "</svg>"])


def _mark(point: Point, x: float, y: float, low: float, high: float, alone: bool) -> str:
    words = html.escape(point.words)
    shape = SHAPES.get(point.lane, OTHER)
    content = (
        f'<path class="interval" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
        f'<path class="shape" d="{shape}" transform="translate({x:.1f} {y:.1f})"/><title>{words}</title>'
    )
    kind = f"point t-{point.target}{' failed' if point.failed else ''}"
    if alone:
        return f'<g class="{kind}">{content}</g>'
    data = f'data-row="{point.row}" data-x="{x:.1f}" data-y="{y:.1f}" data-group="{html.escape(point.group)}"'
    side = ("end", -9) if x > WIDTH / 2 else ("start", 9)
    label = f'<text class="label" x="{x + side[1]:.1f}" y="{y - 9:.1f}" text-anchor="{side[0]}">{words}</text>'
    return f'<a class="{kind}" href="#row-{point.row}" {data} aria-label="{words}">{content}{label}</a>'


def _legend(found: Sequence[Point]) -> str:
    """Targets by colour and precisions by shape, where slow and inaccurate cells would be, which are few."""
    targets = dict.fromkeys(point.target for point in found)
    lanes = dict.fromkeys(point.lane for point in found)
    left, line = WIDTH - RIGHT - 96, HEIGHT - BOTTOM - 18 * (len(targets) + len(lanes))
    out = []
    for target in targets:
        out.append(
            f'<g class="t-{target}"><path class="shape" d="M-5-5h10v10h-10z" transform="translate({left} {line})"/></g>'
        )
        out.append(f'<text class="tick" x="{left + 12}" y="{line + 4}">{html.escape(target)}</text>')
        line += 18
    for lane in lanes:
        shape = SHAPES.get(lane, OTHER)
        out.append(f'<path class="shape plain" d="{shape}" transform="translate({left} {line})"/>')
        out.append(f'<text class="tick" x="{left + 12}" y="{line + 4}">{html.escape(lane)}</text>')
        line += 18
    return "\n".join(out)


def _stairs(corners: Sequence[tuple[float, float]]) -> str:
    """The front as steps: between two points only what the left one has can be had. report.js draws the same."""
    if not corners:
        return ""
    path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}"
    return path + "".join(f"H{x:.1f}V{y:.1f}" for x, y in corners[1:])


class _Scale:
    """From a figure to a coordinate of the picture."""

    def __init__(self, low: float, high: float, start: float, end: float, logarithmic: bool) -> None:
        self._f = math.log if logarithmic else float
        self._low, self._span = self._f(low), self._f(high) - self._f(low)
        self._start, self._length = start, end - start

    def __call__(self, value: float) -> float:
        return self._start + self._length * (self._f(value) - self._low) / self._span


def _logarithmic(values: Sequence[float]) -> tuple[_Scale, list[float]]:
    low, high = min(values) / 1.15, max(values) * 1.15
    scale = _Scale(low, high, LEFT, WIDTH - RIGHT, logarithmic=True)
    steps = (1, 2, 3, 5, 7) if high / low > 3 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    ticks = [step * 10.0**power for power in range(-3, 7) for step in steps]
    return scale, [tick for tick in ticks if low <= tick <= high]


def _linear(values: Sequence[float]) -> tuple[_Scale, list[float]]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    low, high = max(0.0, low - margin), high + margin
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 8)
    first = math.ceil(low / step)
    ticks = [round(number * step, 6) for number in range(first, math.floor(high / step) + 1)]
    return _Scale(low, high, HEIGHT - BOTTOM, TOP, logarithmic=False), ticks

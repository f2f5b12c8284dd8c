"""The heat map of a study, unit x part, as one HTML page: no script, no network, light and dark, fit to print."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ...evaluation.whole_body_ap import EVALUATED_PARTS
from ..page import facts_table, write_page
from .choice import Choice
from .proxy import MEASURES
from .table import Row, SensitivityTable

PARTS = tuple(EVALUATED_PARTS)

HARM, HELP = "226,98,20", "44,124,200"
"""Orange where int8 costs, blue where it seems to help: told apart by colour-blind eyes, on white and on black."""

STRONGEST = 0.8
"""Opacity of the largest figure of a map; the number stays readable on it."""

STYLE = Path(__file__).with_name("heat_map.css")

Values = Callable[[Row], Mapping[str, float]]


@dataclass(frozen=True)
class Map:
    """One group of columns, a figure by part: its heading, the figures of a row (above 0: int8 harms), their format."""

    heading: str
    values: Values
    shown: str


def write_heat_map(
    path: Path,
    table: SensitivityTable,
    blocks: Mapping[str, str],
    *,
    title: str,
    notes: Sequence[str],
    environment: Mapping[str, str],
    choice: Choice | None = None,
) -> None:
    """Write the page to `path`.

    Args:
        blocks: by unit, the block under whose heading it stands.
        notes: sentences on how the figures were made.
        environment: what it ran on, shown as it is.
        choice: what a budget chose, shown and marked in the maps.
    """
    chosen = frozenset(choice.units if choice else ())
    ap = [
        Map("AP lost by this alone in int8", lambda row: _negative(table.change(row.alone)), "{:.2f}"),
        Map("AP won back by this alone in float", lambda row: table.change(row.all_but), "{:.2f}"),
    ]
    near = [
        Map("px from float, p99, alone", lambda row: {p: d.px[2] for p, d in row.alone.distances.items()}, "{:.1f}"),
        Map("bins flipped, %, alone", lambda row: {p: 100 * d.flips for p, d in row.alone.distances.items()}, "{:.0f}"),
        Map("OKS loss, %, alone", lambda row: {p: 100 * d.oks_loss for p, d in row.alone.distances.items()}, "{:.2f}"),
    ]
    sections = []
    if table.has_ap:
        sections.append(f"<h2>Average precision, points</h2>{_heat(table, ap, blocks, chosen)}")
    sections.append(f"<h2>Distance from the float network</h2>{_heat(table, near, blocks, chosen)}")
    if table.has_ap:
        sections.append(
            "<h2>How well the distance ranks the layers</h2><p>Spearman's rank correlation over the rows, of the "
            f"figure alone with the AP lost alone.</p>{_correlations(table)}"
        )
    weak = [f'<p class="weak">{html.escape(note)}</p>' for note in notes]
    told = [_chosen(choice, table)] if choice else []
    facts = ["<h2>Environment</h2>", facts_table(environment)]
    write_page(path, title, [_baselines(table), *weak, *told, *sections, *facts], [STYLE])


def _heat(table: SensitivityTable, maps: Sequence[Map], blocks: Mapping[str, str], chosen: frozenset[str]) -> str:
    groups = "".join(f'<th colspan="{len(PARTS)}" class="gap">{html.escape(m.heading)}</th>' for m in maps)
    parts = "".join(
        f'<th scope="col"{" class=gap" if part == PARTS[0] else ""}>{_short(part)}</th>' for _ in maps for part in PARTS
    )
    largest = [max((abs(v) for row in table.rows for v in m.values(row).values()), default=0.0) for m in maps]
    lines = []
    for block, rows in groupby(table.rows, key=lambda row: blocks[row.unit]):
        grouped = list(rows)
        if len(grouped) > 1:
            width = 2 + len(maps) * len(PARTS)
            lines.append(f'<tr class="block"><th colspan="{width}">{html.escape(block)}</th></tr>')
        for row in grouped:
            name = row.unit.removeprefix(f"{block}.") if len(grouped) > 1 else row.unit
            name = html.escape(name.removesuffix(".conv"))
            mark = ' class="chosen" title="left in float by the budget"' if row.unit in chosen else ""
            cells = "".join(cell for m, most in zip(maps, largest, strict=True) for cell in _cells(row, m, most))
            lines.append(f'<tr{mark}><th scope="row">{name}</th>{cells}<td class="gap">{row.cost:.3g}</td></tr>')
    return f"""<div class="scroll" tabindex="0"><table class="heat"><thead>
<tr><th></th>{groups}<th class="gap">float costs</th></tr>
<tr><th></th>{parts}<th class="gap">{html.escape(table.costs.unit)}</th></tr></thead>
<tbody>
{chr(10).join(lines)}
</tbody></table></div>"""


def _cells(row: Row, columns: Map, most: float) -> Iterator[str]:
    values = columns.values(row)
    for part in PARTS:
        gap = ' class="gap"' if part == PARTS[0] else ""
        if part not in values:
            yield f"<td{gap}>-</td>"
            continue
        value = values[part]
        opacity = STRONGEST * abs(value) / most if most else 0.0
        colour = f"rgba({HARM if value > 0 else HELP},{opacity:.2f})"
        yield f'<td{gap} style="background:{colour}">{columns.shown.format(value) if value else 0}</td>'


def _baselines(table: SensitivityTable) -> str:
    parts = [part for part in PARTS if part in table.single.ap]
    lines = {
        "float": [table.single.ap[part] for part in parts],
        "everything in int8": [table.integer.ap[part] for part in parts],
        "lost": [table.single.ap[part] - table.integer.ap[part] for part in parts],
    }
    head = "".join(f"<th>{_short(part)}</th>" for part in parts)
    body = "".join(
        f"<tr><td>{name}</td>{''.join(f'<td>{value:.2f}</td>' for value in values)}</tr>"
        for name, values in lines.items()
    )
    return f'<table class="heat"><tr><th>AP, points</th>{head}</tr>{body}</table>'


def _correlations(table: SensitivityTable) -> str:
    found = table.correlations()
    head = "".join(f"<th>{_short(part)}</th>" for part in PARTS)
    body = "".join(
        f"<tr><td>{measure}</td>" + "".join(f"<td>{_number(found[measure][part])}</td>" for part in PARTS) + "</tr>"
        for measure in MEASURES
    )
    return f'<table class="heat"><tr><th></th>{head}</tr>{body}</table>'


def _chosen(choice: Choice, table: SensitivityTable) -> str:
    items = "".join(f"<li><code>{html.escape(unit)}</code></li>" for unit in choice.units)
    lost = ", ".join(f"{part.replace('_', ' ')} {loss:.2f}" for part, loss in choice.losses.items())
    return (
        f"<h2>Left in float by the budget {html.escape(choice.budget)}</h2><ul>{items or '<li>nothing</li>'}</ul>"
        f"<p>Points of AP lost then: {lost}. Cost: {choice.cost:.3g} {html.escape(table.costs.unit)} a crop more than "
        "everything in int8.</p>"
    )


def _negative(values: Mapping[str, float]) -> dict[str, float]:
    return {part: -value for part, value in values.items()}


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _short(part: str) -> str:
    return part.replace("_", "<br>")

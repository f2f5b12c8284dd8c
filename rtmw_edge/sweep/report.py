"""One self-contained HTML page of a sweep: verdicts, chart, table, heat map, gate, environment. No network.

Style and script are embedded. Without the script every chart and row is there; with it one chart at a time, and boxes
that leave cells out.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..fleet.link import LOCAL
from .charts import COSTS, OTHER, SHAPES, cost_of, points, scatter
from .charts import STYLE as CHART_STYLE
from .config import TORCH
from .page import facts_table, write_page
from .rows import PART_ORDER, Row
from .tables import bundle_of, number, ratio
from .verdicts import Advice, about_processor, fastest, verdicts

REPORT = "report.html"
"""Its name in a store."""

HERE = Path(__file__).parent
MARK = {Advice.QUANTIZE: "quantize", Advice.DO_NOT: "do-not", Advice.UNDECIDED: "undecided"}

NOTES = (
    "AP by the COCO-WholeBody protocol with labelled boxes; lost: against fp32 of the same target, in points. All "
    "intervals are 95 %: of accuracy by drawing the images again (the same draws for a cell and its float cell), of "
    "time by drawing the rounds again.",
    "Time: one crop a call, in turns with a float cell, A B A B: fp32 of the same target, and for that ONNX in fp32; "
    "the ratio is the median of the rounds. Memory: the most that a process held which loads the bundle and runs it, "
    "libraries included.",
)


def write_report(
    path: Path,
    rows: Sequence[Row],
    document: Mapping[str, Any],
    *,
    pictures: Sequence[Path] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page to `path`.

    Args:
        document: of the run: environment, gate and what was not possible.
        pictures: image files that are embedded, in this order. notes: more sentences on how the figures were made.
    """
    variants = ", ".join(dict.fromkeys(row.cell.variant for row in rows))
    facts = document["environment"]
    machine = facts.get("board") or facts.get("processor") or "this machine"
    boards: Mapping[str, Mapping[str, str]] = document["boards"]
    title = ", ".join([f"{variants} on {machine}, {facts['cores']} cores", *boards])
    parts = [
        _section("", [*_verdicts(rows, document)]),
        _section("Accuracy against cost", [_controls(rows), *_charts(rows)]),
        _section("Cells", [_table(rows), *(f'<p class="weak">{html.escape(note)}</p>' for note in (*NOTES, *notes))]),
        _section("Points of AP lost, part by part", [_heat_map(rows)]),
        _section("How far keypoints are from PyTorch's", [_distances(rows)]),
        _section(f"What broke the gate '{document['gate']['name']}'", [*_gate(rows)]),
        _section("What did not work, and what to distrust", [*_troubles(rows, document)]),
        _section("Poses", [f'<div class="pictures">{"".join(map(_picture, pictures))}</div>']) if pictures else "",
        _section("Environment", [facts_table(facts)]),
        *(_section(f"Environment of {name}", [facts_table(told)]) for name, told in boards.items()),
    ]
    script = (HERE / "report.js").read_text(encoding="utf-8")
    write_page(path, title, parts, [CHART_STYLE, HERE / "report.css"], script)


def _section(title: str, content: Iterable[str]) -> str:
    head = f"<h2>{html.escape(title)}</h2>\n" if title else ""
    return f"<section>\n{head}" + "\n".join(content) + "\n</section>"


def _verdicts(rows: Sequence[Row], document: Mapping[str, Any]) -> Iterable[str]:
    boards: Mapping[str, Mapping[str, str]] = document["boards"]
    here = {LOCAL: document["environment"]} if any(not row.cell.board for row in rows) else {}
    for name, facts in {**here, **boards}.items():
        if said := about_processor(facts):
            yield f"<p>{html.escape(f'{name}: {said}' if boards else said)}</p>"
    for verdict in verdicts(rows):
        words = html.escape(verdict.sentence()).replace(str(verdict.advice), f"<strong>{verdict.advice}</strong>", 1)
        yield f'<p class="verdict {MARK[verdict.advice]}">{words}</p>'
    for line in fastest(rows):
        yield f"<p>{html.escape(line)}</p>"


def _controls(rows: Sequence[Row]) -> str:
    cells = [row.cell for row in rows]
    out = ['<form class="controls" hidden>']
    out.append(_choice("part", "part", [(part, part.replace("_", " "), "") for part in reversed(PART_ORDER)], "radio"))
    out.append(_choice("cost", "against", [(cost, words, "") for cost, words in COSTS.items()], "radio"))
    targets = list(dict.fromkeys(cell.target for cell in cells))
    out.append(_choice("target", "targets", [(name, name, f'<i class="key t-{name}"></i>') for name in targets]))
    lanes = list(dict.fromkeys(cell.lane for cell in cells))
    out.append(_choice("lane", "precisions", [(name, name, _shape(name)) for name in lanes]))
    ways = list(dict.fromkeys(cell.calibrated for cell in cells if cell.calibrated))
    if len(ways) > 1:
        out.append(_choice("calibrated", "calibrations", [(name, name, "") for name in ways]))
    variants = list(dict.fromkeys(cell.variant for cell in cells))
    out.append(_choice("variant", "variants", [(name, name, "") for name in variants]))
    boards = list(dict.fromkeys(cell.board or LOCAL for cell in cells))
    if len(boards) > 1:
        out.append(_choice("board", "boards", [(name, name, "") for name in boards]))
    return "\n".join([*out, '<output id="count"></output></form>'])


def _choice(name: str, legend: str, values: Sequence[tuple[str, str, str]], kind: str = "checkbox") -> str:
    """A group of boxes that are all on, or of radio buttons of which the first is."""
    boxes = []
    for index, (value, words, mark) in enumerate(values):
        on = " checked" if kind == "checkbox" or index == 0 else ""
        value, words = html.escape(value), html.escape(words)
        boxes.append(f'<label><input type="{kind}" name="{name}" value="{value}"{on}>{mark}{words}</label>')
    return f"<fieldset><legend>{legend}</legend>{''.join(boxes)}</fieldset>"


def _shape(lane: str) -> str:
    path = f'<path fill="currentColor" d="{SHAPES.get(lane, OTHER)}"/>'
    return f'<svg width="14" height="14" viewBox="-8 -8 16 16" aria-hidden="true">{path}</svg>'


def _charts(rows: Sequence[Row]) -> Iterable[str]:
    for part in reversed(PART_ORDER):
        for cost, words in COSTS.items():
            found = points(rows, part, cost)
            chart = scatter(found, part, cost)
            several = len({point.group for point in found}) > 1
            each = f", for each {'variant, ' if cost == 'pace' else ''}board, device and number of threads" * several
            caption = f"AP of {part.replace('_', ' ')} against {words}; "
            caption += f"dashed{each}: nothing else is both cheaper and better; hollow: failed the gate"
            figcaption = f"<figcaption><small>{caption}</small></figcaption>"
            yield f'<figure data-part="{part}" data-cost="{cost}">{chart}{figcaption}</figure>'


def _table(rows: Sequence[Row]) -> str:
    in_3d = any(row.accuracy.get("mpjpe") for row in rows)
    heads = ["gate", *PART_ORDER] + (["MPJPE, mm"] if in_3d else [])
    heads += ["ms p50", "p90", "time against float", "MB", "memory, MB", "int8 convolutions", "bundle"]
    body = []
    for index, row in enumerate(rows):
        data = f'id="row-{index}" data-row="{index}" tabindex="-1" '
        body.append(_line(row, rows, _figures(row, in_3d), data))
    return _scrolled(f"<table>{_head(heads)}", body)


def _head(columns: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col">{name.replace("_", " ")}</th>' for name in ("cell", *columns))
    return f"<thead><tr>{heads}</tr></thead>"


def _line(row: Row, rows: Sequence[Row], figures: Iterable[str], data: str = "") -> str:
    """A table's row with the cell's name, and its variant where `rows` has others; report.js finds it by its data."""
    facts = {"target": row.cell.target, "lane": row.cell.lane, "variant": row.cell.variant}
    facts |= {"board": row.cell.board or LOCAL, "calibrated": row.cell.calibrated}
    data += " ".join(f'data-{name}="{html.escape(value)}"' for name, value in facts.items())
    several = any(other.cell.variant != row.cell.variant for other in rows)
    name = html.escape(f"{row.cell.variant} {row.label}" if several else row.label)
    return f'<tr {data}><th scope="row">{name}</th>{"".join(figures)}</tr>'


def _figures(row: Row, in_3d: bool) -> Iterable[str]:
    if row.passed is None:
        yield f"<td>{'' if row.status == 'ok' else html.escape(row.status)}</td>"
    else:
        yield '<td class="good">passed</td>' if row.passed else '<td class="bad">failed</td>'
    for part in PART_ORDER:
        ap = row.ap(part)
        ends = "" if ap is None else f' title="{ap.low:.1f} to {ap.high:.1f}"'
        yield f"<td{ends}>{number(None if ap is None else ap.value)}</td>"
    if in_3d:
        mpjpe = row.mpjpe("whole")
        yield f"<td>{number(None if mpjpe is None else mpjpe.value)}</td>"
    yield f"<td>{number(cost_of(row, 'ms'))}</td><td>{number(row.speed.get('ms_p90'))}</td>"
    pace, _, interval = ratio(row).partition(" ")
    yield f"<td>{html.escape(pace)}<br><small>{html.escape(interval)}</small></td>"
    yield f"<td>{number(cost_of(row, 'mb'))}</td><td>{number(cost_of(row, 'memory'), 0)}</td>"
    runs = row.accuracy.get("runs")
    yield f"<td>{runs['int8']}/{sum(runs['kernels'].values())}</td>" if runs else "<td>-</td>"
    yield f"<td><code>{bundle_of(row) or '-'}</code></td>"


def _heat_map(rows: Sequence[Row]) -> str:
    """Cells by parts; the deeper, the more is lost; underlined where the gate's limit is broken."""
    compared = [row for row in rows if row.drop]
    if not compared:
        return "<p>Nothing to compare.</p>"
    worst = max(5.0, *(found.value for row in compared for found in row.drop.values()))
    body = []
    for row in compared:
        broken = {check.part for check in row.broken if check.measure == "ap_drop"}
        cells = []
        for part in PART_ORDER:
            found = row.drop.get(part)
            if found is None:
                cells.append("<td>-</td>")
                continue
            over = ' class="over"' if part in broken else ""
            depth = max(0.0, found.value) / worst
            interval = f"<small>{found.low + 0.0:.1f} to {found.high + 0.0:.1f}</small>"
            cells.append(f'<td{over} style="--d:{depth:.2f}">{found.value + 0.0:.1f} {interval}</td>')
        body.append(_line(row, rows, cells))
    table = _scrolled(f'<table class="heat">{_head(PART_ORDER)}', body)
    return f'{table}\n<p class="weak">Underlined: more than the gate allows.</p>'


def _distances(rows: Sequence[Row]) -> str:
    """Cells by parts: median and 99th percentile in crop pixels."""
    compared = [row for row in rows if row.px("whole") is not None and row.cell.target != TORCH]
    if not compared:
        return "<p>Nothing to compare.</p>"
    body = []
    for row in compared:
        cells = []
        for part in PART_ORDER:
            figures = [row.px(part, percentile) for percentile in ("p50", "p99")]
            cells.append(f"<td>{' / '.join(number(None if px is None else px.value) for px in figures)}</td>")
        body.append(_line(row, rows, cells))
    table = _scrolled(f"<table>{_head(PART_ORDER)}", body)
    return f'{table}\n<p class="weak">Pixels of the crop, median / 99th percentile, of keypoints it is sure of.</p>'


def _scrolled(head: str, body: Sequence[str]) -> str:
    """A table that may be wider than the page; the keyboard scrolls it."""
    rows = "\n".join(body)
    return f'<div class="scroll" tabindex="0">{head}\n<tbody>\n{rows}\n</tbody></table></div>'


def _gate(rows: Sequence[Row]) -> Iterable[str]:
    failed = [row for row in rows if row.passed is False]
    if not failed:
        yield "<p>No cell did.</p>"
        return
    yield "<ul>"
    for row in failed:
        why = "; ".join(check.sentence() for check in row.broken)
        yield f"<li><strong>{html.escape(f'{row.cell.variant} {row.label}')}</strong>: {html.escape(why)}</li>"
    yield "</ul>"


def _troubles(rows: Sequence[Row], document: Mapping[str, Any]) -> Iterable[str]:
    lines = [f"{row.cell.variant} {row.label}: {row.status}: {row.reason}" for row in rows if row.reason]
    lines += [f"not possible: {item['what']}: {item['reason']}" for item in document["not_possible"]]
    for row in rows:
        if row.noisy:
            lines.append(f"{row.cell.variant} {row.label}: its times are not to be trusted: {row.noisy}")
    if not lines:
        yield "<p>Nothing.</p>"
        return
    yield "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _picture(path: Path) -> str:
    kind = "png" if path.suffix.lower() == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    name = html.escape(path.stem)
    return f'<figure><img alt="{name}" src="data:image/{kind};base64,{data}"><figcaption>{name}</figcaption></figure>'

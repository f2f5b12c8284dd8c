"""One self-contained HTML page of measured cells: table, pictures, environment. No script, no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import atomic_write
from .result import PART_ORDER, CellResult

STYLE = """
:root{color-scheme:light dark;--line:#8884;--weak:#777;--bar:#3b82f6}
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
.scroll{overflow-x:auto}.weak{color:var(--weak)}.failed{color:#c22}
figure{display:inline-block;margin:0 1rem 1rem 0;vertical-align:top}
figure img{max-width:100%;max-height:26rem;border-radius:4px}
@media print{body{max-width:none;margin:0}}
"""


def _row(result: CellResult) -> str:
    name = html.escape(result.label)
    if result.failure:
        return f'<tr><td>{name}</td><td colspan="16" class="failed">{html.escape(result.failure)}</td></tr>'
    cells = [f"{result.megabytes:.1f}", f"{result.ms_p50:.1f}", f"{result.ms_p90:.1f}"]
    count = result.convolutions
    cells.append(f"{count.get('int8', 0)} / {count.get('total', 0)}")
    cells += [f"{100 * result.ap[part]:.1f}" for part in PART_ORDER]
    cells += [f"{result.difference_px[part]:.2f}" for part in PART_ORDER]
    return f"<tr><td>{name}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _figure(path: Path) -> str:
    kind = "png" if path.suffix.lower() == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    name = html.escape(path.stem)
    return f'<figure><img alt="{name}" src="data:image/{kind};base64,{data}"><figcaption>{name}</figcaption></figure>'


def write_report(
    path: Path,
    results: Sequence[CellResult],
    pictures: Sequence[Path],
    environment: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Write the page to `path`.

    Args:
        pictures: image files that are embedded, in this order.
        environment: what it ran on, shown as it is.
        notes: sentences under the table: how the figures were made.
    """
    parts = [part.replace("_", " ") for part in PART_ORDER]
    group = "<tr><th></th><th>file</th><th colspan=2>one crop, ms</th><th>convolutions</th>"
    group += f"<th colspan={len(parts)}>AP, %</th><th colspan={len(parts)}>difference from torch, px (p95)</th></tr>"
    names = "".join(f"<th>{name}</th>" for name in ["MB", "p50", "p90", "int8", *parts, *parts])
    rows = "\n".join(_row(result) for result in results)
    variant = html.escape(results[0].variant) if results else ""
    facts = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in environment.items())
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>rtmw-edge: {variant}</title><style>{STYLE}</style>
<h1>{variant} on this machine</h1>
<div class="scroll"><table><thead>{group}<tr><th>target, precision</th>{names}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
{"".join(f'<p class="weak">{html.escape(note)}</p>' for note in notes)}
<h2>Poses</h2>
{"".join(_figure(picture) for picture in pictures)}
<h2>Environment</h2>
<table>{facts}</table>
</html>
"""
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")

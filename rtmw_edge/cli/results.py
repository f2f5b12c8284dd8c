"""`rtmw-edge results`: what sweeps found: list, show, compare, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..sweep.rows import Row
    from ..sweep.store import Run

app = typer.Typer(help="What sweeps found: list, show, compare, export.", no_args_is_help=True, rich_markup_mode=None)

StoreArgument = Annotated[Path, typer.Argument(help="The folder of a sweep.")]
RunOption = Annotated[int | None, typer.Option(help="Number of a run; the last when left out.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

ALIKE = 8
"""So many characters of every file that is written here are those of all others of its kind."""


@app.command("list")
def list_(store: StoreArgument, json_: JsonOption = False) -> None:
    """The runs of a store.

    When, with which version, how many cells are done, failed and waiting.
    """
    import json
    import time

    from ..sweep.rows import PENDING, rows_of
    from ..sweep.store import FAILED, NOT_POSSIBLE, OK, Store

    with Store.open(store) as opened:
        found = []
        for run in opened.runs():
            rows = rows_of(opened, run)
            states = [row.status for row in rows]
            found.append(
                {
                    "run": run.id,
                    "at": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.at)),
                    "version": run.document["environment"]["rtmw-edge"],
                    "cells": len(rows),
                    "evaluated": sum(bool(row.accuracy) for row in rows),
                    "timed": sum(bool(row.speed) for row in rows),
                    **{name: states.count(name) for name in (OK, FAILED, NOT_POSSIBLE, PENDING)},
                }
            )
    if json_:
        print(json.dumps(found, indent=1))
        return
    for line in found:
        print(
            f"run {line['run']}  {line['at']}  rtmw-edge {line['version']}: {line['cells']} cells, {line['evaluated']} "
            f"evaluated, {line['timed']} timed, {line['failed']} failed, {line['not possible']} not possible, "
            f"{line['pending']} waiting"
        )


@app.command()
def show(store: StoreArgument, run: RunOption = None, json_: JsonOption = False) -> None:
    """The cells of a run in a table.

    With what each loses per part, its time and the gate's verdict.
    """
    from ..sweep.tables import to_json
    from .console import Console

    chosen, rows = _rows(store, run)
    if json_:
        print(to_json(rows, chosen.document), end="")
        return
    console = Console(highlight=False)
    for variant in dict.fromkeys(row.cell.variant for row in rows):
        console.print(_table(variant, [row for row in rows if row.cell.variant == variant]))
    for row in rows:
        if row.reason:
            console.print(f"{row.cell.variant} {row.cell.label}: {row.status}: {row.reason}", soft_wrap=True)
    for item in chosen.document["not_possible"]:
        console.print(f"not possible: {item['what']}: {item['reason']}", soft_wrap=True)


@app.command()
def export(
    store: StoreArgument,
    run: RunOption = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table for each variant (the default).")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="One line a cell, every figure.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Every figure, the gate and the environment.")] = False,
    svg: Annotated[bool, typer.Option("--svg", help="The picture of accuracy against cost, for papers.")] = False,
    part: Annotated[
        str | None,
        typer.Option(help="For --svg: body, foot, face, left_hand, right_hand or whole.", show_default="whole"),
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="For --svg: ms, pace (ONNX in fp32 = 1), mb or memory.", show_default="ms")
    ] = None,
    most: Annotated[
        float | None, typer.Option(help="For --svg: leave out what costs more, and would squeeze all others.", min=0)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None,
) -> None:
    """Write the results of a run as Markdown, CSV, JSON or SVG."""
    from ..errors import BadInputError, unknown
    from ..files import atomic_write, check_writable
    from ..sweep.charts import COSTS, points, scatter
    from ..sweep.rows import PART_ORDER
    from ..sweep.tables import to_csv, to_json, to_markdown

    if markdown + csv + json_ + svg > 1:
        raise BadInputError("Choose one of --markdown, --csv, --json and --svg.")
    if not svg and (part is not None or cost is not None or most is not None):
        raise BadInputError("--part, --cost and --most are of the picture: add --svg, or leave them out.")
    part, cost = part or "whole", cost or "ms"
    for what, name, names in (("part", part, PART_ORDER), ("cost", cost, tuple(COSTS))):
        if name not in names:
            raise unknown(what, name, names)
    chosen, rows = _rows(store, run)
    if svg:
        shown = [point for point in points(rows, part, cost) if most is None or point.cost <= most]
        if not shown:
            limit = "has a figure" if most is None else f"costs {most:g} or less; raise --most, or leave it out"
            raise BadInputError(f"There is nothing to draw of {part} against {cost}: no cell {limit}.")
        text = scatter(shown, part, cost, alone=True) + "\n"
    else:
        text = to_csv(rows) if csv else to_json(rows, chosen.document) if json_ else to_markdown(rows, chosen.document)
    if out is None:
        print(text, end="")
        return
    check_writable(out, text[:ALIKE].encode())
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(out)


@app.command()
def report(
    store: StoreArgument,
    run: RunOption = None,
    out: Annotated[Path | None, typer.Option(help="The page to write; default: STORE/report.html.")] = None,
) -> None:
    """Write the report of a run again.

    One HTML page that needs no network.
    """
    from ..files import check_writable
    from ..sweep.page import HEAD
    from ..sweep.report import REPORT, write_report

    path = out or store / REPORT
    check_writable(path, HEAD.encode())
    chosen, rows = _rows(store, run)
    write_report(path, rows, chosen.document)
    print(path)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A sweep's folder, or FOLDER@RUN.")],
    after: Annotated[str, typer.Argument(help="Another, or another run of the same.")],
    json_: JsonOption = False,
) -> None:
    """What became worse, and better, from one run to another.

    Beyond noise; the exit code is 1 when something became worse, and 2 when the later run is not done yet.
    """
    import json
    from dataclasses import asdict

    from ..errors import BadInputError, VerificationError
    from ..sweep.compare import compare, environments_apart
    from ..sweep.rows import PENDING

    (one, old), (other, new) = (_rows(*_place(text)) for text in (before, after))
    changes = compare(old, new)
    apart = environments_apart(one.document, other.document)
    if json_:
        print(json.dumps({"environment": apart, "changes": [asdict(change) for change in changes]}, indent=1))
    else:
        for line in apart:
            print(f"environment: {line}")
        for change in changes:
            print(f"{ {True: 'worse ', False: 'better', None: 'note  '}[change.worse] }  {change.cell}: {change.what}")
        if not changes:
            print(f"No change beyond noise in {len(new)} cells.")
    worse = sum(change.worse is True for change in changes)
    if worse:
        raise VerificationError(f"{worse} regression(s) from {before} to {after}.")
    waiting = sum(row.status == PENDING for row in new)
    if waiting:
        raise BadInputError(
            f"{waiting} of {len(new)} cells of {after} are not done yet, so that this says nothing of them; run its "
            "sweep to the end, and compare again."
        )


def _place(text: str) -> tuple[Path, int | None]:
    """FOLDER or FOLDER@RUN; a folder's own name goes first."""
    folder, at, number = text.rpartition("@")
    return (Path(folder), int(number)) if at and number.isdecimal() and not Path(text).exists() else (Path(text), None)


def _rows(store: Path, run: int | None) -> tuple[Run, list[Row]]:
    from ..sweep.rows import rows_of, run_of
    from ..sweep.store import Store

    with Store.open(store) as opened:
        chosen = run_of(opened, run)
        return chosen, rows_of(opened, chosen)


def _table(variant: str, rows: list[Row]) -> object:
    from rich import box
    from rich.table import Table

    from ..sweep.rows import PART_ORDER
    from ..sweep.tables import lost

    title = f"{variant}\nAP in %, below it the points lost; time against float, ? where it is noisy"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("cell", min_width=16)
    for name in ("MB", "ms", "time", "body", "foot", "face", "left", "right", "whole"):
        table.add_column(name, justify="right", no_wrap=True, min_width=4)
    for row in rows:
        speed = row.speed
        verdict = (
            {None: "", True: "gate passed", False: "gate failed"}[row.passed] if row.status == "ok" else row.status
        )
        cells = [f"{row.label}\n{verdict}".strip()]
        cells += [f"{row.accuracy['megabytes']:.1f}" if "megabytes" in row.accuracy else "-"]
        cells += [f"{speed['ms_p50']:.1f}" if speed else "-"]
        cells += [f"{row.ratio.value:.2f}{'?' if row.noisy else ''}" if row.ratio else "-"]
        for part in PART_ORDER:
            ap, drop = row.ap(part), row.drop.get(part)
            below = f"\n{lost(drop.value)}" if drop is not None else ""
            cells.append("-" if ap is None else f"{ap.value:.1f}{below}")
        table.add_row(*cells)
    return table

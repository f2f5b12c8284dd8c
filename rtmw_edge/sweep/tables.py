"""Rows as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.intervals import Estimate
from .cells import Cell
from .rows import PART_ORDER, Row


def flat(row: Row) -> dict[str, Any]:
    """One row as named values: AP in points, drops with the ends of their 95 % interval, None where unknown.

    The threads are those that it was timed with, also where the sweep says all cores.
    """
    out: dict[str, Any] = {**row.cell.to_dict(), "lane": row.cell.lane, "status": row.status, "reason": row.reason}
    out["threads"] = row.speed.get("threads") or row.cell.threads or None
    runs = row.accuracy.get("runs", {})
    out["runtime"] = f"{runs['runtime']} {runs['version']}" if runs else None
    out["convolutions_int8"] = runs.get("int8")
    out["convolutions"] = sum(runs["kernels"].values()) if runs else None
    out["int8_mac_share"] = runs["int8_macs"] / runs["macs"] if runs.get("macs") else None
    out["bundle"] = bundle_of(row)
    out["megabytes"] = row.accuracy.get("megabytes")
    out["memory_mb"] = row.speed.get("memory_mb")
    for name in ("ms_p50", "ms_p90", "ratio", "ratio_low", "ratio_high", "spread"):
        out[name] = row.speed.get(name)
    out["paced_by"] = _paced_by(row)
    out["noisy"] = row.noisy
    for part in PART_ORDER:
        out |= _ends(f"ap_{part}", row.ap(part))
    for part in PART_ORDER:
        out |= _ends(f"drop_{part}", row.drop.get(part))
    for part in row.accuracy.get("mpjpe", {}):
        out |= _ends(f"mpjpe_{part}", row.mpjpe(part))
        out |= _ends(f"mpjpe_more_{part}", row.mpjpe_more.get(part))
    for part in PART_ORDER:
        moved = row.px(part)
        out[f"px_p99_{part}"] = None if moved is None else moved.value
    out["gate"] = {None: "", True: "passed", False: "failed"}[row.passed]
    out["gate_failed"] = "; ".join(check.sentence() for check in row.broken)
    return out


def bundle_of(row: Row) -> str | None:
    """Where the bundle lies in the sweep's folder; None where there is none."""
    return f"bundles/{row.accuracy['bundle']}" if "bundle" in row.accuracy else None


def to_csv(rows: Sequence[Row]) -> str:
    """One line a cell; the columns are those of all rows together."""
    lines = [flat(row) for row in rows]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def to_json(rows: Sequence[Row], document: Mapping[str, Any]) -> str:
    """All rows, what was not possible, the gate and the environments as one document."""
    facts = {name: document[name] for name in ("environment", "not_possible", "gate", "boards")}
    return json.dumps({**facts, "cells": [flat(row) for row in rows]}, indent=1) + "\n"


def to_markdown(rows: Sequence[Row], document: Mapping[str, Any]) -> str:
    """A table for each variant: AP in % of the fp32 cells, and what every other cell loses, with intervals."""
    out: list[str] = []
    for variant in dict.fromkeys(row.cell.variant for row in rows):
        mine = [row for row in rows if row.cell.variant == variant]
        images = next((row.accuracy["images"] for row in mine if row.accuracy), 0)
        data = next((row.accuracy["dataset"] for row in mine if row.accuracy), mine[0].cell.data)
        out += [f"### {variant}", ""]
        out += [
            f"AP in % on {images} images of {data}; of cells that are not fp32, the points lost against fp32 of the "
            "same target, with the 95 % interval over images. Time: against the float cell that it was timed in turns "
            "with, with the 95 % interval over rounds.",
            "",
        ]
        in_3d = any(row.accuracy.get("mpjpe") for row in mine)
        heads = ["cell", "MB", "memory, MB", "ms p50", "time", "int8 convolutions", *(_words(p) for p in PART_ORDER)]
        heads += ["MPJPE, mm"] if in_3d else []
        heads += ["gate"]
        out += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        out += ["| " + " | ".join(_cells(row, in_3d)) + " |" for row in mine]
        out.append("")
        notes = [f"- {row.label}: {row.reason}" for row in mine if row.reason]
        notes += [f"- {row.label}: times not to be trusted, {row.noisy}" for row in mine if row.noisy]
        out += [*notes, ""] if notes else []
    if document["not_possible"]:
        out += ["Not possible:", ""]
        out += [f"- {item['what']}: {item['reason']}" for item in document["not_possible"]]
        out.append("")
    out += [f"Made with {_facts(document['environment'])}.", ""]
    for board, facts in document["boards"].items():
        out += [f"On {board}: {_facts(facts)}.", ""]
    return "\n".join(out)


def _cells(row: Row, in_3d: bool) -> list[str]:
    facts = flat(row)
    count = f"{facts['convolutions_int8']}/{facts['convolutions']}" if facts["convolutions"] else "-"
    cells = [row.label, number(facts["megabytes"]), number(facts["memory_mb"], 0), number(facts["ms_p50"])]
    cells += [ratio(row), count]
    for part in PART_ORDER:
        drop, ap = row.drop.get(part), row.ap(part)
        if drop is not None:
            cells.append(f"{lost(drop.value)} ({lost(drop.low)} to {lost(drop.high)})")
        else:
            cells.append("-" if ap is None else f"{ap.value:.1f}")
    if in_3d:
        found, more = row.mpjpe("whole"), row.mpjpe_more.get("whole")
        against = f" ({more.value:+.1f} %)" if more is not None else ""
        cells.append("-" if found is None else f"{found.value:.1f}{against}")
    return [*cells, facts["gate"] or row.status.replace("ok", "")]


def ratio(row: Row) -> str:
    """Time against the float cell, with its interval; "-" where there is none."""
    return "-" if row.ratio is None else f"{with_ends(row.ratio)}{' (noisy)' if row.noisy else ''}"


def with_ends(found: Estimate) -> str:
    """A ratio of times with the ends of its interval."""
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def lost(drop: float) -> str:
    """Points of AP lost, below 0 where some were won, and never "-0.0"."""
    return f"{round(drop, 1) + 0.0:.1f}"


def _paced_by(row: Row) -> str | None:
    found = row.speed.get("paced_by")
    return None if found is None else Cell(**found).label


def _facts(environment: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in environment.items())


def _words(part: str) -> str:
    return part.replace("_", " ")


def number(value: float | None, digits: int = 1) -> str:
    """A figure, "-" for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def _ends(name: str, found: Estimate | None) -> dict[str, float | None]:
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}

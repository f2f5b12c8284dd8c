"""A study in front of a user: its tables in the terminal, the choice of a budget, and the page."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from pathlib import Path
from shlex import quote

from rich import box
from rich.console import Console
from rich.table import Table

from ...errors import VerificationError
from ...runtime.environment import environment
from ..budget import Budget
from .choice import Choice, choose
from .heat_map import write_heat_map
from .layer_costs import LayerCosts
from .partial_run import blocks_of
from .start import Options
from .study import Study, Units
from .table import SensitivityTable

SHOWN = 12
"""Rows that are printed; the page and the CSV have all."""

WIDE = 120
"""Columns where there is no terminal: the names of convolutions stay on one line."""


def show_tables(found: SensitivityTable, console: Console) -> None:
    """The baselines, the units that move the keypoints most, and how well that ranks them."""
    parts = list(found.single.ap)
    baselines = Table(title="AP, points", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    units = Table(
        title=f"the {min(SHOWN, len(found.rows))} that move the keypoints most, of {len(found.rows)}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    baselines.add_column("", no_wrap=True)
    units.add_column("alone in int8", overflow="fold")
    for part in parts:
        baselines.add_column(part.replace("_", " "), justify="right")
    for name in ("px p99", "flips %", "OKS loss %", *(["AP lost"] if found.has_ap else []), found.costs.unit):
        units.add_column(name, justify="right", no_wrap=True)
    for name, finding in (("float", found.single), ("int8", found.integer)):
        baselines.add_row(name, *(f"{finding.ap[part]:.2f}" for part in parts))
    for row in sorted(found.rows, key=lambda row: -row.alone.distances["whole"].oks_loss)[:SHOWN]:
        whole = row.alone.distances["whole"]
        lost = [f"{0.0 - found.change(row.alone)['whole']:.2f}"] if found.has_ap else []
        figures = (f"{whole.px[2]:.1f}", f"{100 * whole.flips:.0f}", f"{100 * whole.oks_loss:.2f}")
        units.add_row(row.unit, *figures, *lost, f"{row.cost:.3g}")
    if not console.is_terminal:
        console.width = WIDE
    console.print(baselines, units, soft_wrap=False)
    if found.has_ap:
        found_by = {measure: line["whole"] for measure, line in found.correlations().items()}
        shown = ", ".join(f"{measure} {'-' if isnan(rho) else f'{rho:.2f}'}" for measure, rho in found_by.items())
        console.print(f"rank correlation over layers with the whole AP lost: {shown}")


def choose_and_save(
    study: Study, units: Units, costs: LayerCosts, budget: Budget, path: Path, options: Options, console: Console
) -> Choice:
    """Choose what stays in float, write its table to `path` unless that is nothing, and say so line by line.

    The table of an earlier budget there stays until this one's is known, and goes where this one has none; unless it
    is what is studied.
    """
    studied = isinstance(given := options.scales.table, Path) and given.resolve() == path.resolve()
    console.print(f"\nbudget {budget.text} on {study.crops.dataset}; {costs.source}")
    try:
        choice = choose(study, units, costs, budget, console.print)
    except VerificationError:
        if not studied:
            path.unlink(missing_ok=True)
        raise
    if not choice.convolutions:
        if not studied:
            path.unlink(missing_ok=True)
        console.print("Everything in int8 keeps the budget: export it as int8.")
        return choice
    table = study.subject.table
    why = {
        "budget": budget.text,
        "data": study.crops.dataset,
        "ap_lost": {part: round(points, 4) for part, points in choice.losses.items()},
        "costs": costs.source,
    }
    mixed = replace(table.leaving_in_float(choice.convolutions), provenance={**table.provenance, "left_in_float": why})
    mixed.save(path)
    console.print(
        f"{len(choice.convolutions)} of {len(study.subject.quantized)} convolutions stay in float, "
        f"{choice.cost:.3g} {costs.unit} a crop more than everything in int8. AP lost, with 95 % intervals:"
    )
    for part, lost in study.ap_losses(choice.convolutions).items():
        limit = f", {budget.limits[part]:g} allowed" if part in budget.limits else ""
        console.print(f"  {part.replace('_', ' ')} {lost.value:.2f} ({lost.low:.2f} to {lost.high:.2f}){limit}")
    weights = "" if options.weights is None else f"--weights {quote(str(options.weights))} "
    console.print(
        f"rtmw-edge export {table.variant} {weights}--target {options.target or 'TARGET'} --precision int8-mixed "
        f"--table {quote(str(path))} --out BUNDLE"
    )
    return choice


def write_page(study: Study, found: SensitivityTable, units: Units, path: Path, choice: Choice | None = None) -> None:
    """The heat map of a study, with how its figures were made."""
    blocks = blocks_of(study.subject.network)
    table = study.subject.table
    people = len(study.crops)
    notes = [
        f"AP by the COCO-WholeBody protocol on the {people} people of {study.crops.dataset}; distances over the first "
        f"{study.proxy_crops} of them, where the float network is sure of a keypoint.",
        "Every network is the fake-quantized one in PyTorch. Orange: int8 costs; blue: it seems to help, which on so "
        "few people is mostly chance. OKS loss: 1 minus the mean similarity to the float network's keypoints.",
        f"What float costs more than int8: {found.costs.source}.",
    ]
    write_heat_map(
        path,
        found,
        {unit: blocks[names[0]] for unit, names in units.items()},
        title=f"{table.variant} on the grid {table.grid}: what int8 costs, layer by layer",
        notes=notes,
        environment={"weights": table.weights_sha256, "table": table.sha256, **environment()},
        choice=choice,
    )

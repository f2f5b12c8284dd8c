"""`rtmw-edge sensitivity`: what int8 costs convolution by convolution, and a table that keeps a budget of AP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..sweep.budget import Budget
    from ..sweep.sensitivity.choice import Choice
    from ..sweep.sensitivity.layer_costs import LayerCosts
    from ..sweep.sensitivity.study import Study, Units
    from ..sweep.sensitivity.table import SensitivityTable

SHOWN = 12
"""Rows that are printed; the page and the CSV have all."""

WIDE = 120
"""Columns where there is no terminal: the names of convolutions stay on one line."""

SECONDS_BETWEEN_LINES = 30.0
"""Where there is no terminal for a bar, so much time lies between two lines of progress."""


def sensitivity(
    variant: Annotated[str, typer.Argument(help="Variant, e.g. rtmw-n-256x192; see 'rtmw-edge models'.")],
    out: Annotated[Path, typer.Option(help="Folder for findings, CSV, page and table; an earlier run there goes on.")],
    weights: Annotated[
        Path | None, typer.Option(help="A .pth or .safetensors file; default: shipped or fetched.")
    ] = None,
    grid: Annotated[str, typer.Option(help="common, affine, full, w8 or w8a16; a --table brings its own.")] = "common",
    table: Annotated[
        Path | None, typer.Option(help="The quantization table; default: the one that the weights were trained with.")
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(help="Make the table from a folder of images, or synthetic:N.", show_default="synthetic:200"),
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="Person boxes for a calibration folder, as for 'run'.")] = None,
    method: Annotated[
        str | None, typer.Option(help="How ranges are chosen when calibrating.", show_default="percentile")
    ] = None,
    data: Annotated[
        str, typer.Option(help="People to judge by: synthetic:val[:N] or coco:ANNOTATIONS:IMAGES.")
    ] = "synthetic:val:200",
    crops: Annotated[int, typer.Option(help="Crops for the distance from float; AP takes all of --data.", min=1)] = 100,
    by: Annotated[str, typer.Option(help="layer: every convolution; stage: those of a stage together.")] = "layer",
    proxy_only: Annotated[
        bool, typer.Option("--proxy-only", help="No AP of single layers: they run on --crops people only.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(help="Judge and time as in onnx, openvino, tflite, ncnn or tensorrt; costs are MACs without."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help='Choose what stays in float: "hands<=0.5,body<=0.5,whole<=0.5", points of AP that may be lost.'
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of PyTorch and of the target's runtime.", min=1)] = None,
) -> None:
    """Quantize every convolution alone, and all but it, and show what that does to each body part.

    Writes sensitivity.csv and sensitivity.html, a heat map of layers and parts. With --budget it also chooses the
    convolutions to leave in float at least cost, verifies the choice by its AP, and writes mixed-table.json for
    'rtmw-edge export --precision int8-mixed --table'. A run that was stopped goes on where it was.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from ..errors import importing, unknown
    from .console import bar

    if by not in ("layer", "stage"):
        raise unknown("grouping", by, ("layer", "stage"))
    with importing("This", "rtmw-edge[export]"):
        import torch

        from ..sweep.budget import Budget
        from ..sweep.sensitivity.layer_costs import layer_costs
        from ..sweep.sensitivity.start import Options, start
        from ..sweep.sensitivity.table import SensitivityTable
    limits = None if budget is None else Budget.parse(budget)
    if threads is not None:
        torch.set_num_threads(threads)
    options = Options(variant, out, weights, grid, table, calibration, boxes, method, data, crops, proxy_only, target)
    columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with bar(*columns) as progress:
        say = _Reporter(progress)
        study = start(options, say.step)
        costs = layer_costs(study.subject.network, study.subject.table, target, threads, say.step)
        units = study.subject.units(by_block=by == "stage")
        say.step("running the float network")
        study.run(units, say.network)
        say.step("running the float and the int8 network on all people")
        found = SensitivityTable.of(study, units, costs)
    found.write_csv(out / "sensitivity.csv")
    _print(found)
    page = out / "sensitivity.html"
    _write_page(study, found, units, page, None)  # before choosing, which may find that nothing keeps the budget
    if limits is not None:
        _write_page(study, found, units, page, _choose(study, units, costs, limits, out, target))
    print(f"{page}, {out / 'sensitivity.csv'}")


class _Reporter:
    """Says what is done: on the bar of a terminal, elsewhere a line now and then."""

    def __init__(self, progress: Progress) -> None:
        from time import monotonic

        self._progress, self._clock = progress, monotonic
        self._task = progress.add_task("starting", total=None)
        self._begun = self._told = monotonic()

    def step(self, what: str) -> None:
        """What goes on before and after the networks."""
        self._progress.update(self._task, description=what)
        self._line(what)
        self._begun = self._clock()

    def network(self, done: int, total: int, what: str) -> None:
        """Which network of how many is run."""
        self._progress.update(self._task, completed=done, total=total, description=what)
        left = (self._clock() - self._begun) / max(done, 1) * (total - done)
        self._line(f"{done} of {total} networks{f', about {left / 60:.0f} min left' if done else ''}: {what}")

    def _line(self, text: str) -> None:
        if self._progress.disable and self._clock() - self._told > SECONDS_BETWEEN_LINES:
            print(text, file=sys.stderr, flush=True)
            self._told = self._clock()


def _choose(study: Study, units: Units, costs: LayerCosts, limits: Budget, out: Path, target: str | None) -> Choice:
    """Choose, verify, write the table, and say so line by line."""
    from dataclasses import replace

    from ..sweep.sensitivity.choice import choose

    print(f"\nbudget {limits.text} on {study.crops.dataset}; {costs.source}")
    choice = choose(study, units, costs, limits, print)
    if not choice.convolutions:
        print("Everything in int8 keeps the budget: export it as int8.")
        return choice
    table = study.subject.table
    why = {
        "budget": limits.text,
        "data": study.crops.dataset,
        "ap_lost": {part: round(points, 4) for part, points in choice.losses.items()},
        "costs": costs.source,
    }
    mixed = replace(table.leaving_in_float(choice.convolutions), provenance={**table.provenance, "left_in_float": why})
    path = out / "mixed-table.json"
    mixed.save(path)
    print(
        f"{len(choice.convolutions)} of {len(study.subject.quantized)} convolutions stay in float, "
        f"{choice.cost:.3g} {costs.unit} a crop more than everything in int8. AP lost, with 95 % intervals:"
    )
    for part, lost in study.ap_losses(choice.convolutions).items():
        limit = f", {limits.limits[part]:g} allowed" if part in limits.limits else ""
        print(f"  {part.replace('_', ' ')} {lost.value:.2f} ({lost.low:.2f} to {lost.high:.2f}){limit}")
    print(
        f"rtmw-edge export {table.variant} --target {target or 'TARGET'} --precision int8-mixed "
        f"--table {path} --out BUNDLE"
    )
    return choice


def _print(found: SensitivityTable) -> None:
    """The baselines, the units that move the keypoints most, and how well that ranks them."""
    from rich import box
    from rich.table import Table

    from .console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
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
    console.print(baselines, units)
    if found.has_ap:
        from math import isnan

        found_by = {measure: line["whole"] for measure, line in found.correlations().items()}
        shown = ", ".join(f"{measure} {'-' if isnan(rho) else f'{rho:.2f}'}" for measure, rho in found_by.items())
        print(f"rank correlation over layers with the whole AP lost: {shown}")


def _write_page(study: Study, found: SensitivityTable, units: Units, path: Path, choice: Choice | None) -> None:
    from ..runtime.environment import environment
    from ..sweep.sensitivity.heat_map import write_heat_map
    from ..sweep.sensitivity.partial_run import blocks_of

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

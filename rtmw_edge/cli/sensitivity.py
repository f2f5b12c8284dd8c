"""`rtmw-edge sensitivity`: what int8 costs convolution by convolution, and a table that keeps a budget of AP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress


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
    """Show what int8 in each convolution does to each body part.

    Each is quantized alone, and left in float alone. Writes sensitivity.csv and sensitivity.html, a heat map of layers
    and parts. With --budget it also chooses the convolutions to leave in float at least cost, verifies the choice by
    its AP, and writes mixed-table.json for 'rtmw-edge export --precision int8-mixed --table'. A run that was stopped
    goes on where it was.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from ..errors import importing, unknown
    from .console import Console, bar

    if by not in ("layer", "stage"):
        raise unknown("grouping", by, ("layer", "stage"))
    with importing("This", "rtmw-edge[export]"):
        import torch

        from ..sweep.budget import Budget
        from ..sweep.sensitivity.layer_costs import layer_costs
        from ..sweep.sensitivity.show import choose_and_save, show_tables, write_page
        from ..sweep.sensitivity.start import Options, start
        from ..sweep.sensitivity.table import SensitivityTable
        from ..targets.scales import ScaleSource
    limits = None if budget is None else Budget.parse(budget)
    if threads is not None:
        torch.set_num_threads(threads)
    scales = ScaleSource(table, calibration, boxes, method)
    options = Options(variant, out, weights, grid, scales, data, crops, proxy_only, target, limits is not None)
    step = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), step)
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
    console = Console(highlight=False, soft_wrap=True)
    show_tables(found, console)
    page = out / "sensitivity.html"
    write_page(study, found, units, page)  # before choosing, which may find that nothing keeps the budget
    if limits is not None:
        choice = choose_and_save(study, units, costs, limits, out / "mixed-table.json", options, console)
        write_page(study, found, units, page, choice)
    console.print(f"{page}, {out / 'sensitivity.csv'}")


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

"""`rtmw-edge train`: train or distil a variant on annotated sets or rendered people, on one device or many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..training.loop import Trainer

Overrides = Annotated[list[str] | None, typer.Option("--set", help="key=value, over the recipe.")]
Data = Annotated[
    Path | None, typer.Option(help="Configuration of annotated sets (docs/data.md); without, rendered people.")
]
Backgrounds = Annotated[Path | None, typer.Option(help="Folder of photographs behind rendered people.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Workers = Annotated[int, typer.Option(help="Processes of every rank that make samples.", min=0)]
Threads = Annotated[int, typer.Option(help="Threads of the training step; 0 for all cores.", min=0)]
"""Options of `rtmw-edge qat` too."""

LONGEST_SILENCE = 60.0
"""Seconds between two lines of a log file, unless records are further apart."""


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a TOML file.")] = "rtmw-n-256x192",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; an earlier run there goes on. By default runs/RECIPE.")
    ] = None,
    set_: Overrides = None,
    data: Data = None,
    weights: Annotated[Path | None, typer.Option(help="Weights to begin with.")] = None,
    backbone: Annotated[
        Path | None, typer.Option(help="Checkpoint to take the backbone from, as an RTMPose's.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="The teacher's weights, where the recipe distils; in stage 2 those of stage 1.")
    ] = None,
    backgrounds: Backgrounds = None,
    device: Device = "auto",
    workers: Workers = 1,
    threads: Threads = 0,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped recipes.")] = False,
) -> None:
    """Train a variant; resumes by itself, also after a kill.

    On several GPUs: torchrun --nproc-per-node 8 -m rtmw_edge train RECIPE ...; on several nodes also --nnodes and
    --rdzv-endpoint, the same line on each.
    """
    from ..errors import importing

    if list_:
        _list_recipes()
        return
    with importing("Training", "rtmw-edge[train]"):
        from ..training.checkpoint import BEST, LAST
        from ..training.loop import Trainer
    from ..training.recipe import read_recipe

    chosen = read_recipe(recipe, set_ or ())
    out = out or Path("runs") / Path(recipe).stem
    where = computing_device(device, threads)
    check_run(out, backgrounds)
    trainer = Trainer(
        chosen, out, data=data, device=where, workers=workers, start=weights, backbone=backbone, teacher=teacher,
        backgrounds=backgrounds,
    )  # fmt: skip
    follow(trainer)
    if trainer.is_first:
        print(f"Averaged weights: {out / LAST}; those that validated best: {out / BEST}")


def computing_device(device: str, threads: int) -> str:
    """The device for what was asked, "cpu" or "cuda"; takes `threads` of the CPU, 0 for all."""
    import logging

    import torch

    from ..errors import NotAvailableError, unknown

    if device not in ("auto", "cpu", "cuda"):
        raise unknown("device", device, ["auto", "cpu", "cuda"])
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise NotAvailableError("No CUDA device is there for PyTorch; use --device cpu, or install a CUDA build.")
    if threads:
        torch.set_num_threads(threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # greets at every start
    return device


def check_run(out: Path, backgrounds: Path | None) -> None:
    """Raise BadInputError, before anything is computed, unless `out` is new, empty or a run.

    And where `backgrounds` has no photographs.
    """
    from ..data.synthetic.background import Photographs
    from ..files import check_replaceable

    if backgrounds is not None:
        Photographs(backgrounds)
    check_replaceable(out)


def follow(trainer: Trainer) -> None:
    """Run to the last step and show how it goes; where it was stopped, say from where the same command goes on."""
    try:
        _follow(trainer)
    except KeyboardInterrupt:
        if trainer.is_first and trainer.saved:
            typer.echo(f"stopped; the same command goes on after step {trainer.saved}", err=True)
        raise


def _follow(trainer: Trainer) -> None:
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from .console import Console

    console = Console(stderr=True, quiet=not trainer.is_first)
    trainer.stops.then = _tell_of_the_stop if trainer.is_first else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    if trainer.step >= trainer.schedule.steps:
        console.print(f"its {trainer.step} steps are done; more with --set steps=N", highlight=False)
    elif trainer.step:
        console.print(f"goes on at step {trainer.step} of {trainer.schedule.steps}", highlight=False)
    else:
        recipe = trainer.recipe
        console.print(f"{recipe.variant}: {trainer.schedule.steps} steps of {recipe.batch} samples", highlight=False)
    told = time.monotonic()
    with Progress(*columns, console=console, disable=not (console.is_terminal and trainer.is_first)) as progress:
        task = progress.add_task("starting", total=trainer.schedule.steps, completed=trainer.step)
        for record in trainer.run():
            line = _line(record)
            progress.update(task, completed=int(record["step"]), description=line)
            figures = _figures(record)
            silent = time.monotonic() - told
            if figures or (not console.is_terminal and (record["step"] % 50 == 0 or silent > LONGEST_SILENCE)):
                told = time.monotonic()
                console.print(f"step {record['step']:.0f}  {line}{figures}", highlight=False)
    if trainer.skipped:
        console.print(
            f"{trainer.skipped} times an image could not be read and the next one was taken; "
            "rtmw-edge data check CONFIG names them.",
            highlight=False,
        )


def _tell_of_the_stop() -> None:
    """Called by a signal's handler, which may have interrupted the printing of something else."""
    import os
    from contextlib import suppress

    with suppress(OSError):  # of a terminal that is gone
        os.write(2, b"\nstopping after this step, which is saved; once more: at once, without it\n")


def _figures(record: dict[str, float]) -> str:
    """AP per part in %, with the points that quantization took where the run reports them; in 3D the error too."""
    parts = []
    for key, value in record.items():
        kind, _, part = key.partition("_")
        if kind == "ap":
            drop = f" (lost {100 * record[f'drop_{part}'] + 0.0:.1f})" if f"drop_{part}" in record else ""
            parts.append(f"{part} {100 * value:.1f}{drop}")
        elif kind == "mpjpe":
            parts.append(f"{part} {value:.0f} mm")
    return f"  AP {'  '.join(parts)}" if parts else ""


def _line(record: dict[str, float]) -> str:
    if "loss" not in record:
        return "validated"
    minutes = record["eta_s"] / 60
    left = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    unread = f"  {record['skipped']:.0f} images unreadable" if record["skipped"] else ""
    speed = record["images_per_second"]
    return f"loss {record['loss']:.4f}  {speed:.{0 if speed >= 10 else 1}f} img/s  ETA {left}{unread}"


def _list_recipes() -> None:
    from ..training.recipe import read_recipe, shipped_recipes

    for name in shipped_recipes():
        recipe = read_recipe(name)
        length = f"{recipe.epochs} epochs" if recipe.epochs else f"{recipe.steps} steps"
        taught = f", stage {recipe.distillation.stage} by {recipe.distillation.teacher}" if recipe.distillation else ""
        grid = f", quantized on {recipe.quantization.grid} (rtmw-edge qat)" if recipe.quantization else ""
        print(f"{name:32} {recipe.variant}, {length} of {recipe.batch}{taught}{grid}")

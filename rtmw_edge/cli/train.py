"""`rtmw-edge train`: train or distil a variant on annotated sets or rendered people, on one device or many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a TOML file.")] = "rtmw-n-256x192",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; an earlier run there goes on. By default runs/RECIPE.")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, over the recipe.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Configuration of annotated sets (docs/data.md); without, rendered people.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights to begin with.")] = None,
    backbone: Annotated[
        Path | None, typer.Option(help="Checkpoint to take the backbone from, as an RTMPose's.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="The teacher's weights, where the recipe distils; in stage 2 those of stage 1.")
    ] = None,
    backgrounds: Annotated[Path | None, typer.Option(help="Folder of photographs behind rendered people.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[int, typer.Option(help="Processes of every rank that make samples.", min=0)] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the training step; 0 for all cores.", min=0)] = 0,
    list_: Annotated[bool, typer.Option("--list", help="List the shipped recipes.")] = False,
) -> None:
    """Train a variant; resumes by itself, also after a kill.

    On several GPUs: torchrun --nproc-per-node 8 -m rtmw_edge train RECIPE ...; on several nodes also --nnodes and
    --rdzv-endpoint, the same line on each.
    """
    import logging

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ..errors import NotAvailableError, unknown

    if list_:
        _list_recipes()
        return
    try:
        import torch

        from ..training.loop import BEST, LAST, Trainer
    except ImportError as error:
        raise NotAvailableError(
            f'Training needs {error.name}, which is not installed: pip install "rtmw-edge[train]".'
        ) from error
    from ..training.recipe import read_recipe

    if device not in ("auto", "cpu", "cuda"):
        raise unknown("device", device, ["auto", "cpu", "cuda"])
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise NotAvailableError("No CUDA device is there for PyTorch; use --device cpu, or install a CUDA build.")
    if threads:
        torch.set_num_threads(threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # greets at every start
    chosen = read_recipe(recipe, set_ or ())
    out = out or Path("runs") / Path(recipe).stem
    console = Console(stderr=True)
    trainer = Trainer(
        chosen, out, data=data, device=device, workers=workers, start=weights, backbone=backbone, teacher=teacher,
        backgrounds=backgrounds,
    )  # fmt: skip
    console.quiet = not trainer.is_first
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not (console.is_terminal and trainer.is_first)) as progress:
        task = progress.add_task("starting", total=trainer.schedule.steps, completed=trainer.step)
        for record in trainer.run():
            line = _line(record)
            progress.update(task, completed=int(record["step"]), description=line)
            figures = "  ".join(
                f"{key[3:]} {value:.3f}" for key, value in record.items() if key.startswith("ap_")
            ) + "".join(f"  {key[6:]} {value:.0f} mm" for key, value in record.items() if key.startswith("mpjpe_"))
            if figures or (not console.is_terminal and record["step"] % 50 == 0):
                text = f"step {record['step']:.0f}  {line}" + (f"  AP {figures}" if figures else "")
                console.print(text, highlight=False)
    if trainer.is_first:
        print(f"Averaged weights: {out / LAST}; those that validated best: {out / BEST}")


def _line(record: dict[str, float]) -> str:
    if "loss" not in record:
        return "validated"
    minutes = record["eta_s"] / 60
    left = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    return f"loss {record['loss']:.4f}  {record['images_per_second']:.0f} img/s  ETA {left}"


def _list_recipes() -> None:
    from ..training.recipe import read_recipe, shipped_recipes

    for name in shipped_recipes():
        recipe = read_recipe(name)
        length = f"{recipe.epochs} epochs" if recipe.epochs else f"{recipe.steps} steps"
        taught = f", stage {recipe.distillation.stage} by {recipe.distillation.teacher}" if recipe.distillation else ""
        print(f"{name:32} {recipe.variant}, {length} of {recipe.batch}{taught}")

"""`rtmw-edge train`: train a variant on rendered people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe, or a TOML file.")] = "rtmw-n-256x192",
    out: Annotated[Path, typer.Option(help="Folder of the run; an earlier run there goes on.")] = Path("runs/rtmw-n"),
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, over the recipe.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights to begin with.")] = None,
    backgrounds: Annotated[Path | None, typer.Option(help="Folder of photographs behind the people.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that render.", min=0)] = 1,
    threads: Annotated[int, typer.Option(help="Threads of the training step; 0 for all cores.", min=0)] = 0,
) -> None:
    """Train on rendered people; resumes by itself, also after a kill."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ..errors import NotAvailableError, unknown

    try:
        import torch
    except ImportError as error:
        raise NotAvailableError(
            'Training needs PyTorch, which is not installed: pip install "rtmw-edge[train]".'
        ) from error
    from ..training.loop import Trainer
    from ..training.recipe import read_recipe

    if device not in ("cpu", "cuda"):
        raise unknown("device", device, ["cpu", "cuda"])
    if device == "cuda" and not torch.cuda.is_available():
        raise NotAvailableError("No CUDA device is there for PyTorch; use --device cpu, or install a CUDA build.")
    if threads:
        torch.set_num_threads(threads)
    console = Console()
    trainer = Trainer(
        read_recipe(recipe, set_ or ()), out, device=device, workers=workers, start=weights, backgrounds=backgrounds
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("rendering the validation set", total=trainer.recipe.steps, completed=trainer.step)
        for record in trainer.run():
            speed, left = record["images_per_second"], record["eta_s"] / 60
            line = f"loss {record['loss']:.4f}  {speed:.0f} img/s  ETA {left:.0f} min"
            progress.update(task, completed=int(record["step"]), description=line)
            pck = {key[4:]: value for key, value in record.items() if key.startswith("pck_")}
            if pck or (not console.is_terminal and record["step"] % 50 == 0):
                figures = "  ".join(f"{part} {value:.3f}" for part, value in pck.items())
                console.print(f"step {record['step']:.0f}  {line}  {'PCK ' + figures if pck else ''}", highlight=False)
    console.print(f"Averaged weights: {out / 'weights.safetensors'}")

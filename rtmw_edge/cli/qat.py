"""`rtmw-edge qat`: fine-tune a variant with quantization in the loop, into weights and their quantization table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .train import Backgrounds, Data, Device, Overrides, Threads, Workers, check_run, computing_device, follow

if TYPE_CHECKING:
    from ..quantization import Table
    from ..targets.rewrites import Deployable


def qat(
    variant: Annotated[str, typer.Argument(help="Variant, e.g. rtmw-n-256x192; see 'rtmw-edge models'.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; an earlier run there goes on. By default runs/VARIANT-qat.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The float weights, .pth or .safetensors; default: shipped or fetched.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Shipped recipe or TOML file; default: VARIANT-qat.")] = None,
    set_: Overrides = None,
    grid: Annotated[str | None, typer.Option(help="common or affine; default: the recipe's, or the table's.")] = None,
    table: Annotated[Path | None, typer.Option(help="Begin with the scales of this quantization table.")] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Begin with scales from a folder of images, or synthetic:N.",
            show_default="the table that the weights were trained with, or synthetic:200",
        ),
    ] = None,
    data: Data = None,
    backgrounds: Backgrounds = None,
    device: Device = "auto",
    workers: Workers = 1,
    threads: Threads = 0,
) -> None:
    """Fine-tune with quantization in the loop; resumes by itself.

    After a kill too. Writes weights.safetensors and table.json, for 'rtmw-edge export --precision int8 --weights ...'
    to any target. On several GPUs: torchrun --nproc-per-node 8 -m rtmw_edge qat VARIANT ...
    """
    from dataclasses import replace

    from ..errors import BadInputError, importing

    with importing("Training", "rtmw-edge[train]"):
        from ..quantization.qat import QatTrainer
        from ..training.checkpoint import BEST, LAST
    from ..models.variants import variant_named
    from ..models.weights import find
    from ..quantization import GRIDS, Table
    from ..targets.scales import CALIBRATION, ScaleSource
    from ..training.recipe import read_recipe, variant_of

    asked = ScaleSource(table, calibration)
    name = variant_named(variant).name
    loaded = None if table is None else Table.load(table)
    wanted = grid or (loaded.grid if loaded else None)
    overrides = [f"variant={name}", *(set_ or ()), *([f"quantization.grid={wanted}"] if wanted else ())]
    recipe = recipe or f"{name}-qat"
    chosen = read_recipe(recipe, overrides)
    if chosen.variant != name:
        raise BadInputError(f"The recipe is set to {chosen.variant}, and VARIANT is {name}; leave out --set variant.")
    if (usual := variant_of(recipe)) not in (None, name):
        typer.echo(f"the recipe {recipe} is for {usual}, and trains {name} here", err=True)

    def start_table(network: Deployable) -> Table:
        from ..calibration import open_source
        from ..calibration.evaluation_images import held_out

        assert chosen.quantization is not None
        arithmetic = GRIDS[chosen.quantization.grid]
        scales = replace(asked, table=loaded)
        ready = scales.ready(network, find(name, weights), arithmetic, None, lambda line: typer.echo(line, err=True))
        if ready is not None:
            return ready
        place = CALIBRATION if calibration is None else calibration
        typer.echo(f"calibrating on {place}", err=True)
        source = open_source(place, evaluation=held_out(chosen.validation))
        return replace(scales, calibration=source).choose(network, arithmetic, lambda _: None)

    of_table = None if loaded is None else f"of SHA-256 {loaded.sha256[:12]}"
    origin = {"table": of_table, "calibration": calibration}
    out = out or Path("runs") / f"{name}-qat"
    where = computing_device(device, threads)
    check_run(out, backgrounds)
    trainer = QatTrainer(
        chosen, out, weights=weights, start_table=start_table, origin=origin, data=data, device=where, workers=workers,
        backgrounds=backgrounds,
    )  # fmt: skip
    follow(trainer)
    if trainer.is_first:
        print(f"Weights and table: {out / LAST}, {out / 'table.json'}; those that validated best: {out / BEST}, "
              f"{out / 'best.json'}")  # fmt: skip

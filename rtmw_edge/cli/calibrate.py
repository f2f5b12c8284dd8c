"""`rtmw-edge calibrate`: images into the quantization table of a variant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..calibration.stability import Stability
    from ..quantization import Grid, Table

TABLE_HEAD, FOUND_HEAD = b'{\n "bias_corrections": ', b'{\n "points": '
"""How every table, and every file of --json, begins: what tells it from somebody else's."""

SHOWN = 20
"""Moved ranges that are printed; --json has all."""

WIDE = 132
"""Columns where there is no terminal: the names of tensors stay on one line."""


def calibrate(
    variant: Annotated[str, typer.Argument(help="Variant, e.g. rtmw-n-256x192; see 'rtmw-edge models'.")],
    out: Annotated[Path, typer.Option(help="The quantization table to write, a .json.")],
    images: Annotated[str, typer.Option(help="A folder of images, coco:ANNOTATIONS:IMAGES, or synthetic:N.")],
    weights: Annotated[
        Path | None, typer.Option(help="A .pth or .safetensors file; default: shipped or fetched.")
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="Person boxes for a folder, as for 'run'.")] = None,
    count: Annotated[
        int | None, typer.Option(help="Take so many people, chosen for cover of parts, poses, sizes and light.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice, and of rendered people.", min=0)] = 0,
    grid: Annotated[str, typer.Option(help="common, affine, full or w8a16.")] = "common",
    method: Annotated[
        str, typer.Option(help="minmax, moving-average, percentile, entropy, mse, or best of them for each tensor.")
    ] = "percentile",
    percentile: Annotated[
        float | None, typer.Option(help="Share of values inside the range, in percent.", show_default="see docs")
    ] = None,
    bias_correction: Annotated[
        bool, typer.Option("--bias-correction", help="Take the mean shift of rounding out of the biases.")
    ] = False,
    stability: Annotated[
        bool, typer.Option("--stability", help="Compare the tables of two halves of the images: ranges, AP per part.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="What --stability measures AP on: synthetic:val[:N] or coco:ANNOTATIONS:IMAGES.",
            show_default="synthetic:val:100",
        ),
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(help="Refuse images that accuracy is measured on: a folder, or coco:ANNOTATIONS:IMAGES."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what --stability found to this file.")] = None,
) -> None:
    """Choose the scales of every quantized tensor from images.

    One pass, with a record of exactly which images. The table is for 'rtmw-edge export VARIANT --target TARGET
    --precision int8 --table TABLE'. The same images, seed and versions give the same file.
    """
    from ..calibration import Method, open_source
    from ..calibration.evaluation_images import held_out
    from ..calibration.sources import batches
    from ..errors import BadInputError, importing
    from ..evaluation import open_dataset
    from ..files import check_writable
    from ..models.variants import variant_named
    from ..models.weights import find
    from .console import bar

    with importing("Calibration", "rtmw-edge[export]"):
        from ..calibration.collect import Settings, collect, table_of
        from ..calibration.stability import Halves
        from ..calibration.stability import stability as compared
        from ..targets.export import load_deployable
    model = variant_named(variant)
    chosen = Method.named(method)
    if percentile is not None and chosen not in (Method.PERCENTILE, Method.BEST):
        raise BadInputError(f"--percentile {percentile:g} goes with the method percentile or best, not with {method}.")
    for option, value in (("--json", json_file), ("--data", data)):
        if value is not None and not stability:
            raise BadInputError(f"{option} {value} is for what --stability finds: pass both, or leave it out.")
    if json_file is not None and json_file.absolute() == out.absolute():
        raise BadInputError(f"--out and --json both name {out}: give one of them another.")
    for path, head in ((out, TABLE_HEAD), (json_file, FOUND_HEAD)):
        if path is not None:
            check_writable(path, head)
    settings = Settings(chosen, _grid(grid), percentile, bias_correction)
    people = data or "synthetic:val:100"
    judged_on = open_dataset(people) if stability else None
    refused = [*([evaluation] if evaluation else []), *(held_out(people) if stability else [])]
    source = open_source(images, boxes=boxes, count=count, seed=seed, evaluation=refused)
    if count is not None and count > len(source):
        typer.echo(f"--count {count} asks for more people than {images} has: all {len(source)} are taken", err=True)
    network = load_deployable(model, find(model, weights))
    halves = Halves(network, settings.grid) if stability else None
    with bar() as progress:
        task = progress.add_task("starting", total=None)

        def on_progress(what: str) -> Callable[[int, int], None]:
            return lambda done, total: progress.update(task, description=what, completed=done, total=total)

        def crops() -> Iterator[NDArray[np.uint8]]:
            source.choose(model.input_size, on_progress("choosing people"))
            done = 0
            for batch in batches(source, model.input_size):
                on_progress("calibrating")(done, len(source))
                if halves is not None:
                    halves.add(batch)
                yield batch
                done += len(batch)
            on_progress("choosing ranges")(len(source), len(source))

        table = collect(network, crops(), settings, manifest=source.manifest)
        found = None
        if halves is not None and judged_on is not None:
            first, second = (table_of(network, seen, settings) for seen in halves.observed())
            table.save(out)  # before hours of judging
            found = compared(network, first, second, judged_on, on_progress("judging both halves"))
    table.save(out)
    _report(out, table)
    if found is not None:
        _report_stability(found, json_file)


def _grid(name: str) -> Grid:
    from ..errors import BadInputError
    from ..quantization import grid_named

    grid = grid_named(name)
    if not grid.calibrated:
        raise BadInputError(f"{name} quantizes weights alone, which needs no images: export it without a table.")
    return grid


def _report(out: Path, table: Table) -> None:
    """What was written, and, with the method best, how often each was."""
    from collections import Counter

    calibrated = [entry for entry in table.entries.values() if entry.axis is None and entry.source != "fixed"]
    print(f"{out}: {table.variant}, grid {table.grid}, {len(calibrated)} tensors, {table.provenance['method']}")
    selection = table.provenance.get("selection", {})
    print(f"calibrated on {table.provenance['crops']} people of {selection.get('of')}; sha256 {table.sha256[:12]}")
    if table.bias_corrections:
        print(f"biases corrected at {len(table.bias_corrections)} convolutions")
    if table.provenance["method"] == "best":
        counts = Counter(entry.source.removeprefix("best: ") for entry in calibrated)
        print("best: " + ", ".join(f"{method} {count}" for method, count in counts.most_common()))


def _report_stability(found: Stability, json_file: Path | None) -> None:
    import json

    from rich.table import Column
    from rich.table import Table as Rows

    from ..files import atomic_write
    from .console import Console

    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    print(f"{len(found.moved)} of {found.points} ranges differ by more than 20 % between two halves of the images")
    if found.moved:
        rows = Rows(
            Column("tensor", overflow="fold"),
            *(Column(name, justify="right", no_wrap=True) for name in ("one half", "the other", "change, %")),
        )
        for moved in found.moved[:SHOWN]:
            ends = (f"{low:.3g} .. {high:.3g}" for low, high in (moved.first, moved.second))
            rows.add_row(moved.point, *ends, f"{100 * moved.change:.0f}")
        console.print(rows)
        if len(found.moved) > SHOWN:
            print(f"and {len(found.moved) - SHOWN} more, which --json has")
    rows = Rows(
        f"AP on {found.dataset}, %", *(Column(name, justify="right") for name in ("one half", "the other", "by"))
    )
    for part, (first, second) in found.ap.items():
        rows.add_row(part.replace("_", " "), f"{first:.1f}", f"{second:.1f}", f"{second - first:+.1f}")
    console.print(rows)
    if json_file:
        with atomic_write(json_file) as temporary:
            temporary.write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")

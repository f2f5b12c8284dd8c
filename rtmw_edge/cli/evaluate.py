"""`rtmw-edge evaluate`: average precision per body part of a bundle, or of a variant in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Data, DetectionFile, Figures, Limit

if TYPE_CHECKING:
    from rich.table import Table

    from ..evaluation import Evaluation
    from ..runtime import Runner


HEAD = b'{\n "model": '
"""How every file of --json begins: what tells it from somebody else's."""


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundle, 'builtin', or a variant (run by PyTorch, the reference).")],
    data: Data = "synthetic:val",
    weights: Annotated[Path | None, typer.Option(help="Weights of the variant.")] = None,
    detections: DetectionFile = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average with the mirror image, as official figures do.")
    ] = False,
    flip_aligned: Annotated[
        bool, typer.Option("--flip-aligned", help="The same, without the half pixel that the official flip is off.")
    ] = False,
    device: Annotated[str, typer.Option(help="Device to run on.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime.", min=1)] = None,
    limit: Limit = None,
    json_file: Figures = None,
) -> None:
    """AP and AR per part by the COCO-WholeBody protocol, and more.

    Of body, foot, face, both hands and whole; PCK, and MPJPE of 3D variants. Beside each AP stands its 95 % interval,
    by the bootstrap over images. PCK: the keypoints within 5 % of the box's height, and within 10 % of its longer side.
    """
    import json
    from dataclasses import asdict

    from ..errors import BadInputError
    from ..evaluation import Flip, open_dataset, read_detections
    from ..evaluation import evaluate as run_evaluation
    from ..files import atomic_write, check_writable
    from .console import bar

    if flip and flip_aligned:
        raise BadInputError("--flip and --flip-aligned are two ways to do one thing: leave out one of them.")
    flipped = Flip.OFFICIAL if flip else Flip.ALIGNED if flip_aligned else None
    if json_file:
        check_writable(json_file, HEAD)
    dataset = open_dataset(data, limit)
    boxes = read_detections(detections, dataset) if detections else None
    with _open(model, weights, device, threads) as runner, bar() as progress:
        runs = asdict(runner.describe())  # before the work: it may fail
        task = progress.add_task("evaluating", total=len(dataset))
        result = run_evaluation(
            runner,
            dataset,
            detections=boxes,
            flip=flipped,
            intervals=True,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _print_tables(model, result)
    if json_file:
        with atomic_write(json_file) as temporary:
            document = {"model": model, **result.to_dict(), "runs": runs}
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _open(model: str, weights: Path | None, device: str, threads: int | None) -> Runner:
    from ..errors import BadInputError, unknown
    from ..runtime import load, torch_runner

    if model == "builtin" or Path(model).exists():
        if weights:
            raise BadInputError(
                f"--weights goes with a variant, and {model} is a bundle, which has its own: leave it out."
            )
        return load(model, device=device, threads=threads)
    if "/" in model or model.endswith(".zip"):
        raise BadInputError(f"There is no bundle at {model}: check the path.")
    from ..models.variants import VARIANTS

    if model not in VARIANTS:
        raise unknown("bundle or variant", model, VARIANTS)
    return torch_runner(model, weights=weights, device=device, threads=threads)


def _print_tables(model: str, result: Evaluation) -> None:
    from rich.table import Table

    from .console import Console

    def percent(value: float) -> str:
        return "-" if value < 0 else f"{100 * value:.1f}"

    flipped = f", flip test ({result.flip})" if result.flip else ""
    title = (
        f"{model} on {result.dataset}: {result.images} images, {result.people} people, {result.boxes} boxes{flipped}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("part, %")
    for name in ("AP", "95 %", "AP.50", "AP.75", "AR", *(["PCK@5%", "PCK@10%"] if result.pck else [])):
        table.add_column(name, justify="right")
    for part, scores in result.parts.items():
        figures = [scores.ap50, scores.ap75, scores.ar, *([result.pck[part], result.pck10[part]] if result.pck else [])]
        interval = "-" if scores.ap < 0 else " to ".join(percent(end) for end in result.ap_interval[part])
        table.add_row(part.replace("_", " "), percent(scores.ap), interval, *(percent(figure) for figure in figures))
    Console().print(table)
    if left_out := result.left_out_sentence():
        print(left_out)
    if result.mpjpe:
        Console().print(_errors(result))


def _errors(result: Evaluation) -> Table:
    from rich.table import Table

    table = Table(
        title="Distance from the 3D labels (MPJPE), with the labelled camera and depth of the hips",
        title_justify="left",
    )
    table.add_column("part, mm")
    for name in ("plain", "hips aligned", "nose or wrist aligned", "Procrustes"):
        table.add_column(name, justify="right")
    for part, errors in result.mpjpe.items():
        figures = (errors.plain, errors.root, errors.part_root, errors.procrustes)
        shown = ["-" if figure < 0 else f"{figure:.1f}" for figure in figures]
        if part in ("body", "whole"):
            shown[2] = ""  # their own root is the hips
        table.add_row(part.replace("_", " "), *shown)
    return table

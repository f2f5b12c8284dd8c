"""`rtmw-edge run`: poses of images and folders, drawn and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    bundle: Annotated[str, typer.Argument(help="A bundle (directory or .zip), or 'builtin'.")],
    sources: Annotated[list[str] | None, typer.Argument(help="Images and folders of images.")] = None,
    boxes: Annotated[Path | None, typer.Option(help='JSON: {"a.jpg": [[x1, y1, x2, y2], ...]}, or COCO.')] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all poses to this file.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write annotated pictures to this folder.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, tensorrt, gpu or npu.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Threads; the runtime's own choice when left out.")] = None,
    threshold: Annotated[float, typer.Option(help="Draw keypoints of at least this score in 0..1.")] = 0.1,
    subbin: Annotated[bool, typer.Option("--subbin", help="Refine coordinates between half pixels.")] = False,
) -> None:
    """Find whole-body poses in images and folders.

    Without --boxes the whole of each image is one person.
    """
    from statistics import median

    from ..errors import BadInputError
    from ..runtime import load
    from ..runtime.boxes import BoxFile
    from ..runtime.document import check_writable, image_entry, write_document
    from ..runtime.images import ImageFailure, run_images
    from ..runtime.pictures import PictureFolder
    from ..runtime.sources import find_images

    if not 0 <= threshold <= 1:
        raise BadInputError(f"The threshold {threshold:g} is not a score in 0..1: pass 0.3, say.")
    images = find_images(sources or [])
    box_file = BoxFile(boxes) if boxes else None
    if box_file:
        box_file.check_matches(images)
    if json_file:
        check_writable(json_file)
    pictures = PictureFolder(save, images) if save else None

    entries, failures, times = [], [], []
    with load(bundle, device=device, threads=threads, subbin=subbin) as runner:
        for result in run_images(runner, images, box_file):
            if isinstance(result, ImageFailure):
                failures.append(result)
                typer.echo(f"error: {result.reason}", err=True)
                continue
            people = "1 person" if len(result.poses) == 1 else f"{len(result.poses)} people"
            note = "" if result.boxed else f"  (not in {boxes})"
            typer.echo(f"{result.path}  {people}  {result.ms:.1f} ms{note}")
            times.append(result.ms)
            if pictures:
                pictures.write(result, threshold)
            if json_file:
                entries.append(image_entry(result))
        if json_file:
            write_document(json_file, runner.model, runner.engine.runtime, entries, failures)
    if times:
        count = "1 image" if len(times) == 1 else f"{len(times)} images"
        typer.echo(f"{count}, {median(times):.1f} ms each (median) on {runner.engine.runtime}, {device}")
    if pictures and times:
        typer.echo(f"pictures: {save}")
    if json_file:
        typer.echo(f"poses: {json_file}")
    if times and not (save or json_file):
        typer.echo("Nothing was kept: add --save DIR for pictures, --json FILE for the poses.")
    if failures:
        names = ", ".join(failure.path.name for failure in failures[:10]) + (", ..." if len(failures) > 10 else "")
        others = "; the others are done" if times else ""
        raise BadInputError(f"{len(failures)} of {len(images)} images could not be used: {names}{others}.")

"""`rtmw-edge data`: look at the data that the toolkit trains and validates on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.sets.check import SetReport

app = typer.Typer(
    help="Look at the rendered people; check and draw data sets.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def preview(
    out: Annotated[Path, typer.Option(help="Where to write the contact sheet (.jpg or .png).")] = Path("preview.jpg"),
    split: Annotated[str, typer.Option(help="train, val or calibration.")] = "train",
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many pictures.")] = 48,
    start: Annotated[int, typer.Option(min=0, help="Index of the first picture.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    keypoints: Annotated[bool, typer.Option("--keypoints", help="Draw the labels: green seen, red hidden.")] = False,
    scenes: Annotated[bool, typer.Option("--scenes", help="Whole pictures of one to four people, not crops.")] = False,
    backgrounds: Annotated[Path | None, typer.Option(help="A folder of photographs to use as backgrounds.")] = None,
) -> None:
    """Draw people and write them as one contact sheet."""
    from ..data.contact_sheet import contact_sheet, draw_labels
    from ..data.synthetic import Renderer

    _check_picture_name(out)
    renderer = Renderer(split, seed, backgrounds=backgrounds)
    draw = renderer.scene if scenes else renderer.crop
    samples = [draw(index) for index in range(start, start + count)]
    sheet = contact_sheet([draw_labels(sample) if keypoints else sample.image for sample in samples])
    _write_picture(out, sheet)
    print(f"{count} pictures of split '{split}' -> {out} ({sheet.shape[1]}x{sheet.shape[0]})")


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="The data configuration (TOML, see docs/data.md).")],
    only: Annotated[str | None, typer.Option("--set", help="Check this set only.")] = None,
    decode: Annotated[int, typer.Option(min=0, help="How many images of each set to read in full.")] = 200,
    decode_all: Annotated[bool, typer.Option("--decode-all", help="Read every image in full (hours).")] = False,
) -> None:
    """Tell what is missing or broken in the data sets.

    Before hours are spent; the exit code is 1 when something is.
    """
    from ..data.sets import read_config
    from ..data.sets.check import check_set
    from ..errors import VerificationError, unknown

    document = read_config(config)
    names = [entry.name for entry in document.sets]
    if only is not None and only not in names:
        raise unknown("set", only, names)
    print(f"{'set':<16} {'instances':>10} {'images':>9} {'missing':>8} {'broken':>11}  left out")
    instances, bad = 0, []
    for entry in document.sets:
        if only in (None, entry.name):
            report = check_set(entry, document.cache, None if decode_all else decode)
            _print_report(report)
            instances += report.instances
            if not report.good:
                bad.append(report.name)
    print(f"{instances} instances")
    if bad:
        raise VerificationError(
            f"Something is missing or broken in: {', '.join(bad)}. Training passes over single images, and refuses a "
            "set that cannot be opened."
        )


def _print_report(report: SetReport) -> None:
    if report.problem is not None:
        print(f"{report.name:<16} cannot be opened: {report.problem}", flush=True)
        return
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(report.skipped.items())) or "none"
    broken = f"{report.broken} of {report.decoded}"
    print(
        f"{report.name:<16} {report.instances:>10} {report.images:>9} {report.missing:>8} {broken:>11}  {left_out}",
        flush=True,
    )
    for example in report.examples:
        print(f"    {example}")


@app.command()
def draw(
    config: Annotated[Path, typer.Argument(help="The data configuration (TOML, see docs/data.md).")],
    name: Annotated[str, typer.Option("--set", help="Which set to draw.")],
    out: Annotated[Path, typer.Option(help="Where to write the contact sheet (.jpg or .png).")] = Path("sheet.jpg"),
    count: Annotated[int, typer.Option(min=1, max=200, help="How many instances, spread evenly.")] = 12,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Pixels of one tile.")] = 320,
) -> None:
    """Draw instances of a data set with their labels.

    As training sees them, on one contact sheet.
    """
    from collections import Counter

    import numpy as np

    from ..data.contact_sheet import contact_sheet, mark, tile
    from ..data.instances import read_instance
    from ..data.sets import open_set, read_config
    from ..errors import unknown
    from ..poses import Poses
    from ..runtime.drawing import draw as draw_poses

    _check_picture_name(out)
    document = read_config(config)
    entries = {entry.name: entry for entry in document.sets}
    if name not in entries:
        raise unknown("set", name, entries)
    table = open_set(entries[name], document.cache)
    skipped: Counter[str] = Counter()
    tiles = []
    for index in np.linspace(0, len(table) - 1, min(count, len(table))).astype(int).tolist():
        picture, instance = read_instance(table, index, skipped)
        view, keypoints, visible = tile(picture, instance, size)
        # A hidden keypoint scores at the threshold and is drawn faintly, a visible one at twice that.
        scores = visible[None].astype(np.float32)
        poses = Poses(keypoints[None], scores, np.zeros((1, 4), np.float32), np.ones(1, np.float32))
        tiles.append(draw_poses(view, poses, threshold=1.0, scale=1))
        mark(tiles[-1], keypoints, visible)
    sheet = contact_sheet(tiles)
    _write_picture(out, sheet)
    unread = f", {sum(skipped.values())} unreadable images passed over" if skipped else ""
    print(f"{len(tiles)} of {len(table)} instances of '{name}'{unread} -> {out} ({sheet.shape[1]}x{sheet.shape[0]})")


def _check_picture_name(out: Path) -> None:
    from ..errors import BadInputError
    from ..files import check_writable

    if out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise BadInputError(f"Cannot write a picture to '{out}'; give --out a name that ends with .jpg or .png.")
    check_writable(out)


def _write_picture(out: Path, picture: NDArray[np.uint8]) -> None:
    import cv2

    from ..files import atomic_write

    with atomic_write(out) as path:
        path.write_bytes(cv2.imencode(out.suffix.lower(), picture)[1].tobytes())

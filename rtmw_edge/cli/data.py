"""`rtmw-edge data`: look at the data that the toolkit trains and validates on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at the rendered people.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keeps `preview` a subcommand while it is the only one."""


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
    import cv2

    from ..data.synthetic import Renderer
    from ..data.synthetic.preview import contact_sheet, draw_labels
    from ..errors import BadInputError
    from ..files import atomic_write

    if out.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise BadInputError(f"Cannot write a picture to '{out}'; give --out a name that ends with .jpg or .png.")
    renderer = Renderer(split, seed, backgrounds=backgrounds)
    draw = renderer.scene if scenes else renderer.crop
    samples = [draw(index) for index in range(start, start + count)]
    sheet = contact_sheet([draw_labels(sample) if keypoints else sample.image for sample in samples])
    with atomic_write(out) as path:
        path.write_bytes(cv2.imencode(out.suffix.lower(), sheet)[1].tobytes())
    print(f"{count} pictures of split '{split}' -> {out} ({sheet.shape[1]}x{sheet.shape[0]})")

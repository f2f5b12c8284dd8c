"""`rtmw-edge quickstart`: every installed target in float and int8, verified, evaluated, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for bundles, pictures and report.html.")] = Path("quickstart"),
    image: Annotated[Path | None, typer.Option(help="A photograph to run as well.")] = None,
    count: Annotated[int, typer.Option(help="Validation people to evaluate on.", min=1)] = 500,
    calibration: Annotated[int, typer.Option(help="Rendered people to calibrate on.", min=1)] = 200,
    threads: Annotated[int | None, typer.Option(help="Threads of every engine; all cores when left out.")] = None,
) -> None:
    """Export the embedded model to all targets, and compare them.

    Each that is installed is verified, evaluated and timed in fp32 and int8, for one table and a page.
    """
    from ..errors import importing
    from .console import Console

    with importing("A quickstart", "rtmw-edge[export]"):
        from ..sweep.quickstart import Quickstart

    Quickstart(out, image, count, calibration, threads, Console()).run()

"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleName = Annotated[str, typer.Argument(help="A bundle (directory or .zip), or 'builtin'.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, tensorrt, gpu or npu.")]
Threads = Annotated[int | None, typer.Option(help="Threads; all cores when left out.")]
Data = Annotated[str, typer.Option(help="synthetic:val[:N], coco:ANNOTATIONS:IMAGES or h3wb:FILE[:ROOT].")]
DetectionFile = Annotated[Path | None, typer.Option(help="Detected person boxes, a COCO result file.")]
Limit = Annotated[int | None, typer.Option(help="Only the first images.")]
Figures = Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")]

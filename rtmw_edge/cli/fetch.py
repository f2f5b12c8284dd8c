"""`rtmw-edge fetch`: download the official weights of a variant, or a person detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fetch(
    name: Annotated[
        str,
        typer.Argument(help="Variant, e.g. rtmw-m-256x192 (see 'rtmw-edge models'), or detector, e.g. yolox-tiny."),
    ],
    url: Annotated[str | None, typer.Option(help="Another address of the same file: a mirror.")] = None,
    file: Annotated[Path | None, typer.Option(help="Install this downloaded file instead of downloading.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder to keep it in.", show_default="~/.cache/rtmw-edge")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="The 64 digits that the file must have.")] = None,
) -> None:
    """Download official weights or a person detector.

    Resumed when cut, SHA-256 checked; HTTPS_PROXY is honoured.
    """
    from functools import partial

    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from ..errors import BadInputError
    from ..models import download
    from ..models.detectors import detector_named, fetch_detector
    from ..models.variants import variant_named
    from .console import bar

    if url is not None and file is not None:
        raise BadInputError(f"--url {url} and --file {file} are two places to take it from: leave out one of them.")
    is_detector = name.startswith(("rtmdet", "yolo"))
    fetch_one = (
        partial(fetch_detector, detector_named(name)) if is_detector else partial(download.fetch, variant_named(name))
    )
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with bar(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task(name, total=None)
        fetched = fetch_one(
            url=url,
            file=file,
            cache=cache,
            sha256=sha256,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print(fetched.path)
    if fetched.checked is None:
        print(f"SHA-256 {fetched.sha256}: not checked, its authors publish none; compare it, or pass it as --sha256.")
    elif is_detector and sha256 is None:
        print(f"SHA-256 {fetched.sha256}: as other projects have recorded it; its authors publish none")
    elif len(fetched.checked) == len(fetched.sha256):
        print(f"SHA-256 {fetched.sha256}: as given")
    else:
        print(f"SHA-256 {fetched.sha256}: begins with {fetched.checked}, as its official name says")

"""`rtmw-edge fetch`: download the official weights of a variant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fetch(
    variant: Annotated[str, typer.Argument(help="Variant, e.g. rtmw-m-256x192; see 'rtmw-edge models'.")],
    url: Annotated[str | None, typer.Option(help="Another address of the same file: a mirror.")] = None,
    file: Annotated[Path | None, typer.Option(help="Install this downloaded file instead of downloading.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder to keep it in.", show_default="~/.cache/rtmw-edge")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="The 64 digits that the file must have.")] = None,
) -> None:
    """Download official weights: resumed when cut, SHA-256 checked; HTTPS_PROXY is honoured."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from ..models import download

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(variant, total=None)
        fetched = download.fetch(
            variant,
            url=url,
            file=file,
            cache=cache,
            sha256=sha256,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print(fetched.path)
    if fetched.checked is None:
        print(f"SHA-256 {fetched.sha256}: not checked, its authors publish none; compare it, or pass it as --sha256.")
    elif len(fetched.checked) == len(fetched.sha256):
        print(f"SHA-256 {fetched.sha256}: as given")
    else:
        print(f"SHA-256 {fetched.sha256}: begins with {fetched.checked}, as its official name says")

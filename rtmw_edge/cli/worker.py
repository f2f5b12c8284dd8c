"""`rtmw-edge worker`: this board joins a fleet, and runs what sweeps of another machine send it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def worker(
    address: Annotated[str, typer.Argument(help="Where the sweep listens: tls://DESKTOP:8786.")],
    board: Annotated[str, typer.Option(help="What this board is called in sweeps: pi5.")],
    tls_ca: Annotated[Path | None, typer.Option(help="The fleet's authority (PEM).")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="This board's certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of what it was sent. By default ~/.cache/rtmw-edge/fleet.")
    ] = None,
) -> None:
    """Work on this board for sweeps that listen at ADDRESS.

    One after the other, until Ctrl-C. It needs the runtimes of what is swept, not PyTorch. Whoever has a certificate of
    the same authority can run code here: keep the keys.
    """
    from ..errors import BadInputError
    from ..files import cache_dir
    from ..fleet.link import LOCAL, check_installed, check_name, link_to
    from ..fleet.worker import serve

    check_name(board)
    if board == LOCAL:
        raise BadInputError(f"In sweeps {LOCAL} is the machine that they run on: call this board something else.")
    link = link_to(address, tls_ca, tls_cert, tls_key)
    check_installed()
    link.security()
    serve(link, board, cache or cache_dir() / "fleet", typer.echo)

"""A board as a Dask worker: it announces `board:NAME`, does one cell at a time, and waits for the next sweep.

A nanny starts the process that works again when a runtime takes it down; the cell goes back to the fleet.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from ..errors import BadInputError
from ..runtime.environment import environment
from .alike import resource
from .link import Link, cause_of, said_by
from .work import do

CACHE = "rtmw-edge.cache"
"""Key of Dask's configuration, which the nanny hands on to the process that works: where parcels are kept."""

SCRATCH = "temporary-directory"
"""Key of Dask's configuration: where each of its nodes makes a folder, which it leaves behind."""

PARCEL = "rtmw_edge_parcel"
"""The scheduler's handler that sends a chunk of a parcel."""

QUIET = {
    "distributed.worker.profile.enabled": False,  # samples stacks a hundred times a second, beside what is timed
    "distributed.worker.memory.terminate": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.http.routes": [],
    "distributed.scheduler.http.routes": [],
    "distributed.comm.timeouts.connect": "10s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
    # Dask's own would be one thread of OpenMP, and another malloc than outside a fleet. And the process that works
    # would log how every sweep ends; a bug comes to the sweep with its traceback.
    "distributed.nanny.pre-spawn-environ": {"DASK_LOGGING__DISTRIBUTED": "critical"},
}
"""Dask's configuration of both sides of a fleet."""

HTTP = "127.0.0.1:0"
"""Where Dask's page of every node, which cannot be turned off, is out of the way: empty, on this machine alone."""

DIED = "Worker process"
"""So begins what Dask's nanny logs of a process that a runtime took down, which is worth a line."""

AGAIN_SECONDS = 2.0


def work(request: Mapping[str, Any]) -> dict[str, Any]:
    """The task that the desktop sends; runs in a worker."""
    import dask
    from distributed import get_worker
    from distributed.utils import sync

    worker = get_worker()

    def source(sha256: str, offset: int) -> bytes:
        handler = getattr(worker.scheduler, PARCEL)
        return bytes(sync(worker.loop, functools.partial(handler, sha256=sha256, offset=offset)))

    return do(request, Path(dask.config.get(CACHE)), source)


def serve(link: Link, board: str, cache: Path, say: Callable[[str], None]) -> None:
    """Work for every sweep that listens at `link`, one after the other, until Ctrl-C or SIGTERM; `say` hears of it."""
    import dask

    try:
        cache.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=cache).close()  # a worker that fails at once gets one cell after the other
    except OSError as error:
        raise BadInputError(
            f"Cannot keep what is sent in '{cache}': {error.strerror}. Choose another --cache."
        ) from None
    with (
        TemporaryDirectory(prefix="rtmw-edge-", ignore_cleanup_errors=True) as scratch,
        dask.config.set({**QUIET, CACHE: str(cache.absolute()), SCRATCH: scratch}),
        contextlib.suppress(asyncio.CancelledError),
    ):
        asyncio.run(_serve(link, board, say))
    say(f"{board} has left; a cell that it had goes to another worker.")


async def _serve(link: Link, board: str, say: Callable[[str], None]) -> None:
    from distributed import Nanny

    me = asyncio.current_task()
    assert me is not None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    log = logging.getLogger("distributed.nanny")
    log.setLevel(logging.INFO)
    log.addFilter(lambda record: record.getMessage().startswith(DIED))

    def leave() -> None:
        log.setLevel(logging.CRITICAL)
        me.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, leave)
    host = None if link.certificates else link.host
    said = ""
    while True:
        try:
            async with Nanny(
                link.address, nthreads=1, resources=resource(board, environment()), security=link.security(), host=host,
                dashboard_address=HTTP, memory_limit=0, silence_logs=50,
            ) as nanny:  # fmt: skip
                say(f"{board} has joined the sweep at {link.address}; Ctrl-C leaves it.")
                await nanny.finished()
            said = ""
            say("The sweep has ended; waiting for the next.")
        except (OSError, RuntimeError, asyncio.TimeoutError) as error:
            cause = cause_of(error)
            # Dask gives up by itself now and then, which is no news.
            reason = said if isinstance(cause, asyncio.CancelledError) else said_by(error)
            if reason != said:
                say(f"Waiting for a sweep at {link.address} ({reason}){_hint(link, cause)}.")
            said = reason
        await asyncio.sleep(AGAIN_SECONDS)


def _hint(link: Link, cause: BaseException) -> str:
    """What to look at, where the two sides do not understand each other."""
    if isinstance(cause, ssl.SSLError):
        return ": look whether both sides have certificates of the same authority, and the same --tls-ca"
    if isinstance(cause, ConnectionResetError) and not link.certificates:
        return ": the sweep may listen at tls://, which wants certificates"
    return ""

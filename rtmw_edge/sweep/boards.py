"""The boards of a sweep: a Dask scheduler in this process that workers join, and what each board says of itself."""

from __future__ import annotations

import logging
import ssl
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .. import __version__
from ..errors import BadInputError
from ..fleet.alike import Facts, board_of, unlike
from ..fleet.link import ANY, Link, cause_of, check_installed, said_by
from ..fleet.parcels import chunk_of
from ..fleet.worker import HTTP, PARCEL, QUIET, SCRATCH
from ..runtime.environment import environment
from .store import POLL

PARCELS = "parcels"
"""The folder of a store that boards fetch from."""

ATTEMPTS = 3
"""So many workers may die of a cell before it is taken for the cell's fault."""

QUIET_LEVEL = logging.CRITICAL
"""Of Dask's own log: what the user should know, we say."""


def quiet_dask() -> None:
    """Nothing of Dask's log in this process, nor its table of who has which Python: every report has a board's."""
    from distributed.versions import VersionMismatchWarning

    logging.getLogger("distributed").setLevel(QUIET_LEVEL)
    warnings.filterwarnings("ignore", category=VersionMismatchWarning)


class Boards:
    """A scheduler that listens while the `with` lasts; `folder` is the sweep's store.

    `link` is where it listens; `client_link` how a process of this machine reaches it.
    """

    def __init__(self, link: Link, folder: Path) -> None:
        check_installed()
        self.link, self.parcels = link, folder / PARCELS
        self._stack = ExitStack()

    def __enter__(self) -> Boards:
        import dask
        from distributed import Client, LocalCluster

        security = self.link.security()
        quiet_dask()
        try:
            scratch = self._stack.enter_context(TemporaryDirectory(prefix="rtmw-edge-", ignore_cleanup_errors=True))
            self._stack.enter_context(dask.config.set({**QUIET, SCRATCH: scratch}))
            cluster = LocalCluster(
                n_workers=0, host=self.link.host, scheduler_port=self.link.port, security=security,
                protocol=self.link.address.partition("://")[0], silence_logs=QUIET_LEVEL, dashboard_address=None,
                scheduler_kwargs={
                    "dashboard": False, "dashboard_address": HTTP, "allowed_failures": ATTEMPTS - 1,
                },
            )  # fmt: skip
        except (OSError, RuntimeError) as error:
            self._stack.close()
            what = "choose another --listen"
            if isinstance(cause_of(error), ssl.SSLError):
                what = "make the certificates again as docs/sweep.md says"
            raise BadInputError(f"Cannot listen at {self.link.address} ({said_by(error)}); {what}.") from error
        self._stack.enter_context(cluster)
        assert cluster.scheduler is not None
        cluster.scheduler.handlers[PARCEL] = self._send
        self._client = self._stack.enter_context(Client(cluster, set_as_default=False))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def client_link(self) -> Link:
        host = "127.0.0.1" if self.link.host in ANY else self.link.host
        return replace(self.link, host=host)

    def wait_for(self, names: Iterable[str], seconds: float, on_wait: Callable[[str], None]) -> dict[str, Facts]:
        """The environment of each board of `names` as soon as all have joined, or of those that have after `seconds`.

        `on_wait` hears whom it waits for. Raises BadInputError for a worker of another version of this toolkit, and
        for workers of one board that are not alike.
        """
        wanted = list(names)
        begun = time.monotonic()
        while True:
            present = announced(self._client)
            lacking = [name for name in wanted if name not in present]
            spent = time.monotonic() - begun
            if not lacking or spent >= seconds:
                return {name: self._facts(name, [*present[name]]) for name in wanted if name in present}
            on_wait(
                f"waiting for a worker of {', '.join(lacking)} ({spent:.0f} of {seconds:.0f} s): "
                f"rtmw-edge worker {self.link.address} --board {lacking[0]}"
            )
            time.sleep(min(POLL, seconds))

    def _send(self, sha256: str, offset: int) -> bytes:
        """The scheduler's handler of `PARCEL`."""
        return chunk_of(self.parcels, sha256, offset)

    def _facts(self, name: str, workers: list[str]) -> Facts:
        found: list[Facts] = list(self._client.run(environment, workers=workers).values())
        for facts in found:
            if facts["rtmw-edge"] != __version__:
                raise BadInputError(
                    f"The worker of {name} has rtmw-edge {facts['rtmw-edge']}, this machine {__version__}; install the "
                    "same version on both."
                )
            difference = unlike(found[0], facts)
            if difference:
                raise BadInputError(
                    f"Two workers announce {name} and are not alike ({difference}); give one of them another --board."
                )
        return found[0]


def announced(client: Any) -> dict[str, dict[str, str]]:
    """The addresses of the workers of each board, each with what it announces (`fleet.alike.resource`)."""
    found: dict[str, dict[str, str]] = {}
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        for name in worker["resources"]:
            found.setdefault(board_of(name), {})[address] = name
    return found


def no_worker(board: str, seconds: float, what: str = "worker") -> str:
    """Why nothing comes of the cells of a board, and what to do."""
    return (
        f"No {what} announced {board} for {seconds:.0f} s; start rtmw-edge worker ADDRESS --board {board} there, and "
        "run the sweep again with --retry."
    )

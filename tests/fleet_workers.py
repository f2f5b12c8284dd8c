"""Workers of a fleet on this machine, each a process of its own that poses as a board, and certificates for them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rtmw_edge.fleet.link import Certificates

COMMAND = [sys.executable, "-m", "rtmw_edge", "worker"]
SECONDS = 300.0
"""Of a machine that does much else; a quiet one needs a few."""


class Worker:
    """`rtmw-edge worker` as a user starts it; what it says is in `output`."""

    def __init__(self, address: str, board: str, folder: Path, *options: str) -> None:
        (folder / "temporary").mkdir(parents=True, exist_ok=True)
        self.output = folder / "output.txt"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environment["TMPDIR"] = str(folder / "temporary")
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [*COMMAND, address, "--board", board, "--cache", str(folder / "cache"), *options],
                stdout=file, stderr=subprocess.STDOUT, env=environment,
            )  # fmt: skip

    def kill(self) -> None:
        """As when the power goes: the process, and with it the one that works for it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        return self.output.read_text()


@contextmanager
def workers(*made: Worker) -> Iterator[None]:
    """Ends them after the `with`."""
    try:
        yield
    finally:
        for worker in made:
            worker.process.terminate()
        for worker in made:
            worker.process.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(reached: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


def certificates(folder: Path, name: str = "fleet") -> Certificates:
    """An authority, and a certificate that it signed, by the commands of docs/sweep.md."""
    folder.mkdir(parents=True, exist_ok=True)
    for line in COMMANDS:
        subprocess.run(line.replace("NAME", name).split(), cwd=folder, check=True, capture_output=True)
    return Certificates(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")


COMMANDS = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=fleet-authority -keyout ca.key -out ca.pem",
    "openssl req -newkey rsa:2048 -nodes -subj /CN=NAME -keyout NAME.key -out NAME.csr",
    "openssl x509 -req -days 365 -in NAME.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out NAME.pem",
)
"""Those of docs/sweep.md; a test compares."""

"""small_runs.py in processes of their own, on one rank or several, which end with the test that started them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).with_name("small_runs.py")
SECONDS = 900.0
"""Of a machine that does much else."""
LAST_WORDS_S = 40.0
"""torchrun gives its ranks 30 s when it is asked to end."""

Process = subprocess.Popen[str]
Start = Callable[..., Process]


@contextmanager
def small_processes(logs: Path) -> Iterator[Start]:
    """Gives a function that starts a run: start(OUT, STEPS, KEY=VALUE..., ranks=1, **environment)."""
    begun: list[Process] = []

    def start(*arguments: object, ranks: int = 1, **variables: str) -> Process:
        command = [sys.executable]
        if ranks > 1:  # at a port that it finds itself
            command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
            command += ["--log-dir", str(logs)]
        begun.append(
            subprocess.Popen(
                [*command, str(SCRIPT), *map(str, arguments)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
            )
        )  # fmt: skip
        return begun[-1]

    try:
        yield start
    finally:
        for process in begun:
            if process.poll() is None:
                process.terminate()
                try:
                    process.communicate(timeout=LAST_WORDS_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()


def finished(process: Process) -> list[str]:
    """What a run that succeeds said of its steps."""
    out, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    return [line for line in out.splitlines() if line.startswith("step ")]


@contextmanager
def another_process_in(run: Path) -> Iterator[None]:
    """While entered, a process that trains in the folder of a run, as far as others can see."""
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, run / ".rtmw-edge"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.read(1)
        yield
        other.communicate(b"\n")

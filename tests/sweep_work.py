"""Jobs that tell in a log file who did them, for sweeps that are killed and shared.

python sweep_work.py STORE LOG SECONDS [TOGETHER [LOADS [END]]]   works the jobs off, each in so many seconds

With TOGETHER, only once so many processes are there to share them. Its process first loads for LOADS seconds; all jobs
come to the END.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rtmw_edge.errors import BadInputError, NotAvailableError
from rtmw_edge.sweep.run import Crew, Event, sweep, work_off
from rtmw_edge.sweep.store import Job, Store

JOBS = [
    *(Job(f"accuracy {number}", "accuracy") for number in range(6)),
    *(Job(f"speed {number}", "speed", after=(f"accuracy {number}",), alone=True) for number in range(3)),
]


@dataclass(frozen=True)
class Logged:
    """Writes "begin ID" and "end ID" with the process's number; some jobs come to a bad end."""

    log: Path
    seconds: float
    bad: dict[str, str] | None = None
    together: int = 1
    loads: float = 0.0

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Where a process imports what its work needs, before it can do anything."""
        self.__dict__.update(state)
        if self.loads:
            self.say("loads")
            time.sleep(self.loads)

    def __call__(self, store: Store) -> Callable[[Job, Callable[[str], None]], Any]:
        ready = self.log.with_suffix(".ready")
        with ready.open("a") as file:
            file.write(".")
        while ready.stat().st_size < self.together:
            time.sleep(0.05)
        return self.work

    def work(self, job: Job, on_step: Callable[[str], None]) -> tuple[dict[str, Any], dict[str, Any]]:
        self.say(f"begin {job.id}")
        on_step("sleeping")
        end = (self.bad or {}).get(job.id)
        try:
            time.sleep(self.seconds)
        except KeyboardInterrupt:
            if end == "deaf":
                raise ZeroDivisionError("by Ctrl-C") from None
            time.sleep(0.5)
            self.say(f"cleaned {job.id}")
            raise
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "ended":
            os.kill(os.getpid(), signal.SIGTERM)
        if end == "refused":
            raise BadInputError("It does not like this.")
        if end == "missing":
            raise NotAvailableError("There is no such device.")
        if end == "broken":
            raise ZeroDivisionError("by zero\nand more")
        self.say(f"end {job.id}")
        return {"job": job.id}, {"samples": np.arange(3, dtype=np.float32)}

    def say(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {text}\n")


@dataclass(frozen=True)
class Unprepared:
    """Ends its process, or refuses, before there is any work."""

    exit_code: int = 0

    def __call__(self, store: Store) -> Any:
        if self.exit_code:
            os._exit(self.exit_code)
        raise BadInputError("This cannot be prepared.")


def nobody(event: Event) -> None:
    """Hears nothing."""


def crew(run: int, jobs: list[Job], prepare: Callable[[Store], Any], retry_until: int = 0) -> Crew:
    return partial(work_off, run=run, jobs=jobs, prepare=prepare, retry_until=retry_until)


def main(folder: str, log: str, seconds: str, together: str = "1", loads: str = "0", end: str = "") -> None:
    with Store.create(Path(folder)) as store:
        run = store.begin({"cells": []})
    bad = {job.id: end for job in JOBS}
    logged = Logged(Path(log), float(seconds), bad, int(together), float(loads))
    try:
        sweep(Path(folder), run, [crew(run, JOBS, logged)], nobody)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main(*sys.argv[1:])

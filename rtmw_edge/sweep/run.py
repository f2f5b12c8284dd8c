"""A sweep at work: processes that claim jobs of a store until none is left, and one that watches over them.

A process that a converter or runtime takes down with it costs one job: the watcher records how it died and starts
another. Accuracy may run side by side; a timed job waits until nobody else works on this machine.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ..errors import NotAvailableError, RtmwEdgeError
from ..evaluation.gates import Gate
from ..fleet.work import ACCURACY, SPEED
from ..runtime.environment import environment
from ..signals import die_of, heard_as_ctrl_c, held_back
from .cells import EXPORT, Planned
from .plan import Plan
from .store import FAILED, NOT_POSSIBLE, OK, POLL, Job, Record, Store

logger = logging.getLogger(__name__)

Work = Callable[[Job, Callable[[str], None]], tuple[dict[str, Any], dict[str, Any]]]
"""Does one job; hears of its steps; gives a record's data and arrays."""


@dataclass(frozen=True)
class Event:
    """Something that the user may see: a step of a job (`status` ""), or its end and the seconds that it took."""

    job: str
    text: str
    status: str = ""
    seconds: float = 0.0


OnEvent = Callable[[Event], None]

Crew = Callable[[Store, OnEvent], None]
"""What one process does: it gets jobs done and recorded. Must be something that can be pickled."""


def jobs_of(planned: Sequence[Planned], *, away: bool = False) -> list[Job]:
    """What this machine does: exports for boards, all accuracy jobs, then all timed ones; shared ones once.

    With `away`, what boards do, after exports: alone on its board is every job, and on this machine none.
    """
    exports = [Job(cell.export_id, EXPORT) for cell in planned if cell.cell.board]
    theirs = [cell for cell in planned if bool(cell.cell.board) == away]
    accuracy = [Job(cell.accuracy_id, ACCURACY, after=(cell.export_id,) if away else ()) for cell in theirs]
    speed = [Job(cell.speed_id, SPEED, after=(cell.accuracy_id,), alone=not away) for cell in theirs]
    return list(dict.fromkeys([*exports, *accuracy, *speed]))


def document(plan: Plan) -> dict[str, Any]:
    """What a run records of itself before it begins: cells, what is not possible, the gate, the environments."""
    cells = [
        {
            "cell": planned.cell.to_dict(),
            "base": planned.inputs.base.to_dict() if planned.inputs.base else None,
            "accuracy": planned.accuracy_id,
            "speed": planned.speed_id,
        }
        for planned in plan.cells
    ]
    return {
        "cells": cells,
        "not_possible": [{"what": what, "reason": reason} for what, reason in plan.not_possible.items()],
        "gate": gate_document(plan.gate),
        "environment": environment(),
        "boards": {name: dict(facts) for name, facts in plan.boards.items()},
    }


def gate_document(gate: Gate) -> dict[str, Any]:
    """A gate as a run records it: the name, and limits by part and measure."""
    limits: dict[str, dict[str, float]] = {}
    for (part, measure), limit in gate.limits.items():
        limits.setdefault(part, {})[measure] = limit
    return {"name": gate.name, "limits": limits}


def work_off(
    store: Store,
    on_event: OnEvent,
    *,
    run: int,
    jobs: Sequence[Job],
    prepare: Callable[[Store], Work],
    retry_until: int = 0,
) -> None:
    """Claim, do and record `jobs` in this process until none is left, those of other processes included."""
    work = prepare(store)
    while True:
        job, left = store.claim(jobs, retry_until=retry_until)
        if job is None:
            if not left:
                return
            time.sleep(POLL)
            continue
        step(on_event, job, "")
        begun = time.monotonic()
        record = done(store, job, partial(work, job, partial(step, on_event, job)))
        conclude(store, replace(record, run=run, seconds=time.monotonic() - begun), on_event, retry_until)


def conclude(store: Store, record: Record, on_event: OnEvent, retry_until: int) -> None:
    """Keep a job's record, and tell of its end."""
    on_event(Event(record.job, "recording"))
    store.finish(record, retry_until=retry_until)
    on_event(Event(record.job, str(record.data.get("reason", "")), record.status, record.seconds))


def step(on_event: OnEvent, job: Job, text: str) -> None:
    """Say what a job is at; "" when it begins."""
    on_event(Event(job.id, text))


def done(store: Store, job: Job, work: Callable[[], tuple[dict[str, Any], dict[str, Any]]]) -> Record:
    """The record of a job that `work` does, or of why it is not done."""
    for before in store.records(job.after).values():
        if before.status != OK:
            if job.kind == SPEED:
                return Record(job.id, FAILED, {"reason": "Not timed: there is no accuracy to go with it."})
            return Record(job.id, before.status, {"reason": before.data["reason"]})
    try:
        data, arrays = work()
    except NotAvailableError as error:
        return Record(job.id, NOT_POSSIBLE, {"reason": str(error)})
    except RtmwEdgeError as error:
        return Record(job.id, FAILED, {"reason": str(error)})
    except Exception as error:  # whatever a converter or runtime raises is this job's failure, not the sweep's
        logger.info("a job failed", exc_info=True)
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        return Record(job.id, FAILED, {"reason": f"{type(error).__name__}: {reason}"})
    return Record(job.id, OK, data, arrays)


PATIENCE_SECONDS = 20.0
"""How long processes that were told to end may clean up."""


def sweep(folder: Path, run: int, crews: Sequence[Crew], on_event: OnEvent) -> None:
    """Give each crew a process, and another one when that dies at work; returns when all have ended."""
    context = multiprocessing.get_context("spawn")
    alive: dict[Connection, tuple[BaseProcess, Crew]] = {}
    at_work: set[Connection] = set()

    def start(crew: Crew) -> None:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_worker, args=(folder, crew, theirs, os.getpid()), name="sweep")
        with held_back(signal.SIGINT):
            process.start()
            theirs.close()
            alive[ours] = process, crew

    try:
        for crew in crews:
            start(crew)
        while alive:
            for pipe in wait(list(alive)):
                assert isinstance(pipe, Connection)
                try:
                    heard = pipe.recv()
                    if isinstance(heard, BaseException):
                        raise heard
                    at_work.add(pipe)
                    on_event(heard)
                except EOFError:
                    process, crew = alive.pop(pipe)
                    if how := _bury(folder, run, process, on_event):
                        if pipe not in at_work:  # another would die as well
                            raise RtmwEdgeError(
                                f"A process of the sweep died with {how} before it had a job; run the sweep again."
                            ) from None
                        start(crew)
    except BaseException as error:
        # Ctrl-C goes to all by itself, `kill -INT` to one alone; they hear it once. One without a job may be importing
        # for seconds, and has nothing to clean up.
        by_hand = isinstance(error, KeyboardInterrupt) and not error.args
        for pipe, (process, _) in alive.items():
            if process.is_alive():
                os.kill(process.pid or 0, signal.SIGINT if by_hand and pipe in at_work else signal.SIGTERM)
        raise
    finally:
        until = time.monotonic() + PATIENCE_SECONDS
        for process, _ in alive.values():
            process.join(max(0.0, until - time.monotonic()))
            process.kill()
            process.join()


def _bury(folder: Path, run: int, process: BaseProcess, on_event: OnEvent) -> str:
    """Record how a process died for the job that it had; how it died, "" when it ended well."""
    with Store.open(folder) as store:
        jobs = store.bury(process.pid or 0)  # before it is reaped, when others would see that it is gone
        process.join()
        code = process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}" if code else ""
        reason = f"The process that did this died with {how}; with SIGKILL, memory may have run out."
        for job in jobs:
            store.finish(Record(job, FAILED, {"reason": reason}, run=run))
            on_event(Event(job, reason, FAILED))
    return how


def _worker(folder: Path, crew: Crew, pipe: Connection, parent: int) -> None:
    """The life of one process. It ends when its parent does, also by SIGKILL: nobody would hear it any more."""
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()

    try:
        with heard_as_ctrl_c(signal.SIGINT) as again:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

            def tell(event: Event) -> None:
                again()  # before a record: what came of a job after that is no outcome
                with contextlib.suppress(BrokenPipeError):  # the thread is about to see that
                    pipe.send(event)

            with Store.open(folder) as store:
                try:
                    crew(store, tell)
                except KeyboardInterrupt as error:
                    if error.args:  # a signal of its own: the claim stays, for the parent to bury it
                        die_of(error.args[0])
                    raise
    except KeyboardInterrupt:
        pass  # the parent, which got it too, says so
    except RtmwEdgeError as error:
        pipe.send(error)


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)

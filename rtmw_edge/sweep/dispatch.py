"""The process of a sweep that gives the boards their cells: it claims, ships, waits, scores and records.

Dask keeps each cell to workers of its board, one at a time on each, and gives the cell of one that dies to another.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import RtmwEdgeError
from ..fleet.alike import Facts, resource
from ..fleet.link import Link
from ..fleet.worker import work
from ..runtime.processor import cores
from .bench import Found
from .boards import ATTEMPTS, announced, no_worker, quiet_dask
from .cells import EXPORT, Planned
from .remote import Remote
from .run import Event, OnEvent, conclude, done, step
from .store import OK, POLL, Job, Record, Store

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

AHEAD = 1
"""Cells that are made ready for a board while all its workers are at work."""


class Fleet:
    """The boards as the dispatching process sees them, and the jobs that they have: `flying` from when on.

    `boards` are those that have joined; each has `wait` seconds to come back when it leaves.
    """

    def __init__(
        self, store: Store, planned: Sequence[Planned], boards: Mapping[str, Facts], link: Link, wait: float
    ) -> None:
        from distributed import Client

        quiet_dask()
        self.remote = Remote(store, planned, cores(), boards)
        self.wait = wait
        self.client: Client = Client(link.address, security=link.security())
        self.flying: dict[Future, tuple[Job, float]] = {}
        self._seen = dict.fromkeys(boards, time.monotonic())
        self._workers: dict[str, list[str]] = {}
        self._idle: set[str] = set()

    def look(self) -> None:
        """See which workers are there, and say once of each that is unlike its board's first why it stands idle."""
        there = announced(self.client)
        for board, facts in self.remote.facts.items():
            mine = there.get(board, {})
            self._workers[board] = [address for address, kind in mine.items() if kind in resource(board, facts)]
            if self._workers[board]:
                self._seen[board] = time.monotonic()
            for address in mine.keys() - {*self._workers[board]} - self._idle:
                self._idle.add(address)
                logger.warning(
                    "A worker at %s announces %s and is unlike the first (processor, cores, versions), so that it gets "
                    "no cells; give it another --board.", address, board,
                )  # fmt: skip

    def has_room(self, job: Job) -> bool:
        """Whether a job should be made ready now; one whose board is missing is, to be told so."""
        board = self.remote.board(job)
        flying = sum(self.remote.board(other) == board for other, _ in self.flying.values())
        return bool(self.missing(job)) or flying < len(self._workers.get(board, ())) + AHEAD

    def missing(self, job: Job) -> str:
        """Why nothing comes of a job whose board never joined, or left and did not come back in time; or ""."""
        board = self.remote.board(job)
        if board not in self._seen:
            return no_worker(board, self.wait)
        away = time.monotonic() - self._seen[board]
        return no_worker(board, away, "worker like the first") if away > self.wait else ""

    def submit(self, job: Job, request: Mapping[str, Any]) -> None:
        """Give the job to its board: alone on one of its workers, and on another one when that dies."""
        board = self.remote.board(job)
        resources = resource(board, self.remote.facts[board])
        future = self.client.submit(work, request, resources=resources, pure=False)
        self.flying[future] = job, time.monotonic()

    def where(self, job: Job) -> str:
        """For the user: "on pi5", or that it waits for one."""
        board = self.remote.board(job)
        return f"on {board}" if self._workers.get(board) else f"waiting for a worker like the first of {board}"

    def landed(self) -> list[Future]:
        """What has come to an end, as soon as anything has or after a moment, or waits for a board that is gone."""
        from distributed import TimeoutError, wait

        if not self.flying:
            time.sleep(POLL)
        else:
            with contextlib.suppress(TimeoutError):
                wait(list(self.flying), timeout=POLL, return_when="FIRST_COMPLETED")
        return [future for future, (job, _) in self.flying.items() if future.done() or self.missing(job)]

    def answer(self, future: Future, job: Job) -> Mapping[str, Any]:
        """What a job came to; RtmwEdgeError where its workers died of it, or none is left."""
        from distributed import KilledWorker

        if not future.done():
            future.cancel()
            raise RtmwEdgeError(self.missing(job))
        try:
            answer: Mapping[str, Any] = future.result()
            return answer
        except KilledWorker as error:
            raise RtmwEdgeError(
                f"{ATTEMPTS} workers of {self.remote.board(job)} died while they did this; what they wrote to their "
                "own screens says more."
            ) from error


def dispatch(
    store: Store,
    on_event: OnEvent,
    *,
    run: int,
    jobs: Sequence[Job],
    prepare: Callable[[Store], Fleet],
    retry_until: int = 0,
) -> None:
    """Get the boards' jobs among `jobs` done and recorded; exports are waited for, which others do."""
    fleet = prepare(store)

    def record(found: Record, begun: float) -> None:
        conclude(store, replace(found, run=run, seconds=time.monotonic() - begun), on_event, retry_until)

    def ask(job: Job, on_step: Callable[[str], None]) -> tuple[dict[str, Any], dict[str, Any]]:
        if reason := fleet.missing(job):
            raise RtmwEdgeError(reason)
        return fleet.remote.request(job, on_step), {}

    def score(job: Job, future: Future, on_step: Callable[[str], None]) -> Found:
        return fleet.remote.found(job, fleet.answer(future, job), on_step)

    with fleet.client:
        while True:
            fleet.look()
            while True:
                ready = {job.id for job in jobs if job.kind != EXPORT and fleet.has_room(job)}
                job, left = store.claim(jobs, retry_until=retry_until, only=ready)
                if job is None:
                    break
                step(on_event, job, "")
                begun = time.monotonic()
                asked = done(store, job, partial(ask, job, partial(step, on_event, job)))
                if asked.status == OK:
                    fleet.submit(job, asked.data)
                else:
                    record(asked, begun)
            if not left:
                return
            for job, _ in fleet.flying.values():
                on_event(Event(job.id, fleet.where(job)))
            for future in fleet.landed():
                job, begun = fleet.flying.pop(future)
                record(done(store, job, partial(score, job, future, partial(step, on_event, job))), begun)

"""The store of a sweep: one SQLite file (WAL) of runs and records that only ever grows, and claims of who is at work.

A job is claimed, done, and recorded in one transaction that lets go of the claim. On one machine a claim holds while
its process lives: whoever dies loses it at once. From another machine it is a lease, which is renewed, and runs out
after `LEASE` seconds. So a sweep may be killed at any moment, and any number of processes may work on one store. WAL
needs a local disk, not a network's.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import BadInputError
from ..files import claim_directory
from .sqlite_file import APPLICATION, connect, told

FILE = "results.sqlite"
VERSION = 1

LEASE = 60.0
"""Seconds after which a claim that nobody renewed is free again."""
RENEWAL = 10.0
POLL = 1.0
"""Seconds between two looks for work or for a lock; more often would disturb those who are timed meanwhile."""

OK, FAILED, NOT_POSSIBLE = "ok", "failed", "not possible"

SCHEMA = """
CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, document TEXT NOT NULL);
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, run INTEGER NOT NULL REFERENCES runs, at REAL NOT NULL,
    seconds REAL NOT NULL, status TEXT NOT NULL, data TEXT NOT NULL, arrays BLOB
);
CREATE INDEX records_of_job ON records (job);
CREATE TABLE claims (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL, owner TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    born TEXT NOT NULL, expires REAL NOT NULL
);
CREATE TRIGGER runs_stay BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER runs_do_not_change BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER records_stay BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER records_do_not_change BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""


@dataclass(frozen=True)
class Job:
    """What one process does at a time. `after` are jobs that must have a record first; `alone`: nothing else may run on
    the machine meanwhile."""

    id: str
    kind: str
    after: tuple[str, ...] = ()
    alone: bool = False


@dataclass(frozen=True, eq=False)
class Record:
    """The outcome of a job: `data` is JSON, `arrays` numbers that are too many for it. `status` says OK, FAILED or
    NOT_POSSIBLE, the latter two with a "reason" in `data`."""

    job: str
    status: str
    data: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    run: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Run:
    """One start of a sweep on this store: what it planned (`document`, JSON) and when."""

    id: int
    at: float
    document: Mapping[str, Any]


class Store:
    """One process's way to the store in `folder`; not for several threads.

    >>> with Store.create(Path("sweep")) as store:                      # doctest: +SKIP
    ...     run = store.begin({"cells": []})
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / FILE
        self._owner = uuid.uuid4().hex
        self._connection = connect(self._file)
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    @classmethod
    def create(cls, folder: Path) -> Store:
        """Open the store in `folder`, which is new, empty or one of ours; BadInputError for anything else."""
        if not (folder / FILE).exists():
            claim_directory(folder, f"a sweep of rtmw-edge {__version__}")
        store = cls(folder)
        with store._transaction() as database:
            if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
                for statement in SCHEMA.strip().split(";\n"):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id = {APPLICATION}")
                database.execute(f"PRAGMA user_version = {VERSION}")
        store._check()
        return store

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Open a store that is there; BadInputError where there is none."""
        if not (folder / FILE).is_file():
            raise BadInputError(f"There is no sweep in '{folder}' (no {FILE}); make one with rtmw-edge sweep --out.")
        store = cls(folder)
        store._check()
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all claims and of the file."""
        self._stop.set()
        if self._heart is not None:
            self._heart.join()
            self._heart = None
            with self._transaction() as database:
                database.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))
        self._connection.close()

    def begin(self, document: Mapping[str, Any]) -> int:
        """Record the start of a run; its number."""
        text = json.dumps(document, allow_nan=False)
        with self._transaction() as database:
            return int(
                database.execute("INSERT INTO runs (at, document) VALUES (?, ?)", (time.time(), text)).lastrowid or 0
            )

    def runs(self) -> list[Run]:
        """All runs, the oldest first."""
        rows = self._rows("SELECT id, at, document FROM runs ORDER BY id")
        return [Run(number, at, json.loads(text)) for number, at, text in rows]

    def last_record(self) -> int:
        """The number of the newest record, 0 where there is none."""
        return int(self._rows("SELECT COALESCE(MAX(id), 0) FROM records")[0][0])

    def records(self, jobs: Iterable[str], *, until: int | None = None) -> dict[str, Record]:
        """The newest record of each job that has one; those of runs up to `until`, when given, go before later ones."""
        found: dict[str, Record] = {}
        for job in dict.fromkeys(jobs):
            rows = self._rows(
                "SELECT status, data, arrays, run, seconds FROM records WHERE job = ? "
                "ORDER BY run > ?, id DESC LIMIT 1",
                job,
                until if until is not None else 2**62,
            )
            for status, data, arrays, run, seconds in rows:
                found[job] = Record(job, status, json.loads(data), _unpacked(arrays), run, seconds)
        return found

    def claim(
        self, jobs: Sequence[Job], *, retry_until: int = 0, only: Container[str] | None = None
    ) -> tuple[Job | None, int]:
        """Claim the first of `jobs` that can be done now; (None, n) when there is none and n wait for others.

        A job with a record is done, unless it failed in a record up to `retry_until`. (None, 0): all are done. With
        `only`, jobs of other ids are waited for and never claimed.
        """
        with self._transaction() as database:
            _drop_the_dead(database)
            others = database.execute(
                "SELECT kind FROM claims WHERE host = ? AND owner != ?", (_HOST, self._owner)
            ).fetchall()
            taken = {name for (name,) in database.execute("SELECT name FROM claims").fetchall()}
            done = {job.id for job in jobs if _is_done(database, job.id, retry_until)}
            left = [job for job in jobs if job.id not in done]
            timing = any(kind == _ALONE for (kind,) in others)
            awaited = {job.id for job in left}
            for job in left:
                if job.id in taken or awaited & set(job.after) or timing or (job.alone and others):
                    continue
                if only is not None and job.id not in only:
                    continue
                self._insert(database, job.id, _ALONE if job.alone else job.kind)
                self._beat()
                return job, len(left)
            return None, len(left)

    def finish(self, record: Record, *, retry_until: int = 0) -> bool:
        """Add the record and let go of the job's claim, both or neither.

        False when another recorded it, who took this process for dead; failures up to `retry_until` do not count.
        """
        arrays = _packed(record.arrays)
        with self._transaction() as database:
            mine = database.execute(
                "DELETE FROM claims WHERE name = ? AND owner = ?", (record.job, self._owner)
            ).rowcount
            if not mine and _is_done(database, record.job, retry_until):
                return False
            database.execute(
                "INSERT INTO records (job, run, at, seconds, status, data, arrays) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    record.job, record.run, time.time(), record.seconds, record.status,
                    json.dumps(record.data, allow_nan=False), arrays,
                ),
            )  # fmt: skip
            return True

    def bury(self, pid: int) -> list[str]:
        """Take over the jobs that a dying process `pid` of this machine had claimed, and free its locks; those jobs."""
        with self._transaction() as database:
            database.execute("DELETE FROM claims WHERE host = ? AND pid = ? AND kind = ?", (_HOST, pid, _LOCK))
            theirs = "WHERE host = ? AND pid = ?"
            rows = database.execute(f"SELECT name FROM claims {theirs}", (_HOST, pid)).fetchall()
            mine = (self._owner, os.getpid(), born(os.getpid()))
            database.execute(f"UPDATE claims SET owner = ?, pid = ?, born = ? {theirs}", (*mine, _HOST, pid))
            return [name for (name,) in rows]

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold `name` alone among all processes of the store; waits for whoever holds it."""
        name = f"lock:{name}"
        while True:
            with self._transaction() as database:
                _drop_the_dead(database)
                free = database.execute("SELECT 1 FROM claims WHERE name = ?", (name,)).fetchone() is None
                if free:
                    self._insert(database, name, _LOCK)
            if free:
                break
            time.sleep(POLL)
        self._beat()
        try:
            yield
        finally:
            with self._transaction() as database:
                database.execute("DELETE FROM claims WHERE name = ? AND owner = ?", (name, self._owner))

    def _insert(self, database: sqlite3.Connection, name: str, kind: str) -> None:
        database.execute(
            "INSERT INTO claims (name, kind, owner, host, pid, born, expires) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (name, kind, self._owner, _HOST, os.getpid(), born(os.getpid()), time.time() + LEASE),
        )

    def _beat(self) -> None:
        """Renew this process's claims from now on, on a thread with a connection of its own."""
        if self._heart is None:
            self._heart = threading.Thread(target=self._renew, name="lease", daemon=True)
            self._heart.start()

    def _renew(self) -> None:
        connection = connect(self._file)
        while not self._stop.wait(RENEWAL):
            with contextlib.suppress(sqlite3.OperationalError):  # a full disk may have room at the next beat
                connection.execute("UPDATE claims SET expires = ? WHERE owner = ?", (time.time() + LEASE, self._owner))
        connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with told(self._file):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                if self._connection.in_transaction:  # some errors end it themselves
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with told(self._file):
            return self._connection.execute(statement, values).fetchall()

    def _check(self) -> None:
        application = self._rows("PRAGMA application_id")[0][0]
        version = self._rows("PRAGMA user_version")[0][0]
        if application != APPLICATION:
            raise BadInputError(f"{self._file} is not the store of a sweep; name another folder.")
        if version != VERSION:
            raise BadInputError(f"{self._file} has the format {version}, this tool reads {VERSION}; upgrade rtmw-edge.")


_ALONE, _LOCK = "alone", "lock"
"""Kinds of claims, beside those of jobs."""


def born(pid: int) -> str:
    """When a process of this machine began, which tells it from a later one with its number; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _host() -> str:
    """This machine since it was switched on: process numbers mean nothing beyond."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}"


_HOST = _host()


def _drop_the_dead(database: sqlite3.Connection) -> None:
    rows = database.execute("SELECT name, host, pid, born, expires FROM claims").fetchall()
    for name, host, pid, begun, expires in rows:
        # A machine that slept, or a disk that was full, lets a lease run out while its process lives.
        dead = born(pid) != begun if host == _HOST and begun else expires < time.time()
        if dead:
            database.execute("DELETE FROM claims WHERE name = ?", (name,))


def _is_done(database: sqlite3.Connection, job: str, retry_until: int) -> bool:
    row = database.execute("SELECT id, status FROM records WHERE job = ? ORDER BY id DESC LIMIT 1", (job,)).fetchone()
    return row is not None and (row[1] == OK or row[0] > retry_until)


def _packed(arrays: Mapping[str, NDArray[Any]]) -> bytes | None:
    if not arrays:
        return None
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def _unpacked(blob: bytes | None) -> dict[str, NDArray[Any]]:
    if blob is None:
        return {}
    with np.load(io.BytesIO(blob), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}

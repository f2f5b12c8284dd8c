"""The store: what is recorded stays; killed at any moment nothing is lost or done twice; two processes share it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sweep_work
from fleet_workers import SECONDS, until
from sweep_work import JOBS, Logged, Unprepared, crew, nobody

from rtmw_edge.errors import BadInputError, RtmwEdgeError
from rtmw_edge.sweep import store as store_module
from rtmw_edge.sweep.run import Event, sweep, work_off
from rtmw_edge.sweep.store import FAILED, NOT_POSSIBLE, OK, Job, Record, Store

IDS = [job.id for job in JOBS]


def lines(log: Path) -> list[list[str]]:
    """Process, word and job of every line of a log."""
    return [line.split(maxsplit=2) for line in log.read_text().splitlines()] if log.exists() else []


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts sweeps in processes of their own, which end with the test, and with them all that they started."""
    begun: list[subprocess.Popen[bytes]] = []

    def started(folder: Path, log: Path, *more: object) -> subprocess.Popen[bytes]:
        # Ctrl-C is ignored by what a shell starts in the background, as whoever runs these tests may be.
        hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        command = [sys.executable, sweep_work.__file__, str(folder), str(log), *map(str, more)]
        said = subprocess.PIPE if len(more) > 2 else None
        begun.append(subprocess.Popen(command, preexec_fn=hears, start_new_session=True, stderr=said))
        return begun[-1]

    yield started
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(SECONDS)


def test_records_and_arrays_come_back_and_stay(tmp_path: Path) -> None:
    numbers = np.linspace(0, 1, 7).astype(np.float32)
    with Store.create(tmp_path / "store") as store:
        run = store.begin({"cells": [1, "two"]})
        store.finish(Record("a", FAILED, {"reason": "no"}, run=run))
        store.finish(Record("b", OK, {"x": 1.5}, {"samples": numbers}, run=run, seconds=2.0))
    with Store.open(tmp_path / "store") as store:
        assert store.runs()[0].document == {"cells": [1, "two"]}
        found = store.records(["a", "b", "c"])
        assert found.keys() == {"a", "b"} and found["a"].data == {"reason": "no"}
        assert found["b"].seconds == 2.0 and np.array_equal(found["b"].arrays["samples"], numbers)
    database = sqlite3.connect(tmp_path / "store" / store_module.FILE)
    for statement in ("DELETE FROM records", "UPDATE records SET status = 'ok'", "DELETE FROM runs"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(statement)
    database.close()


def test_the_newest_record_counts_and_earlier_runs_keep_theirs(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        first = store.begin({})
        store.finish(Record("a", FAILED, {"reason": "no"}, run=first))
        second = store.begin({})
        assert store.claim([Job("a", "accuracy")]) == (None, 0)  # a failure is a result too
        assert store.claim([Job("a", "accuracy")], retry_until=store.last_record())[0] == Job("a", "accuracy")
        store.finish(Record("a", OK, {}, run=second))
        assert store.records(["a"])["a"].status == OK
        assert store.records(["a"], until=first)["a"].status == FAILED


def test_a_claim_is_one_process_s_until_it_is_done_or_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, timed = Job("a", "accuracy"), Job("b", "speed", after=("a",), alone=True)
    with Store.create(tmp_path) as one, Store.open(tmp_path) as other:
        assert one.claim([job, timed])[0] == job
        assert other.claim([job, timed]) == (None, 2)  # "b" comes after "a"
        assert other.claim([job, Job("e", "accuracy", after=("a",))]) == (None, 2)  # also where it need not be alone
        assert other.claim([Job("c", "speed", alone=True)]) == (None, 1)  # nobody is timed beside another's work
        one.finish(Record("a", OK, {}))
        assert other.claim([job, timed])[0] == timed
        assert one.claim([Job("d", "accuracy")]) == (None, 1)  # and nobody works beside a timed run
        monkeypatch.setattr(store_module, "born", lambda pid: "another process has its number")
        assert one.claim([job, timed])[0] == timed


def test_a_lock_is_no_job_and_a_job_outlives_it(tmp_path: Path) -> None:
    """Who makes a bundle under a lock keeps the job that it is for, and may be timed alone meanwhile."""
    job, timed = Job("a", "accuracy"), Job("b", "speed", alone=True)
    with Store.create(tmp_path) as one, Store.open(tmp_path) as other:
        with one.lock("bundle"):
            assert one.claim([timed])[0] == timed
        assert other.claim([timed]) == (None, 1)
        one.finish(Record("b", OK, {}))
        with Store.open(tmp_path) as brief:
            assert brief.claim([job])[0] == job
        brief.close()  # a second time, which does nothing
        assert other.claim([job])[0] == job, "who goes lets go"


def test_of_a_process_that_dies_the_jobs_are_taken_over_and_the_locks_are_free(tmp_path: Path) -> None:
    with Store.create(tmp_path) as dying, Store.open(tmp_path) as heir:
        dying.claim([Job("a", "accuracy")])
        with dying.lock("bundle"):
            assert heir.bury(os.getpid()) == ["a"]
            with heir.lock("bundle"):
                assert dying.claim([Job("a", "accuracy")]) == (None, 1)
        assert heir.finish(Record("a", FAILED, {"reason": "It died."}))


def test_what_is_no_json_is_not_recorded(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        for record in (lambda: store.begin({"x": float("nan")}), lambda: store.finish(Record("a", OK, {"x": np.inf}))):
            with pytest.raises(ValueError, match="not JSON compliant"):
                record()
        assert store.runs() == [] and store.records(["a"]) == {}


def test_a_lease_that_nobody_renews_runs_out_for_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LEASE", 0.05)
    job = Job("a", "accuracy")
    with Store.create(tmp_path) as one, Store.open(tmp_path) as other:
        assert one.claim([job])[0] == job
        time.sleep(0.1)
        assert other.claim([job])[0] is None  # this machine slept, and the process lives
        monkeypatch.setattr(store_module, "_HOST", "another machine")
        assert other.claim([job])[0] == job
        assert other.finish(Record("a", OK, {"by": "other"}))
        assert not one.finish(Record("a", OK, {"by": "one"}))
        assert one.records(["a"])["a"].data == {"by": "other"}


def test_a_lease_that_is_renewed_does_not_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LEASE", 1.0)
    monkeypatch.setattr(store_module, "RENEWAL", 0.1)
    with Store.create(tmp_path) as one, Store.open(tmp_path) as other:
        assert one.claim([Job("a", "accuracy")])[0] is not None
        time.sleep(1.5)
        monkeypatch.setattr(store_module, "_HOST", "another machine")
        assert other.claim([Job("a", "accuracy")]) == (None, 1)


def test_a_store_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path) as store:
        store.finish(Record("a", OK, {}, run=store.begin({})))
    monkeypatch.setattr(store_module.os, "access", lambda path, mode: False)
    with Store.open(tmp_path) as store:
        assert store.records(["a"])["a"].status == OK and len(store.runs()) == 1
        with pytest.raises(BadInputError, match=r"sqlite can only be read: you may not write it .* Name another"):
            store.begin({})


def test_what_was_recorded_last_is_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.create(tmp_path) as store:  # which has all of it in its WAL as yet
        store.finish(Record("a", OK, {}, run=store.begin({})))
        monkeypatch.setattr(store_module.os, "access", lambda path, mode: False)
        with Store.open(tmp_path) as read:
            assert read.records(["a"])["a"].status == OK and len(read.runs()) == 1


def test_a_store_that_another_program_holds_or_that_is_damaged_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.create(tmp_path) as store:
        run = store.begin({})
        for number in range(200):
            store.finish(Record(f"job {number}", OK, {"text": "x" * 500}, run=run))
    other = sqlite3.connect(tmp_path / store_module.FILE)
    other.execute("BEGIN IMMEDIATE")
    with Store.open(tmp_path) as store:
        store._connection.execute("PRAGMA busy_timeout = 10")
        assert len(store.runs()) == 1  # nobody waits to read
        with pytest.raises(BadInputError, match=r"results\.sqlite cannot be used \(database is locked\); see whether"):
            store.begin({})
    other.close()
    content = bytearray((tmp_path / store_module.FILE).read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    (tmp_path / store_module.FILE).write_bytes(content)
    with (
        pytest.raises(BadInputError, match=r"damaged \(database disk image is malformed\)"),
        Store.open(tmp_path) as store,
    ):
        store.records([f"job {number}" for number in range(200)])


def test_folders_and_files_that_are_no_store_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInputError, match="Refusing to overwrite"):
        Store.create(tmp_path / "thesis")
    with pytest.raises(BadInputError, match=r"There is no sweep in .* make one with rtmw-edge sweep --out"):
        Store.open(tmp_path / "thesis")
    for name, content in (("text", b"years of work" * 100), ("sqlite", b"")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / store_module.FILE).write_bytes(content)
        with pytest.raises(BadInputError, match="is not the store of a sweep"):
            Store.open(folder)
    database = sqlite3.connect(tmp_path / "others.sqlite")
    database.execute("CREATE TABLE thesis (page TEXT)")
    database.close()
    (tmp_path / "foreign").mkdir()
    foreign = (tmp_path / "others.sqlite").rename(tmp_path / "foreign" / store_module.FILE)
    before = foreign.read_bytes()
    for way in (Store.create, Store.open):
        with pytest.raises(BadInputError, match="is not the store of a sweep"):
            way(tmp_path / "foreign")
    assert foreign.read_bytes() == before
    newer = Store.create(tmp_path / "newer")
    newer.close()
    database = sqlite3.connect(tmp_path / "newer" / store_module.FILE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(BadInputError, match="has the format 99, this tool reads 1; upgrade rtmw-edge"):
        Store.open(tmp_path / "newer")


def test_killed_at_any_moment_it_goes_on_without_redoing_or_losing(start: Start, tmp_path: Path) -> None:
    folder, log = tmp_path / "store", tmp_path / "log"
    for ended in (1, 3):
        process = start(folder, log, 0.15)
        until(lambda ended=ended: sum(word == "end" for _, word, _ in lines(log)) >= ended)  # type: ignore[misc]
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait(SECONDS)
        child = int(lines(log)[-1][0])
        until(lambda child=child: not store_module.born(child))  # it notices that it has no parent any more
    with Store.open(folder) as store:
        recorded = set(store.records(IDS))
    before = len(lines(log))
    assert start(folder, log, 0.01).wait(SECONDS) == 0
    with Store.open(folder) as store:
        found = store.records(IDS)
    assert all(found[job].status == OK and found[job].data == {"job": job} for job in IDS)
    assert not recorded & {job for _, _, job in lines(log)[before:]}
    ends = Counter(job for _, word, job in lines(log) if word == "end")
    assert all(ends[job] == 1 for job in recorded)


def test_sigint_to_the_sweep_alone_ends_its_processes_too(start: Start, tmp_path: Path) -> None:
    """As `kill -INT` and `timeout` send it; in a terminal Ctrl-C goes to all of them, and breaks off no cleaning up."""
    for number, to_all in enumerate((False, True)):
        folder, log = tmp_path / f"store {number}", tmp_path / f"log {number}"
        process = start(folder, log, 300.0)
        until(lambda log=log: lines(log))  # type: ignore[misc]
        child = int(lines(log)[0][0])
        if to_all:
            os.kill(child, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0 and not store_module.born(child)
        assert [word for _, word, _ in lines(log)] == ["begin", "cleaned"]


@pytest.mark.parametrize("to_all", [False, True])
def test_sigint_while_a_process_of_the_sweep_still_imports_is_no_traceback(
    start: Start, tmp_path: Path, to_all: bool
) -> None:
    """Which takes PyTorch seconds at the start of every sweep, and of every round of a search."""
    process = start(tmp_path / "store", tmp_path / "log", 300.0, 1, 300.0)
    until(lambda: lines(tmp_path / "log"))
    child = int(lines(tmp_path / "log")[0][0])
    if to_all:
        os.kill(child, signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == (None, b"") and process.returncode == 130
    assert not store_module.born(child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_swallows_is_no_outcome_of_a_job(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    """torch does, in its imports, and fails afterwards: every job was recorded as failed, for good."""
    folder, log = tmp_path / "store", tmp_path / "log"
    process = start(folder, log, 300.0, 1, 0.0, "deaf")
    until(lambda: any(word == "begin" for _, word, _ in lines(log)))
    process.send_signal(number)
    process.communicate(timeout=60)
    assert [word for _, word, _ in lines(log)] == ["begin"]
    with Store.open(folder) as store:
        assert not store.records(IDS)


def test_two_processes_share_the_work_and_timed_jobs_run_alone(start: Start, tmp_path: Path) -> None:
    folder, log = tmp_path / "store", tmp_path / "log"
    Store.create(folder).close()
    both = [start(folder, log, 0.2, 2) for _ in range(2)]
    assert [process.wait(SECONDS) for process in both] == [0, 0]
    counted = Counter(job for _, word, job in lines(log) if word == "begin")
    assert counted == Counter(IDS)
    assert len({process for process, _, _ in lines(log)}) == 2
    running: set[str] = set()
    for _, word, job in lines(log):
        if word == "end":
            running.discard(job)
        else:
            running.add(job)
            assert len(running) == 1 or not any(name.startswith("speed") for name in running)


def test_whatever_becomes_of_a_job_the_rest_goes_on(tmp_path: Path) -> None:
    folder, log = tmp_path / "store", tmp_path / "log"
    with Store.create(folder) as store:
        run = store.begin({})
    bad = {"accuracy 0": "killed", "accuracy 1": "refused", "accuracy 2": "broken", "accuracy 3": "missing"}
    bad["accuracy 5"] = "ended"
    heard: list[Event] = []
    sweep(folder, run, [crew(run, JOBS, Logged(log, 0.01, bad))], heard.append)
    with Store.open(folder) as store:
        found = store.records(IDS)
    assert found["accuracy 0"].status == FAILED
    assert "died with signal SIGKILL; with SIGKILL, memory may have run out" in found["accuracy 0"].data["reason"]
    assert found["accuracy 5"].status == FAILED and "died with signal SIGTERM" in found["accuracy 5"].data["reason"]
    assert found["accuracy 1"].data == {"reason": "It does not like this."}
    assert found["accuracy 2"].data == {"reason": "ZeroDivisionError: by zero"}
    assert (found["accuracy 3"].status, found["accuracy 4"].status) == (NOT_POSSIBLE, OK)
    assert found["speed 0"].data == {"reason": "Not timed: there is no accuracy to go with it."}
    ended = {event.job for event in heard if event.status}
    assert ended == set(IDS) and any(event.text == "sleeping" for event in heard)


def test_a_job_that_kills_its_process_twice_is_retried_once(tmp_path: Path) -> None:
    folder, log = tmp_path / "store", tmp_path / "log"
    with Store.create(folder) as store:
        run = store.begin({})
    work = Logged(log, 0.01, {"accuracy 0": "killed"})
    sweep(folder, run, [crew(run, JOBS[:1], work)], nobody)
    with Store.open(folder) as store:
        until = store.last_record()
    sweep(folder, run, [crew(run, JOBS[:1], work, until)], nobody)
    assert [word for _, word, _ in lines(log)] == ["begin", "begin"]
    with Store.open(folder) as store:
        assert store.last_record() == until + 1


def test_processes_that_die_together_cost_their_jobs_only(tmp_path: Path) -> None:
    folder, log = tmp_path / "store", tmp_path / "log"
    with Store.create(folder) as store:
        run = store.begin({})
    jobs = [Job(f"accuracy {number}", "accuracy") for number in range(8)]
    work = Logged(log, 0.0, {job.id: "killed" for job in jobs[:6]})
    sweep(folder, run, [crew(run, jobs, work)] * 3, nobody)
    with Store.open(folder) as store:
        found = store.records([job.id for job in jobs])
    assert [found[job.id].status for job in jobs] == [FAILED] * 6 + [OK] * 2


def test_a_result_whose_claim_was_lost_counts_over_an_old_failure(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        run = store.begin({})
        store.finish(Record("a", FAILED, {"reason": "before"}, run=run))
        until = store.last_record()
        assert not store.finish(Record("a", OK, {}, run=run))
        assert store.finish(Record("a", OK, {}, run=run), retry_until=until)


def test_a_process_that_cannot_even_begin_is_told_and_not_started_for_ever(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        run = store.begin({})
    with pytest.raises(RtmwEdgeError, match="died with exit code 7 before it had a job; run the sweep again"):
        sweep(tmp_path, run, [crew(run, JOBS, Unprepared(exit_code=7))], nobody)
    with pytest.raises(BadInputError, match="This cannot be prepared"):
        sweep(tmp_path, run, [crew(run, JOBS, Unprepared())], nobody)


def test_ctrl_c_leaves_the_job_for_the_next_run(tmp_path: Path) -> None:
    def interrupted(job: Job, on_step: object) -> tuple[dict[str, object], dict[str, object]]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Store.create(tmp_path) as store:
        work_off(store, nobody, run=store.begin({}), jobs=JOBS, prepare=lambda _: interrupted)
    with Store.open(tmp_path) as store:
        assert store.records(IDS) == {} and store.claim(JOBS)[0] == JOBS[0]

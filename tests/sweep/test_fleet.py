"""Cells on boards: workers that pose as two boards give the figures of this machine; one is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
import tiny_formats
import tiny_models
from coco_files import document, write_images
from distributed import Client, get_worker, versions
from distributed.utils import sync
from fleet_workers import SECONDS, Worker, certificates, free_port, until, workers

from rtmw_edge.errors import BadInputError, NotAvailableError, RtmwEdgeError
from rtmw_edge.evaluation import open_dataset
from rtmw_edge.evaluation.whole_body_ap import EVALUATED_PARTS
from rtmw_edge.fleet import worker as worker_module
from rtmw_edge.fleet.alike import resource, unlike
from rtmw_edge.fleet.link import Certificates, Link
from rtmw_edge.fleet.worker import CACHE, serve
from rtmw_edge.runtime import load
from rtmw_edge.runtime.processor import cores
from rtmw_edge.sweep import bench as bench_module
from rtmw_edge.sweep import boards as boards_module
from rtmw_edge.sweep import dispatch as dispatch_module
from rtmw_edge.sweep.bench import Bench
from rtmw_edge.sweep.boards import Boards, announced
from rtmw_edge.sweep.cells import Cell, Inputs, Planned
from rtmw_edge.sweep.dispatch import Fleet, dispatch
from rtmw_edge.sweep.remote import Remote
from rtmw_edge.sweep.run import Event, jobs_of, work_off
from rtmw_edge.sweep.store import FAILED, OK, Job, Store

IMAGES = 4


def cells_of(board: str, data: str) -> list[Planned]:
    """fp32 and int8 on a board, or on this machine for ""."""
    here = Path(__file__)
    single = Cell("tiny", "", "onnx", "fp32", data=data, board=board)
    integer = replace(single, precision="int8", grid="common", table="t")
    return [
        Planned(
            cell, Inputs(here, here, None, base, base, data), cell.precision, "t", f"a {cell.label}", f"s {cell.label}"
        )
        for cell, base in ((single, None), (integer, single))
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles of the tiny network, and a data set."""
    folder = tmp_path_factory.mktemp("made")
    for precision in ("fp32", "int8"):
        (folder / precision).mkdir()
        files = tiny_formats.onnx(folder / precision, int8=precision == "int8")
        tiny_models.write_bundle(folder / precision / "bundle", files, precision=precision)
    (folder / "labels.json").write_text(json.dumps(document(images=IMAGES)))
    write_images(folder / "images", IMAGES)
    return folder


@pytest.fixture
def data(made: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The data set, with benches that export nothing and have no PyTorch network to compare with."""
    named = f"coco:{made / 'labels.json'}:{made / 'images'}"
    monkeypatch.setattr(Bench, "bundle", lambda self, planned, on_step: made / planned.cell.precision / "bundle")
    with load(made / "fp32" / "bundle", threads=1) as runner:
        answers = [bench_module.answer(runner, item)[1] for item in open_dataset(named)]
    monkeypatch.setattr(Bench, "_answers", lambda self, planned, dataset, on_step: answers)
    return named


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Boards]:
    """A scheduler without TLS, which loopback does not need."""
    with Boards(Link("127.0.0.1", free_port()), tmp_path / "store") as listening:
        yield listening


def run_all(store: Store, planned: list[Planned], boards: Boards, facts: Any, wait: float = 60.0) -> list[Event]:
    """All jobs of `planned`, in this process; what was said meanwhile."""
    events: list[Event] = []
    work_off(store, events.append, run=0, jobs=jobs_of(planned), prepare=partial(Bench, planned=planned, threads=1))
    fleet = partial(Fleet, planned=planned, boards=facts, link=boards.client_link, wait=wait)
    dispatch(store, events.append, run=0, jobs=jobs_of(planned, away=True), prepare=fleet)
    return events


@contextmanager
def client_of(boards: Boards) -> Iterator[Client]:
    with Client(boards.client_link.address, security=boards.link.security(), set_as_default=False) as client:
        yield client


def quiet(text: str) -> None:
    """Hears nothing."""


@pytest.mark.slow
def test_boards_give_the_figures_of_this_machine_and_a_killed_one_gives_its_cell_back(
    boards: Boards, data: str, tmp_path: Path
) -> None:
    address = boards.link.address
    pair = [Worker(address, "pi5", tmp_path / name) for name in ("first", "second")]
    other = Worker(address, "zero-2w", tmp_path / "other")
    with workers(*pair, other), Store.create(tmp_path / "store") as store, client_of(boards) as client:
        facts = boards.wait_for(["pi5", "zero-2w"], SECONDS, quiet)
        assert facts.keys() == {"pi5", "zero-2w"} and facts["pi5"]["onnxruntime"]
        until(lambda: len(announced(client)["pi5"]) == 2)
        planned = [*cells_of("pi5", data), *cells_of("zero-2w", data)]
        killed: list[str] = []
        killing = threading.Thread(target=kill_in_the_middle, args=(client, pair, killed), daemon=True)
        killing.start()
        events = run_all(store, planned, boards, facts)
        killing.join(5)
        assert killed == ["and another one has its cell"] and len(announced(client)["pi5"]) == 1
        loaded = client.run(lambda: sorted(UNNEEDED & __import__("sys").modules.keys()))
        assert list(loaded.values()) == [[], []]
        settings = client.run(lambda: __import__("os").environ.get("MALLOC_TRIM_THRESHOLD_"))
        assert list(settings.values()) == [None, None]  # Dask would have another malloc than people have

    with Store.open(tmp_path / "store") as store:
        found = store.records([job.id for job in jobs_of(planned, away=True)])
        assert {record.status for record in found.values()} == {OK}, events
        local = cells_of("", data)
        alone = Bench(store, local, cores())
        for here, *away in zip(local, planned[:2], planned[2:], strict=True):
            expected, samples = alone(Job(here.accuracy_id, "accuracy"), quiet)
            for cell in away:
                record, speed = found[cell.accuracy_id], found[cell.speed_id].data
                assert {name: record.data[name] for name in expected} == expected
                for part in EVALUATED_PARTS:
                    np.testing.assert_array_equal(record.arrays[f"ap {part}"], samples[f"ap {part}"])
                assert 0 < speed["ratio_low"] <= speed["ratio"] <= speed["ratio_high"]
                assert speed["environment"]["onnxruntime"] == facts["pi5"]["onnxruntime"]
                assert 20 < speed["memory_mb"] < 500 and speed["sensors"].keys() == {"before", "after"}
                paced = speed["paced_by"]
                assert paced is None if cell.cell.precision == "fp32" else paced["board"] == cell.cell.board
    assert not list((tmp_path / "other" / "temporary").iterdir()) and "distributed" not in other.said()
    cached = {path.name for path in (tmp_path / "other" / "cache").iterdir()}
    assert cached == {path.name for path in boards.parcels.iterdir()} and len(cached) == 3


UNNEEDED = {"torch", "onnx", "rtmw_edge.sweep", "rtmw_edge.targets", "rtmw_edge.evaluation"}


def kill_in_the_middle(client: Client, pair: list[Worker], killed: list[str]) -> None:
    """Kill the one of a pair of workers that times a cell, and see that the other gets it."""
    processes = client.run(os.getppid, workers=list(announced(client)["pi5"]))
    address, key = at_work_for_a_while(client, list(processes))
    next(worker for worker in pair if worker.process.pid == processes[address]).kill()
    until(lambda: any(str(task) == key for mine in client.processing().values() for task in mine))
    killed.append("and another one has its cell")


def at_work_for_a_while(client: Client, addresses: list[str]) -> tuple[str, str]:
    """A worker of `addresses` and its task, which it has had for long enough to be in the middle of timing."""
    since: dict[tuple[str, str], float] = {}
    end = time.monotonic() + SECONDS
    while not since or time.monotonic() - min(since.values()) < 1.5:
        assert time.monotonic() < end, "nobody had work for so long"
        at_work = {(address, str(key)) for address in addresses for key in client.processing()[address]}
        since = {task: since.get(task, time.monotonic()) for task in at_work}
        time.sleep(0.1)
    return min(since, key=lambda task: since[task])


@pytest.mark.slow
def test_with_tls_only_the_fleet_gets_in_and_a_cell_that_kills_its_workers_fails(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(boards_module, "ATTEMPTS", 1)
    monkeypatch.setattr(dispatch_module, "ATTEMPTS", 1)
    link = Link("127.0.0.1", free_port(), certificates(tmp_path / "ours"))
    foreign = certificates(tmp_path / "theirs")
    with Boards(link, tmp_path / "store") as boards, client_of(boards) as client:
        mine = Worker(link.address, "pi5", tmp_path / "mine", *options(link.certificates))
        stranger = Worker(link.address, "pi4", tmp_path / "stranger", *options(foreign))
        with workers(mine, stranger), Store.create(tmp_path / "store") as store:
            facts = boards.wait_for(["pi5"], SECONDS, quiet)
            planned = cells_of("pi5", data)[:1]
            killing = threading.Thread(target=kill_its_process, args=(client,), daemon=True)
            killing.start()
            monkeypatch.setattr(versions, "get_package_info", lambda names: {"python": "3.99"})
            run_all(store, planned, boards, facts)
            killing.join(5)
            assert not [warning for warning in recwarn if warning.category is versions.VersionMismatchWarning]
            found = store.records([planned[0].accuracy_id, planned[0].speed_id])
            assert found[planned[0].accuracy_id].status == OK
            assert found[planned[0].speed_id].status == FAILED
            assert found[planned[0].speed_id].data["reason"] == (
                "1 workers of pi5 died while they did this; what they wrote to their own screens says more."
            )
            until(lambda: "signal 9" in mine.said())
            until(lambda: "pi5" in announced(client))  # the nanny has started another
            until(lambda: "Waiting for a sweep" in stranger.said())
            assert "look whether both sides have certificates of the same authority" in stranger.said()
            assert "pi4" not in announced(client)


def test_a_certificate_of_another_authority_is_told(tmp_path: Path) -> None:
    ours, theirs = certificates(tmp_path / "ours"), certificates(tmp_path / "theirs")
    link = Link("127.0.0.1", free_port(), replace(ours, authority=theirs.authority))
    with pytest.raises(BadInputError, match=r"certificate verify failed.*; make the certificates again"):
        Boards(link, tmp_path).__enter__()


def options(files: Certificates | None) -> list[str]:
    assert files is not None
    return ["--tls-ca", str(files.authority), "--tls-cert", str(files.certificate), "--tls-key", str(files.key)]


def kill_its_process(client: Client) -> None:
    """Kill the process that works, not its nanny, while it times a cell."""
    (pid,) = client.run(os.getpid).values()
    at_work_for_a_while(client, list(announced(client)["pi5"]))
    os.kill(pid, signal.SIGKILL)


def test_a_board_that_nobody_announces_is_waited_for_and_recorded(boards: Boards, data: str, tmp_path: Path) -> None:
    heard: list[str] = []
    assert boards.wait_for(["pi5"], 3, heard.append) == {}
    assert heard[0] == (f"waiting for a worker of pi5 (0 of 3 s): rtmw-edge worker {boards.link.address} --board pi5")
    planned = cells_of("pi5", data)
    with Store.create(tmp_path / "store") as store:
        run_all(store, planned, boards, {}, wait=7.0)
        for job in jobs_of(planned, away=True):
            record = store.records([job.id])[job.id]
            assert job.kind == "export" or record.data["reason"] in (
                "No worker announced pi5 for 7 s; start rtmw-edge worker ADDRESS --board pi5 there, and run the sweep "
                "again with --retry.",
                "Not timed: there is no accuracy to go with it.",
            )
            assert record.status == (OK if job.kind == "export" else FAILED)


def test_dask_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with Boards(Link("127.0.0.1", free_port()), tmp_path / "store"):
        assert list((tmp_path / "temporary").iterdir())
    assert not list((tmp_path / "temporary").iterdir())


def test_dask_s_page_is_for_this_machine_alone(tmp_path: Path) -> None:
    with Boards(Link("0.0.0.0", free_port(), certificates(tmp_path)), tmp_path / "store") as boards:
        assert boards._client.cluster.scheduler.http_server.address == "127.0.0.1"
        assert boards.client_link.host == "127.0.0.1"


def test_a_port_that_is_taken_is_told(boards: Boards, tmp_path: Path) -> None:
    with pytest.raises(
        BadInputError, match=r"Cannot listen at tcp://127.0.0.1:\d+ .*in use.*; choose another --listen"
    ):
        Boards(boards.link, tmp_path).__enter__()


def test_a_late_worker_that_is_unlike_its_board_s_first_gets_no_cells_and_is_told(
    boards: Boards, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "do", lambda *_: {"did": get_worker().name})
    facts, planned, loop = {"rtmw-edge": "1", "ncnn": "1"}, cells_of("pi5", data), boards._client.loop

    async def joined(ncnn: str) -> distributed.Worker:
        announces = resource("pi5", {**facts, "ncnn": ncnn, "frequency governor": ncnn})
        return await distributed.Worker(
            boards.link.address, name=ncnn, nthreads=1, resources=announces, dashboard_address=None
        )

    with Store.create(tmp_path / "store") as store, dask.config.set({CACHE: str(tmp_path / "cache")}):
        fleet = Fleet(store, planned, {"pi5": facts}, boards.client_link, 60.0)
        late = sync(loop, joined, "2")
        jobs = [Job(cell.accuracy_id, "accuracy") for cell in planned]
        for job in jobs:
            fleet.submit(job, {})
        for _ in range(2):
            fleet.look()
        assert fleet.where(jobs[0]) == "waiting for a worker like the first of pi5"
        assert caplog.messages == [
            f"A worker at {late.address} announces pi5 and is unlike the first (processor, cores, versions), so that "
            "it gets no cells; give it another --board."
        ]
        first = sync(loop, joined, "1")
        assert [future.result(SECONDS) for future in fleet.flying] == [{"did": "1"}, {"did": "1"}]
        fleet.look()
        assert fleet.where(jobs[0]) == "on pi5" and len(announced(fleet.client)["pi5"]) == 2
        fleet.client.close()
        for worker in (late, first):
            sync(loop, worker.close)


def test_a_worker_unlike_the_first_of_its_board_does_not_count(data: str, tmp_path: Path) -> None:
    facts = {"rtmw-edge": "1", "processor": "a", "ncnn": "1", "frequency governor": "powersave"}
    assert unlike(facts, {**facts, "frequency governor": "performance", "torch": "2"}) == ""
    assert unlike(facts, {**facts, "ncnn": "2"}) == "ncnn: 1 against 2"
    planned = cells_of("pi5", data)
    with Store.create(tmp_path / "store") as store:
        remote = Remote(store, planned, 1, {"pi5": facts})
        answer = {"environment": {**facts, "ncnn": "2"}, "data": {}, "arrays": b""}
        with pytest.raises(RtmwEdgeError, match=r"unlike the first of pi5 \(ncnn: 1 against 2\)"):
            remote.found(Job(planned[0].accuracy_id, "accuracy"), answer, quiet)
        refusal = {"environment": facts, "refused": "ncnn is not installed.", "exit_code": 3}
        with pytest.raises(NotAvailableError, match=r"ncnn is not installed\."):
            remote.found(Job(planned[0].accuracy_id, "accuracy"), refusal, quiet)


@pytest.mark.parametrize("place", ["/proc/x", "/proc/self"], ids=["is not there", "is there"])
def test_a_worker_s_cache_that_cannot_be_written_is_one_sentence(place: str) -> None:
    with pytest.raises(BadInputError, match=rf"Cannot keep what is sent in '{place}': .*\. Choose another --cache\."):
        serve(Link("127.0.0.1", free_port(), None), "pi5", Path(place), print)

"""Reading, inference and output side by side: order, dropping, stopping, errors, and memory that stays flat."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fixed_engine import FixedEngine

from rtmw_edge.errors import BadInputError, RtmwEdgeError
from rtmw_edge.poses import Poses
from rtmw_edge.runtime import Runner
from rtmw_edge.runtime.frame_runner import FrameRunner
from rtmw_edge.runtime.frames import Failure, Frame, Origin, Result
from rtmw_edge.runtime.pipeline import FILE_DEPTH, NICE, Pipeline, give_way
from rtmw_edge.runtime.smoothing import OneEuroOptions


class Film:
    """So many tiny frames, as fast as they are taken; frame `failing` cannot be read."""

    def __init__(self, frames: int, *, live: bool = False, failing: int = -1, size: int = 8) -> None:
        self.origin = Origin("film", 30.0, live)
        self._frames, self._failing = frames, failing
        self._image = np.zeros((size, size, 3), np.uint8)
        self.read = 0
        self.closed = False

    def __iter__(self) -> Iterator[Frame | Failure | None]:
        try:
            for index in range(self._frames):
                self.read += 1
                if index == self._failing:
                    yield Failure("film", "film broke")
                    return
                yield Frame(self.origin, index, index / 30, self._image.copy())
        finally:
            self.closed = True


def nobody(frame: Frame) -> Result:
    return Result(frame, Poses.empty(), np.zeros((0, 133), np.float32), ())


def test_no_frame_of_a_file_is_dropped_and_all_come_in_order() -> None:
    slow = threading.Event()

    def process(frame: Frame) -> Result:
        slow.wait(0.001)
        return nobody(frame)

    film = Film(100, failing=99)
    with Pipeline([film], process) as pipeline:
        found = list(pipeline)
    assert [r.frame.index for r in found if isinstance(r, Result)] == list(range(99))
    assert found[-1] == Failure("film", "film broke") and pipeline.dropped == 0 and film.closed


def test_without_a_with_it_runs_once_all_the_same() -> None:
    pipeline = Pipeline([Film(5)], nobody)
    assert len(list(pipeline)) == 5 and not any(thread.is_alive() for thread in pipeline._threads)
    with pytest.raises(RtmwEdgeError, match="A pipeline runs once: make another"), pipeline:
        pass


def test_reading_runs_ahead_no_further_than_the_queues() -> None:
    film = Film(1000)
    with Pipeline([film], nobody) as pipeline:
        next(iter(pipeline))
        time.sleep(0.1)
        assert film.read <= 1 + 2 * FILE_DEPTH + 4


def test_where_output_is_slow_a_live_picture_is_a_new_one() -> None:
    """What output gets is two of its turns old, not five."""

    class Camera(Film):
        def __iter__(self) -> Iterator[Frame | Failure | None]:
            for item in super().__iter__():
                time.sleep(0.005)
                yield item

    camera, seen = Camera(100_000, live=True), []
    with Pipeline([camera], nobody) as pipeline:
        for result in pipeline:
            assert isinstance(result, Result)
            seen.append((camera.read, result.frame.index))
            time.sleep(0.05)
            if len(seen) == 20:
                break
    read, index = np.array(seen[6:]).T
    assert np.median(read - index) < 3.5 * np.median(np.diff(read))


def test_a_live_source_drops_the_oldest() -> None:
    """While one frame is run 49 come, and the newest of them is run next; then 50 more."""
    begun, read = threading.Event(), [threading.Event(), threading.Event()]

    class Camera(Film):
        def __iter__(self) -> Iterator[Frame | Failure | None]:
            for index, item in enumerate(super().__iter__()):
                yield item
                if index == 0:
                    begun.wait(10)
                if index in (49, 99):
                    yield None
                    begun.clear()
                    read[index // 50].set()
                    if index == 49:
                        begun.wait(10)

    def process(frame: Frame) -> Result:
        begun.set()
        read[0 if frame.index == 0 else 1].wait(10)
        return nobody(frame)

    with Pipeline([Camera(100, live=True)], process) as pipeline:
        found = [result.frame.index for result in pipeline if isinstance(result, Result)]
    assert found == [0, 49, 99] and pipeline.dropped == 97


def test_the_stages_run_side_by_side() -> None:
    """Frame n + 1 is read while n is run while n - 1 is put out: all three meet, again and again."""
    meeting, count = threading.Barrier(3, timeout=10), 12

    class Meeting(Film):
        def __iter__(self) -> Iterator[Frame | Failure | None]:
            for index, item in enumerate(super().__iter__()):
                if index >= 2:
                    meeting.wait()
                yield item

    def process(frame: Frame) -> Result:
        if 1 <= frame.index < count - 1:
            meeting.wait()
        return nobody(frame)

    found = []
    with Pipeline([Meeting(count)], process) as pipeline:
        for result in pipeline:
            assert isinstance(result, Result)
            found.append(result.frame.index)
            if result.frame.index < count - 2:
                meeting.wait()
    assert found == list(range(count)) and not meeting.broken


def test_stop_ends_with_what_is_under_way() -> None:
    film = Film(100_000)
    with Pipeline([film], nobody) as pipeline:
        found = []
        for result in pipeline:
            found.append(result)
            if len(found) == 5:
                pipeline.stop()
    assert 5 <= len(found) < 30 and pipeline.stopped
    assert [r.frame.index for r in found if isinstance(r, Result)] == list(range(len(found)))


def test_stop_does_not_wait_for_a_camera_that_hangs() -> None:
    hanging = threading.Event()

    class Hanging(Film):
        def __iter__(self) -> Iterator[Frame | Failure | None]:
            yield Frame(self.origin, 0, 0.0, np.zeros((8, 8, 3), np.uint8))
            hanging.wait(2)

    with Pipeline([Hanging(1, live=True)], nobody) as pipeline:
        results = iter(pipeline)
        next(results)
        start = time.perf_counter()
        pipeline.stop()
        assert list(results) == [] and time.perf_counter() - start < 1
        hanging.set()


@pytest.mark.parametrize("where", ["reading", "inference"])
def test_an_error_in_a_thread_is_raised_after_the_results_before_it(where: str) -> None:
    class Breaking(Film):
        def __iter__(self) -> Iterator[Frame | Failure | None]:
            for item in super().__iter__():
                if isinstance(item, Frame) and item.index == 7 and where == "reading":
                    raise BadInputError("the film burns")
                yield item

    def process(frame: Frame) -> Result:
        if frame.index == 7 and where == "inference":
            raise BadInputError("the film burns")
        return nobody(frame)

    found = []
    with pytest.raises(BadInputError, match="the film burns"), Pipeline([Breaking(50)], process) as pipeline:
        for result in pipeline:
            found.append(result.frame.index)  # type: ignore[union-attr]
    assert found == list(range(7))


def test_a_runtime_that_breaks_is_one_sentence() -> None:
    def process(frame: Frame) -> Result:
        raise RuntimeError("out of memory\nat node 17")

    text = r"The run broke off \(RuntimeError: out of memory at node 17\); its cause, or rtmw-edge --verbose run, shows"
    with pytest.raises(RtmwEdgeError, match=text) as caught, Pipeline([Film(9)], process) as pipeline:
        list(pipeline)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_leaving_early_ends_the_threads() -> None:
    film = Film(100_000)
    with Pipeline([film], nobody) as pipeline:
        next(iter(pipeline))
    assert not any(thread.name.startswith("rtmw-edge") for thread in threading.enumerate())
    assert film.closed


def test_leaving_early_waits_for_the_inference_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves closes the runtime next; a run that goes on in it would end the process."""
    monkeypatch.setattr("rtmw_edge.runtime.pipeline.FAREWELL_S", 0.05)
    under_way, ended = threading.Event(), threading.Event()

    def slow(frame: Frame) -> Result | Failure:
        if frame.index == 1:
            under_way.set()
            time.sleep(0.5)  # longer than a thread that only reads is waited for
            ended.set()
        return nobody(frame)

    with Pipeline([Film(9)], slow) as pipeline:
        next(iter(pipeline))
        assert under_way.wait(5)
    assert ended.is_set()


def resident_mb() -> float:
    """Megabytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def test_memory_stays_flat_over_thousands_of_frames() -> None:
    """The real runner, tracker and smoother over an engine that computes nothing; a kept result has 6 kB."""
    process = FrameRunner(Runner(FixedEngine()), smoothing=OneEuroOptions())
    sizes = []
    with Pipeline([Film(2000, size=32)], process) as pipeline:
        for result in pipeline:
            assert isinstance(result, Result) and len(result.poses) == 1 and result.ids == (1,)
            if result.frame.index in (500, 1999):
                sizes.append(resident_mb())
    assert sizes[1] - sizes[0] < 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has nice values by thread")
def test_who_gives_way_does_so_alone_and_once() -> None:
    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def gives_way() -> None:
        for _ in range(2):
            give_way()
            seen.append(nice())

    seen: list[int] = []
    before = nice()
    thread = threading.Thread(target=gives_way)
    thread.start()
    thread.join()
    assert seen == [max(NICE, before)] * 2 and nice() == before


def test_giving_way_may_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr("rtmw_edge.runtime.pipeline.os.setpriority", refuse)
    give_way()

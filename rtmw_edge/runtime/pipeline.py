"""Reading, inference and output side by side: two threads, and whoever iterates the results as the third.

Between them are short queues. From a live source the oldest frame is dropped when inference is behind; everything else
waits, so that no frame of a file is lost and memory stays flat.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from ..errors import RtmwEdgeError, reason_of
from .frames import Failure, Frame, Result, Source

log = logging.getLogger(__name__)

FILE_DEPTH, LIVE_DEPTH = 4, 1
"""Frames that wait for inference, and results for output; live, only the newest frame and one result do."""
PATIENCE_S = 0.2
"""How often somebody who waits looks up, so that signals are heard."""
FAREWELL_S = 1.0
"""How long a thread that is stuck in a driver is waited for at the end."""

NICE = 5
"""The nice value of a thread that gives way; 15 gains no more."""

Item = TypeVar("Item")


def give_way() -> None:
    """Let the calling thread wait for those of inference where there are more of them than cores.

    For good, as only root may take it back; threads that it starts afterwards give way too. Linux alone has nice values
    by thread; elsewhere nothing is done.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a container may forbid it
            os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))


class Closed(Exception):
    """The other side of a queue is gone."""


class Line(Generic[Item]):
    """A bounded queue between two threads that either can close."""

    def __init__(self, depth: int) -> None:
        self._items: deque[Item] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: Item, droppable: Callable[[Item], bool] | None = None) -> int:
        """Append `item`, waiting for room, or at once in place of the oldest `droppable` ones; how many were dropped.

        Raises Closed when nobody will take it.
        """
        with self._changed:
            dropped = 0
            while len(self._items) >= self._depth and not self._closed:
                oldest = next((k for k, there in enumerate(self._items) if droppable and droppable(there)), None)
                if oldest is None:
                    self._changed.wait(PATIENCE_S)
                else:
                    del self._items[oldest]
                    dropped += 1
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()
            return dropped

    def get(self) -> Item | None:
        """The next item; None after a while without one. Raises Closed when none will come."""
        with self._changed:
            if not self._items and not self._closed:
                self._changed.wait(PATIENCE_S)
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            if self._closed:
                raise Closed
            return None

    def close(self, *, drop: bool = False) -> None:
        """Nothing more comes in; what is in comes out, unless it is dropped."""
        with self._changed:
            self._closed = True
            if drop:
                self._items.clear()
            self._changed.notify_all()


class Pipeline:
    """Results of `sources` by `process`, in order; iterate it once, in a `with` where something may break it off.

    A source ends with its first Failure by `process`. An error in a thread is raised to whoever iterates, after the
    results before it. `stop`, from any thread or signal handler, ends reading; the frames that are under way still come
    out.

    >>> with Pipeline(open_sources(["clip.mp4"]), FrameRunner(runner)) as results:      # doctest: +SKIP
    ...     for result in results:
    ...         if isinstance(result, Result):
    ...             print(result.frame.name, len(result.poses))
    """

    def __init__(self, sources: Iterable[Source], process: Callable[[Frame], Result | Failure]) -> None:
        self._sources, self._process = list(sources), process
        live = any(source.origin.live for source in self._sources)
        depth = LIVE_DEPTH if live else FILE_DEPTH
        self._frames: Line[Frame | Failure] = Line(depth)
        self._results: Line[Result | Failure] = Line(depth)
        self._error: BaseException | None = None
        self.stopped = False
        """Whether it reads no more: somebody asked to stop, or it is over."""
        self._given_up: set[str] = set()
        self.dropped = 0
        """Frames of a live source that inference was too slow for."""
        self._threads = [
            threading.Thread(target=self._guard, args=(work, out), name=f"rtmw-edge {name}", daemon=True)
            for name, work, out in (("reads", self._read, self._frames), ("infers", self._infer, self._results))
        ]

    def stop(self) -> None:
        """Read no more. A thread that is stuck in a camera's driver is not waited for."""
        self.stopped = True
        self._frames.close()

    def __enter__(self) -> Pipeline:
        if self._threads[0].ident is not None:
            raise RtmwEdgeError("A pipeline runs once: make another for the next run.")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped = True
        self._frames.close(drop=True)
        self._results.close(drop=True)
        reads, infers = self._threads
        infers.join()  # whoever closes the runtime next must not do so under its run
        reads.join(FAREWELL_S)

    def __iter__(self) -> Iterator[Result | Failure]:
        if self._threads[0].ident is None:
            with self:
                yield from self._taken()
        else:
            yield from self._taken()

    def _taken(self) -> Iterator[Result | Failure]:
        while True:
            try:
                result = self._results.get()
            except Closed:
                break
            if result is not None:
                yield result
        if self._error is not None:
            raise self._error

    def _guard(self, work: Callable[[], None], out: Line[Frame | Failure] | Line[Result | Failure]) -> None:
        """Do a thread's work, keep its error, and let the next one know that it is over."""
        try:
            work()
        except Closed:
            pass
        except RtmwEdgeError as error:
            self._fail(error)
        except Exception as error:
            log.info("A thread of the run failed.", exc_info=True)
            broke = RtmwEdgeError(
                f"The run broke off ({type(error).__name__}: {reason_of(error)}); its cause, or rtmw-edge --verbose "
                "run, shows where."
            )
            broke.__cause__ = error
            self._fail(broke)
        except BaseException as error:
            self._fail(error)
        finally:
            out.close()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.stop()

    def _read(self) -> None:
        for source in self._sources:
            for item in source:
                if self.stopped:
                    return
                if source.origin.name in self._given_up:
                    break
                if item is not None:
                    self.dropped += self._frames.put(item, _is_live)

    def _infer(self) -> None:
        while True:
            item = self._frames.get()
            if isinstance(item, Frame):
                if item.origin.name in self._given_up:
                    continue
                result = self._process(item)
                if isinstance(result, Failure):
                    self._given_up.add(item.origin.name)
                self._results.put(result)
            elif item is not None and item.name not in self._given_up:
                self._results.put(item)


def _is_live(item: Frame | Failure) -> bool:
    return isinstance(item, Frame) and item.origin.live

"""Ctrl-C, what a scheduler or `systemctl stop` sends, a terminal that goes away: whatever ends a process cleans up."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a process, and would without a word; nohup has the second ignored."""

SAME = 1.0
"""Seconds within which a second signal is the first once more."""


@contextmanager
def heard_as_ctrl_c(*more: signal.Signals) -> Iterator[Callable[[], None]]:
    """Make `ENDING` a KeyboardInterrupt that holds the signal, so that contexts are left; it comes once.

    A terminal that closes sends SIGHUP twice, and the second would break off the cleaning up; with SIGINT among `more`
    so would a second Ctrl-C. Gives what raises the interrupt again if one has come: libraries swallow it now and then,
    torch does in its imports. Does nothing outside the main thread, and leaves alone what is ignored or has a handler.
    """
    owner = os.getpid()
    heard: dict[signal.Signals, Any] = {}
    came: list[KeyboardInterrupt] = []

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a child that was forked from here
            die_of(number)
        for other in heard:
            signal.signal(other, signal.SIG_IGN)
        came.append(KeyboardInterrupt() if number == signal.SIGINT else KeyboardInterrupt(number))
        raise came[0]

    def again() -> None:
        if came:
            raise came[0]

    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (*ENDING, *more)}
        untouched = (signal.SIG_DFL, signal.default_int_handler)
        heard = {number: handler for number, handler in handlers.items() if handler in untouched}
    for number in heard:
        signal.signal(number, end)
    try:
        yield again
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)


def die_of(number: int) -> None:
    """End this process as whoever sent the signal expects: to systemd an exit code would be a failure."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@contextmanager
def held_back(*numbers: signal.Signals) -> Iterator[None]:
    """Keep signals from processes that are started meanwhile until they unblock them; this one gets them at the end.

    A process that imports its modules would end in a traceback.
    """
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # it starts with the first process, and would let SIGINT and SIGTERM through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class StopSignals:
    """While entered, the first SIGINT, SIGTERM or SIGHUP sets `asked` and calls `then`; a second one acts as always.

    But one that comes within a second is the first once more: a scheduler, or systemd, tells every process, and
    torchrun passes it on to its ranks. And a second SIGHUP is ignored, for a terminal that closes sends two. Does
    nothing outside the main thread, where Python has no signal handlers.
    """

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        self.asked = False
        self.then = then
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *ENDING):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._ask)

    def __exit__(self, *error: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
            if self.then is not None:
                self.then()
        elif number != signal.SIGHUP and time.monotonic() - self._since > SAME:
            self.__exit__()
            signal.raise_signal(number)

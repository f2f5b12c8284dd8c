"""Ctrl-C, a scheduler's SIGTERM and a lost terminal ask a run to stop after its step, to save what is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class StopSignals:
    """While entered, the first SIGINT, SIGTERM or SIGHUP sets `asked` and calls `then`; a second one acts as always.

    Does nothing outside the main thread, where Python has no signal handlers.
    """

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        self.asked = False
        self._then = then
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # nohup
                self._before[number] = signal.signal(number, self._ask)

    def __exit__(self, *error: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.__exit__()
        if self._then is not None:
            self._then()

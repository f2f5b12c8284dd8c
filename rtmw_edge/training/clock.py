"""How fast a run trains: its seconds, samples a second from one record to the next, and what is left of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """The time of a run that goes on after `step`, for which it has taken `seconds` so far."""

    def __init__(self, step: int, seconds: float) -> None:
        self._first = self._counted = step
        self._earlier, self._begun = seconds, time.monotonic()
        self._clock = self._begun

    @property
    def seconds(self) -> float:
        """All that the run has taken, validations and what the caller did between steps included."""
        return self._earlier + time.monotonic() - self._begun

    def figures(self, step: int, steps: int, batch: int) -> dict[str, float]:
        """Samples a second since the last record, but for what was `paused`, and the seconds left until `steps`."""
        now, counted, self._counted = time.monotonic(), self._counted, step
        return {
            "images_per_second": (step - counted) * batch / (now - self._clock),
            "eta_s": (now - self._begun) / (step - self._first) * (steps - step),
        }

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not of steps, as that of a validation."""
        begun = time.monotonic()
        yield
        self._clock += time.monotonic() - begun

    def go_on(self, step: int) -> None:
        """The caller has had the record of `step`: the time of the next one begins now."""
        if self._counted == step:
            self._clock = time.monotonic()

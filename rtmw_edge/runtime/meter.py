"""How fast a run goes: frames a second and the time of each stage, over the last moments and at the end."""

from __future__ import annotations

import time
from collections import deque
from statistics import median

from .frames import Result

WINDOW = 60
"""Frames over which the present is measured."""
KEPT = 4096
"""Frames over which the medians of a whole run are taken: its last ones."""


class Meter:
    """Counts results; not for several threads at once."""

    def __init__(self) -> None:
        self.frames = 0
        self._times: dict[str, deque[float]] = {}
        self._seen: deque[float] = deque(maxlen=WINDOW)
        self._first_s = 0.0

    def add(self, result: Result, **more_ms: float) -> None:
        """Count a result; `more_ms` are stages that ran after it was made, as drawing."""
        self.frames += 1
        self._seen.append(time.perf_counter())
        if self.frames == 1:
            self._first_s = self._seen[0]
        for stage, ms in (result.ms | more_ms).items():
            self._times.setdefault(stage, deque(maxlen=KEPT)).append(ms)

    @property
    def fps(self) -> float:
        """Results a second over the last frames; 0 before the second."""
        spent = self._seen[-1] - self._seen[0] if len(self._seen) > 1 else 0.0
        return (len(self._seen) - 1) / spent if spent > 0 else 0.0

    @property
    def mean_fps(self) -> float:
        """Results a second from the first to the last; 0 before the second."""
        spent = self._seen[-1] - self._first_s if self.frames > 1 else 0.0
        return (self.frames - 1) / spent if spent > 0 else 0.0

    def stages(self, last: int = KEPT) -> dict[str, float]:
        """Median milliseconds of each stage over its last runs."""
        return {stage: round(median(list(times)[-last:]), 1) for stage, times in self._times.items()}

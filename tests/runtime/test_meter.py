"""How fast a run goes, by a clock that the test holds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rtmw_edge.poses import Poses
from rtmw_edge.runtime import meter
from rtmw_edge.runtime.frames import Frame, Origin, Result


def test_three_results_in_two_seconds_are_one_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 12.0])
    monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    frame = Frame(Origin("clip.mp4", 30.0), 0, 0.0, np.zeros((4, 4, 3), np.uint8))
    counted = meter.Meter()
    assert (counted.fps, counted.mean_fps) == (0, 0)
    for ms in (1.0, 2.0, 6.0):
        counted.add(Result(frame, Poses.empty(), np.zeros((0, 133), np.float32), ms={"pose": ms}), draw=2 * ms)
    assert (counted.fps, counted.mean_fps) == (1.0, 1.0)
    assert counted.stages() == {"pose": 2.0, "draw": 4.0} and counted.frames == 3

"""What the speed of a bundle is on the machine that this runs on, board or desktop: in turns with a float reference."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RtmwEdgeError
from .environment import read_sensors
from .runner import Runner
from .timing import in_turns

NEVER_THROTTLED = "0x0"
"""What a Raspberry Pi's firmware says when it was neither hot nor short of power since it was switched on."""

MEMORY = """
import sys, numpy, rtmw_edge
runner = rtmw_edge.load(sys.argv[1], device=sys.argv[2], threads=int(sys.argv[3]))
width, height = runner.input_size
for _ in range(3):
    runner.crops(numpy.zeros((1, height, width, 3), numpy.uint8))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
"""A process as on a board: nothing but the runner. It prints the most memory that it ever held, in KiB."""


def paced(runner: Runner, reference: Runner) -> dict[str, Any]:
    """The figures of `timing.Pace` of two runners in turns, and the "sensors" "before" and "after", as plain JSON."""
    width, height = runner.input_size
    # A crop of noise: no runtime that we have is faster on one picture than on another.
    crop = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    before = read_sensors()
    found = in_turns(lambda: runner.engine.infer(crop), lambda: reference.engine.infer(crop))
    after = read_sensors()
    if after.throttled not in (None, NEVER_THROTTLED):
        found = replace(found, noisy=(*found.noisy, f"the firmware says that it was throttled ({after.throttled})"))
    return {**asdict(found), "sensors": {"before": asdict(before), "after": asdict(after)}}


def peak_memory_mb(path: Path, device: str, threads: int) -> float:
    """The most memory in 10^6 bytes that a process needs which loads the bundle and runs it, all libraries included."""
    command = [sys.executable, "-c", MEMORY, str(path), device, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RtmwEdgeError(f"A process of its own could not run the bundle ({reason}); try rtmw-edge verify {path}.")
    return int(done.stdout) * 1024 / 1e6

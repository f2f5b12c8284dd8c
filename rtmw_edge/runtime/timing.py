"""Times that can be trusted: two runners in turns, A B A B, so that what slows the machine down slows both.

The figure to go by is the ratio of a round's two medians; its median over the rounds has a 95 % interval, and its
spread says how much the rounds disagreed. Milliseconds alone are of one machine on one day.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 21
FEWEST_ROUNDS = 7
SECONDS = 40.0
"""Rounds end here, but for the fewest."""
BLOCK_SECONDS, FEWEST_CALLS = 0.1, 3
"""A runner's share of a round: so many seconds and calls; the first, which finds the other's caches, is not counted."""

MAX_SPREAD = 0.10
"""Above this, the middle half of the rounds' ratios is too wide for the figure to be trusted."""
MAX_BUSY = 0.15
"""Above this share of the machine's processor time, taken by others just before, the figure is not to be trusted."""
MAX_DRIFT = 0.10
"""Above this, a runner's own times moved so much from the first third of the rounds to the last: heat, or others."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Pace:
    """What was measured in turns; milliseconds of one call.

    `ratio` is the runner's time over the reference's, with the 95 % interval of the median over rounds; `spread` is the
    interquartile range of the rounds' ratios over their median. `busy`: the share of the processor that others took
    before it began. `drift`: how far the times moved over the run. `noisy` says in words why not to trust it.
    """

    ms_p50: float
    ms_p90: float
    reference_ms_p50: float
    ratio: float
    ratio_low: float
    ratio_high: float
    spread: float
    drift: float
    busy: float
    load: float
    rounds: int
    noisy: tuple[str, ...] = ()

    def __str__(self) -> str:
        noise = f"; noisy: {', '.join(self.noisy)}" if self.noisy else ""
        return (
            f"{self.ms_p50:.2f} ms (p90 {self.ms_p90:.2f}) against {self.reference_ms_p50:.2f} ms, "
            f"ratio {self.ratio:.3f} ({self.ratio_low:.3f} to {self.ratio_high:.3f}){noise}"
        )


def in_turns(run: Callable[[], object], reference: Callable[[], object], *, processor_time: bool = False) -> Pace:
    """Time `run` and `reference` in turns. Pass one function twice and the ratio tells how even the machine is.

    With `processor_time` this process's own is counted, and not the clock: the same for one thread on a quiet machine,
    and still right, but for the caches, where others are at work.
    """
    busy, load = busy_share(), os.getloadavg()[0]
    clock = time.process_time if processor_time else time.perf_counter
    for _ in range(3):
        run()
        reference()
    mine: list[NDArray[np.float64]] = []
    theirs: list[NDArray[np.float64]] = []
    end = time.perf_counter() + SECONDS
    while len(mine) < ROUNDS and (len(mine) < FEWEST_ROUNDS or time.perf_counter() < end):
        theirs.append(_block(reference, clock))
        mine.append(_block(run, clock))
    return summary(mine, theirs, busy, load)


def summary(mine: list[NDArray[np.float64]], theirs: list[NDArray[np.float64]], busy: float, load: float) -> Pace:
    """The figures of rounds of seconds (calls,) of the runner and of the reference."""
    medians = np.array([np.median(block) for block in mine])
    reference = np.array([np.median(block) for block in theirs])
    ratios = medians / reference
    quarter, ratio, three_quarters = np.percentile(ratios, [25, 50, 75])
    draws = np.random.default_rng(0).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    spread = float((three_quarters - quarter) / ratio)
    third = max(1, len(ratios) // 3)
    drift = max(abs(float(np.median(row[-third:]) / np.median(row[:third])) - 1) for row in (medians, reference))
    noisy = []
    if spread > MAX_SPREAD:
        noisy.append(f"the rounds' ratios spread by {spread:.0%}")
    if busy > MAX_BUSY:
        noisy.append(f"others took {busy:.0%} of the processor before it began")
    if drift > MAX_DRIFT:
        noisy.append(f"times moved by {drift:.0%} during the run")
    everything = 1e3 * np.concatenate(mine)
    return Pace(
        ms_p50=float(np.median(everything)),
        ms_p90=float(np.percentile(everything, 90)),
        reference_ms_p50=1e3 * float(np.median(np.concatenate(theirs))),
        ratio=float(ratio),
        ratio_low=float(low),
        ratio_high=float(high),
        spread=spread,
        drift=drift,
        busy=busy,
        load=load,
        rounds=len(ratios),
        noisy=tuple(noisy),
    )


def _block(run: Callable[[], object], clock: Callable[[], float]) -> NDArray[np.float64]:
    """Seconds of the calls of one block, without its first."""
    run()
    times: list[float] = []
    end = clock() + BLOCK_SECONDS
    while len(times) < FEWEST_CALLS or clock() < end:
        begun = clock()
        run()
        times.append(clock() - begun)
    return np.array(times)


def busy_share(seconds: float = 0.5) -> float:
    """The share in 0..1 of the machine's processor time that is taken while this process sleeps; 0 where unknown."""
    before = ticks()
    time.sleep(seconds)
    after = ticks()
    if before is None or after is None:
        return 0.0
    total = after[0] - before[0]
    return max(0.0, 1 - (after[1] - before[1]) / total) if total > 0 else 0.0


def ticks() -> tuple[int, int] | None:
    """All and idle processor time of the machine so far, in hundredths of a second, from /proc/stat; None elsewhere."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            numbers = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(numbers), numbers[3] + numbers[4]

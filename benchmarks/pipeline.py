"""Whether a run is as fast as its slowest stage: reading, inference and output each alone, and side by side, in turns.

    python benchmarks/pipeline.py [VIDEO] [--bundle builtin] [--threads 1 2] [--people 2] [--rounds 5]
    python benchmarks/pipeline.py --memory 10000     resident memory over so many frames, six files being written

Without VIDEO two rendered people are filmed at 1280x720. Output is what `rtmw-edge run --save out.mp4 --json out.jsonl`
does. The pipeline's keypoints must be those of one frame after another. What it can reach at most is the slower of two:
the slowest stage alone, and, since stages share the cores, the processor time of all of them over the number of cores.
Rounds in which other programs were at work don't count, as long as three are left.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from clip import write_clip

from rtmw_edge.runtime import Runner, load
from rtmw_edge.runtime.detection import looking_with
from rtmw_edge.runtime.detectors import open_detector
from rtmw_edge.runtime.frame_runner import FrameRunner
from rtmw_edge.runtime.frames import Annotated, Failure, Frame, Origin, Result, Source
from rtmw_edge.runtime.pacing import cores
from rtmw_edge.runtime.painting import Painter
from rtmw_edge.runtime.pipeline import Pipeline
from rtmw_edge.runtime.sinks import open_sink
from rtmw_edge.runtime.smoothing import OneEuroOptions
from rtmw_edge.runtime.sources import open_sources
from rtmw_edge.runtime.timing import ticks

STAGES = ("reading", "inference", "output")
WHOLE = "pipeline"
VIDEO_SIZE, SMALL_SIZE = (1280, 720), (320, 240)
SINKS = ("out.mp4", "out.jsonl", "out.json", "out.csv", "out.npz", "out.coco.json")
MAX_OTHERS, FEWEST_QUIET = 0.05, 3
"""A round counts in which others took at most this share of the machine in every step; so many are enough."""
SETTLED = 500
"""Frames after which buffers and caches have their size."""


@dataclass(frozen=True)
class Cost:
    """Milliseconds of one frame, on the clock and of all processors; and the share of the machine that others took."""

    wall: float
    processor: float
    others: float


def cost(work: Callable[[], object], frames: int) -> Cost:
    """What `work` on so many frames costs."""
    before, clock, processor = ticks(), time.perf_counter(), time.process_time()
    work()
    wall, mine, after = time.perf_counter() - clock, time.process_time() - processor, ticks()
    busy = 1 - (after[1] - before[1]) / max(1, after[0] - before[0]) if before and after else 0.0
    others = busy - mine / wall / (os.cpu_count() or 1)
    return Cost(1e3 * wall / frames, 1e3 * mine / frames, max(0.0, others))


class Job:
    """One video through one runner, stage by stage or as `rtmw-edge run` does it."""

    def __init__(self, sources: list[Source], runner: Runner, folder: Path, sinks: Iterable[str] = SINKS[:2]) -> None:
        self._sources, self._runner, self._folder, self._sinks = sources, runner, folder, tuple(sinks)
        self._detector = open_detector(threads=runner.engine.describe().threads)

    def frame_runner(self) -> FrameRunner:
        return FrameRunner(self._runner, looking_with(self._detector), smoothing=OneEuroOptions())

    def read(self) -> list[Frame]:
        return [item for source in self._sources for item in source if isinstance(item, Frame)]

    def infer(self, frames: list[Frame]) -> list[Result | Failure]:
        process = self.frame_runner()
        return [process(frame) for frame in frames]

    def output(self, results: Iterable[Result | Failure]) -> Iterator[Result]:
        """Draw and write results; each comes back once it is written."""
        paint = Painter(0.1)
        with ExitStack() as stack:
            sinks = [open_sink(self._folder / name, self._runner, self._sources) for name in self._sinks]
            for sink in sinks:
                stack.callback(sink.discard)
            for result in results:
                assert isinstance(result, Result), result.reason
                drawn = Annotated(result, paint)
                for sink in sinks:
                    sink.write(drawn)
                yield result
            for sink in sinks:
                sink.close()

    def pipeline(self) -> Iterator[Result]:
        with Pipeline(self._sources, self.frame_runner()) as results:
            yield from self.output(results)


def measure(job: Job, rounds: int) -> dict[str, list[Cost]]:
    """The costs of every stage and of the pipeline, a round each; raises SystemExit where keypoints differ."""
    frames = job.read()
    results = job.infer(frames)
    same = [
        isinstance(alone, Result) and np.array_equal(alone.poses.keypoints, beside.poses.keypoints)
        for alone, beside in zip(results, job.pipeline(), strict=True)
    ]
    if not all(same):
        raise SystemExit(f"the pipeline's keypoints differ in frame {same.index(False)}")
    steps: dict[str, Callable[[], object]] = {
        "reading": job.read,
        "inference": lambda: job.infer(frames),
        "output": lambda: list(job.output(results)),
        WHOLE: lambda: sum(1 for _ in job.pipeline()),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            costs[name].append(cost(step, len(frames)))
    return costs


def report(costs: dict[str, list[Cost]]) -> None:
    """Medians over rounds; shares are medians of each round's own."""
    disturbed = np.array([[one.others for one in row] for row in costs.values()]).max(axis=0)
    quiet = disturbed <= MAX_OTHERS
    print(f"  {quiet.sum()} of {len(quiet)} rounds without others at work", end="")
    print(
        "" if quiet.sum() >= FEWEST_QUIET else f", which is too few: all count, and others took {disturbed.mean():.0%}"
    )
    if quiet.sum() >= FEWEST_QUIET:
        costs = {name: [one for one, counts in zip(row, quiet, strict=True) if counts] for name, row in costs.items()}
    for name, found in costs.items():
        wall, processor = (np.median([getattr(one, kind) for one in found]) for kind in ("wall", "processor"))
        print(f"  {name:<10}{wall:8.1f} ms a frame{processor:8.1f} ms of processor time{1e3 / wall:8.1f} a second")
    alone = np.array([[one.wall for one in costs[name]] for name in STAGES])
    shared = np.array([[one.processor for one in costs[name]] for name in STAGES]).sum(axis=0) / cores()
    whole = np.array([one.wall for one in costs[WHOLE]])
    slowest = alone.max(axis=0)
    which = STAGES[int(np.median(alone, axis=1).argmax())]
    print(f"  {100 * np.median(slowest / whole):.0f} % of what the slowest stage alone ({which}) allows")
    print(f"  {100 * np.median(shared / whole):.0f} % of what all stages' processor time over {cores()} cores allows")
    print(f"  {100 * np.median(np.maximum(slowest, shared) / whole):.0f} % of what can be reached, the slower of these")


class Loop:
    """A video over and over, as one without an end before `frames`."""

    def __init__(self, source: Source, frames: int) -> None:
        self.origin = Origin("loop", source.origin.fps)
        self._source, self._frames = source, frames

    def __iter__(self) -> Iterator[Frame | Failure | None]:
        index = 0
        while index < self._frames:
            for item in self._source:
                if isinstance(item, Frame) and index < self._frames:
                    yield replace(item, origin=self.origin, index=index, time_s=index / (self.origin.fps or 30.0))
                    index += 1


def resident_mb() -> float:
    """Megabytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def watch_memory(job: Job, frames: int) -> None:
    """Print the resident memory as the frames go through, and how much it grew once everything had its size."""
    sizes: list[float] = []
    for index, _ in enumerate(job.pipeline(), start=1):
        if index == SETTLED or index % max(1, frames // 10) == 0:
            sizes.append(resident_mb())
            print(f"  {index:>6} frames {sizes[-1]:8.1f} MB", flush=True)
    print(f"  {sizes[-1] - sizes[0]:+.1f} MB from the first of these to the last")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--bundle", default="builtin")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the engine, one run each")
    parser.add_argument("--spin", action="store_true", help="threads of the engine that wait keep their core")
    parser.add_argument("--people", type=int, default=2, help="in the rendered video")
    parser.add_argument("--frames", type=int, default=90, help="of the rendered video")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, metavar="FRAMES", help="watch the memory over so many frames")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = SMALL_SIZE if options.memory else VIDEO_SIZE
        video = options.video or write_clip(folder / "clip.mp4", options.frames, size, options.people)
        sources = open_sources([video])
        print(f"{cores()} cores")
        for threads in options.threads[: 1 if options.memory else None]:
            with load(options.bundle, threads=threads, spin=options.spin) as runner:
                ran = runner.describe()
                print(
                    f"{runner.model.variant} {runner.model.precision}, {ran.runtime} {ran.version}, {threads} thread(s)"
                )
                if options.memory:
                    watch_memory(Job([Loop(sources[0], options.memory)], runner, folder, SINKS), options.memory)
                else:
                    report(measure(Job(sources, runner, folder), options.rounds))


if __name__ == "__main__":
    main()

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from clip import write_clip

from rtmw_edge.runtime import Runner, load
from rtmw_edge.runtime.detection import Look, looking_with
from rtmw_edge.runtime.detectors import open_detector
from rtmw_edge.runtime.frame_runner import FrameRunner
from rtmw_edge.runtime.frames import Annotated, Failure, Frame, Origin, Result, Source
from rtmw_edge.runtime.painting import Painter
from rtmw_edge.runtime.pipeline import Pipeline, give_way
from rtmw_edge.runtime.processor import cores
from rtmw_edge.runtime.sinks import open_sink
from rtmw_edge.runtime.smoothing import OneEuroOptions
from rtmw_edge.runtime.sources import open_sources
from rtmw_edge.runtime.timing import ticks

VIDEO_SIZE, SMALL_SIZE = (1280, 720), (320, 240)
SINKS = ("out.mp4", "out.jsonl", "out.json", "out.csv", "out.npz", "out.coco.json")
Answer = TypeVar("Answer")

MAX_OTHERS, FEWEST_QUIET = 0.05, 3
"""A round counts in which others took at most this share of the machine; so many are enough."""
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

    def __init__(
        self, sources: list[Source], runner: Runner, look: Look, folder: Path, sinks: Iterable[str] = SINKS[:2]
    ) -> None:
        self._sources, self._runner, self._look = sources, runner, look
        self._targets = [folder / name for name in sinks]

    def frame_runner(self) -> FrameRunner:
        return FrameRunner(self._runner, self._look, smoothing=OneEuroOptions())

    def read(self) -> list[Frame]:
        return [item for source in self._sources for item in source if isinstance(item, Frame)]

    def infer(self, frames: list[Frame]) -> list[Result | Failure]:
        process = self.frame_runner()
        return [process(frame) for frame in frames]

    def output(self, results: Iterable[Result | Failure]) -> Iterator[Result]:
        """Draw and write results; each comes back once it is written."""
        paint = Painter(0.1)
        with ExitStack() as stack:
            sinks = [open_sink(target, self._runner, self._sources) for target in self._targets]
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
            give_way()
            yield from self.output(results)


def measure(job: Job, rounds: int) -> dict[str, list[Cost]]:
    """The costs of every stage and, last, of the pipeline, a round each; raises SystemExit where keypoints differ."""
    frames = job.read()
    results = job.infer(frames)
    same = _apart(
        lambda: [
            isinstance(alone, Result) and np.array_equal(alone.poses.keypoints, beside.poses.keypoints)
            for alone, beside in zip(results, job.pipeline(), strict=True)
        ]
    )
    if not all(same):
        raise SystemExit(f"the pipeline's keypoints differ in frame {same.index(False)}")
    steps: dict[str, Callable[[], object]] = {
        "reading": job.read,
        "inference": lambda: job.infer(frames),
        "output": lambda: list(job.output(results)),
        "pipeline": lambda: _apart(lambda: sum(1 for _ in job.pipeline())),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            costs[name].append(cost(step, len(frames)))
    return costs


def _apart(work: Callable[[], Answer]) -> Answer:
    """What `work` returns or raises, in a thread of its own: what gives way does so for good."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def report(costs: dict[str, list[Cost]]) -> None:
    """Medians over rounds; shares are medians of each round's own."""
    wall, processor, others = np.array([[astuple(one) for one in row] for row in costs.values()]).transpose(2, 0, 1)
    disturbed = (others * wall).sum(axis=0) / wall.sum(axis=0)
    quiet = disturbed <= MAX_OTHERS
    if quiet.sum() >= FEWEST_QUIET:
        print(f"  {quiet.sum()} of {len(quiet)} rounds count, without others at work")
        wall, processor = wall[:, quiet], processor[:, quiet]
    else:
        print(
            f"  all rounds count, and others took {disturbed.mean():.0%} of the machine: measure again when it is quiet"
        )
    for name, clock, spent in zip(costs, np.median(wall, axis=1), np.median(processor, axis=1), strict=True):
        print(f"  {name:<10}{clock:8.1f} ms a frame{spent:8.1f} ms of processor time{1e3 / clock:8.1f} a second")
    *alone, whole = wall
    slowest, shared = np.max(alone, axis=0), processor[:-1].sum(axis=0) / cores()
    which = list(costs)[int(np.median(alone, axis=1).argmax())]
    for bound, name in (
        (slowest, f"of what the slowest stage alone ({which}) allows"),
        (shared, f"of what all stages' processor time over {cores()} cores allows"),
        (np.maximum(slowest, shared), "of what can be reached, the slower of these"),
    ):
        print(f"  {np.median(bound / whole):.0%} {name}")


class Loop:
    """A video over and over, as one without an end before `frames`."""

    def __init__(self, source: Source, frames: int) -> None:
        self.origin = Origin("loop", source.origin.fps)
        self._source, self._frames = source, frames

    def __iter__(self) -> Iterator[Frame | Failure | None]:
        index = 0
        while index < self._frames:
            round_began = index
            for item in self._source:
                if isinstance(item, Frame) and index < self._frames:
                    yield replace(item, origin=self.origin, index=index, time_s=index / (self.origin.fps or 30.0))
                    index += 1
            if index == round_began:
                raise SystemExit("The video has no frame that can be read: name another.")


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
            look = looking_with(open_detector(threads=threads))
            with load(options.bundle, threads=threads, spin=options.spin) as runner:
                ran = runner.describe()
                print(
                    f"{runner.model.variant} {runner.model.precision}, {ran.runtime} {ran.version}, {threads} thread(s)"
                )
                if options.memory:
                    watch_memory(Job([Loop(sources[0], options.memory)], runner, look, folder, SINKS), options.memory)
                else:
                    report(measure(Job(sources, runner, look, folder), options.rounds))


if __name__ == "__main__":
    main()

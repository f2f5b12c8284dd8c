"""How long a bundle takes on this machine, step by step, and the record that makes the figure worth keeping.

After MLPerf's single stream: warm up, then call after call for a minimum time and a minimum count. A call is what a
user makes, `runner(image, boxes)`; its three steps are timed inside it. numpy only, so that it runs on the board.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import ROLES
from ..errors import BadInputError
from ..files import atomic_write, check_writable
from .engine import Description
from .environment import Sensors, environment, read_sensors
from .runner import Runner

FORMAT = "rtmw-edge benchmark"
VERSION = 1
HEAD = f'{{\n "format": "{FORMAT}"'.encode()

WARM_UP_CALLS, WARM_UP_SECONDS = 10, 1.0
SECONDS, CALLS = 10.0, 100
"""A run lasts at least so long and has at least so many calls; under 100 calls the 99th percentile is the maximum."""

MOST_PEOPLE = 256
"""In one call: a crowd."""

IMAGE_SIZE = (1280, 720)
BOX_SIZE = (180, 480)
"""Pixels of the picture and of the people in it: a crop is then about as large as what it is cut from."""

BUSY = 0.3
"""A load above this share of the cores, before anything runs, is other programs' and makes times worthless."""

REQUIRED = (
    *(("model", key) for key in ("variant", "target", "precision")),
    *(("settings", key) for key in ("device", "threads", "people", "streams")),
)
"""What a record says of itself, beside its fields."""

STEPS = ("crop", "inference", "decode")
"""What a call consists of; "call" is their sum."""

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Times:
    """Milliseconds of one step over all calls."""

    p50: float
    p90: float
    p99: float
    mean: float

    @classmethod
    def of(cls, seconds: NDArray[np.float64]) -> Times:
        """The percentiles of times (calls,) in seconds."""
        p50, p90, p99 = (float(value) for value in np.percentile(1e3 * seconds, [50, 90, 99]))
        return cls(p50, p90, p99, float(1e3 * seconds.mean()))


@dataclass(frozen=True)
class Benchmark:
    """One run of one bundle.

    Attributes:
        model: variant, target, precision, and one sha256 over those of the bundle's model files.
        settings: device, threads (None: the runtime does not tell), people in a call and how many of them side by side.
        runs: what the engine says really ran (`Description`).
        steps: the times of `STEPS` and of "call".
        peak_memory_mb: the most memory that the process ever had, loading included, in 10^6 bytes.
        load: the machine's load average of one minute before anything ran.
        before, after: temperatures and frequencies around the timed calls.
    """

    model: dict[str, str]
    settings: dict[str, Any]
    runs: dict[str, Any]
    steps: dict[str, Times]
    calls: int
    seconds: float
    peak_memory_mb: float
    load: float
    before: Sensors
    after: Sensors
    environment: dict[str, str]

    @property
    def people_per_second(self) -> float:
        """Crops a second over the whole run."""
        return self.calls * int(self.settings["people"]) / self.seconds

    @property
    def busy(self) -> bool:
        """Whether other programs were at work when it began."""
        return self.load > BUSY * (os.cpu_count() or 1)

    def save(self, path: Path) -> None:
        """Write the record as JSON; BadInputError when `path` holds something else than such a record."""
        check_writable(path, HEAD)
        with atomic_write(path) as temporary:
            document = {"format": FORMAT, "version": VERSION, **asdict(self)}
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load_file(cls, path: Path) -> Benchmark:
        """Read a record; BadInputError says what is wrong with the file."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInputError(f"Cannot read the benchmark {path}: {error.strerror}.") from error
        except ValueError as error:
            raise BadInputError(f"{path} is not a benchmark: not JSON ({error}).") from error
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise BadInputError(f"{path} is not a benchmark of this tool: make one with rtmw-edge benchmark --json.")
        if document.pop("version", None) != VERSION:
            raise BadInputError(f"{path} is of another version of this tool; measure again.")
        try:
            steps = {name: Times(**times) for name, times in document.pop("steps").items()}
            before, after = (Sensors(**document.pop(name)) for name in ("before", "after"))
            if tuple(steps) != (*STEPS, "call"):
                raise KeyError("steps")
            if not all(value > 0 for times in steps.values() for value in asdict(times).values()):
                raise ValueError("a time that is not above 0")
            found = cls(steps=steps, before=before, after=after, **document)
            for part, key in REQUIRED:
                document[part][key]
            Description(**found.runs)
            return found
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadInputError(f"{path} is a damaged benchmark ({error}); measure again.") from error


def benchmark(
    runner: Runner,
    *,
    people: int = 1,
    seconds: float = SECONDS,
    calls: int = CALLS,
    on_progress: Progress = lambda _: None,
) -> Benchmark:
    """Time `runner` on a picture with `people` people, for at least `seconds` and at least `calls` calls.

    `on_progress` hears the share that is done, in 0..1. Raises BadInputError for numbers below 1, more people than
    `MOST_PEOPLE`, and a time that is below 0 or has no end.
    """
    if people < 1 or calls < 1 or not 0 <= seconds < math.inf:
        raise BadInputError(
            f"Cannot time {calls} calls of {people} people for {seconds:g} s: pass at least 1, and a time that ends."
        )
    if people > MOST_PEOPLE:
        raise BadInputError(f"Cannot time calls of {people} people: pass at most {MOST_PEOPLE}.")
    load = os.getloadavg()[0]
    image, boxes = scene(people)
    until, done = time.perf_counter() + WARM_UP_SECONDS, 0
    while done < WARM_UP_CALLS or time.perf_counter() < until:
        _steps(runner, image, boxes)
        done += 1
    before = read_sensors()
    rows: list[tuple[float, float, float]] = []
    begun = time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds or len(rows) < calls:
        rows.append(_steps(runner, image, boxes))
        on_progress(min(spent / seconds if seconds else 1.0, len(rows) / calls))
    after = read_sensors()
    times = np.array(rows)
    steps = {name: Times.of(column) for name, column in zip(STEPS, times.T, strict=True)}
    # Linux counts in KiB. Before `describe`, which may open the model a second time.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    ran = runner.describe()
    return Benchmark(
        model=_model(runner),
        settings={"device": ran.device, "threads": ran.threads, "people": people, "streams": runner.engine.streams},
        runs=asdict(ran),
        steps={**steps, "call": Times.of(times.sum(axis=1))},
        calls=len(rows),
        seconds=spent,
        peak_memory_mb=peak,
        load=load,
        before=before,
        after=after,
        environment=environment(),
    )


def scene(people: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A picture (720,1280,3) of noise, always the same, and boxes (people,4) xyxy side by side in it."""
    width, height = IMAGE_SIZE
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    left = np.linspace(0, width - BOX_SIZE[0] - 1, people) if people > 1 else np.array([(width - BOX_SIZE[0]) / 2])
    top = (height - BOX_SIZE[1]) / 2
    boxes = np.stack([left, np.full(people, top), left + BOX_SIZE[0], np.full(people, top + BOX_SIZE[1])], axis=1)
    return image, boxes.astype(np.float32)


def _steps(runner: Runner, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> tuple[float, float, float]:
    """Seconds of the three steps of one call."""
    begun = time.perf_counter()
    cut = runner.cut(image, boxes)
    was_cut = time.perf_counter()
    logits = runner.engine.infer(cut.crops)
    inferred = time.perf_counter()
    runner.poses(logits, cut)
    return was_cut - begun, inferred - was_cut, time.perf_counter() - inferred


def _model(runner: Runner) -> dict[str, str]:
    model = runner.model
    facts = {"variant": model.variant, "target": model.target, "precision": model.precision}
    if runner.bundle is not None:
        files = runner.bundle.manifest.files
        hashes = [file.sha256 for file in files if file.role in ROLES[model.target]]
        facts["files_sha256"] = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    return facts

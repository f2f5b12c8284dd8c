"""What a board does for one cell of a sweep: fetch the bundle, verify it, and run the people's crops or time it.

Requests and answers are plain values, so that two versions of Python and numpy understand each other.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RtmwEdgeError
from ..runtime import Runner, load, verification
from ..runtime.environment import environment
from ..runtime.pacing import paced, peak_memory_mb
from ..runtime.processor import cores
from .parcels import Source, fetch
from .peaks import peaks_of

logger = logging.getLogger(__name__)

ACCURACY, SPEED = "accuracy", "speed"


def do(request: Mapping[str, Any], cache: Path, source: Source) -> dict[str, Any]:
    """The answer to a request: "environment", and "data" with "arrays" (.npz), or "refused" with an "exit_code".

    A request has the "kind" of the job, the sha256 of the "bundle" and of the "reference" that speed is held to (None:
    itself), those of the "crops" to run, "device" and "threads" (0: all cores).
    """
    facts = environment()
    timed = request["kind"] == SPEED
    try:
        with _beside(alone=timed):
            data, arrays = (_speed if timed else _accuracy)(request, cache, source)
    except RtmwEdgeError as error:
        return {"environment": facts, "refused": str(error), "exit_code": error.exit_code}
    except Exception as error:  # whatever a runtime raises is this cell's failure, not the worker's
        logger.info("a cell failed", exc_info=True)
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        return {"environment": facts, "refused": f"{type(error).__name__}: {reason}", "exit_code": 2}
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return {"environment": facts, "data": data, "arrays": packed.getvalue()}


@contextmanager
def _beside(*, alone: bool) -> Iterator[None]:
    """Wait for the other workers of this machine: nothing runs beside what is timed, whatever board it announces.

    Their lock is the system's folder for temporary files itself, which they share and which lies on no network.
    """
    place = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(place)


def verified(runner: Runner) -> dict[str, Any]:
    """What a record says of a runner; VerificationError where its bundle does not reproduce its golden outputs."""
    facts: dict[str, Any] = {}
    if runner.bundle is not None:
        found = verification.verify(runner.engine, runner.bundle)
        verification.check(runner.engine, runner.bundle, found)
        facts["golden_rms"] = max(crop.relative_rms for crop in found)
    return {**facts, "runs": asdict(runner.describe())}


def _accuracy(
    request: Mapping[str, Any], cache: Path, source: Source
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Verify the bundle on its golden crops, then the peaks of every person's logits."""
    with _open(request["bundle"], request, cache, source) as runner:
        data = verified(runner)
        bins, scores = [], []
        for sha256 in request["crops"]:
            for crop in np.load(fetch(sha256, cache, source), mmap_mode="r", allow_pickle=False):
                places, heights = peaks_of(runner.engine.infer(np.array(crop[None])))
                bins.append(places)
                scores.append(heights)
    axes = len(runner.model.bins)
    return data, {
        "bins": np.concatenate([np.zeros((0, 133, axes), np.int16), *bins]),
        "scores": np.concatenate([np.zeros((0, 133), np.float32), *scores]),
    }


def _speed(request: Mapping[str, Any], cache: Path, source: Source) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Time the bundle in turns with the reference, and weigh a process that does nothing else."""
    with ExitStack() as stack:
        runner = stack.enter_context(_open(request["bundle"], request, cache, source))
        other = stack.enter_context(_open(request["reference"] or request["bundle"], request, cache, source))
        found = paced(runner, other)
    threads = request["threads"] or cores()
    memory = peak_memory_mb(cache / request["bundle"], request["device"], threads)
    return {**found, "threads": threads, "memory_mb": memory}, {}


def _open(sha256: str, request: Mapping[str, Any], cache: Path, source: Source) -> Runner:
    path = fetch(sha256, cache, source)
    return load(path, request["device"], request["threads"] or cores(), verify=False)

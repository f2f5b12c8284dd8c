"""How long a sweep will take this machine, when it is quiet, by the size of the network; not what boards take.

A guess to decide by whether to wait or to come back tomorrow, not a figure: within a factor of two.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..evaluation.datasets import dataset_named
from ..models.variants import variant_named
from ..runtime.processor import cores
from ..runtime.timing import ROUNDS
from .cells import Planned
from .config import TORCH
from .store import FILE, OK, Record, Store

EXPORT_SECONDS, EXPORT_SECONDS_A_MILLION = 8.0, 0.5
"""A conversion, and more of it for every million of parameters."""
IMAGE_SECONDS = 0.02
"""Reading or keeping, cutting and scoring one image."""
EFFICIENCY = 0.3
"""The share of a matrix product's speed that a whole network reaches."""


@dataclass(frozen=True)
class Expected:
    """Seconds by job id, and the whole in words."""

    seconds: Mapping[str, float]

    def of(self, planned: Planned) -> float:
        """Seconds of both jobs of a cell; shared ones are counted in every cell."""
        return self.seconds.get(planned.accuracy_id, 0.0) + self.seconds.get(planned.speed_id, 0.0)

    @property
    def sentence(self) -> str:
        """The total in words."""
        total = sum(self.seconds.values())
        if not total:
            return "all done already"
        words = f"{total / 60:.0f} min" if total < 7200 else f"{total / 3600:.1f} h"
        return f"about {words} on this machine, when it is quiet" if total >= 60 else "less than a minute"


def expected_of(cells: Sequence[Planned], folder: Path | None, processes: int, *, retry: bool = False) -> Expected:
    """Seconds of every job that has no record in the store at `folder` yet; with `retry`, none of a success.

    With no `folder`, of every job.
    """
    jobs = [job for planned in cells for job in (planned.accuracy_id, planned.speed_id)]
    done: Mapping[str, Record] = {}
    if folder is not None and (folder / FILE).is_file():
        with Store.open(folder) as store:
            done = {job: found for job, found in store.records(jobs).items() if found.status == OK or not retry}
    seconds: dict[str, float] = {}
    for planned in cells:
        crop = crop_seconds(planned.cell.variant)
        if planned.accuracy_id not in done:
            parameters = variant_named(planned.cell.variant).parameters / 1e6
            images = _images(planned.inputs.data, planned.cell.images)
            export = 0.0 if planned.cell.target == TORCH else EXPORT_SECONDS + EXPORT_SECONDS_A_MILLION * parameters
            here = IMAGE_SECONDS if planned.cell.board else crop + IMAGE_SECONDS
            seconds[planned.accuracy_id] = (export + images * here) / processes
        if planned.speed_id not in done and not planned.cell.board:
            seconds[planned.speed_id] = 5.0 + 2 * ROUNDS * max(0.15, 4 * crop)
    return Expected(seconds)


@lru_cache(maxsize=16)
def _images(data: str, limit: int) -> int:
    return len(dataset_named(data, limit or None))


@lru_cache(maxsize=16)
def crop_seconds(variant: str) -> float:
    """Seconds of one crop through a variant in float on this machine, from how fast it multiplies matrices."""
    return 2e9 * variant_named(variant).gmac / (EFFICIENCY * _operations_a_second())


@lru_cache(maxsize=1)
def _operations_a_second() -> float:
    """Of all cores, by the best of many products so small that each runs on one, undisturbed by other programs."""
    size = 64
    matrix = np.random.default_rng(0).random((size, size), np.float32)
    best = np.inf
    for _ in range(2000):
        begun = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - begun)
    return cores() * 2 * size**3 / best

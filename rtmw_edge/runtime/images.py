"""Run a runner over image files: one result a file, and a file that cannot be used never stops the others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..crops import read_image
from ..errors import BadInputError
from ..poses import Poses
from .boxes import BoxFile, PersonBoxes
from .runner import Runner


@dataclass(frozen=True, eq=False)
class ImageResult:
    """The people of one image file. `confidence` (N,133) is in 0..1; `ms` is the time from image to poses.

    `boxed` is False when a boxes file was given that does not speak of this image: then there are no people.
    """

    path: Path
    image: NDArray[np.uint8]
    poses: Poses
    confidence: NDArray[np.float32]
    ms: float
    boxed: bool


@dataclass(frozen=True)
class ImageFailure:
    """An image file that could not be used, and why, in one sentence that names it."""

    path: Path
    reason: str


def run_images(
    runner: Runner, paths: Sequence[Path], boxes: BoxFile | None = None
) -> Iterator[ImageResult | ImageFailure]:
    """Results in the order of `paths`; without `boxes` the whole of each image is one person."""
    for path in paths:
        people = None if boxes is None else boxes.of(path)
        try:
            image = read_image(path)
            start = time.perf_counter()
            poses = _poses(runner, image, people, everything=boxes is None)
            ms = 1000 * (time.perf_counter() - start)
        except BadInputError as error:
            reason = str(error)
            yield ImageFailure(path, reason if str(path) in reason else f"{path}: {reason}")
        else:
            yield ImageResult(path, image, poses, runner.confidence(poses), ms, boxes is None or people is not None)


def _poses(runner: Runner, image: NDArray[np.uint8], people: PersonBoxes | None, *, everything: bool) -> Poses:
    if everything:
        return runner(image)
    people = people or PersonBoxes()
    return runner(image, people.boxes, people.scores)

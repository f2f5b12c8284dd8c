"""Where calibration crops come from, which of them are taken, and the record of exactly what was used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError

from .evaluation_images import refuse_evaluation_images
from .people import Labelled, People, Rendered, in_folder
from .selection import OnLooked, chosen_for_cover

BATCH = 16
"""Crops per forward pass; part of what makes two calibrations equal byte for byte."""

MAX_RENDERED = 100_000
"""People that the renderer makes in twenty minutes; hundreds are enough."""


class Source:
    """Crops of `people`, always the same in the same order; with `count` only so many of them, chosen for cover."""

    def __init__(self, people: People, count: int | None = None, seed: int = 0) -> None:
        if count is not None and count < 1:
            raise BadInputError(f"A count of {count} leaves nobody to calibrate on; pass at least 1.")
        self._people, self._seed = people, seed
        self._count = len(people) if count is None else min(count, len(people))
        self._chosen: dict[tuple[int, int], list[int]] = {}
        self._used: list[int] = []
        self._hash = hashlib.sha256()

    def __len__(self) -> int:
        """How many crops there are."""
        return self._count

    def choose(self, input_size: tuple[int, int], on_looked: OnLooked = lambda done, total: None) -> list[int]:
        """Indices of the people taken; looking at more than are taken takes a while, which `on_looked` follows."""
        if input_size not in self._chosen:
            self._chosen[input_size] = chosen_for_cover(self._people, self._count, input_size, self._seed, on_looked)
        return self._chosen[input_size]

    def crops(self, input_size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
        """Yield uint8 BGR crops (H,W,3) of `input_size` (width, height)."""
        self._used, self._hash = self.choose(input_size), hashlib.sha256()
        for index in self._used:
            crop = self._people.person(index, input_size).crop
            self._hash.update(crop.tobytes())
            yield crop

    def manifest(self) -> dict[str, Any]:
        """What was used, with hashes; complete once `crops` has been read to its end."""
        taken, there = self._count, len(self._people)
        how = "all" if taken == there else "cover (farthest points over parts, pose, size and light)"
        return {
            **self._people.manifest(self._used),
            "selection": {"taken": taken, "of": there, "how": how, "seed": self._seed},
            "crops_sha256": self._hash.hexdigest(),
        }


def open_source(
    text: str,
    *,
    boxes: Path | None = None,
    count: int | None = None,
    seed: int = 0,
    evaluation: Sequence[str] = (),
) -> Source:
    """The source that the command line calls `text`: "synthetic:N", "coco:ANNOTATIONS:IMAGES", or a folder of images.

    `boxes` is a JSON file of person boxes by image name, for folders; without it every whole image is one person.
    `count` people are chosen where there are more. `evaluation` names what accuracy will be measured on (folders,
    coco:ANNOTATIONS:IMAGES, synthetic:val); a source that holds one of those images is refused. Raises BadInputError
    for that, for anything else than a source, and for one without people.
    """
    people = _people(text, boxes, seed)
    if not len(people):
        raise BadInputError(f"There is nobody to calibrate on in '{text}'; give one with people, or synthetic:200.")
    for name in evaluation:
        refuse_evaluation_images(people.files(), name)
    return Source(people, count, seed)


def _people(text: str, boxes: Path | None, seed: int) -> People:
    kind, separator, rest = text.partition(":")
    if not text:  # as of a shell's variable that is not set
        raise BadInputError("What to calibrate on is empty: name a folder of images, or synthetic:200.")
    if kind not in ("synthetic", "coco") or not separator:
        return in_folder(Path(text), boxes)
    if boxes is not None:
        raise BadInputError(f"Boxes go with a folder of images, and {text} knows its own; leave out '{boxes}'.")
    if kind == "coco":
        annotations, separator, images = rest.partition(":")
        if not annotations or not images:
            raise BadInputError(f"Calibration source '{text}' is not coco:ANNOTATIONS.json:IMAGES.")
        return Labelled(Path(annotations), Path(images))
    if rest.partition(":")[0] == "val":
        raise BadInputError(
            f"'{text}' holds the people that accuracy is measured on; calibrate on others, such as synthetic:200."
        )
    count = int(rest) if rest.isascii() and rest.isdigit() and len(rest) < 10 else 0
    if not 1 <= count <= MAX_RENDERED:
        raise BadInputError(
            f"Calibration source '{text}' is not synthetic:N with N of 1 to {MAX_RENDERED}; try synthetic:200."
        )
    return Rendered(count, seed)


def batches(source: Source, input_size: tuple[int, int], size: int = BATCH) -> Iterator[NDArray[np.uint8]]:
    """Crops of `source` stacked into uint8 batches (N,H,W,3) with N up to `size`."""
    held: list[NDArray[np.uint8]] = []
    for image in source.crops(input_size):
        held.append(image)
        if len(held) == size:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)

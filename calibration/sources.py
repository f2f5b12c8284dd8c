"""Where calibration crops come from: rendered people or a folder of images; each writes down exactly what was used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rtmw_edge.crops import box_to_crop, check_boxes, crop, read_image
from rtmw_edge.errors import BadInputError
from rtmw_edge.runtime.boxes import BoxFile, PersonBoxes
from rtmw_edge.runtime.sources import find_images

BATCH = 8
"""Crops per forward pass; part of what makes two calibrations equal byte for byte."""


class Source(Protocol):
    """Crops for calibration, always the same in the same order."""

    def crops(self, input_size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield uint8 BGR crops (H,W,3) of `input_size` (width, height)."""
        ...

    def manifest(self) -> dict[str, Any]:
        """What was used, with hashes; complete once `crops` has been read to its end."""
        ...


def open_source(text: str, *, boxes: Path | None = None) -> Source:
    """The source that the command line calls `text`: "synthetic:N", or a folder of images.

    `boxes` is a JSON file of person boxes by image name, for folders; without it every whole image is one person.
    Raises BadInputError for anything else, and for a folder without images.
    """
    kind, separator, number = text.partition(":")
    if kind == "synthetic" and separator:
        if not number.isascii() or not number.isdigit() or int(number) < 1:
            raise BadInputError(
                f"Calibration source '{text}' is not synthetic:N with N of at least 1; try synthetic:200."
            )
        if boxes is not None:
            raise BadInputError(f"Boxes go with a folder of images, and {text} knows its own; leave out '{boxes}'.")
        return Synthetic(int(number))
    return Folder(Path(text), boxes)


def batches(source: Source, input_size: tuple[int, int], size: int = BATCH) -> Iterator[np.ndarray]:
    """Crops of `source` stacked into uint8 batches (N,H,W,3) with N up to `size`."""
    held: list[np.ndarray] = []
    for image in source.crops(input_size):
        held.append(image)
        if len(held) == size:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


class Synthetic:
    """`count` rendered people of the calibration split, which shares no body and no seed with the other splits."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self._hash = hashlib.sha256()

    def crops(self, input_size: tuple[int, int]) -> Iterator[np.ndarray]:
        from rtmw_edge.data.synthetic import Renderer

        renderer = Renderer("calibration", seed=self.seed)
        self._hash = hashlib.sha256()
        for index in range(self.count):
            image = renderer.crop(index, size=input_size).image
            self._hash.update(image.tobytes())
            yield image

    def manifest(self) -> dict[str, Any]:
        return {
            "source": f"synthetic:{self.count}",
            "split": "calibration",
            "seed": self.seed,
            "sha256": self._hash.hexdigest(),
        }


class Folder:
    """The people in a folder's images, in the order of the file names: every box, or the whole image as one person.

    With `boxes`, an image that the file does not speak of has nobody in it.
    """

    def __init__(self, folder: Path, boxes: Path | None = None) -> None:
        if not folder.is_dir():
            raise BadInputError(
                f"There is no folder '{folder}' to calibrate on; give one with images, or synthetic:200."
            )
        self.paths = find_images([folder])
        self.boxes = None if boxes is None else BoxFile(boxes)
        if self.boxes is not None:
            self.boxes.check_matches(self.paths)
        self._images: list[dict[str, Any]] = []

    def crops(self, input_size: tuple[int, int]) -> Iterator[np.ndarray]:
        self._images = []
        for path in self.paths:
            image = read_image(path)
            height, width = image.shape[:2]
            listed = None if self.boxes is None else self.boxes.of(path) or PersonBoxes()
            try:
                people = check_boxes([(0, 0, width, height)] if listed is None else listed.boxes, image.shape)
            except BadInputError as error:
                raise BadInputError(f"{path.name}: {error}") from error
            for center, scale in zip(*box_to_crop(people, input_size), strict=True):
                yield crop(image, center, scale, input_size)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self._images.append({"path": path.name, "sha256": digest, "people": len(people)})

    def manifest(self) -> dict[str, Any]:
        return {"source": "folder", "images": self._images}

"""Who can be calibrated on: rendered people, people in a folder of images, people labelled in COCO-WholeBody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtmw_edge.crops import box_to_crop, check_boxes, crop
from rtmw_edge.data.instances import read_annotated
from rtmw_edge.data.sets import SetConfig, open_set
from rtmw_edge.errors import BadInputError
from rtmw_edge.files import sha256_of
from rtmw_edge.runtime.boxes import BoxFile
from rtmw_edge.runtime.sources import find_images

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Person:
    """One person to calibrate on, as the network sees it.

    Attributes:
        crop: (H,W,3) uint8 BGR. box: (4,) xyxy in image pixels.
        keypoints: (133,2) in image pixels; visible: (133,), above 0 where labelled. None where nobody labelled any.
    """

    crop: NDArray[np.uint8]
    box: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None = None
    visible: NDArray[np.uint8] | None = None


class People(Protocol):
    """People by index, always the same."""

    def __len__(self) -> int: ...

    def person(self, index: int, input_size: tuple[int, int]) -> Person:
        """The person with the crop of `input_size` (width, height); BadInputError for an image that is no good."""
        ...

    def files(self) -> list[Path]:
        """The image files that people are in."""
        ...

    def manifest(self, indices: Sequence[int]) -> dict[str, Any]:
        """Who the people of `indices` are, so that they can be found again."""
        ...


class Rendered:
    """`count` people of the renderer's calibration split, which shares no body and no seed with the other splits."""

    def __init__(self, count: int, seed: int) -> None:
        from rtmw_edge.data.synthetic import Renderer

        self._count, self._seed = count, seed
        self._renderer = Renderer("calibration", seed)

    def __len__(self) -> int:
        return self._count

    def person(self, index: int, input_size: tuple[int, int]) -> Person:
        sample = self._renderer.crop(index, size=input_size)
        person = sample.people[0]
        return Person(sample.image, person.box, person.keypoints, person.visible)

    def files(self) -> list[Path]:
        return []

    def manifest(self, indices: Sequence[int]) -> dict[str, Any]:
        return {
            "source": f"synthetic:{self._count}",
            "split": "calibration",
            "render_seed": self._seed,
            "people": list(indices),
        }


class Photographed:
    """People in image files, each by its box; where the box is None the whole image is one person."""

    def __init__(self, source: str, folder: Path, people: Sequence[tuple[Path, Box | None]]) -> None:
        self._source, self._folder, self._people = source, folder, list(people)

    def __len__(self) -> int:
        return len(self._people)

    def person(self, index: int, input_size: tuple[int, int]) -> Person:
        path, box = self._people[index]
        image = _read(path, self._annotated_size(index))
        height, width = image.shape[:2]
        try:
            boxes = check_boxes([(0, 0, width, height) if box is None else box], image.shape)
        except BadInputError as error:
            raise BadInputError(f"{path.name}: {error}") from error
        return Person(cropped(image, boxes[0], input_size), boxes[0])

    def _annotated_size(self, index: int) -> tuple[float, float] | None:
        """Width and height that the image must have; None for any."""
        return None

    def files(self) -> list[Path]:
        return list(dict.fromkeys(path for path, _ in self._people))

    def manifest(self, indices: Sequence[int]) -> dict[str, Any]:
        boxes: dict[Path, list[list[float] | None]] = {}
        for index in indices:
            path, box = self._people[index]
            boxes.setdefault(path, []).append(None if box is None else [round(float(value), 3) for value in box])
        images = [
            {
                "path": path.relative_to(self._folder).as_posix(),
                "sha256": sha256_of(path),
                "boxes": listed,
            }
            for path, listed in boxes.items()
        ]
        return {"source": self._source, "images": images}


class Labelled(Photographed):
    """The people of a COCO-WholeBody annotation file."""

    def __init__(self, annotations: Path, images: Path) -> None:
        for path, what, there in (
            (annotations, "annotation file", annotations.is_file()),
            (images, "image folder", images.is_dir()),
        ):
            if not there:
                raise BadInputError(f"There is no {what} '{path}' to calibrate on; write coco:ANNOTATIONS.json:IMAGES.")
        config = SetConfig("coco-wholebody", images, annotations=str(annotations.absolute()), images=".")
        self._set = open_set(config)
        people = [(self._set.path(int(i)), tuple(box)) for i, box in zip(self._set.image, self._set.boxes, strict=True)]
        super().__init__("coco", self._set.folder, people)

    def person(self, index: int, input_size: tuple[int, int]) -> Person:
        seen, labels = super().person(index, input_size), self._set[index]
        return Person(seen.crop, seen.box, labels.keypoints, labels.visible)

    def _annotated_size(self, index: int) -> tuple[float, float] | None:
        return self._set.size(int(self._set.image[index]))


def in_folder(folder: Path, boxes: Path | None = None) -> Photographed:
    """The people in a folder's images, in the order of the file names: every box, or the whole image as one person.

    With `boxes`, an image that the file does not speak of has nobody in it. Raises BadInputError when there is no
    such folder, no image in it, or the boxes are of other images.
    """
    if not folder.is_dir():
        raise BadInputError(f"There is no folder '{folder}' to calibrate on; give one with images, or synthetic:200.")
    paths = find_images(folder)
    if boxes is None:
        return Photographed("folder", folder, [(path, None) for path in paths])
    listed = BoxFile(boxes)
    listed.check_matches([str(path) for path in paths])
    return Photographed("folder", folder, [(path, row[:4]) for path in paths for row in listed.of(str(path)) or ()])


def cropped(image: NDArray[np.uint8], box: ArrayLike, input_size: tuple[int, int]) -> NDArray[np.uint8]:
    """The crop (H,W,3) of `input_size` around `box` (4,) xyxy."""
    centers, scales = box_to_crop(box, input_size)
    return crop(image, centers[0], scales[0], input_size)


@lru_cache(maxsize=1)
def _read(path: Path, size: tuple[float, float] | None) -> NDArray[np.uint8]:
    """`read_annotated`; kept for the next person in it."""
    return read_annotated(path, size)

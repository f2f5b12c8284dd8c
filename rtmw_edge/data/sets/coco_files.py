"""Annotation files in the style of COCO: `images` with file names, `annotations` with boxes and keypoints.

Fourteen of the sixteen sets come so, with differences that `CocoStyle` names. Sources: the sets' official files as
mmpose prepares them (docs/data.md), and its readers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInputError
from ...keypoints import NUM_KEYPOINTS, PARTS
from ...poses import COCO_FIELDS
from .table import Collector, Skip

SCALE_PIXELS = 200.0
"""A `scale` of 1 in the face sets' and MPII's annotations is a box of 200 pixels."""

BAD_VALUES = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a malformed annotation raises."""

Annotation = dict[str, Any]
Image = dict[str, Any]


def read_json(path: Path, what: str = "annotations", check: str = "`root` and `annotations`") -> Any:
    """The JSON document in a file of `what`; BadInputError says which file, what is wrong with it and what to check."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadInputError(f"There are no {what} at {path}: check {check}.") from None
    except OSError as error:
        raise BadInputError(f"Cannot read the {what} {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"The {what} {path} are not JSON ({error}): download them again.") from None


def read_document(path: Path, check: str = "`root` and `annotations`") -> dict[str, Any]:
    """The document of an annotation file, with lists of `images` and `annotations`; BadInputError for any other."""
    document = read_json(path, check=check)
    if not isinstance(document, dict) or not all(isinstance(document.get(k), list) for k in ("images", "annotations")):
        raise BadInputError(f"{path} is no COCO annotation file: it needs the lists 'images' and 'annotations'.")
    return document


def whole_number(image_id: Any) -> int:
    """The id of an image, which some files write as a text: "000017" is 17. Raises ValueError for any other thing."""
    try:
        number = int(image_id)
        if isinstance(image_id, float) and number != image_id:
            raise ValueError
        return number
    except (TypeError, ValueError):
        raise ValueError(f"the image id {image_id!r} is no whole number") from None


def read_coco(path: Path, collector: Collector, *, by_id: bool = False) -> Iterator[tuple[Annotation, Image]]:
    """Annotations with their images, in the file's order; crowds, and annotations of no one listed image, are counted.

    Of the images every n-th that the collector wants, or with `by_id` those whose id is a multiple of n.
    """
    document = read_document(path)
    images: dict[int, Image] = {}
    doubtful = set()
    for image in document["images"]:
        number = _number(image, "id")
        if number is not None and images.setdefault(number, image).get("file_name") != image.get("file_name"):
            doubtful.add(number)
    if document["images"] and not images:
        raise BadInputError(f"{path} has no image whose `id` is a whole number: number them, `image_id` too.")
    for annotation in document["annotations"]:
        if not isinstance(annotation, dict):
            collector.skip(Skip.MALFORMED)
        elif annotation.get("iscrowd"):
            collector.skip(Skip.CROWD)
        elif (number := _number(annotation, "image_id")) is None or number not in images:
            collector.skip(Skip.IMAGE)
        elif number in doubtful:
            collector.skip(Skip.TWO_IMAGES)
        elif number % collector.every == 0 if by_id else collector.wants(path, number):
            yield annotation, images[number]


def _number(holder: Any, key: str) -> int | None:
    try:
        return whole_number(holder[key])
    except BAD_VALUES:
        return None


def listed_size(image: Image) -> tuple[float, float] | None:
    """Width and height of an image; None where the file has neither, as PoseTrack18's per-video files."""
    if "width" not in image and "height" not in image:
        return None
    return float(image["width"]), float(image["height"])


def whole_body(annotation: Annotation) -> NDArray[np.float64]:
    """x, y, flag (133, 3) of COCO-WholeBody's five fields; ValueError when one of them has too few or too many."""
    triples = np.zeros((NUM_KEYPOINTS, 3))
    for part, name in COCO_FIELDS.items():
        values, wanted = np.array(annotation[name], np.float64), triples[PARTS[part]]
        if values.shape != (wanted.size,):
            raise ValueError(f"{name} has {values.size} numbers, not {wanted.size}")
        wanted[:] = values.reshape(-1, 3)
    return triples


@dataclass(frozen=True)
class CocoStyle:
    """How the annotations of one set differ from COCO's.

    Attributes:
        field: the key that holds x, y, flag in turn; None for the five of COCO-WholeBody.
        hidden: of the first `hidden` joints the flag 1 means hidden; of all others any flag above 0 means labelled.
        origin: the coordinate of the first pixel's centre; 1 in Matlab's files.
        centred: the box is `center` and `scale`, not `bbox`.
        prefix: what every file name begins with, and is left out.
        by_id: every n-th image is chosen by its id, not by its place in the file.
    """

    field: str | None = "keypoints"
    hidden: int = 0
    origin: float = 0.0
    centred: bool = False
    prefix: str = ""
    by_id: bool = False

    def __call__(self, path: Path, collector: Collector) -> None:
        """Read one annotation file into the collector."""
        for annotation, image in read_coco(path, collector, by_id=self.by_id):
            try:
                triples = self._triples(annotation).reshape(collector.mapping.joints, 3)
                box = self._box(annotation)
                name = str(image["file_name"]).removeprefix(self.prefix)
                size = listed_size(image)
            except BAD_VALUES as error:
                collector.skip_malformed(annotation.get("id"), error)
                continue
            collector.add(name, box, triples[:, :2] - self.origin, self._visible(triples[:, 2]), size)

    def _triples(self, annotation: Annotation) -> NDArray[np.float64]:
        return whole_body(annotation) if self.field is None else np.array(annotation[self.field], np.float64)

    def _visible(self, flags: NDArray[np.float64]) -> NDArray[np.uint8]:
        visible = np.where(flags > 0, 2, 0).astype(np.uint8)
        visible[: self.hidden][flags[: self.hidden] == 1] = 1
        return visible

    def _box(self, annotation: Annotation) -> NDArray[np.float64]:
        if self.centred:
            return centred_box(annotation["center"], float(annotation["scale"])) - self.origin
        return corners(annotation["bbox"]) - self.origin


def corners(bbox: Any) -> NDArray[np.float64]:
    """x0, y0, x1, y1 of COCO's x, y, width, height; ValueError when it is no such thing."""
    x, y, width, height = (float(value) for value in bbox)
    return np.array([x, y, x + width, y + height])


def centred_box(center: Any, scale: float) -> NDArray[np.float64]:
    """x0, y0, x1, y1 of the square of 200 * scale pixels about a centre."""
    x, y = (float(value) for value in center)
    half = scale * SCALE_PIXELS / 2
    return np.array([x - half, y - half, x + half, y + half])

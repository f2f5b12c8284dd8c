"""Instance: one annotated person (or face, or hand) in the 133-keypoint layout; InstanceSet: a list of them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..crops import read_image
from ..errors import BadInputError

MAX_UNREADABLE = 100
"""After this many unreadable images in a row the folder is wrong, not an image: `read_instance` gives up."""


@dataclass(frozen=True)
class Instance:
    """One annotated instance in one image, whatever set it comes from.

    Attributes:
        image: the file, or the picture itself: (H, W, 3) uint8 BGR (rendered people).
        box: (4,) float32 x0, y0, x1, y1 in image pixels, without any margin.
        keypoints: (133, 2) float32 x, y in image pixels; an integer is the centre of a pixel.
        visible: (133,) uint8: 0 not labelled (or the set has no such joint), 1 hidden, 2 visible.
        metres: (133, 3) float32 in the camera's frame (x right, y down, z away), metres, where `visible` > 0; the hips
            (11, 12), from which depth is measured, always have their depth. None for a 2D set.
        camera: (3, 3) float32 intrinsic matrix in pixels of that image; None when not known.
        source: the name of the set: "coco-wholebody", "wflw", "synthetic".
        whole: False in a face or hand set, where the part fills the box and is shrunk before augmentation (spec 4.4).
        size: (width, height) that the annotations list for the image; None where they do not.
    """

    image: Path | NDArray[np.uint8]
    box: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    visible: NDArray[np.uint8]
    metres: NDArray[np.float32] | None
    camera: NDArray[np.float32] | None
    source: str
    whole: bool
    size: tuple[float, float] | None = None


class InstanceSet(Protocol):
    """Instances by index, 0 to len - 1. Cheap to hold and to send to a worker; an instance is made when asked for."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Instance: ...


class Joined:
    """Several sets one after another, as cocktail14 concatenates its 14 (spec 5: no ratios between sets)."""

    def __init__(self, sets: Sequence[InstanceSet]) -> None:
        self.sets = tuple(sets)
        self.name = "+".join(part.name for part in self.sets)
        self._ends = list(accumulate(len(part) for part in self.sets))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Instance:
        if not 0 <= index < len(self):
            raise IndexError(f"instance {index} of {len(self)}")
        place = bisect_right(self._ends, index)
        return self.sets[place][index - (self._ends[place - 1] if place else 0)]


def read_annotated(path: Path, size: tuple[float, float] | None) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 BGR that is annotated as `size` (width, height), where that is listed.

    Raises BadInputError when it cannot be read, and when it has another size: its labels lie elsewhere then.
    """
    image = read_image(path)
    height, width = image.shape[:2]
    if size is not None and size != (width, height):
        raise BadInputError(
            f"The image {path} has {width}x{height} pixels and is annotated as {size[0]:g}x{size[1]:g}: take the file "
            "that was annotated, not a resized or turned copy."
        )
    return image


def read_instance(instances: InstanceSet, index: int, skipped: Counter[str]) -> tuple[NDArray[np.uint8], Instance]:
    """Picture (H, W, 3) uint8 BGR and labels of an instance, or of the next one whose image can be read.

    An image that is missing, damaged or of another size than annotated costs one instance, never a run of days: it is
    counted in `skipped` under the name of its set. Deterministic: the same files give the same instance for an index.
    Raises BadInputError when 100 images in a row cannot be read.
    """
    for step in range(min(MAX_UNREADABLE, len(instances))):
        instance = instances[(index + step) % len(instances)]
        if not isinstance(instance.image, Path):
            return instance.image, instance
        try:
            return read_annotated(instance.image, instance.size), instance
        except BadInputError as error:
            problem = str(error)
            skipped[instance.source] += 1
    if len(instances) == 0:
        raise BadInputError(f"The set '{instances.name}' is empty: there is no instance {index} to read.")
    raise BadInputError(
        f"None of {step + 1} images in a row of '{instances.name}' can be read, the last because: {problem} "
        "Run `rtmw-edge data check` on the configuration."
    )

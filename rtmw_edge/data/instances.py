"""Instance: one annotated person (or face, or hand) in the 133-keypoint layout; InstanceSet: a list of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Instance:
    """One annotated instance in one image, whatever set it comes from.

    image      the file, or the picture itself: (H, W, 3) uint8 BGR (rendered people)
    box        (4,) float32 x0, y0, x1, y1 in image pixels
    keypoints  (133, 2) float32 x, y in image pixels; an integer is the centre of a pixel
    visible    (133,) uint8: 0 not labelled (or the set has no such joint), 1 hidden, 2 visible
    metres     (133, 3) float32 camera frame (x right, y down, z away), metres; None for a 2D set. Only where `visible` > 0
    camera     (3, 3) float32 intrinsic matrix in pixels of that image; None when not known
    source     the name of the set: "coco-wholebody", "wflw", "synthetic"
    whole      False for an instance of a face or hand set, which fills its crop and is shrunk before augmentation (spec 4.4)
    """

    image: Path | NDArray[np.uint8]
    box: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    visible: NDArray[np.uint8]
    metres: NDArray[np.float32] | None
    camera: NDArray[np.float32] | None
    source: str
    whole: bool


class InstanceSet(Protocol):
    """Instances by index, 0 to len - 1. Cheap to hold and to send to a worker; an instance is made when it is asked for."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Instance: ...

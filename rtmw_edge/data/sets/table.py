"""AnnotatedSet: all instances of one set in a few arrays; Collector: builds it, counting what it has to leave out.

A set of a million people is held in arrays, not in objects, so that worker processes share its memory.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import BadInputError
from ...keypoints import NUM_KEYPOINTS
from ..instances import Instance
from .mapping import Mapping

log = logging.getLogger(__name__)

HIPS = [11, 12]


class Skip(str, Enum):
    """Why an annotation is not an instance."""

    CROWD = "crowd"
    UNLABELLED = "no keypoint labelled"
    BOX = "bad box"
    KEYPOINTS = "keypoint not finite"
    IMAGE = "image not listed"
    TWO_IMAGES = "image id of two files"
    MALFORMED = "malformed"


@dataclass(frozen=True, eq=False)
class AnnotatedSet:
    """An InstanceSet of N instances with J joints each, on P images. `skipped` counts annotations left out, by reason.

    Attributes:
        folder: of the images. paths: (bytes,) uint8, all file names below it; ends: (P,) where each of them ends.
        sizes: (P, 2) width and height of the images as annotated; not finite where no annotation file lists them.
        image: (N,) which image. boxes: (N, 4) xyxy pixels. target: (J,) which of the 133 each joint is.
        points: (N, J, 2) pixels. visible: (N, J) 0, 1 or 2. metres: (N, J, 3). cameras: (N, 4) fx, fy, cx, cy pixels.
            Not finite for an instance that has neither; None when none has.
    """

    name: str
    whole: bool
    folder: Path
    paths: NDArray[np.uint8]
    ends: NDArray[np.int64]
    sizes: NDArray[np.float32]
    image: NDArray[np.int32]
    boxes: NDArray[np.float32]
    target: NDArray[np.int64]
    points: NDArray[np.float32]
    visible: NDArray[np.uint8]
    metres: NDArray[np.float32] | None
    cameras: NDArray[np.float32] | None
    skipped: Dictionary[str, int]

    def __len__(self) -> int:
        return len(self.image)

    @property
    def images(self) -> int:
        """How many different images the instances are on."""
        return len(self.ends)

    def path(self, image: int) -> Path:
        """The file of an image, 0 to `images` - 1."""
        start = self.ends[image - 1] if image else 0
        return self.folder / self.paths[start : self.ends[image]].tobytes().decode()

    def size(self, image: int) -> tuple[float, float] | None:
        """Width and height that an image, 0 to `images` - 1, is annotated with; None where that is not listed."""
        width, height = self.sizes[image].tolist()
        return (width, height) if np.isfinite([width, height]).all() else None

    def __getitem__(self, index: int) -> Instance:
        if not 0 <= index < len(self):
            raise IndexError(f"instance {index} of {len(self)} in '{self.name}'")
        keypoints = np.zeros((NUM_KEYPOINTS, 2), np.float32)
        visible = np.zeros(NUM_KEYPOINTS, np.uint8)
        keypoints[self.target], visible[self.target] = self.points[index], self.visible[index]
        metres = camera = None
        if self.metres is not None and self.cameras is not None and np.isfinite(self.cameras[index]).all():
            metres = np.zeros((NUM_KEYPOINTS, 3), np.float32)
            metres[self.target] = self.metres[index]
            fx, fy, cx, cy = self.cameras[index]
            camera = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float32)
        return Instance(
            image=self.path(int(self.image[index])),
            size=self.size(int(self.image[index])),
            box=np.array(self.boxes[index]),
            keypoints=keypoints,
            visible=visible,
            metres=metres,
            camera=camera,
            source=self.name,
            whole=self.whole,
        )


class Collector:
    """Gathers the annotations of one set, joint by joint as the set has them, and keeps count of the bad ones.

    Of the images that readers ask it about it wants every n-th (`every`).
    """

    def __init__(self, mapping: Mapping, every: int) -> None:
        self.mapping, self.every = mapping, every
        self.skipped: Counter[str] = Counter()
        self._malformed = ""
        self._images: dict[str, int] = {}
        self._places: dict[tuple[Path, object], int] = {}
        self._sizes: list[tuple[float, float]] = []
        self._rows: list[tuple[int, NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]] = []
        self._depth: list[tuple[NDArray[np.float32], NDArray[np.float32]] | None] = []

    def skip(self, reason: Skip) -> None:
        """Count one annotation that is left out."""
        self.skipped[reason.value] += 1

    def skip_malformed(self, which: object, error: Exception) -> None:
        """Count one that cannot be read, and keep what is wrong with the first of them: which it is, and the error."""
        self.skip(Skip.MALFORMED)
        wrong = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        which = "without an id" if which is None else which
        self._malformed = self._malformed or f"annotation {which}: {wrong}"

    def wants(self, file: Path, image: object) -> bool:
        """Whether the image of that id in a file is an n-th one, counted through all files of the set as they come."""
        return self.every == 1 or self._places.setdefault((file, image), len(self._places)) % self.every == 0

    def add(
        self,
        image: str,
        box: ArrayLike,
        points: ArrayLike,
        visible: ArrayLike,
        size: tuple[float, float] | None = None,
        metres: ArrayLike | None = None,
        camera: ArrayLike | None = None,
    ) -> None:
        """One annotation: box (4,) xyxy, points (joints, 2), visible (joints,) 0 to 2, metres (joints, 3), camera (4,).

        The box is clipped to `size` (width, height) as spec 3.1 does. An annotation that is no good is counted.
        """
        shapes = np.shape(box), np.shape(points), np.shape(visible)
        joints = self.mapping.joints
        if shapes != ((4,), (joints, 2), (joints,)) or not _is_file_name(image):
            return self.skip(Skip.MALFORMED)
        corners = np.asarray(box, np.float32)
        if size is not None:
            corners = corners.clip(0, np.tile(np.asarray(size, np.float32) - 1, 2))
        if not np.isfinite(corners).all() or (corners[2:] <= corners[:2]).any():
            return self.skip(Skip.BOX)
        chosen = self.mapping.source
        where = np.asarray(points, np.float32)[chosen]
        seen = np.asarray(visible, np.uint8)[chosen]
        where[seen == 0] = 0
        if not seen.any():
            return self.skip(Skip.UNLABELLED)
        if not np.isfinite(where).all():
            return self.skip(Skip.KEYPOINTS)
        labels = None
        if metres is not None and camera is not None:
            depth = np.asarray(metres, np.float32)[chosen]
            kept = (seen > 0) | np.isin(self.mapping.target, HIPS)
            depth[~kept] = 0
            if not np.isfinite(depth).all() or not np.isfinite(np.asarray(camera, np.float32)).all():
                return self.skip(Skip.KEYPOINTS)
            labels = depth, np.asarray(camera, np.float32)
        number = self._images.setdefault(image.lstrip("/"), len(self._images))
        if number == len(self._sizes):
            self._sizes.append(size or (np.nan, np.nan))
        self._rows.append((number, corners, where, seen))
        self._depth.append(labels)

    def table(self, name: str, folder: Path, whole: bool) -> AnnotatedSet:
        """The set; BadInputError when not one annotation was usable."""
        if not self._rows:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
            reasons += f"; {self._malformed}" if self._malformed else ""
            empty = "the file is empty" + (f", or every = {self.every} keeps no image" if self.every > 1 else "")
            raise BadInputError(
                f"The set '{name}' has no usable annotation ({reasons or empty}): check that its "
                f"annotation file is of this kind, with {self.mapping.joints} keypoints an instance."
            )
        if self._malformed:
            log.warning("%s: the first malformed one is %s", name, self._malformed)
        image, boxes, points, visible = zip(*self._rows, strict=True)
        metres = cameras = None
        if any(self._depth):
            flat = np.full((len(self.mapping.target), 3), np.nan, np.float32), np.full(4, np.nan, np.float32)
            metres, cameras = (np.stack(part) for part in zip(*(pair or flat for pair in self._depth), strict=True))
        encoded = [path.encode() for path in self._images]
        return AnnotatedSet(
            name=name,
            whole=whole,
            folder=folder,
            paths=np.frombuffer(b"".join(encoded), np.uint8),
            ends=np.cumsum([len(path) for path in encoded], dtype=np.int64),
            sizes=np.array(self._sizes, np.float32),
            image=np.array(image, np.int32),
            boxes=np.stack(boxes),
            target=self.mapping.target,
            points=np.stack(points),
            visible=np.stack(visible),
            metres=metres,
            cameras=cameras,
            skipped=dict(self.skipped),
        )


def _is_file_name(image: str) -> bool:
    """Whether a file can have that name: JSON can hold a zero byte, and half of a character."""
    try:
        return b"\0" not in image.encode()
    except UnicodeEncodeError:
        return False

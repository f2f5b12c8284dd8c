"""A folder of annotated pictures, which only ever replaces pictures that it wrote itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2

from ..errors import BadInputError
from ..files import MARKER, atomic_write, reported_disk_errors
from .drawing import draw
from .images import ImageResult

HEAD = "Pictures written by rtmw-edge run; it replaces these files only:"
JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_QUALITY = 92


class PictureFolder:
    """Where `run --save` writes: one picture for each image, under the image's own name.

    A JPEG stays a JPEG, everything else becomes a PNG; images of one name from two folders get "-2", "-3", ... The
    marker file in the folder lists what was written there. Raises BadInputError when the folder holds something else.
    """

    def __init__(self, folder: Path, images: Sequence[Path]) -> None:
        self.folder = folder
        self.names = _names(images)
        self._marker = folder / MARKER
        self._own = self._check()

    def write(self, result: ImageResult, threshold: float) -> Path:
        """Draw the people of `result` whose keypoints have a confidence of at least `threshold`, and write it."""
        path = self.folder / self.names[result.path]
        shown = dataclasses.replace(result.poses, scores=result.confidence)
        picture = draw(result.image, shown, threshold=threshold)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() in JPEG_SUFFIXES else []
        _, encoded = cv2.imencode(path.suffix, picture, quality)
        if path.name not in self._own:
            self._own.append(path.name)
            with atomic_write(self._marker) as temporary:
                temporary.write_text("\n".join([HEAD, *self._own]) + "\n", encoding="utf-8")
        with atomic_write(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
        return path

    def _check(self) -> list[str]:
        """The pictures in the folder that are ours; nothing is written yet."""
        with reported_disk_errors(self.folder):
            if not self.folder.exists():
                return []
            if not self.folder.is_dir():
                raise BadInputError(f"Cannot save pictures in '{self.folder}': it is a file. Choose another --save.")
            there = {path.name for path in self.folder.iterdir()}
        if not there:
            return []
        lines = (
            self._marker.read_text(encoding="utf-8", errors="replace").splitlines() if self._marker.is_file() else []
        )
        if lines[:1] != [HEAD]:
            raise BadInputError(
                f"Refusing to save pictures in '{self.folder}': it is not empty and not a folder of this command. "
                "Choose another --save."
            )
        own = lines[1:]
        for name in self.names.values():
            if name in there and name not in own:
                raise BadInputError(
                    f"Refusing to overwrite '{self.folder / name}': this command did not write it. "
                    "Choose another --save."
                )
        return [name for name in own if name in there]


def _names(images: Sequence[Path]) -> dict[Path, str]:
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for image in images:
        suffix = image.suffix if image.suffix.lower() in JPEG_SUFFIXES else ".png"
        name, count = f"{image.stem}{suffix}", 1
        while name.lower() in taken:  # a memory card may not tell upper case from lower
            count += 1
            name = f"{image.stem}-{count}{suffix}"
        taken.add(name.lower())
        names[image] = name
    return names

"""A folder of annotated pictures and videos, which only ever replaces what it wrote itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from ...errors import BadInputError
from ...files import MARKER, atomic_write, reported_disk_errors
from ..frames import Annotated, Failure, Origin, Source
from .video import AnnotatedVideo

HEAD = "Pictures written by rtmw-edge run; it replaces these files only:"
JPEG_SUFFIXES = (".jpg", ".jpeg")
JPEG_QUALITY = 92
VIDEO_SUFFIX = ".mp4"


class PictureFolder:
    """Where `run --save` writes: one picture for each image, one video for each moving source, under its own name.

    A JPEG stays a JPEG, other images become PNG, videos .mp4; sources of one name get "-2", "-3", ... The marker file
    in the folder lists what was written there. Raises BadInputError when the folder holds something else.
    """

    def __init__(self, folder: Path, sources: Sequence[Source]) -> None:
        self.folder = folder
        self.names = _names([source.origin for source in sources])
        self._marker = folder / MARKER
        self._own = self._check()
        self._video: AnnotatedVideo | None = None
        self._told: list[str] = []
        self._pictures = 0

    def write(self, annotated: Annotated) -> None:
        frame = annotated.result.frame
        path = self.folder / self.names[frame.origin.name]
        if not frame.origin.moving:
            self._close_video()
            self._picture(path, annotated)
            return
        if self._video is None or self._video.path != path:
            self._close_video()
            self._claim(path.name)
            self._video = AnnotatedVideo(path)
        self._video.write(annotated)

    def fail(self, failure: Failure) -> None:
        """What cannot be read has no picture."""

    def close(self) -> list[str]:
        self._close_video()
        return [*self._told, *([f"pictures: {self.folder}"] if self._pictures else [])]

    def discard(self) -> None:
        if self._video is not None:
            self._video.discard()
            self._video = None

    def _picture(self, path: Path, annotated: Annotated) -> None:
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() in JPEG_SUFFIXES else []
        try:
            written, encoded = cv2.imencode(path.suffix, annotated.picture, quality)
        except cv2.error:  # so older versions say it
            written = False
        if not written:
            height, width = annotated.picture.shape[:2]
            raise BadInputError(
                f"Cannot save {path}: {path.suffix} does not take a picture of {width}x{height} pixels."
            )
        self._claim(path.name)
        with atomic_write(path) as temporary:
            temporary.write_bytes(encoded.tobytes())
        self._pictures += 1

    def _close_video(self) -> None:
        if self._video is not None:
            self._told += self._video.close()
            self._video = None

    def _claim(self, name: str) -> None:
        """Write down that the file of this name is ours, before it is there."""
        if name not in self._own:
            self._own.append(name)
            with (
                atomic_write(self._marker) as temporary,
                temporary.open("w", encoding="utf-8", errors="surrogateescape") as file,
            ):
                file.write("\n".join([HEAD, *self._own, ""]))

    def _check(self) -> list[str]:
        """The files in the folder that are ours; nothing is written yet."""
        with reported_disk_errors(self.folder):
            if not self.folder.exists():
                return []
            if not self.folder.is_dir():
                raise BadInputError(f"Cannot save pictures in '{self.folder}': it is a file. Choose another --save.")
            there = {path.name for path in self.folder.iterdir()}
        if not there:
            return []
        text = self._marker.read_bytes().decode(errors="surrogateescape") if self._marker.is_file() else ""
        lines = text.splitlines()
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


def _names(origins: Sequence[Origin]) -> dict[str, str]:
    names: dict[str, str] = {}
    taken: set[str] = set()
    for origin in origins:
        own = Path(origin.name).suffix
        suffix = VIDEO_SUFFIX if origin.moving else own if own.lower() in JPEG_SUFFIXES else ".png"
        name, count = f"{origin.stem}{suffix}", 1
        while name.lower() in taken:  # a memory card may not tell upper case from lower
            count += 1
            name = f"{origin.stem}-{count}{suffix}"
        taken.add(name.lower())
        names[origin.name] = name
    return names

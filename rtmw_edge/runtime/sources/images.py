"""Image files, and what folders and patterns hold, in a fixed order."""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...crops import read_image
from ...errors import BadInputError
from ..frames import Failure, Frame, Origin

IMAGE_SUFFIXES = (".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files of a folder that are taken for images; a file that is named is taken whatever its suffix."""


class ImageFile:
    """One image file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.origin = Origin(str(path))

    def __iter__(self) -> Iterator[Frame | Failure]:
        start = time.perf_counter()
        try:
            image = read_image(self.path)
        except BadInputError as error:
            yield Failure(self.origin.name, str(error))
        else:
            yield Frame(self.origin, 0, 0.0, image, 1000 * (time.perf_counter() - start))


def find_images(folder: Path) -> list[Path]:
    """The image files of `folder` (not deeper), sorted by name; BadInputError where there is none."""
    return files_of(folder, IMAGE_SUFFIXES, "image")


def expand(name: str) -> list[Path]:
    """The files that match a pattern, sorted; a name without wildcards, or of a file that is there, means itself.

    Raises BadInputError for a pattern that nothing matches. A file that is missing is told when its turn comes.
    """
    if Path(name).exists() or not glob.has_magic(name):
        return [Path(name)]
    paths = sorted(path for path in map(Path, glob.glob(name, recursive=True)) if path.is_file())
    if not paths:
        raise BadInputError(f"No file matches '{name}': check the pattern and the folder.")
    return paths


def files_of(folder: Path, suffixes: Sequence[str], what: str) -> list[Path]:
    """The files of `folder` that end in one of `suffixes`, sorted by name; BadInputError where there is none.

    Hidden ones are not among them, as in patterns: a Mac leaves a `._photo.jpg` beside `photo.jpg` on other disks.
    """
    seen = (path for path in folder.iterdir() if not path.name.startswith("."))
    files = sorted(path for path in seen if path.suffix.lower() in suffixes and path.is_file())
    if not files:
        raise BadInputError(f"There is no {what} in the folder '{folder}': it needs {', '.join(suffixes)}.")
    return files

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


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """The image files that `sources` name: files as they are, folders as their images sorted by name (not deeper).

    A file that is named twice is taken once; a pattern is taken for the files that match it. A file that is missing
    stays in the list, to be reported by name when its turn comes. Raises BadInputError for no source, a folder without
    images, and a pattern that nothing matches.
    """
    if not sources:
        raise BadInputError("There is nothing to run on: name at least one image or folder.")
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        found.update(dict.fromkeys(files_of(path, IMAGE_SUFFIXES, "image") if path.is_dir() else expand(source)))
    return list(found)


def expand(name: str | Path) -> list[Path]:
    """The files that match a pattern, sorted; a name without wildcards, or of a file that is there, means itself."""
    if Path(name).exists() or not glob.has_magic(str(name)):
        return [Path(name)]
    paths = sorted(path for path in map(Path, glob.glob(str(name), recursive=True)) if path.is_file())
    if not paths:
        raise BadInputError(f"No file matches '{name}': check the pattern and the folder.")
    return paths


def files_of(folder: Path, suffixes: Sequence[str], what: str) -> list[Path]:
    """The files of `folder` that end in one of `suffixes`, sorted by name; BadInputError where there is none."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.is_file())
    if not files:
        raise BadInputError(f"There is no {what} in the folder '{folder}': it needs {', '.join(suffixes)}.")
    return files

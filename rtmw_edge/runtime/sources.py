"""What `run` is given: image files and folders, as a list of files in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import BadInputError

IMAGE_SUFFIXES = (".bmp", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files of a folder that are taken for images; a file that is named is taken whatever its suffix."""

WILDCARDS = "*?["


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """The image files that `sources` name: files as they are, folders as their images sorted by name (not deeper).

    A file that is named twice is taken once. A file that is missing stays in the list, to be reported by name when its
    turn comes. Raises BadInputError for no source, a folder without images, and a pattern that the shell left alone.
    """
    if not sources:
        raise BadInputError("There is nothing to run on: name at least one image or folder.")
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found.update(dict.fromkeys(_images_of(path)))
        elif not path.exists() and any(character in path.name for character in WILDCARDS):
            raise BadInputError(f"No file matches '{source}': check the pattern and the folder.")
        else:
            found[path] = None
    return list(found)


def _images_of(folder: Path) -> list[Path]:
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise BadInputError(f"There is no image in the folder '{folder}': it needs {', '.join(IMAGE_SUFFIXES)}.")
    return images

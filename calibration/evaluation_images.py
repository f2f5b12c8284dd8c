"""Images that accuracy is measured on: calibrating on one of them is refused, whatever the file is called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from rtmw_edge.data.sets.coco_files import BAD_VALUES, read_json
from rtmw_edge.errors import BadInputError
from rtmw_edge.files import sha256_of
from rtmw_edge.runtime.sources import find_images


def held_out(data: str) -> tuple[str, ...]:
    """The sets whose images nobody may calibrate on where accuracy is measured on `data`, a text as `evaluate` takes.

    It is that set; none where it is in 3D, since `refuse_evaluation_images` cannot list its images.
    """
    return (data,) if data.partition(":")[0] in ("synthetic", "coco") else ()


def refuse_evaluation_images(paths: Iterable[Path], text: str) -> None:
    """Raise BadInputError naming the first of `paths` that is, by its bytes, an image of the evaluation set `text`.

    `text` is "coco:ANNOTATIONS:IMAGES", a folder, or "synthetic:val" with or without a number. The last has no images
    that could be met again: the renderer's calibration split shares no body, background or seed with it. Raises
    BadInputError for anything else too.

    Hashes files of one size alone, so that even large folders take no time; a missing file is for others to report.
    """
    by_size: dict[int, list[Path]] = {}
    for path in _images_of(text):
        by_size.setdefault(path.stat().st_size, []).append(path)
    sha256 = cache(sha256_of)
    for path in paths:
        alike = by_size.get(path.stat().st_size, []) if path.is_file() else []
        for other in alike:
            if sha256(other) == sha256(path):
                raise BadInputError(
                    f"'{path}' is the evaluation image '{other.name}' of {text}; calibrate on images that accuracy is "
                    "not measured on."
                )


def _images_of(text: str) -> Sequence[Path]:
    """The files of an evaluation set, all of which are there."""
    kind, separator, rest = text.partition(":")
    if kind == "synthetic" and rest.partition(":")[0] == "val":
        return []
    if kind == "coco" and separator:
        annotations, _, images = rest.partition(":")
        if not images or not Path(annotations).is_file() or not Path(images).is_dir():
            raise BadInputError(f"There is no evaluation set '{text}'; write coco:ANNOTATIONS.json:IMAGES.")
        try:
            listed = [str(image["file_name"]) for image in read_json(Path(annotations))["images"]]
        except BAD_VALUES as error:
            raise BadInputError(f"{annotations} lists no images ({type(error).__name__}: {error}).") from error
        paths = [Path(images) / name for name in listed]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise BadInputError(
                f"{len(missing)} of {len(paths)} evaluation images are not there, so that nobody could tell "
                f"whether they are calibrated on: {missing[0]}. Correct '{text}'."
            )
        return paths
    if not Path(text).is_dir():
        raise BadInputError(
            f"There is no evaluation set '{text}'; give a folder, coco:ANNOTATIONS.json:IMAGES or synthetic:val."
        )
    return find_images(Path(text))

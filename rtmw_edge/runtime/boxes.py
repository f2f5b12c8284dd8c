"""Person boxes from a JSON file, by image. Three spellings are read:

1. `{"photo.jpg": [[x1, y1, x2, y2], [x1, y1, x2, y2, score]], "empty.jpg": []}`, corners in pixels;
2. COCO detections that name the file: `[{"file_name": "photo.jpg", "bbox": [x, y, width, height], "score": 0.9}]`;
3. COCO annotations: `{"images": [{"id", "file_name"}], "annotations": [{"image_id", "bbox"}]}`.

In 2 and 3 only people are taken (category_id 1 or none, no crowds). A file is matched by its path as given, else by its
name; the frame of index 12 of a video is "clip.mp4#12".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInputError

MAX_BYTES = 512 << 20
"""Largest file of boxes that is read; COCO val2017 with all detections has 20 MB."""

PERSON = 1
"""COCO's category of people."""

Row = tuple[float, float, float, float, float]
"""A person: corners x1, y1, x2, y2 in pixels, and a score in 0..1."""


class BoxFile:
    """A file of boxes, read and checked. Raises BadInputError, naming file and entry, for what it cannot mean."""

    def __init__(self, path: Path | str) -> None:
        self.path = path = Path(path)
        try:
            self._rows = _rows(_read(path))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            known = isinstance(error, (KeyError, ValueError, OverflowError))
            reason = f"no {error}" if isinstance(error, KeyError) else error if known else "it has another form"
            raise BadInputError(
                f'The boxes in {path} cannot be read ({reason}): write {{"photo.jpg": [[x1, y1, x2, y2], ...]}}.'
            ) from error
        self._asked: set[str] = set()

    def of(self, image: str) -> list[Row] | None:
        """The people of an image, by its path or address; None where the file does not speak of it."""
        name = next((name for name in (_place(image), Path(image).name) if name in self._rows), None)
        if name is None:
            return None
        self._asked.add(name)
        return self._rows[name]

    def check_matches(self, images: Sequence[str]) -> None:
        """Raise BadInputError when the file speaks of none of `images`: it belongs to others."""
        spoken_of = {name.rpartition("#")[0] for name in self._rows}
        names = [{_place(image), Path(image).name} for image in images]
        if images and all(not name & (spoken_of | self._rows.keys()) for name in names):
            example = f"'{next(iter(self._rows))}'" if self._rows else "nothing"
            raise BadInputError(
                f"{self.path} has no boxes for any of the images: it speaks of {example}, not of "
                f"'{Path(images[0]).name}'."
            )

    def frames_not_asked_for(self, videos: Sequence[str]) -> list[str]:
        """The frames of `videos`, as "clip.mp4#999", that the file speaks of and nobody has asked for."""
        names = {name for video in videos for name in (_place(video), Path(video).name)}
        return [name for name in self._rows if name.rpartition("#")[0] in names and name not in self._asked]


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of them; ValueError for a name that comes again, whose people would be those of the last place alone."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"'{name}' is there twice")
        found[name] = value
    return found


def _place(name: str) -> str:
    """A path in one spelling, an address as it is."""
    return name if "://" in name else str(Path(name))


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInputError(f"The boxes file {path} has more than {MAX_BYTES} bytes: split it.")
        return json.loads(path.read_bytes(), object_pairs_hook=_once)
    except FileNotFoundError:
        raise BadInputError(f"There is no boxes file {path}: check the path.") from None
    except OSError as error:
        raise BadInputError(f"Cannot read the boxes file {path}: {error.strerror}.") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _rows(document: Any) -> dict[str, list[Row]]:
    if isinstance(document, list):
        listed = dict.fromkeys(entry["file_name"] for entry in document)
        names = {name: _place(str(name)) for name in listed}
        return _of_coco(document, names, "file_name")
    if isinstance(document, dict) and {"images", "annotations"} <= document.keys():
        names = {}
        for image in document["images"]:
            name = _place(str(image["file_name"]))
            first = names.setdefault(image["id"], name)
            if first != name:
                raise ValueError(f"the image id {image['id']} is that of '{first}' and of '{name}'")
        return _of_coco(document["annotations"], names, "image_id")
    if not isinstance(document, dict):
        raise ValueError("it holds neither an object nor a list")
    return _once(
        (_place(name), [_corners(values, f"'{name}'") for values in boxes]) for name, boxes in document.items()
    )


def _of_coco(entries: list[dict[str, Any]], names: Mapping[Any, str], key: str) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {name: [] for name in names.values()}
    for index, entry in enumerate(entries):
        if entry.get("category_id", PERSON) == PERSON and not entry.get("iscrowd"):
            box = _numbers(entry["bbox"], f"entry {index}")
            if len(box) != 4:
                raise ValueError(f"the bbox of entry {index} has {len(box)} numbers instead of 4")
            x, y, width, height = box
            (score,) = _numbers([entry.get("score", 1.0)], f"entry {index}")
            rows[names[entry[key]]].append((x, y, x + width, y + height, _score(score, f"entry {index}")))
    return rows


def _corners(values: Any, where: str) -> Row:
    numbers = _numbers(values, where)
    if len(numbers) not in (4, 5):
        raise ValueError(f"a box of {where} has {len(numbers)} numbers instead of 4, or 5 with a score")
    x1, y1, x2, y2, score = (*numbers, 1.0)[:5]
    return x1, y1, x2, y2, _score(score, where)


def _score(score: float, where: str) -> float:
    if not 0 <= score <= 1:
        raise ValueError(f"the score {score:g} of {where} is not in 0..1")
    return score


def _numbers(values: Any, where: str) -> list[float]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"a box of {where} is not a list of numbers")
    numbers = [float(value) for value in values]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"a box of {where} holds a value that is not finite")
    return numbers

"""The poses of a run as one JSON document, written whole or not at all.

`{"format": "rtmw-edge poses", "version": 1, "model": {...}, "keypoint_names": [133], "images": [{"file", "width",
"height", "people": [{"box": [x1, y1, x2, y2], "box_score", "score", "keypoints": [[x, y, score] x 133]}]}], "failed":
[{"file", "reason"}]}`. Coordinates are image pixels; scores are in 0..1; 3D variants add "z", 133 depths in metres
relative to the middle of the hips. "score" of a person is the mean of its keypoints' scores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInputError
from ..files import atomic_write
from ..keypoints import NAMES
from .engine import Model
from .images import ImageFailure, ImageResult

FORMAT = "rtmw-edge poses"
VERSION = 1
HEAD = f'{{"format": "{FORMAT}"'


def check_writable(path: Path) -> None:
    """Raise BadInputError when `path` holds something that `write_document` did not write."""
    if path.is_dir():
        raise BadInputError(f"Cannot write the poses to '{path}': it is a folder. Name a file.")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(HEAD)) != HEAD.encode():
                raise BadInputError(
                    f"Refusing to overwrite '{path}': it holds no poses of this tool. Choose another --json."
                )


def write_document(
    path: Path, model: Model, runtime: str, people: Sequence[dict[str, Any]], failures: Sequence[ImageFailure]
) -> None:
    """Write the document to `path`; `people` are `image_entry`s. Raises BadInputError when the disk is full."""
    check_writable(path)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "model": {
            "variant": model.variant,
            "target": model.target,
            "precision": model.precision,
            "runtime": runtime,
        },
        "keypoint_names": list(NAMES),
        "images": list(people),
        "failed": [{"file": str(failure.path), "reason": failure.reason} for failure in failures],
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(document, allow_nan=False) + "\n", encoding="utf-8")


def image_entry(result: ImageResult) -> dict[str, Any]:
    """One image of the document; the picture itself is not kept."""
    height, width = result.image.shape[:2]
    people = []
    for index in range(len(result.poses)):
        points = result.poses.keypoints[index]
        scores = result.confidence[index]
        person = {
            "box": _rounded(result.poses.boxes[index], 2),
            "box_score": _rounded(result.poses.box_scores[index], 4),
            "score": _rounded(scores.mean(), 4),
            "keypoints": [
                [*xy, score] for xy, score in zip(_rounded(points[:, :2], 2), _rounded(scores, 4), strict=True)
            ],
        }
        if points.shape[1] == 3:
            person["z"] = _rounded(points[:, 2], 4)
        people.append(person)
    return {"file": str(result.path), "width": width, "height": height, "people": people}


def _rounded(values: Any, digits: int) -> Any:
    return np.round(np.asarray(values, np.float64), digits).tolist()

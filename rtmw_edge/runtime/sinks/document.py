"""The poses of a run as one JSON document, written whole or not at all.

`{"format": "rtmw-edge poses", "version": 1, "model": {...}, "keypoint_names": [133], "images": [{"file", "width",
"height", "people": [{"box": [x1, y1, x2, y2], "box_score", "score", "keypoints": [[x, y, score] x 133]}]}], "failed":
[{"file", "reason"}]}`. Coordinates are image pixels; scores are in 0..1. Frames of videos add "frame" and "time_s" to
the image, "id" to the person; 3D variants add "z", 133 depths in metres relative to the middle of the hips, and
"metres", 133 times X, Y, Z in the camera's frame. "score" of a person is the mean of its keypoints' scores.
"""

from __future__ import annotations

import json
from pathlib import Path

from ...keypoints import NAMES
from ..engine import Model
from ..frames import Annotated, Failure
from .entries import depth_entry, frame_entry, model_entry, person_entry, triples
from .files import GrowingFile

FORMAT = "rtmw-edge poses"
VERSION = 1
HEAD = f'{{"format": "{FORMAT}"'


class Document:
    """A `.json` file of all poses; entry by entry, so that a long run needs no more memory than a short one."""

    def __init__(self, path: Path, model: Model, runtime: str) -> None:
        self._file = GrowingFile(path, "poses", lambda head: head.startswith(HEAD.encode()))
        about = {"version": VERSION, "model": model_entry(model, runtime), "keypoint_names": list(NAMES)}
        self._head = f'{HEAD}, {json.dumps(about)[1:-1]}, "images": ['
        self._failed: list[dict[str, str]] = []

    def write(self, annotated: Annotated) -> None:
        result = annotated.result
        people = [
            {**person_entry(result, k), "keypoints": triples(result, k), **depth_entry(result, k)}
            for k in range(len(result.poses))
        ]
        start = self._head if self._file.empty else ", "
        self._file.append(start + json.dumps(frame_entry(result) | {"people": people}, allow_nan=False))

    def fail(self, failure: Failure) -> None:
        self._failed.append({"file": failure.name, "reason": failure.reason})

    def close(self) -> list[str]:
        if self._file.empty and not self._failed:
            return []
        start = self._head if self._file.empty else ""
        self._file.append(f'{start}], "failed": {json.dumps(self._failed)}}}\n')
        self._file.finish()
        return [f"poses: {self._file.path}"]

    def discard(self) -> None:
        self._file.discard()

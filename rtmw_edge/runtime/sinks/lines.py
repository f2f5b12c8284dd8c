"""JSON lines: one frame a line under COCO-WholeBody's names, for pipes and for runs that never end.

The first line is `{"format": "rtmw-edge pose lines", "version": 1, "model": {...}}`. Every other is a frame: `{"file",
"frame", "time_s", "width", "height", "people": [{"id", "box", "box_score", "score", "keypoints": [17 x (x, y, score)],
"foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"}]}`, or a source that failed, `{"file", "failed"}`. Images
have no "frame", "time_s" and "id"; 3D variants add "z" and "metres" to a person.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

from ..engine import Model
from ..frames import Annotated, Failure
from .entries import coco_fields, depth_entry, frame_entry, model_entry, person_entry
from .files import GrowingFile

FORMAT = "rtmw-edge pose lines"
VERSION = 1
HEAD = f'{{"format": "{FORMAT}"'


class JsonLines:
    """A `.jsonl` file, or a stream, which gets each line at once."""

    def __init__(self, target: Path | BinaryIO, model: Model, runtime: str) -> None:
        self._file: GrowingFile | None = None
        self._stream: BinaryIO | None = None
        if isinstance(target, Path):
            self._file = GrowingFile(target, "pose lines", lambda head: head.startswith(HEAD.encode()))
        else:
            self._stream = target
        self._head: str | None = f"{HEAD}, {json.dumps({'version': VERSION, 'model': model_entry(model, runtime)})[1:]}"

    def write(self, annotated: Annotated) -> None:
        result = annotated.result
        people = [
            {**person_entry(result, k), **coco_fields(result, k), **depth_entry(result, k)}
            for k in range(len(result.poses))
        ]
        self._line(json.dumps(frame_entry(result) | {"people": people}, allow_nan=False))

    def fail(self, failure: Failure) -> None:
        self._line(json.dumps({"file": failure.name, "failed": failure.reason}))

    def close(self) -> list[str]:
        if self._file is None or self._file.empty:
            return []
        self._file.finish()
        return [f"poses: {self._file.path}"]

    def discard(self) -> None:
        if self._file is not None:
            self._file.discard()

    def _line(self, text: str) -> None:
        data = "".join(f"{line}\n" for line in (self._head, text) if line).encode()
        self._head = None
        if self._file is not None:
            self._file.append(data)
        elif self._stream is not None:
            self._stream.write(data)
            self._stream.flush()

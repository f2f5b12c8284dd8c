"""COCO-WholeBody results, as its evaluation reads them: one list of people with raw scores."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from ..frames import Annotated, Failure, Source
from .files import GrowingFile

OURS = re.compile(rb'\[(\]|\{"image_id": \d+, "category_id": 1, "keypoints": \[)')


class CocoResults:
    """A `.coco.json` file. Image ids are the numbers that the images' names are (000000000139.jpg is 139).

    Where not every source is an image with a number of its own for a name, frames are counted from 1. Scores are the
    network's own, as the official evaluation of RTMW has them, not the calibrated ones.
    """

    def __init__(self, path: Path, sources: Sequence[Source]) -> None:
        self._file = GrowingFile(path, "COCO results", lambda head: bool(OURS.match(head)))
        pictures = [source.origin for source in sources if not source.origin.moving]
        self._pictures = {picture.name for picture in pictures}
        stems = [picture.stem for picture in pictures]
        numbered = len(stems) == len(sources) and all(stem.isdecimal() for stem in stems)
        self._numbered = numbered and len({int(stem) for stem in stems}) == len(stems)
        self._frames = 0

    def write(self, annotated: Annotated) -> None:
        result = annotated.result
        self._frames += 1
        number = int(result.frame.origin.stem) if self._numbered else self._frames
        for person in result.poses.to_coco(number):
            self._file.append(("[" if self._file.empty else ",\n") + json.dumps(person))

    def fail(self, failure: Failure) -> None:
        """The format has no place for failures; a picture that cannot be read keeps its number."""
        self._frames += failure.name in self._pictures

    def close(self) -> list[str]:
        if not self._frames:
            return []
        self._file.append("[]\n" if self._file.empty else "]\n")
        self._file.finish()
        return [f"COCO results: {self._file.path}"]

    def discard(self) -> None:
        self._file.discard()

"""A table of poses: one row a person and frame, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ...keypoints import NAMES
from ..frames import Annotated, Failure
from .entries import METRE_DIGITS, person_entry, rounded, triples
from .files import GrowingFile

COLUMNS = ("file", "frame", "time_s", "id", "x1", "y1", "x2", "y2", "box_score", "score")


class Table:
    """A `.csv` file: COLUMNS, then NAME_x, NAME_y and NAME_score of all 133 keypoints, in pixels and 0..1.

    3D variants add NAME_X, NAME_Y and NAME_Z in metres. Images have an empty time and id.
    """

    def __init__(self, path: Path, *, metres: bool) -> None:
        self._file = GrowingFile(path, "table of poses", lambda head: head.startswith(",".join(COLUMNS).encode()))
        self._metres = metres

    def write(self, annotated: Annotated) -> None:
        result = annotated.result
        frame, rows = result.frame, []
        if self._file.empty:
            pixels = (f"{name}_{axis}" for name in NAMES for axis in ("x", "y", "score"))
            metres = (f"{name}_{axis}" for name in NAMES for axis in "XYZ") if self._metres else ()
            rows.append([*COLUMNS, *pixels, *metres])
        for person in range(len(result.poses)):
            about = person_entry(result, person)
            row = [frame.origin.name, frame.index, f"{frame.time_s:.4f}" if frame.origin.moving else ""]
            row += [about.get("id", ""), *about["box"], about["box_score"], about["score"]]
            row += [value for triple in triples(result, person) for value in triple]
            if result.metres is not None:
                row += rounded(result.metres[person].ravel(), METRE_DIGITS)
            rows.append(row)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.append(text.getvalue())

    def fail(self, failure: Failure) -> None:
        """The table has no place for failures."""

    def close(self) -> list[str]:
        if self._file.empty:
            return []
        self._file.finish()
        return [f"table: {self._file.path}"]

    def discard(self) -> None:
        self._file.discard()

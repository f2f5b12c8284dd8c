"""What a study found of one network after the other, kept line by line in a file, so that nothing is measured twice."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ...files import atomic_write, reported_disk_errors
from .proxy import Distances


class Way(str, Enum):
    """What a network has in int8: nothing, everything, one unit alone, all but one unit, or all but a chosen few."""

    FLOAT = "float"
    INT8 = "int8"
    ALONE = "alone"
    ALL_BUT = "all-but"
    MIXED = "mixed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Finding:
    """One network's figures by part.

    `unit` is the convolution or block that it is about, "" for `FLOAT` and `INT8`, all names with blanks between for
    `MIXED`. `ap` is in points (0..100), {} where only the proxy was measured.
    """

    way: Way
    unit: str
    distances: dict[str, Distances]
    ap: dict[str, float]


class FindingFile:
    """Findings as JSON lines, each with the key of what it was measured on; lines of another key are let be.

    A line is on the disk before `add` returns. A line that was cut off by a crash is dropped when the file is opened.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self.found: dict[tuple[Way, str], Finding] = {}
        whole: list[str] = []
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.splitlines():
            try:
                document = json.loads(line)
                if document["key"] == key:
                    finding = _from_json(document)
                    self.found[finding.way, finding.unit] = finding
            except (KeyError, TypeError, ValueError):
                continue
            whole.append(f"{line}\n")
        if text != "".join(whole):
            with atomic_write(path) as temporary:
                temporary.write_text("".join(whole), encoding="utf-8")

    def add(self, finding: Finding) -> None:
        """Keep `finding`, in the file too."""
        self.found[finding.way, finding.unit] = finding
        line = json.dumps({"key": self._key, **asdict(finding)}) + "\n"
        with reported_disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _from_json(document: dict[str, Any]) -> Finding:
    distances = {
        part: Distances(tuple(figures["px"]), figures["flips"], figures["oks_loss"])
        for part, figures in document["distances"].items()
    }
    return Finding(Way(document["way"]), document["unit"], distances, document["ap"])

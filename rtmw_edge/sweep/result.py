"""What was measured of one cell (variant, target, precision), and how it is kept in a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..files import atomic_write

PART_ORDER = ("body", "foot", "face", "left_hand", "right_hand", "whole")


@dataclass(frozen=True)
class CellResult:
    """One row of the table.

    Attributes:
        megabytes: size of all files of the bundle's model, 10^6 bytes.
        ms_p50, ms_p90: milliseconds of one crop through the engine, batch 1.
        difference_px: per part, 95th percentile of the distance to the torch reference in crop pixels, over the
            keypoints that the reference is sure of.
        ap: per part, average precision in 0..1 on the validation set.
        convolutions: how many run in int8 and how many there are, as the runtime itself says.
        key: hash of everything that went in; the same key means the same accuracy.
    """

    variant: str
    target: str
    precision: str
    engine: str = ""
    megabytes: float = 0.0
    ms_p50: float = 0.0
    ms_p90: float = 0.0
    difference_px: dict[str, float] = field(default_factory=dict)
    ap: dict[str, float] = field(default_factory=dict)
    convolutions: dict[str, int] = field(default_factory=dict)
    bundle: str = ""
    key: str = ""
    failure: str = ""

    @property
    def label(self) -> str:
        return f"{self.target} {self.precision}"


def save_results(results: list[CellResult], environment: dict[str, Any], path: Path) -> None:
    """Write all rows and the environment as one JSON document."""
    document = {"environment": environment, "cells": [asdict(result) for result in results]}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load_results(path: Path) -> list[CellResult]:
    """Rows of an earlier run; none when there is no readable file."""
    try:
        return [CellResult(**cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []

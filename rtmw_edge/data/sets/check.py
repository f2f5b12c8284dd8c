"""What is missing or broken in a configuration's sets, found before hours of training are spent."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import BadInputError
from ..instances import read_annotated
from .config import SetConfig, open_set

THREADS = 16
"""Files are looked for by this many threads: on a network disk each look is a wait."""
EXAMPLES = 3


@dataclass(frozen=True)
class SetReport:
    """What was found in one set.

    Attributes:
        problem: why the set cannot be opened; None when it can.
        skipped: annotations left out, by reason; normal for crowds and people without keypoints.
        missing: how many image files are not there. broken: how many of the `decoded` cannot be read, or have another
            size than annotated.
        examples: the first few of those files, each with its problem.
    """

    name: str
    problem: str | None = None
    instances: int = 0
    images: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    missing: int = 0
    decoded: int = 0
    broken: int = 0
    examples: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Nothing is missing and nothing is broken."""
        return self.problem is None and not self.missing and not self.broken


def check_set(config: SetConfig, cache: Path | None, decode: int | None) -> SetReport:
    """Opens the set, looks for every image, and reads `decode` of those that are there, spread evenly (None: all)."""
    try:
        table = open_set(config, cache)
    except BadInputError as error:
        return SetReport(config.name, str(error))
    paths = [table.path(image) for image in range(table.images)]
    with ThreadPoolExecutor(THREADS) as pool:
        there = list(pool.map(_is_there, paths))
        missing = [path for path, found in zip(paths, there, strict=True) if not found]
        present = [image for image, found in enumerate(there) if found]
        count = len(present) if decode is None else min(decode, len(present))
        chosen = [present[i] for i in np.linspace(0, len(present) - 1, count).astype(int)] if count else []
        problems = pool.map(lambda image: _problem(paths[image], table.size(image)), chosen)
        broken = [problem for problem in problems if problem is not None]
    examples = [f"There is no image {path}." for path in missing[:EXAMPLES]] + broken[:EXAMPLES]
    return SetReport(
        config.name,
        instances=len(table),
        images=table.images,
        skipped=table.skipped,
        missing=len(missing),
        decoded=len(chosen),
        broken=len(broken),
        examples=tuple(examples),
    )


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _problem(path: Path, size: tuple[float, float] | None) -> str | None:
    try:
        read_annotated(path, size)
    except BadInputError as error:
        return str(error)
    return None

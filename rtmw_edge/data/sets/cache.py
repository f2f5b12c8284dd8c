"""Opened sets kept as .npy files: parsed once, mapped into memory by every process of a run.

The annotations of the large sets are hundreds of megabytes of JSON, which every rank would parse again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...files import reported_disk_errors, temporary_prefix
from .table import AnnotatedSet

VERSION = 5
"""Changes whenever a reader would give another table for the same files."""
FACTS = "set.json"
"""What is not an array; a folder that has it is complete."""
ARRAYS = ("paths", "ends", "sizes", "image", "boxes", "target", "points", "visible", "metres", "cameras")


def cached(
    folder: Path | None, name: str, made_of: Sequence[Any], files: Sequence[Path], read: Callable[[], AnnotatedSet]
) -> AnnotatedSet:
    """What `read` gives, kept in `folder` by `name` and by what it is made of: the files' sizes and dates as well.

    Without a folder, or without one of the files, nothing is kept. Raises what `read` raises, and BadInputError when
    the folder cannot be written.
    """
    if folder is None or not all(path.is_file() for path in files):
        return read()
    place = folder / f"{name}-{_key(made_of, files)}"
    if not (place / FACTS).is_file():
        _write(read(), place)
    try:
        return _load(place)
    except (OSError, EOFError, ValueError, LookupError, TypeError):  # cut off or lost: as if it had not been kept
        shutil.rmtree(place, ignore_errors=True)
        _write(read(), place)
        return _load(place)


def _key(made_of: Sequence[Any], files: Sequence[Path]) -> str:
    facts = [VERSION, *made_of]
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([facts, stats], default=str).encode()).hexdigest()[:16]


def _write(table: AnnotatedSet, place: Path) -> None:
    """Written beside and renamed, so that ranks that do the same at the same time find a complete folder or none."""
    with reported_disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=temporary_prefix(place), dir=place.parent))
        try:
            arrays = {name: array for name in ARRAYS if (array := getattr(table, name)) is not None}
            for name, array in arrays.items():
                np.save(stage / f"{name}.npy", array)
            facts = {"name": table.name, "whole": table.whole, "folder": str(table.folder), "arrays": list(arrays)}
            (stage / FACTS).write_text(json.dumps({**facts, "skipped": dict(table.skipped)}, indent=1) + "\n")
            os.chmod(stage, 0o755)
            if not (place / FACTS).is_file():
                shutil.rmtree(place, ignore_errors=True)
            try:
                os.rename(stage, place)
            except OSError:
                if not (place / FACTS).is_file():
                    raise
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _load(place: Path) -> AnnotatedSet:
    facts = json.loads((place / FACTS).read_text())
    arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in facts["arrays"]}
    return AnnotatedSet(
        **{**dict.fromkeys(ARRAYS), **arrays},
        name=facts["name"],
        whole=facts["whole"],
        folder=Path(facts["folder"]),
        skipped=facts["skipped"],
    )

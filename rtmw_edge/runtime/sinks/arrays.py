"""Poses as numpy arrays in one file, one row a person and frame."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ...errors import BadInputError
from ...files import atomic_write, check_writable, reported_disk_errors
from ...keypoints import NAMES
from ..frames import Annotated, Failure

MARK = "rtmw_edge_poses"
"""The member that tells a file of ours; it holds the version."""
VERSION = 1


class Arrays:
    """A `.npz` file: file (M,), frame (M,), time_s (M,), id (M,), boxes (M,4), box_scores (M,), keypoints (M,133,2) in
    pixels, scores (M,133) in 0..1, and of 3D variants z (M,133) and metres (M,133,3) in the camera's frame.

    `id` is 0 for images. `file` indexes `files`, and `keypoint_names` are the 133 names. Arrays grow on the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        _check(path)
        self._rows = 0
        self._files: dict[str, int] = {}
        self._spools: dict[str, tuple[NDArray, IO[bytes]]] = {}

    def write(self, annotated: Annotated) -> None:
        result = annotated.result
        frame, poses, people = result.frame, result.poses, len(result.poses)
        number = self._files.setdefault(frame.origin.name, len(self._files))
        columns: dict[str, NDArray] = {
            "file": np.full(people, number, np.int64),
            "frame": np.full(people, frame.index, np.int64),
            "time_s": np.full(people, frame.time_s, np.float64),
            "id": np.array(result.ids or np.zeros(people), np.int64),
            "boxes": poses.boxes,
            "box_scores": poses.box_scores,
            "keypoints": poses.keypoints[..., :2],
            "scores": result.confidence,
        }
        if result.metres is not None:
            columns |= {"z": poses.keypoints[..., 2], "metres": result.metres}
        self._rows += people
        with reported_disk_errors(self._path):
            for name, values in columns.items():
                if name not in self._spools:
                    # Beside the file: a board's /tmp is often its memory.
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    spool = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115
                    self._spools[name] = (values[:0].copy(), spool)
                self._spools[name][1].write(np.ascontiguousarray(values).tobytes())

    def fail(self, failure: Failure) -> None:
        """The arrays have no place for failures."""

    def close(self) -> list[str]:
        if not self._spools:
            return []
        small = {MARK: np.array(VERSION), "files": np.array(list(self._files)), "keypoint_names": np.array(NAMES)}
        with atomic_write(self._path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in small.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            for name, (example, spool) in self._spools.items():
                header = np.lib.format.header_data_from_array_1_0(example)
                header["shape"] = (self._rows, *example.shape[1:])
                spool.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_2_0(member, header)
                    shutil.copyfileobj(spool, member, 1 << 20)
        self.discard()
        return [f"arrays: {self._path}"]

    def discard(self) -> None:
        for _, spool in self._spools.values():
            with suppress(OSError):  # what is still to be written to a full disk is not wanted any more
                spool.close()
        self._spools = {}


def _check(path: Path) -> None:
    """Raise BadInputError when something is at `path` that is no file of ours."""
    check_writable(path)
    if path.exists():
        try:
            with zipfile.ZipFile(path) as archive:
                ours = f"{MARK}.npy" in archive.namelist()
        except (zipfile.BadZipFile, OSError):
            ours = False
        if not ours:
            raise BadInputError(
                f"Refusing to overwrite '{path}': it holds no arrays of this tool. Choose another name."
            )

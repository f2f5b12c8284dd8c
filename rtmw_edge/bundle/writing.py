"""Write a bundle, whole or not at all: the model files, the golden vectors, and the manifest with their hashes."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rtmw_edge
from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.files import (
    CHUNK_BYTES,
    atomic_write,
    check_renamable,
    reported_disk_errors,
    sha256_of,
    staged_directory,
)

from . import archive, golden
from .errors import BundleError
from .gate_report import GateReport
from .manifest import FORMAT, GOLDEN_ROLE, MANIFEST_NAME, VERSION, FileEntry, Manifest, Tolerance, signed
from .reading import archived_manifest, listed, read, read_manifest

GOLDEN_NAME = "golden.npz"

TOLERANCES = {
    "fp32": Tolerance(relative_rms=0.002, keypoint_px_p99=0.5),
    "fp16": Tolerance(relative_rms=0.01, keypoint_px_p99=0.5),
    "w8": Tolerance(relative_rms=0.01, keypoint_px_p99=0.5),
    "w8a16": Tolerance(relative_rms=0.02, keypoint_px_p99=1.0),
    "int8": Tolerance(relative_rms=0.06, keypoint_px_p99=2.0),
    "int8-mixed": Tolerance(relative_rms=0.06, keypoint_px_p99=2.0),
}
"""How far a machine may be from the golden outputs, by precision, unless the exporter measured that more is right. Int8
rounding avalanches: the same network with its sums in another order differs by 0.01 (RTMW-m) to 0.03 (the small ones).
"""


def write(
    out: Path,
    fields: Mapping[str, Any],
    files: Mapping[str, Path],
    golden_crops: NDArray[np.uint8],
    golden_logits: Sequence[NDArray],
) -> Path:
    """Write a bundle to `out`, a directory or, when `out` ends in .zip, an archive; returns `out`.

    `fields` are the manifest's fields as JSON values, but for `files`, `created_by` and `gates`. `files` maps each role
    of the target to the file to copy in; its name is kept. `golden_crops` (N,H,W,3) uint8 BGR and `golden_logits` per
    axis (N,133,bins) are what the reference network gives.

    A bundle that lies at `out` is replaced. Raises BadInputError when something else lies there, when the disk is full,
    and BundleError when `fields` do not make a manifest that `read` would take.
    """
    out = Path(out)
    check_replaceable(out)
    answers = golden.make(golden_crops, golden_logits)
    if out.suffix == ".zip":
        with reported_disk_errors(out), tempfile.TemporaryDirectory() as name, atomic_write(out) as temporary:
            _fill(Path(name), fields, files, answers)
            _pack(Path(name), temporary)
    else:
        with staged_directory(out, MANIFEST_NAME) as stage:
            _fill(stage, fields, files, answers)
    return out


def record_gates(path: Path, gates: GateReport, measured: Manifest) -> None:
    """Write what a gate said of the bundle at `path` (a directory or a .zip) into its manifest; nothing else changes.

    `measured` is the manifest of the bundle that the gate was applied to. Raises VerificationError when another one
    lies there now, BundleError for what is no good bundle, BadInputError when the disk is full.
    """
    path = Path(path)
    with read(path) as opened:
        if replace(opened.manifest, gates=None) != replace(measured, gates=None):
            raise VerificationError(
                f"The verdict of the gate '{gates.gate}' was not written into '{path}': another export replaced the "
                "bundle while the gate ran; run rtmw-edge validate on what lies there now."
            )
        text = replace(opened.manifest, gates=gates).to_json()
        Manifest.from_json(text, str(path))
        if path.is_dir():
            with atomic_write(path / MANIFEST_NAME) as temporary:
                temporary.write_bytes(text)
        else:
            (opened.root / MANIFEST_NAME).write_bytes(text)
            with atomic_write(path) as temporary:
                _pack(opened.root, temporary)


def check_replaceable(out: Path) -> None:
    """Raise BadInputError where `write` can make no bundle, or would replace anything but one of ours."""
    if out.is_symlink():
        raise BadInputError(f"Refusing to overwrite '{out}': it is a link; name what it points to, or another --out.")
    if out.suffix == ".zip" and out.is_dir():
        raise BadInputError(f"Cannot write the archive '{out}': it is a folder. Choose another --out.")
    check_renamable(out)
    if out.exists() and not _is_ours(out):
        raise BadInputError(
            f"Refusing to overwrite '{out}': it is not empty and holds more than a bundle. Choose another --out."
        )


def _is_ours(out: Path) -> bool:
    """Whether nothing lies at `out` but a bundle; an empty folder is as good."""
    try:
        if out.is_dir():
            return not any(out.iterdir()) or listed(out).keys() <= {entry.path for entry in read_manifest(out).files}
        if out.suffix != ".zip" or not out.is_file():
            return False
        with archive.opened(out) as stored:
            manifest = Manifest.from_json(archived_manifest(stored, out), str(out))
            return {*stored.namelist()} <= {MANIFEST_NAME, *(entry.path for entry in manifest.files)}
    except BundleError:
        return False


def _fill(stage: Path, fields: Mapping[str, Any], files: Mapping[str, Path], answers: golden.Golden) -> None:
    """Write every file of the bundle into the empty directory `stage`, the manifest last."""
    placed = {role: stage / Path(path).name for role, path in files.items()}
    for role, path in files.items():
        shutil.copyfile(path, placed[role])
    placed[GOLDEN_ROLE] = stage / GOLDEN_NAME
    golden.save(answers, placed[GOLDEN_ROLE], list(fields["outputs"]))
    data = {
        "format": FORMAT,
        "version": VERSION,
        "created_by": f"rtmw-edge {rtmw_edge.__version__}",
        **fields,
        "files": [asdict(_entry(role, path)) for role, path in placed.items()],
        "gates": None,
    }
    (stage / MANIFEST_NAME).write_bytes(Manifest.from_json(signed(data), "the new bundle").to_json())


def _entry(role: str, path: Path) -> FileEntry:
    return FileEntry(role=role, path=path.name, size=path.stat().st_size, sha256=sha256_of(path))


def _pack(stage: Path, out: Path) -> None:
    """Zip the files of `stage` in the order of their names and without their dates: the same files, the same bytes."""
    with zipfile.ZipFile(out, "w") as packed:
        for path in sorted(stage.iterdir()):
            member = zipfile.ZipInfo(path.name)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o100644 << 16
            member.file_size = path.stat().st_size
            with path.open("rb") as source, packed.open(member, "w") as target:
                shutil.copyfileobj(source, target, CHUNK_BYTES)

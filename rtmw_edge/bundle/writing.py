"""Write a bundle, whole or not at all: the model files, the golden vectors, and the manifest with their hashes."""

from __future__ import annotations

import json
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
from .manifest import FORMAT, GOLDEN_ROLE, MANIFEST_NAME, VERSION, FileEntry, Manifest, Tolerance
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

    `fields` are the manifest's fields as JSON values, without `files`, `created_by` and, unless another than the usual
    one is wanted, `tolerance`. `files` maps each role of the target to the file to copy in; its name is kept.
    `golden_crops` (N,H,W,3) uint8 BGR and `golden_logits` per axis (N,133,bins) are what the reference network gives.

    A bundle that lies at `out` is replaced. Raises BadInputError when something else lies there, when the disk is full,
    and BundleError when `fields` do not make a manifest that `read` would take.
    """
    out = Path(out)
    check_replaceable(out)
    if out.suffix == ".zip":
        with reported_disk_errors(out), tempfile.TemporaryDirectory() as name, atomic_write(out) as temporary:
            _fill(Path(name), fields, files, golden_crops, golden_logits)
            _pack(Path(name), temporary)
    else:
        with staged_directory(out, MANIFEST_NAME) as stage:
            _fill(stage, fields, files, golden_crops, golden_logits)
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
    if out.is_dir() and any(out.iterdir()):
        try:
            manifest = read_manifest(out)
            ours = listed(out).keys() <= {entry.path for entry in manifest.files}
        except BundleError:
            ours = False
    elif out.is_file() and out.suffix == ".zip":
        try:
            with archive.opened(out) as stored:
                manifest = Manifest.from_json(archived_manifest(stored, out), str(out))
                ours = {*stored.namelist()} <= {MANIFEST_NAME, *(entry.path for entry in manifest.files)}
        except BundleError:
            ours = False
    else:
        ours = out.is_dir() or not out.exists()
    if not ours:
        raise BadInputError(
            f"Refusing to overwrite '{out}': it is not empty and holds more than a bundle. Choose another --out."
        )


def _fill(
    stage: Path,
    fields: Mapping[str, Any],
    files: Mapping[str, Path],
    golden_crops: NDArray[np.uint8],
    golden_logits: Sequence[NDArray],
) -> None:
    """Write every file of the bundle into the empty directory `stage`, the manifest last."""
    placed = {role: stage / Path(path).name for role, path in files.items()}
    for role, path in files.items():
        shutil.copyfile(path, placed[role])
    placed[GOLDEN_ROLE] = stage / GOLDEN_NAME
    golden.save(golden.make(golden_crops, golden_logits), placed[GOLDEN_ROLE], list(fields["outputs"]))
    entries = [asdict(_entry(role, path)) for role, path in placed.items()]
    usual = asdict(TOLERANCES[fields["precision"]]) if fields.get("precision") in TOLERANCES else None
    data = {
        "format": FORMAT,
        "version": VERSION,
        "tolerance": usual,
        "created_by": f"rtmw-edge {rtmw_edge.__version__}",
        **fields,
        "files": entries,
    }
    text = (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()
    (stage / MANIFEST_NAME).write_bytes(Manifest.from_json(text, "the new bundle").to_json())


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

"""What travels to a board: files that are named by their own sha256, fetched once in chunks and checked before use."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import MANIFEST_NAME
from ..bundle.reading import listed
from ..errors import BadInputError
from ..files import atomic_write, reported_disk_errors, sha256_of

CHUNK_BYTES = 4 << 20
"""A board with little memory holds so much of a parcel at a time."""

NAME = re.compile(r"[0-9a-f]{64}")

Source = Callable[[str, int], bytes]
"""The bytes of a parcel from an offset on, at most CHUNK_BYTES of them; none at its end."""


def fetch(sha256: str, cache: Path, source: Source) -> Path:
    """The parcel in `cache`, from `source` unless it is there already; its bytes are what its name says.

    Raises BadInputError when `source` sends something else, which is not kept.
    """
    path = cache / _checked(sha256)
    if path.is_file() and sha256_of(path) == sha256:
        return path
    with atomic_write(path) as temporary:
        digest = hashlib.sha256()
        with temporary.open("wb") as file:
            while chunk := source(sha256, file.tell()):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise BadInputError(
                f"What came as the parcel {sha256[:12]} has the sha256 {digest.hexdigest()[:12]}, was damaged or "
                "changed on its way, and was not opened; run the sweep again with --retry."
            )
    return path


def chunk_of(folder: Path, sha256: str, offset: int) -> bytes:
    """A `Source` of the parcels that lie in `folder`."""
    with (folder / _checked(sha256)).open("rb") as file:
        file.seek(offset)
        return file.read(CHUNK_BYTES)


def pack_bundle(bundle: Path, folder: Path) -> str:
    """Put the bundle directory into `folder` as one .zip, always the same bytes for the same files; its sha256."""

    def write(to: Path) -> None:
        with zipfile.ZipFile(to, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted((MANIFEST_NAME, *listed(bundle))):
                archive.writestr(zipfile.ZipInfo(name), (bundle / name).read_bytes())

    return _pack(write, folder)


def pack_crops(crops: NDArray[np.uint8], folder: Path) -> str:
    """Put crops (N,H,W,3) into `folder`; their sha256."""

    def write(to: Path) -> None:
        with to.open("wb") as file:
            np.save(file, crops, allow_pickle=False)

    return _pack(write, folder)


def _pack(write: Callable[[Path], None], folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".packing-") as place:
        path = Path(place) / "parcel"
        with reported_disk_errors(folder):
            write(path)
        sha256 = sha256_of(path)
        os.replace(path, folder / sha256)
    return sha256


def _checked(sha256: str) -> str:
    """A name that cannot lead out of a folder."""
    if not NAME.fullmatch(sha256):
        raise BadInputError(f"'{sha256[:80]}' is no sha256; a parcel is named by one.")
    return sha256

"""A bundle as one .zip: every bound is checked on the archive's index before a byte of it is unpacked."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rtmw_edge.files import BROKEN_ZIP

from . import limits
from .errors import BundleError, Reason, shown
from .strict_json import is_name

INDEX_END = struct.Struct("<4s4H2LH")
"""The zip format's end-of-central-directory record (PKWARE APPNOTE 4.3.16)."""

ZIP64_LOCATOR_BYTES = 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1


def is_archive(path: Path) -> bool:
    """Whether the file at `path` begins as a .zip does."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive at `path`, its index checked: plain names, bounded count and sizes, plain methods, nothing twice.

    Raises BundleError for anything else, and for what the zip reader finds wrong while members are read.
    """
    try:
        with path.open("rb") as file:
            _check_index_size(file, path)
            with zipfile.ZipFile(file) as archive:
                _check_members(archive.infolist(), path)
                yield archive
    except (*BROKEN_ZIP, ValueError, struct.error) as error:
        raise BundleError(
            Reason.BAD_ARCHIVE, f"{path} is a damaged .zip ({shown(str(error))}); copy or export it again."
        ) from error


def content(stored: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of the member `name`: no more than the index says, for ZipFile.read unpacks first and cuts then."""
    with stored.open(name) as member:
        return member.read(stored.getinfo(name).file_size)


def _check_index_size(file: BinaryIO, path: Path) -> None:
    """Bound the central directory, which zipfile reads whole, by looking at the fixed-size record at the end."""
    size = file.seek(0, 2)
    tail_bytes = INDEX_END.size + ZIP64_LOCATOR_BYTES
    if size < tail_bytes:
        raise zipfile.BadZipFile("too short")
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    signature, _, _, _, entries, index_bytes, _, comment_bytes = INDEX_END.unpack(tail[ZIP64_LOCATOR_BYTES:])
    if signature != b"PK\x05\x06" or comment_bytes:
        raise zipfile.BadZipFile("no index at its end")
    too_large = tail.startswith(b"PK\x06\x07") or entries > limits.MAX_FILES + 1
    if too_large or index_bytes > limits.MAX_ARCHIVE_INDEX_BYTES:
        raise BundleError(
            Reason.TOO_LARGE,
            f"{path} lists more than the {limits.MAX_FILES + 1} files that a bundle may have; nothing was unpacked.",
        )


def _check_members(members: list[zipfile.ZipInfo], path: Path) -> None:
    names = [member.filename for member in members]
    for member in members:
        if not is_name(member.filename):
            raise BundleError(
                Reason.BAD_NAME,
                f"{path} holds {shown(member.filename)}, but the files of a bundle have plain names and lie side by "
                "side; nothing was unpacked.",
            )
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise BundleError(
                Reason.NOT_A_FILE, f"{path} holds '{member.filename}' as a link or device; nothing was unpacked."
            )
        if member.compress_type not in METHODS or member.flag_bits & ENCRYPTED:
            raise BundleError(
                Reason.BAD_ARCHIVE,
                f"{path} holds '{member.filename}' encrypted or in an unusual compression; zip it again, plainly.",
            )
        free, ratio = limits.RATIO_FREE_BYTES, limits.MAX_ARCHIVE_RATIO
        if member.file_size > max(free, ratio * member.compress_size):
            raise BundleError(
                Reason.TOO_LARGE,
                f"{path} holds '{member.filename}', which would unpack {member.compress_size} bytes to "
                f"{member.file_size}; nothing was unpacked.",
            )
    if len(set(names)) != len(names):
        raise BundleError(Reason.BAD_ARCHIVE, f"{path} holds one file name twice; nothing was unpacked.")
    if sum(member.file_size for member in members) > limits.MAX_BUNDLE_BYTES:
        raise BundleError(
            Reason.TOO_LARGE,
            f"{path} would unpack to more than {limits.MAX_BUNDLE_BYTES} bytes, which is more than any RTMW needs; "
            "nothing was unpacked.",
        )

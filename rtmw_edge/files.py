"""Files written whole: to a temporary name beside the target, then renamed; never over what the tool did not write.

And what reading and writing them raises, turned into sentences.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BadInputError

MARKER = ".rtmw-edge"
"""Name of the marker file that tells a directory written by this tool from somebody else's."""


CACHE_VARIABLE = "RTMW_EDGE_CACHE"

BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
"""What readers raise of a zip that is damaged, encrypted, or of a kind that they do not know."""

CHUNK_BYTES = 1 << 20
"""What is read of a file at once."""

NOTHING_LEFT = 1 << 16
"""Bytes: a disk with less than this is full."""

LONGEST_NAME = 32
"""Characters of a name that are in its temporary one, which must be a name too; 255 bytes are the most."""

SWAPS = 20
"""How often another process may come between, before it counts as an error."""

FULL = (errno.ENOSPC, errno.EDQUOT)
UNUSABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EFBIG,
)  # fmt: skip
"""What the system says of a full disk, and of a place that cannot be read or written as it is."""


def cache_dir() -> Path:
    """The folder of fetched files, and of what a runtime builds for itself: $RTMW_EDGE_CACHE, or ~/.cache/rtmw-edge."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "rtmw-edge"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def reported_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a read-only place or a missing permission into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise BadInputError(
                f"The disk is full while writing {path}, which was not kept; free some space or choose another place."
            ) from error
        # The folder could not be made: /proc has no room for others. A file that is missing is another's trouble.
        no_folder = error.errno == errno.ENOENT and error.filename and _is_place(Path(error.filename), Path(path))
        if error.errno in UNUSABLE or no_folder:
            raise BadInputError(f"Cannot write {path}: {error.strerror}. Choose another place.") from error
        raise


def check_disk_not_full(path: Path) -> None:
    """Raise BadInputError where the disk that `path` was written to is full.

    For what others write: native code leaves files cut off there, with another error or with none.
    """
    with reported_disk_errors(path):
        disk = shutil.disk_usage(path.parent)
        if disk.total > 0 and disk.free < NOTHING_LEFT:  # some file systems tell neither
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def temporary_prefix(path: Path) -> str:
    """How the name begins under which something is written beside `path`, until it is whole."""
    return f".{path.name[:LONGEST_NAME]}."


def _is_place(missing: Path, path: Path) -> bool:
    """Whether `missing` is a folder of `path`, or the temporary name beside it that could not be made."""
    missing, path = missing.absolute(), path.absolute()
    return missing in path.parents or (
        missing.parent == path.parent and missing.name.startswith(temporary_prefix(path))
    )


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on any failure (Ctrl-C too).

    Raises BadInputError when the disk is full or the place cannot be written.
    """
    path = Path(path)
    with reported_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = path.suffix if len(path.suffix) <= LONGEST_NAME else ""
        handle, name = tempfile.mkstemp(prefix=temporary_prefix(path), suffix=suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def check_place(path: Path) -> None:
    """Raise BadInputError where nothing could be made, as below a file or where we may not write."""
    above = next((folder for folder in path.absolute().parents if folder.exists()), path)
    if not above.is_dir():
        raise BadInputError(f"Cannot write '{path}': {above} is a file, not a folder. Choose another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise BadInputError(f"Cannot write '{path}': nothing may be written to {above}. Choose another place.")
    try:
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:  # as in /proc, or on a disk that is read-only to everybody
        raise BadInputError(f"Cannot write '{path}' below {above}: {error.strerror}. Choose another place.") from None


def check_writable(path: Path, head: bytes = b"") -> None:
    """Raise BadInputError where no file could be written, before the work that it is for.

    With `head`, which all that a command writes begins with, also where something else lies.
    """
    if path.exists() and not path.is_file():
        what = "folder" if path.is_dir() else "device or a pipe"
        raise BadInputError(f"Cannot write '{path}': it is a {what}. Name a file.")
    check_place(path)
    if head and path.exists():
        with reported_disk_errors(path), path.open("rb") as file:
            if file.read(len(head)) != head:
                raise BadInputError(f"Refusing to overwrite '{path}': this command did not write it; name another.")


@contextmanager
def staged_directory(out: Path, marker: str = MARKER) -> Iterator[Path]:
    """Yield an empty directory beside `out`; swap it into place on success, remove it on any failure.

    An existing `out` is replaced only when it is empty or holds the file `marker`, which tells that this tool wrote
    it; the marker must be among the files that the caller writes. Raises BadInputError otherwise.
    """
    out = Path(out)
    check_renamable(out)
    check_replaceable(out, marker)
    with reported_disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=temporary_prefix(out), dir=out.parent))
        try:
            yield stage
            os.chmod(stage, 0o755)
            _swap(stage, out, marker)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _swap(stage: Path, out: Path, marker: str) -> None:
    """Give `stage` the name `out`, whatever another process of ours puts there meanwhile: the last one stays."""
    with tempfile.TemporaryDirectory(prefix=f"{temporary_prefix(out)}old.", dir=out.parent) as folder:
        for attempt in range(SWAPS):
            old = Path(folder) / str(attempt)
            try:
                if out.exists():
                    check_replaceable(out, marker)
                    os.replace(out, old)
                os.replace(stage, out)
                return
            except BaseException as error:
                between = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST)
                if not between or attempt == SWAPS - 1:
                    if old.exists() and not out.exists():
                        os.replace(old, out)
                    raise


def claim_directory(out: Path, written_by: str) -> None:
    """Make `out` a folder of this tool, to be filled bit by bit: a new one, an empty one, or one that it is already.

    Raises BadInputError for any other, and for a place where none can be made.
    """
    check_replaceable(out)
    mark_directory(out, written_by)


def mark_directory(out: Path, written_by: str) -> None:
    """Write the marker of this tool into a folder that was found to be free, or to be ours, before."""
    with atomic_write(out / MARKER) as marker:
        marker.write_text(f"{written_by}\n", encoding="utf-8")


def check_renamable(out: Path) -> None:
    """Raise BadInputError for a folder that cannot give way to another one, and where none can be made."""
    check_place(out)
    if out.is_dir() and (out.is_mount() or out.resolve() == Path.cwd()):
        raise BadInputError(
            f"Cannot replace '{out}': it is the current folder, or a disk is mounted there. Name a new folder in it."
        )


def check_replaceable(out: Path, marker: str = MARKER) -> None:
    """Raise BadInputError when `out` holds something that this tool did not write, or cannot be made."""
    check_place(out)
    if out.is_dir():
        if any(out.iterdir()) and not (out / marker).exists():
            raise BadInputError(
                f"Refusing to overwrite '{out}': it is not empty and does not hold a {marker}. Choose another --out."
            )
    elif out.exists():
        raise BadInputError(f"Refusing to overwrite '{out}': it is a file, not a directory. Choose another --out.")

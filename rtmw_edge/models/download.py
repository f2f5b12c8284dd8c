"""Fetch the official file of a variant into the cache: resumed where it was cut, checked before it gets its name.

The one place that touches the network. The bytes gather in `NAME.part`; only a complete and checked file is renamed to
`NAME`. A proxy is taken from the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY), as urllib does.
"""

from __future__ import annotations

import http.client
import re
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInputError, VerificationError
from ..files import BROKEN_ZIP, CHUNK_BYTES, atomic_write, cache_dir, reported_disk_errors, sha256_of
from .variants import Official, Variant

TIMEOUT_S = 30.0
ATTEMPTS = 5
"""Connections in one run, as long as each brings something."""
Progress = Callable[[int, int | None], None]
"""Called with the bytes here and the bytes in all (None while unknown)."""


@dataclass(frozen=True)
class Fetched:
    """A file in the cache; `checked` is what its SHA-256 was compared with, None where no digest is known."""

    path: Path
    sha256: str
    checked: str | None


def fetch(
    variant: Variant,
    *,
    url: str | None = None,
    file: Path | None = None,
    cache: Path | None = None,
    sha256: str | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Fetched:
    """Download the official weights of `variant` (from `url` if given), or install them from a local `file`.

    `sha256` (64 hexadecimal digits) is checked where given, else the digits that the official name carries. A file
    that is in the cache already is only checked. Raises BadInputError when there is nothing to fetch or it cannot be
    reached (what has come stays in `.part` for the next run), VerificationError when the digest is another one.
    """
    official = _official(variant)
    expected = official.sha256_prefix if sha256 is None else checked_digest(sha256)
    path = (cache or cache_dir()) / official.file_name

    def check(source: Path) -> str:
        name = source.name.removesuffix(".part")
        digest = check_digest(source, name, expected or "")
        if not _is_whole_checkpoint(source):
            raise VerificationError(f"{name} (SHA-256 {digest}) is not a whole PyTorch checkpoint.")
        return digest

    def install(source: Path) -> str:
        digest = check(source)
        if file is None:
            source.replace(path)
        else:
            with atomic_write(path) as temporary:
                shutil.copyfile(source, temporary)
        return digest

    return Fetched(path, obtain(path, url or official.url, file, check, install, on_progress), expected)


def obtain(
    path: Path,
    address: str,
    file: Path | None,
    check: Callable[[Path], str],
    install: Callable[[Path], str],
    on_progress: Progress,
) -> str:
    """Let a file be at `path` in the cache: from the local `file`, there already, or from `address`; its SHA-256.

    `check` of the file at `path`, and `install`, which puts there what it finds in a file that came, give the SHA-256
    and raise VerificationError for another file than is wanted; what came is removed then.
    """
    if file is not None:
        if not file.is_file():
            raise BadInputError(
                f"There is no file '{file}' to install. Pass --file the downloaded checkpoint, zip or ONNX file."
            )
        with _remedy("Pass another --file, or leave it out to fetch it."):
            digest = install(file)
        on_progress(file.stat().st_size, file.stat().st_size)
        return digest
    if path.is_file():
        with _remedy("Delete it and fetch again."):
            return check(path)
    part = path.with_name(f"{path.name}.part")
    with reported_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    download(address, part, on_progress)
    try:
        with _remedy("The file was not kept; fetch again, or pass another --url."):
            digest = install(part)
    except VerificationError:
        part.unlink()
        raise
    part.unlink(missing_ok=True)
    return digest


@contextmanager
def _remedy(text: str) -> Iterator[None]:
    """Add what to do to a VerificationError."""
    try:
        yield
    except VerificationError as error:
        raise VerificationError(f"{error} {text}") from error


def _official(variant: Variant) -> Official:
    if variant.official is None:
        raise BadInputError(
            f"No official file exists for {variant.name}: it is this project's own size. Use the weights that ship "
            "with the package where 'rtmw-edge models' lists them, or train it with 'rtmw-edge train'."
        )
    return variant.official


def checked_digest(sha256: str) -> str:
    """The digest that a user gave, in lower case; BadInputError for what is none."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise BadInputError(f"--sha256 '{sha256}' is not a SHA-256: pass its 64 hexadecimal digits.")
    return sha256.lower()


def check_digest(file: Path, name: str, expected: str) -> str:
    """The SHA-256 of a file, which people know as `name`; VerificationError unless it begins with `expected`."""
    digest = sha256_of(file)
    if not digest.startswith(expected):
        be = "be" if len(expected) == len(digest) else "begin with"
        raise VerificationError(f"The SHA-256 of {name} is {digest}, but should {be} {expected}.")
    return digest


def _is_whole_checkpoint(file: Path) -> bool:
    """Catch log-in pages and mixed downloads where no digest is known: a `.pth` is a zip with a CRC per tensor."""
    with file.open("rb") as stream:
        head = stream.read(2)
    if head[:1] == b"\x80":  # the older format: a bare pickle, without checksums
        return True
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except BROKEN_ZIP:
        return False


def download(url: str, part: Path, on_progress: Progress) -> None:
    """Fill `part` from `url`, going on where it stands; connect again after a cut while that brings something."""
    if not url.startswith(("http://", "https://")):
        raise BadInputError(f"Cannot fetch '{url}': only http and https are understood. For a local file pass --file.")
    for _ in range(ATTEMPTS):
        before = _size(part)
        try:
            if _receive(url, part, on_progress):
                return
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                if error.headers.get("Content-Range") == f"bytes */{before}":
                    return  # it was complete; only the renaming was missing
                part.unlink()  # not the beginning of what the server has: begin anew
                continue
            raise BadInputError(
                f"The server answered {error.code} {error.reason} for {url}. Pass another --url, or --file."
            ) from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if _size(part) <= before:
                reason = getattr(error, "reason", None) or error
                raise BadInputError(
                    f"Cannot reach {url} ({reason}). Check the network and the proxy, or download the file elsewhere "
                    "and pass it as --file."
                ) from error
        if _size(part) <= before:
            break
    raise BadInputError(
        f"The connection to {url} was cut after {_size(part) / 1e6:.1f} MB, which are kept. "
        "Run the command again to go on."
    )


def _receive(url: str, part: Path, on_progress: Progress) -> bool:
    """One connection; True when the file is complete. A full disk removes `part` and raises BadInputError."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "rtmw-edge", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    opener = urllib.request.build_opener()  # reads the proxy variables now, not at the first request of the process
    with opener.open(request, timeout=TIMEOUT_S) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0  # a server that knows no ranges sends all of it again
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        done = start
        try:
            with reported_disk_errors(part), part.open("ab" if start else "wb") as target:
                while chunk := response.read(CHUNK_BYTES):
                    target.write(chunk)
                    done += len(chunk)
                    on_progress(done, total)
        except BadInputError:
            part.unlink(missing_ok=True)
            raise
    return total is None or done >= total


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0

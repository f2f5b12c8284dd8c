"""Open a bundle, from a directory or a .zip: everything in it is checked before any model parser sees a byte.

In this order: the kind and number of the files, the manifest (bounded, strict), no file missing, none extra, every
size, every sha256. A file is hashed where it lies (directory), or while it is unpacked into a private temporary
directory (.zip).
"""

from __future__ import annotations

import hashlib
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rtmw_edge.errors import BadInputError
from rtmw_edge.files import CHUNK_BYTES, reported_disk_errors

from . import archive, golden, limits
from .errors import BundleError, Reason, shown
from .manifest import GOLDEN_ROLE, MANIFEST_NAME, FileEntry, Manifest
from .strict_json import is_name


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checked bundle: its manifest, and its files in `root`.

    `source` is what the user named; for a .zip, `root` is a temporary directory that lives as long as this object.

    >>> with read("rtmw-n-256x192-onnx-int8.zip") as bundle:  # doctest: +SKIP
    ...     print(bundle.manifest.variant, bundle.path("model"))
    """

    source: Path
    root: Path
    manifest: Manifest
    _temporary: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def path(self, role: str) -> Path:
        """Where the file that plays `role` lies ("model"; "xml", "bin"; "param", "bin"; "golden")."""
        return self.root / self.manifest.file(role).path

    def golden(self) -> golden.Golden:
        """The golden vectors. Raises BundleError when they are not what the manifest says."""
        return golden.load(self.path(GOLDEN_ROLE), self.manifest, str(self.source))

    def close(self) -> None:
        """Remove what was unpacked; the files of a directory stay."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path | str) -> Bundle:
    """Open and check the bundle at `path`, a directory or a .zip.

    Raises BadInputError when nothing is there, and BundleError (with its reason) for everything that is wrong with it.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _read_directory(path)
        if path.is_file() and archive.is_archive(path):
            return _read_archive(path)
    except PermissionError as error:
        raise BadInputError(f"Cannot read the bundle {path}: {error.strerror}. Check its permissions.") from error
    if path.exists():
        raise BundleError(
            Reason.NOT_A_BUNDLE,
            f"{path} is no bundle: a bundle is a directory with a {MANIFEST_NAME}, or its .zip; "
            "make one with rtmw-edge export.",
        )
    raise BadInputError(
        f"There is no bundle at {path}: check the path, make one with rtmw-edge export, or use 'builtin'."
    )


def read_manifest(root: Path) -> Manifest:
    """The manifest of the bundle directory `root`, strictly read; the other files are not looked at."""
    path = root / MANIFEST_NAME
    try:
        _check_manifest_size(_check_plain(path), root)
    except FileNotFoundError:
        raise _no_manifest(root) from None
    return Manifest.from_json(path.read_bytes(), str(root))


def archived_manifest(stored: zipfile.ZipFile, path: Path) -> bytes:
    """The manifest's text in the archive at `path`, which `archive.opened` gave; no larger than a manifest may be."""
    if MANIFEST_NAME not in stored.namelist():
        raise _no_manifest(path)
    _check_manifest_size(stored.getinfo(MANIFEST_NAME).file_size, path)
    return archive.content(stored, MANIFEST_NAME)


def listed(root: Path) -> dict[str, int]:
    """Name and size of every file in the directory `root`, the manifest left out; only plain files may lie there.

    What a Mac leaves in folders that it shows, and beside files that it copies to other disks, is not among them:
    `.DS_Store` and `._manifest.json` are no names that a manifest may list, so that nothing ever opens them.
    """
    sizes = {}
    for index, entry in enumerate(root.iterdir()):
        if index > limits.MAX_FILES:
            raise BundleError(
                Reason.TOO_LARGE,
                f"{root} holds more than the {limits.MAX_FILES + 1} files that a bundle may have; "
                "move the others elsewhere.",
            )
        size = _check_plain(entry)
        if entry.name != ".DS_Store" and not entry.name.startswith("._"):
            sizes[entry.name] = size
    sizes.pop(MANIFEST_NAME, None)
    return sizes


def _read_directory(root: Path) -> Bundle:
    manifest = read_manifest(root)
    _check_names(manifest.files, listed(root), root)
    for entry in manifest.files:
        with (root / entry.path).open("rb") as file:
            _check_content(entry, file, root)
    return Bundle(root, root, manifest)


def _read_archive(path: Path) -> Bundle:
    with archive.opened(path) as stored, reported_disk_errors(Path(tempfile.gettempdir())):
        text = archived_manifest(stored, path)
        manifest = Manifest.from_json(text, str(path))
        sizes = {member.filename: member.file_size for member in stored.infolist() if member.filename != MANIFEST_NAME}
        _check_names(manifest.files, sizes, path)
        temporary = tempfile.TemporaryDirectory(prefix="rtmw-edge-")
        try:
            root = Path(temporary.name)
            (root / MANIFEST_NAME).write_bytes(text)
            for entry in manifest.files:
                with stored.open(entry.path) as source, (root / entry.path).open("xb") as target:
                    _check_content(entry, source, path, target.write)
        except BaseException:
            temporary.cleanup()
            raise
    return Bundle(path, root, manifest, temporary)


def _check_plain(path: Path) -> int:
    """The size of a plain file; a link, a device or a directory is refused, for it may lead anywhere or never end."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(
            Reason.NOT_A_FILE,
            f"{path.parent} holds {shown(path.name)}, which is no plain file; copy the bundle with its files (cp -rL).",
        )
    return found.st_size


def _check_manifest_size(size: int, source: Path) -> None:
    if size > limits.MAX_MANIFEST_BYTES:
        raise BundleError(
            Reason.TOO_LARGE,
            f"The {MANIFEST_NAME} of {source} has over {limits.MAX_MANIFEST_BYTES} bytes; export the bundle again.",
        )


def _check_names(entries: Iterable[FileEntry], sizes: dict[str, int], source: Path) -> None:
    """Compare the files that are there with those of the manifest: none missing, none extra, none of another size."""
    expected = {entry.path: entry.size for entry in entries}
    for name in sorted(expected.keys() - sizes.keys()):
        raise BundleError(Reason.MISSING_FILE, f"{source} lacks {name}, which its manifest lists; copy it again.")
    for name in sorted(sizes.keys() - expected.keys()):
        told = name if is_name(name) else shown(name)
        raise BundleError(
            Reason.EXTRA_FILE, f"{source} holds {told}, which its manifest does not list; move it elsewhere."
        )
    for name, size in expected.items():
        if sizes[name] != size:
            raise BundleError(
                Reason.WRONG_SIZE,
                f"{name} in {source} has {sizes[name]} bytes, but the manifest says {size}; copy or export it again.",
            )


def _check_content(
    entry: FileEntry, file: IO[bytes], source: Path, write: Callable[[bytes], object] | None = None
) -> None:
    """Hash at most the promised bytes of `file`, passing each chunk to `write`, and compare with the manifest."""
    digest = hashlib.sha256()
    left = entry.size
    while left and (chunk := file.read(min(CHUNK_BYTES, left))):
        digest.update(chunk)
        left -= len(chunk)
        if write is not None:
            write(chunk)
    if left or digest.hexdigest() != entry.sha256:
        raise BundleError(
            Reason.WRONG_HASH,
            f"{entry.path} in {source} is damaged: its sha256 is {digest.hexdigest()[:12]}..., but the manifest says "
            f"{entry.sha256[:12]}...; copy or export it again.",
        )


def _no_manifest(source: Path) -> BundleError:
    return BundleError(
        Reason.NOT_A_BUNDLE, f"{source} is no bundle: it holds no {MANIFEST_NAME}; make one with rtmw-edge export."
    )

"""A file that grows while results come, and gets its name when it is finished."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from ...errors import BadInputError
from ...files import atomic_write, check_writable, reported_disk_errors


class GrowingFile:
    """Bytes appended beside `path` under a temporary name; `finish` renames, `discard` removes.

    Raises BadInputError, before anything is written, when `path` is a folder or a pipe, or holds what `is_ours`
    denies; it is given the first 256 bytes. `what` is what the file holds, in words.
    """

    def __init__(self, path: Path, what: str, is_ours: Callable[[bytes], bool]) -> None:
        self.path = path
        check_writable(path)
        if path.exists():
            with path.open("rb") as file:
                if not is_ours(file.read(256)):
                    raise BadInputError(
                        f"Refusing to overwrite '{path}': it holds no {what} of this tool. Choose another name."
                    )
        self._stack = ExitStack()
        self._file: BinaryIO | None = None

    def append(self, data: bytes | str) -> None:
        """Write more; the first time makes the file. Raises BadInputError when the disk is full."""
        with reported_disk_errors(self.path):
            if self._file is None:
                temporary = self._stack.enter_context(atomic_write(self.path))
                self._file = self._stack.enter_context(temporary.open("wb"))
            self._file.write(data.encode(errors="surrogateescape") if isinstance(data, str) else data)

    @property
    def empty(self) -> bool:
        """Whether nothing was written."""
        return self._file is None

    def finish(self) -> None:
        """Give the file its name."""
        with reported_disk_errors(self.path):
            self._stack.close()

    def discard(self) -> None:
        """Remove what is unfinished."""
        with suppress(OSError, BadInputError):  # what is still to be written to a full disk is not wanted any more
            self._stack.__exit__(RuntimeError, RuntimeError("dropped"), None)

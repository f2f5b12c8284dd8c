"""Archives that are not what they say: a lying index, damage inside; and how much memory a refusal takes."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BOMB_BYTES = 64 << 20
"""A thousand times what such a member takes in the archive."""


def claim(path: Path, name: str, size: int) -> None:
    """Make the index of the archive at `path` say that the member `name` unpacks to `size` bytes."""
    content = bytearray(path.read_bytes())
    place = content.index(name.encode(), content.index(b"PK\x01\x02")) - 46
    assert content[place : place + 4] == b"PK\x01\x02"
    content[place + 24 : place + 28] = struct.pack("<L", size)
    path.write_bytes(content)


@contextmanager
def little_memory() -> Iterator[None]:
    """Assert that no more than a quarter of BOMB_BYTES is allocated at any moment of the block."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < BOMB_BYTES // 4
    finally:
        tracemalloc.stop()


def damaged_zip() -> bytes:
    """A compressed zip of one ONNX file, whose damage zlib finds."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.onnx", bytes(range(256)) * 400)
    content = buffer.getvalue()
    return content[:60] + b"\xff" * 40 + content[100:]

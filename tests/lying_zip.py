"""An archive whose index says less of a member than it unpacks to, and how much memory a refusal takes."""

from __future__ import annotations

import struct
import tracemalloc
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

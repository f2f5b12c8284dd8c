"""Small videos, and MP4 files changed by hand: turned, of variable frame rate, cut off."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

TABLE = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"]
TICKS = 512
"""What OpenCV's MP4 files at 30 frames a second count for one frame."""


def write_video(path: Path, frames: int = 12, size: tuple[int, int] = (64, 48), codec: str = "mp4v") -> Path:
    """A video at 30 frames a second, each brighter than the one before, with a red upper left corner."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 30, size)
    assert writer.isOpened()
    for index in range(frames):
        writer.write(picture(index, size))
    writer.release()
    return path


def picture(index: int, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """The frame of this index."""
    image = np.full((size[1], size[0], 3), 20 + 7 * index % 200, np.uint8)
    image[: size[1] // 4, : size[0] // 4] = (0, 0, 255)
    return image


def turned(data: bytes, degrees: int) -> bytes:
    """The MP4 file `data` with a rotation in its track header, as a phone writes it."""
    start, _ = _find(data, [b"moov", b"trak", b"tkhd"])
    a, b, c, d = (value << 16 for value in {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees])
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    place = start + 48
    return data[:place] + matrix + data[place + 36 :]


def with_durations(data: bytes, durations: Sequence[int]) -> bytes:
    """The MP4 file `data` whose frames last this many thirtieths of a second each."""
    # The edit list would end the film after its old length.
    data = data.replace(b"edts", b"free")
    start, size = _find(data, TABLE)
    entries = b"".join(struct.pack(">II", 1, TICKS * duration) for duration in durations)
    table = struct.pack(">I4sII", 16 + len(entries), b"stts", 0, len(durations)) + entries
    changed = bytearray(data[:start] + table + data[start + size :])
    for depth in range(1, len(TABLE)):
        place, old = _find(data, TABLE[:depth])
        changed[place : place + 4] = struct.pack(">I", old + len(table) - size)
    return bytes(changed)


def _find(data: bytes, path: list[bytes], start: int = 0, end: int | None = None) -> tuple[int, int]:
    """Place and size of the box at `path`."""
    while start < (len(data) if end is None else end):
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        if kind == path[0]:
            return (start, size) if len(path) == 1 else _find(data, path[1:], start + 8, start + size)
        start += size
    raise KeyError(path)

"""Raw frames from a pipe, one after another without headers, as `rpicam-vid` and `ffmpeg -f rawvideo` write them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import cv2
import numpy as np

from ...errors import BadInputError, unknown
from ..frames import Failure, Frame, Origin, UInt8

PIXELS: dict[str, tuple[int, int | None]] = {
    "bgr24": (24, None),
    "rgb24": (24, cv2.COLOR_RGB2BGR),
    "gray": (8, cv2.COLOR_GRAY2BGR),
    "yuv420p": (12, cv2.COLOR_YUV2BGR_I420),
    "nv12": (12, cv2.COLOR_YUV2BGR_NV12),
}
"""FFmpeg's name of a pixel format -> bits a pixel, and OpenCV's conversion to BGR."""

LARGEST, FASTEST = 16_384, 1000.0
_PATTERN = re.compile(r"(\d+)x(\d+)(?:@(\d+(?:\.\d+)?))?(?::(\w+))?")


@dataclass(frozen=True)
class PictureFormat:
    """Width and height in pixels, frames a second, and the layout of the pixels.

    >>> PictureFormat.parse("640x480@30:bgr24")
    PictureFormat(width=640, height=480, fps=30.0, pixels='bgr24')
    """

    width: int
    height: int
    fps: float = 30.0
    pixels: str = "bgr24"

    @classmethod
    def parse(cls, text: str) -> PictureFormat:
        """Read WxH[@FPS][:PIXELS]; BadInputError for anything else."""
        match = _PATTERN.fullmatch(text)
        if not match:
            raise BadInputError(f"Cannot read the format '{text}': write WxH@FPS:PIXELS, as in 640x480@30:bgr24.")
        width, height = int(match[1]), int(match[2])
        fps, pixels = float(match[3] or 30), match[4] or "bgr24"
        if pixels not in PIXELS:
            raise unknown("pixel format", pixels, PIXELS)
        if not (0 < width <= LARGEST and 0 < height <= LARGEST and 0 < fps <= FASTEST):
            raise BadInputError(f"The format '{text}' is out of range: at most {LARGEST}x{LARGEST}@{FASTEST:g}.")
        if PIXELS[pixels][0] == 12 and (width % 2 or height % 2):
            raise BadInputError(f"The format '{text}' cannot be: frames of {pixels} have an even width and height.")
        return cls(width, height, fps, pixels)

    @property
    def size(self) -> int:
        """Bytes of one frame."""
        return self.width * self.height * PIXELS[self.pixels][0] // 8


class RawFrames:
    """Frames of a fixed format from a file or its number; a `live` one may be dropped, and is timed by the clock."""

    def __init__(self, file: int | Path, picture: PictureFormat, *, live: bool = False) -> None:
        self._file, self._format = file, picture
        self.origin = Origin("stdin", fps=picture.fps, live=live)

    def __iter__(self) -> Iterator[Frame | Failure]:
        # Not buffered: a thread that waits in a buffer's lock does not let the process end.
        with open(self._file, "rb", buffering=0, closefd=not isinstance(self._file, int)) as stream:
            yield from self._frames(stream)

    def _frames(self, stream: FileIO) -> Iterator[Frame | Failure]:
        index, begin = 0, time.perf_counter()
        while True:
            start = time.perf_counter()
            data = _read(stream, self._format.size)
            if len(data) < self._format.size:
                break
            image = self._decode(data)
            now = time.perf_counter()
            time_s = now - begin if self.origin.live else index / self._format.fps
            yield Frame(self.origin, index, time_s, image, 1000 * (now - start))
            index += 1
        if data or not index:
            reason = (
                f"{self.origin.name} ended within frame {index}, which has {len(data)} of {self._format.size} bytes: "
                "check --raw against what writes the frames."
            )
            yield Failure(self.origin.name, reason)

    def _decode(self, data: bytearray) -> UInt8:
        bits, conversion = PIXELS[self._format.pixels]
        width, height = self._format.width, self._format.height
        pixels = np.frombuffer(data, np.uint8)
        pixels = pixels.reshape(height, width, 3) if bits == 24 else pixels.reshape(height * bits // 8, width)
        if conversion is None:
            return pixels
        return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def _read(stream: FileIO, size: int) -> bytearray:
    """The next `size` bytes; fewer at the end."""
    data = bytearray(size)
    done = 0
    while done < size:
        count = stream.readinto(memoryview(data)[done:])
        if not count:
            break
        done += count
    return data[:done]

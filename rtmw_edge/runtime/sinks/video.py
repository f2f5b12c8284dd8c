"""Annotated video, at a constant rate that keeps the source's time."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...errors import BadInputError
from ...files import atomic_write, check_writable, reported_disk_errors
from ..frames import Annotated, Failure, Frame, UInt8
from ..quiet import quiet_stderr

FASTEST_FPS = 60.0
LONGEST_FILL_S, LONGEST_HOLD_S = 2.0, 60.0
"""A longer gap in time, as of a camera that was lost, is not filled with repeated pictures; the second is of files,
where a picture may be shown for long."""
ROUNDED = 0.99
"""Of the frames that were written so many are counted at least: some formats tell a length in time."""
MUCH_FASTER = 1.5
"""A file whose first frame is this much shorter than its mean has a variable rate, and the mean would lose frames."""


@dataclass(frozen=True)
class Codec:
    """OpenCV's name of a codec, what people call it, and whether browsers play it."""

    fourcc: str
    name: str
    plays: bool


H264, MPEG4 = Codec("avc1", "H.264", True), Codec("mp4v", "MPEG-4 Part 2", False)
VP8, MJPEG = Codec("VP80", "VP8", True), Codec("MJPG", "Motion JPEG", False)

CODECS: dict[str, tuple[Codec, ...]] = {
    ".mp4": (H264, MPEG4),
    ".mov": (H264, MPEG4),
    ".mkv": (H264, MPEG4),
    ".webm": (VP8,),
    ".avi": (MJPEG,),
}
"""Best first: OpenCV's own builds have H.264 only where they find a hardware encoder (V4L2)."""

MARK = b"rtmw-edge "
"""The last bytes of a video of ours, in a chunk that players skip: so it may be replaced."""
SKIPPED = {
    ".mp4": (8 + len(MARK)).to_bytes(4, "big") + b"free",
    ".mov": (8 + len(MARK)).to_bytes(4, "big") + b"free",
    ".mkv": bytes([0xEC, 0x80 + len(MARK)]),
    ".webm": bytes([0xEC, 0x80 + len(MARK)]),
    ".avi": b"JUNK" + len(MARK).to_bytes(4, "little"),
}
"""How each format begins such a chunk: a free box, a void element, a junk chunk."""


class AnnotatedVideo:
    """One moving source as a video file; the ending, one of CODECS, chooses the format.

    Frames are written at the source's rate, repeated or left out where its time wants it: a camera that was followed at
    7 frames a second plays at the right speed. The first waits for the second, which shows whether a file's mean rate
    is its own. Only a video that this class wrote is replaced.
    """

    def __init__(self, path: Path) -> None:
        check_writable(path)
        if path.exists() and not _is_ours(path):
            raise BadInputError(f"Refusing to overwrite '{path}': it is no video of this tool. Choose another name.")
        self.path = path
        self._stack = ExitStack()
        self._writer: cv2.VideoWriter | None = None
        self._fps = 0.0
        self._size = (0, 0)
        self._codec = MPEG4
        self._start_s, self._written = 0.0, 0
        self._first: Annotated | None = None
        self._last: UInt8 | None = None
        self._temporary = path

    def write(self, annotated: Annotated) -> None:
        if self._writer is None and self._first is None:
            self._first = annotated
            return
        if self._first is not None:
            self._begin(annotated.result.frame)
        self._append(annotated)

    def _begin(self, second: Frame | None) -> None:
        """Open the file and write the frame that waited."""
        assert self._first is not None
        annotated, self._first = self._first, None
        first = annotated.result.frame
        fps = first.origin.fps or FASTEST_FPS
        if second is not None and not first.origin.live and 0 < second.time_s - first.time_s < 1 / (MUCH_FASTER * fps):
            fps = 1 / (second.time_s - first.time_s)
        self._open(annotated, min(fps, FASTEST_FPS))
        self._append(annotated)

    def _append(self, annotated: Annotated) -> None:
        assert self._writer is not None
        frame = annotated.result.frame
        picture = self._fitted(annotated.picture)
        slot = round((frame.time_s - self._start_s) * self._fps)
        longest_s = LONGEST_FILL_S if frame.origin.live else LONGEST_HOLD_S
        if slot - self._written > longest_s * self._fps:
            self._start_s += (slot - self._written) / self._fps
            slot = self._written
        # One slot of slack: the times of a variable frame rate lie around the slots.
        if slot < self._written - 1:
            return
        for _ in range(slot - self._written):
            self._writer.write(self._last if self._last is not None else picture)
        self._writer.write(picture)
        self._written = max(self._written, slot) + 1
        self._last = picture

    def fail(self, failure: Failure) -> None:
        """A video that broke off has an annotated one that ends there."""

    def close(self) -> list[str]:
        if self._first is not None:
            self._begin(None)
        if self._writer is None:
            return []
        self._writer.release()
        with reported_disk_errors(self.path):
            self._check_whole()
            with self._temporary.open("ab") as file:
                file.write(SKIPPED[self.path.suffix.lower()] + MARK)
        self._writer, self._last = None, None
        self._stack.close()
        width, height = self._size
        hint = "" if self._codec.plays else ", which browsers do not play; a name in .webm gets a video that they do"
        return [f"video: {self.path} ({self._codec.name}, {width}x{height}, {self._fps:g} fps{hint})"]

    def _check_whole(self) -> None:
        """Raise OSError where frames are missing: OpenCV says nothing of a full disk."""
        with quiet_stderr():
            there = cv2.VideoCapture(str(self._temporary)).get(cv2.CAP_PROP_FRAME_COUNT)
        if there < ROUNDED * self._written - 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def discard(self) -> None:
        self._first = None
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._stack.__exit__(RuntimeError, RuntimeError("dropped"), None)

    def _open(self, annotated: Annotated, fps: float) -> None:
        self._start_s, self._fps = annotated.result.frame.time_s, fps
        height, width = annotated.picture.shape[:2]
        self._size = (width - width % 2, height - height % 2)
        self._temporary = self._stack.enter_context(atomic_write(self.path))
        for codec in CODECS[self.path.suffix.lower()]:
            with quiet_stderr():
                code = cv2.VideoWriter.fourcc(*codec.fourcc)
                writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, code, self._fps, self._size)
            if writer.isOpened():
                self._writer, self._codec = writer, codec
                return
        self.discard()
        raise BadInputError(
            f"OpenCV cannot write {self.path.suffix} videos of {self._size[0]}x{self._size[1]} pixels at {fps:g} fps "
            "here: choose another ending, or save the poses alone."
        )

    def _fitted(self, picture: UInt8) -> UInt8:
        """The picture in the video's size, which is even; a source may change its own on the way."""
        width, height = self._size
        there_high, there_wide = picture.shape[:2]
        if (there_wide - there_wide % 2, there_high - there_high % 2) == self._size:
            return picture[:height, :width]
        return np.asarray(cv2.resize(picture, self._size), np.uint8)


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(MARK), 0))
        return file.read() == MARK

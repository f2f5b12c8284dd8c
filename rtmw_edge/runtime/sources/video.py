"""Video files: upright by their rotation, timed by their own clock, and read as far as they go."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from ..frames import Failure, Frame, Origin
from .addresses import without_password
from .capture import USUAL_FPS, fps_of, open_capture, read_frame
from .lengths import is_cut_off

VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts",
    ".webm", ".wmv",
)  # fmt: skip

STREAM_SUFFIXES = (".264", ".h264", ".mjpeg", ".mjpg")
"""Files of pictures without times, as rpicam-vid writes them; an address that ends so is a camera's."""

AV1 = cv2.VideoWriter.fourcc(*"AV01")
"""OpenCV's own builds open such a video and cannot decode it: their FFmpeg leaves that to hardware."""

TAIL_SECONDS, TAIL_SHARE = 0.5, 0.02
"""A video that ends this much before its own length has lost its tail, where it also has less than it says."""


class VideoFile:
    """A video at a path or an http address, from its first frame to its last readable one; none is dropped."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.origin = Origin(without_password(path), fps=USUAL_FPS)

    def __iter__(self) -> Iterator[Frame | Failure]:
        name = self.origin.name
        if "://" not in self._path and not Path(self._path).exists():
            yield Failure(name, f"There is no video {name}: check the path.")
            return
        capture = open_capture(self._path)
        if capture is None:
            yield Failure(name, self._why())
            return
        try:
            yield from self._frames(capture)
        finally:
            capture.release()

    def _why(self) -> str:
        """Why it does not open."""
        name = self.origin.name
        if "://" in self._path:
            return f"Cannot read {name} as a video: nothing answers there, or nothing of a known format."
        if not os.access(self._path, os.R_OK):
            return f"Cannot read {name}: Permission denied."
        return f"Cannot read {name} as a video: it is damaged, cut off before its index, or of an unknown format."

    def _frames(self, capture: cv2.VideoCapture) -> Iterator[Frame | Failure]:
        fps = fps_of(capture)
        origin = Origin(self.origin.name, fps=fps)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        index, last_s = 0, -1 / fps
        while True:
            start = time.perf_counter()
            image = read_frame(capture)
            if image is None:
                break
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # Some containers have no times, or the same one twice.
            last_s = time_s if time_s > last_s else last_s + 1 / fps
            yield Frame(origin, index, last_s, image, 1000 * (time.perf_counter() - start))
            index += 1
        missing_s = count / fps - (last_s + 1 / fps)
        if index == 0:
            why = "it is damaged"
            if capture.get(cv2.CAP_PROP_FOURCC) == AV1:
                why += ", or OpenCV cannot decode AV1 here: make it H.264 with ffmpeg"
            elif "://" in self._path:  # as of Python's http.server
                why += ", or an MP4 with its index at its end, of a server that sends no parts: download it first"
            yield Failure(origin.name, f"There is no readable frame in {origin.name}: {why}.")
        elif missing_s > max(TAIL_SECONDS, TAIL_SHARE * count / fps) and self._is_cut_off(count - index, fps):
            reason = (
                f"{origin.name} breaks off after {index} frames, {missing_s:.1f} s before its end: "
                "the rest is missing or damaged, what came before it is done."
            )
            yield Failure(origin.name, reason)

    def _is_cut_off(self, missing: float, fps: float) -> bool:
        """Whether a video that seems to end early lacks something: its last frame may last, its sound may be longer.

        What counts frames is believed; of others only bytes that are missing tell.
        """
        cut = None if "://" in self._path else is_cut_off(Path(self._path))
        return missing > TAIL_SECONDS * fps if cut is None else cut

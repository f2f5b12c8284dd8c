"""OpenCV's video capture, opened quietly and with time limits."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from ..frames import UInt8
from ..quiet import quiet_stderr
from .raw import PictureFormat

TIMEOUT_MS = 10_000
"""An address that says nothing for this long counts as lost."""

LOG_LEVEL_SILENT = 0

USUAL_FPS = 30.0
"""Taken where a video or a camera does not tell."""


def open_capture(target: int | str, wanted: PictureFormat | None = None) -> cv2.VideoCapture | None:
    """A capture of a file, an address, a camera's number or /dev path; None when it cannot be opened.

    `wanted` is asked of a camera, which takes the nearest that it has.
    """
    _silence_opencv()
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    place = "" if isinstance(target, int) or is_device(target) else target
    if place and "://" not in place:
        place = os.path.abspath(place)  # a relative name with a colon in it is an address to FFmpeg
    try:
        if place:
            # May take its ten seconds, in which others want stderr: `quiet` has FFmpeg's level for that.
            capture = cv2.VideoCapture(place, cv2.CAP_FFMPEG, limits)
        else:
            with quiet_stderr():
                capture = cv2.VideoCapture(target)
    except cv2.error:
        return None
    if not capture.isOpened():
        return None
    if place:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # what it does by itself but in 4.11
    else:
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if wanted is not None:
            # Most cameras have their larger sizes in full speed only as JPEG.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.height)
            capture.set(cv2.CAP_PROP_FPS, wanted.fps)
    return capture


def is_device(name: str) -> bool:
    """Whether a name is a camera's path, there or not."""
    return name.startswith(("/dev/video", "/dev/v4l/")) or Path(name).is_char_device()


def _silence_opencv() -> None:
    """OpenCV 4 and OpenCV 5 spell it each in its own way."""
    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(LOG_LEVEL_SILENT)
    else:
        cv2.utils.logging.setLogLevel(LOG_LEVEL_SILENT)


def read_frame(capture: cv2.VideoCapture) -> UInt8 | None:
    """The next frame (H,W,3) uint8 BGR; None when there is none."""
    try:
        there, image = capture.read()
    except cv2.error:
        return None
    return np.asarray(image, np.uint8) if there else None


def fps_of(capture: cv2.VideoCapture) -> float:
    """Frames a second as the capture tells, or the usual 30."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0.1 <= fps <= 1000 else USUAL_FPS

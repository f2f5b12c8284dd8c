"""OpenCV's video capture, opened quietly and with time limits."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

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
    # OpenCV and FFmpeg tell of every damaged packet on stderr, where it is no use: a sentence of ours follows.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    _silence_opencv()
    local = isinstance(target, int) or target.startswith("/dev/")
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
    try:
        with quiet_stderr():
            capture = cv2.VideoCapture(target) if local else cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits)
    except cv2.error:
        return None
    if not capture.isOpened():
        return None
    if local:
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if wanted is not None:
            # Most cameras have their larger sizes in full speed only as JPEG.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.height)
            capture.set(cv2.CAP_PROP_FPS, wanted.fps)
    return capture


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


def without_password(address: str) -> str:
    """An address as it may be shown and written: without user and password."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else address

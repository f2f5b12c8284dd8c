"""A short video of rendered people, for benchmarks that need one: the same pixels every time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from rtmw_edge.data.synthetic import Renderer

FPS = 30.0
SWAY, SWAY_S = 0.1, 2.0
"""How far the camera moves to each side, over the picture's size, and the seconds of one round."""


def write_clip(path: Path, frames: int, size: tuple[int, int], people: int) -> Path:
    """Write an MPEG-4 video of `size` (width, height): one rendered scene, and a camera that circles before it."""
    width, height = size
    margin = np.ceil(SWAY * np.array(size)).astype(int)
    wide, high = np.array(size) + 2 * margin
    scene = Renderer("val").scene(0, (int(wide), int(high)), people).image
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), FPS, size)
    for index in range(frames):
        angle = 2 * np.pi * index / (FPS * SWAY_S)
        left, top = np.round(margin * (1 + np.array([np.cos(angle), np.sin(angle)]))).astype(int)
        writer.write(scene[top : top + height, left : left + width])
    writer.release()
    return path

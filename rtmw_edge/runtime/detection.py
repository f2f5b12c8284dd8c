"""Who is in the picture: the contract of person detectors, and the two that need no network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInputError
from .boxes import BoxFile
from .frames import Frame, UInt8


class Detections(NamedTuple):
    """The people of one picture: `boxes` (N,4) float32 xyxy in pixels and `scores` (N,) in 0..1; N may be 0."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


NOBODY = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


class Detector(Protocol):
    """Anything that finds people: a picture (H,W,3) uint8 BGR in, their boxes and scores out.

    >>> def detector(image):
    ...     return Detections(np.array([[0, 0, 50, 99]], np.float32), np.ones(1, np.float32))
    """

    def __call__(self, image: UInt8) -> Detections: ...


Look = Callable[[Frame], Detections | None]
"""Looks for people in a frame; None where it has no say about this one."""


def whole_image(image: UInt8) -> Detections:
    """The detector for pictures of one person: the whole picture is it."""
    height, width = image.shape[:2]
    return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32))


def detections(found: Any) -> Detections:
    """What a detector gave as Detections: those, a pair of boxes and scores, or boxes (N,4) alone, as rtmlib's give.

    Raises BadInputError for anything else.
    """
    wanted = "it must give boxes (N,4) as x1, y1, x2, y2, or these and their scores (N,)"
    scores = None
    try:
        several = isinstance(found, (tuple, list)) and len(found) > 1
        if isinstance(found, Detections) or (several and (np.ndim(found[0]) == 2 or np.size(found[0]) == 0)):
            found, scores, *_ = found
        boxes = np.asarray(found, np.float32)
        boxes = boxes if boxes.size else np.empty((0, 4), np.float32)
        sure = np.ones(len(boxes), np.float32) if scores is None else np.asarray(scores, np.float32).reshape(-1)
    except (TypeError, ValueError):
        raise BadInputError(f"The detector gave {type(found).__name__}, which is no array: {wanted}.") from None
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(sure) != len(boxes):
        raise BadInputError(f"The detector gave boxes of shape {boxes.shape} and {len(sure)} scores: {wanted}.")
    return Detections(boxes, sure)


def looking_with(detector: Callable[[UInt8], Any]) -> Look:
    """A detector, or any function that gives what `detections` takes, as a Look at frames."""
    return lambda frame: detections(detector(frame.image))


def listed_in(boxes: BoxFile) -> Look:
    """The boxes of a file as a Look at frames.

    An image is found by its path or name. A frame of "clip.mp4" is found as "clip.mp4#12", else as "clip.mp4", whose
    boxes are those of every frame.
    """

    def look(frame: Frame) -> Detections | None:
        people = boxes.of(frame.name)
        if people is None and frame.origin.moving:
            people = boxes.of(frame.origin.name)
        if people is None:
            return None
        rows = np.array(people, np.float32).reshape(-1, 5)
        return Detections(rows[:, :4], rows[:, 4])

    return look

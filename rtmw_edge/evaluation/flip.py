"""The flip test: a crop and its mirror image, logits averaged, decoded once; on in all official 2D figures."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..crops import box_to_crop, check_boxes, check_image, crop, to_image
from ..errors import BadInputError
from ..keypoints import FLIP
from ..poses import Poses
from ..simcc import decode

Logits = tuple[NDArray[np.float32], ...]


class LogitsRunner(Protocol):
    """What the flip test needs of a runner."""

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of a crop."""

    def logits(self, crops: NDArray[np.uint8]) -> Logits:
        """Logits (N,133,bins) per axis of `crops` (N,H,W,3)."""


def flip_logits(runner: LogitsRunner, crops: NDArray[np.uint8]) -> Logits:
    """Mean of the logits (x, y) of the crops and of their mirror images, the latter mapped back.

    As mmpose does it: left and right keypoints change places and the x line is reversed. The mirror of pixel x is
    w-1-x, at bin 2w-2-2x, which reversal takes to bin 2x+1: the mirrored line stays one bin (half a pixel) to the
    right, and official figures have that in them.
    """
    plain = runner.logits(crops)
    if len(plain) != 2:
        raise BadInputError("The flip test works on 2D variants only: leave --flip out.")
    mirrored_x, mirrored_y = runner.logits(np.ascontiguousarray(crops[:, :, ::-1]))
    half = np.float32(0.5)
    return (plain[0] + mirrored_x[:, FLIP, ::-1]) * half, (plain[1] + mirrored_y[:, FLIP]) * half


class FlipTest:
    """A runner that runs another with the flip test.

    >>> poses = FlipTest(runner)(image, boxes)      # doctest: +SKIP
    """

    def __init__(self, runner: LogitsRunner) -> None:
        self._runner = runner

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32], box_scores: NDArray[np.float32] | None = None
    ) -> Poses:
        """Poses of the people in `boxes` (N,4) xyxy."""
        boxes = check_boxes(boxes, check_image(image).shape)
        if not len(boxes):
            return Poses.empty()
        size = self._runner.input_size
        centers, scales = box_to_crop(boxes, size)
        crops = np.stack([crop(image, center, scale, size) for center, scale in zip(centers, scales, strict=True)])
        keypoints, scores = decode(flip_logits(self._runner, crops))
        trust = np.ones(len(boxes), np.float32) if box_scores is None else box_scores
        return Poses(to_image(keypoints, centers, scales, size), scores, boxes, trust)

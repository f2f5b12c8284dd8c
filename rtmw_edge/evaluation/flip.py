"""The flip test: a crop and its mirror image, logits averaged, decoded once; on in all official 2D figures."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInputError
from ..keypoints import FLIP
from ..poses import Poses
from ..runtime import Runner
from ..runtime.engine import Logits

NOT_IN_3D = "The flip test works on 2D variants only: leave --flip out."


class Flip(str, Enum):
    """How the mirror image's logits are laid over the crop's.

    The mirror of pixel x is w-1-x, at bin 2w-2-2x, which reversal of the line takes to bin 2x+1. `OFFICIAL` leaves it
    there, as mmpose does: half a pixel to the right of the crop's own, and official figures have that in them.
    `ALIGNED` moves the reversed line one bin to the left, to where it belongs.
    """

    OFFICIAL = "official"
    ALIGNED = "aligned"

    def __str__(self) -> str:
        return self.value


class LogitsRunner(Protocol):
    """What the flip test needs of a runner."""

    def logits(self, crops: NDArray[np.uint8]) -> Logits:
        """Logits (N,133,bins) per axis of `crops` (N,H,W,3)."""


def mirrored_logits(runner: LogitsRunner, crops: NDArray[np.uint8]) -> Logits:
    """Logits (x, y) of the crops' mirror images, with left and right keypoints changed back and the x line reversed."""
    found = runner.logits(np.ascontiguousarray(crops[:, :, ::-1]))
    if len(found) != 2:
        raise BadInputError(NOT_IN_3D)
    return found[0][:, FLIP, ::-1], found[1][:, FLIP]


def mean_logits(plain: Logits, mirrored: Logits, flip: Flip) -> Logits:
    """Mean of the crops' logits (x, y) and of `mirrored_logits`, laid over them as `flip` says."""
    x, y = mirrored
    if flip is Flip.ALIGNED:
        # Nothing is known of the last bin, half a pixel beyond the last pixel's middle: it repeats its neighbour.
        x = np.concatenate([x[..., 1:], x[..., -1:]], axis=-1)
    half = np.float32(0.5)
    return (plain[0] + x) * half, (plain[1] + y) * half


def flip_logits(runner: LogitsRunner, crops: NDArray[np.uint8], flip: Flip = Flip.OFFICIAL) -> Logits:
    """Mean of the logits (x, y) of the crops (N,H,W,3) and of their mirror images."""
    mirrored = mirrored_logits(runner, crops)
    return mean_logits(runner.logits(crops), mirrored, flip)


class FlipTest:
    """A runner that runs another with the flip test.

    >>> poses = FlipTest(runner)(image, boxes)      # doctest: +SKIP
    """

    def __init__(self, runner: Runner, flip: Flip = Flip.OFFICIAL) -> None:
        self._runner = runner
        self._flip = flip

    def __call__(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float32], box_scores: NDArray[np.float32] | None = None
    ) -> Poses:
        """Poses of the people in `boxes` (N,4) xyxy."""
        cut = self._runner.cut(image, boxes, box_scores)
        if not len(cut.crops):
            return Poses.empty()
        return self._runner.poses(flip_logits(self._runner, cut.crops, self._flip), cut)

"""Runner: an image and its person boxes in, `Poses` out, whatever the engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..bundle import Bundle
from ..crops import Picture, box_to_crop, check_boxes, check_image, crop, to_image
from ..errors import BadInputError
from ..poses import Poses
from ..simcc import calibrated, decode, decode_3d
from .engine import Description, Engine, Logits, Model

PEAK_2D, PEAK_3D = 10.0, 1.0
"""The logit of a sure keypoint as RTMW (temperature 1) and RTMW3D (temperature 10) are trained."""


@dataclass(frozen=True, eq=False)
class Cut:
    """The people of one image as crops (N,H,W,3) uint8, and where each was.

    boxes (N,4) xyxy float32; box_scores (N,); centers and scales (N,2) of the crops in image pixels.
    """

    crops: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    centers: NDArray[np.float64]
    scales: NDArray[np.float64]


class Runner:
    """Whole-body poses from images, by one engine. Threads may share its calls, and then wait for each other.

    Not for a process that was forked from the one that opened it, whose threads it has not.

    `subbin` refines coordinates between the half-pixel bins; off is the official decode.

    >>> runner = rtmw_edge.load()                                       # doctest: +SKIP
    >>> poses = runner(image_bgr, boxes=[[40, 20, 180, 400]])           # doctest: +SKIP
    >>> poses.part("left_hand").shape                                   # doctest: +SKIP
    (1, 21, 2)
    """

    def __init__(self, engine: Engine, bundle: Bundle | None = None, *, subbin: bool = False) -> None:
        """A runner over `engine`; `bundle` is what the engine reads, kept open (and its files alive) until `close`."""
        self.engine = engine
        self.bundle = bundle
        self.subbin = subbin
        self._closed = False
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._buffer = np.empty((0, *engine.model.input_size[::-1], 3), np.uint8)

    @property
    def model(self) -> Model:
        """What runs: variant, target, precision, sizes."""
        return self.engine.model

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) of a crop in pixels."""
        return self.model.input_size

    def __call__(self, image: Picture, boxes: ArrayLike | None = None, box_scores: ArrayLike | None = None) -> Poses:
        """Poses of the people in `image` (H,W,3) uint8 BGR, keypoints in image pixels.

        `boxes` (N,4) xyxy in pixels, one a person; [] gives no poses, None takes the whole image as one person.
        `box_scores` (N,) in 0..1, 1 when not given. Raises BadInputError for an image or box that cannot be used.
        """
        with self._turn() as engine:
            cut = self.cut(image, boxes, box_scores)
            logits = engine.infer(cut.crops)
        return self.poses(logits, cut)

    def cut(self, image: Picture, boxes: ArrayLike | None = None, box_scores: ArrayLike | None = None) -> Cut:
        """The first step of a call: every person by one warp straight to the network's size.

        The crops lie in one buffer, which the next `cut` of this runner writes over: not for several threads.
        """
        image = check_image(image)
        height, width = image.shape[:2]
        checked = check_boxes([[0, 0, width, height]] if boxes is None else boxes, image.shape)
        people = len(checked)
        trust = _box_scores(box_scores, people)
        centers, scales = box_to_crop(checked, self.input_size)
        if people > len(self._buffer):
            self._buffer = np.empty((people, *self._buffer.shape[1:]), np.uint8)
        crops = self._buffer[:people]
        for center, scale, out in zip(centers, scales, crops, strict=True):
            crop(image, center, scale, self.input_size, out=out)
        return Cut(crops, checked, trust, centers, scales)

    def poses(self, logits: Logits, cut: Cut) -> Poses:
        """The last step of a call: what the network answered to `cut`, decoded and taken back to the image."""
        keypoints, scores = self._decode(logits)
        return Poses(to_image(keypoints, cut.centers, cut.scales, self.input_size), scores, cut.boxes, cut.box_scores)

    def crops(self, crops: NDArray[np.uint8]) -> Poses:
        """Poses of `crops` (N,H,W,3) uint8 BGR of the network's input size, keypoints in crop pixels."""
        keypoints, scores = self._decode(self.logits(crops))
        width, height = self.input_size
        whole = np.tile(np.array([0, 0, width, height], np.float32), (len(crops), 1))
        return Poses(keypoints, scores, whole, np.ones(len(crops), np.float32))

    def logits(self, crops: NDArray[np.uint8]) -> Logits:
        """The network's answers (N,133,bins) float32 per axis x, y[, z] for `crops` (N,H,W,3) uint8 BGR; none of []."""
        try:
            array = np.asarray(crops)
        except ValueError:
            raise BadInputError(
                "The crops are of different sizes: pass all (height, width, 3), as the model takes."
            ) from None
        nobody = array.shape == (0,)  # an empty list does not say of which size its crops would have been
        with self._turn() as engine:
            return engine.infer(self._buffer[:0] if nobody else array)

    def confidence(self, poses: Poses) -> NDArray[np.float32]:
        """Scores (N,133) in 0..1: the calibrated score of this variant, an estimate of the chance of being right.

        Where nobody calibrated the variant it is the score over that of a sure keypoint, cut to 0..1.
        """
        if self.model.score is not None:
            return calibrated(poses.scores, *self.model.score)
        peak = PEAK_2D if self.model.z_range is None else PEAK_3D
        return np.clip(poses.scores / np.float32(peak), 0, 1)

    def describe(self) -> Description:
        """Which runtime, device and kernels really run, and how many convolutions in int8."""
        with self._turn() as engine:
            return engine.describe()

    def close(self) -> None:
        """Free the runtime and the bundle's unpacked files; what is asked of the runner afterwards is BadInputError."""
        self._closed = True
        if os.getpid() == self._process:
            with self._lock:
                self.engine.close()
            if self.bundle is not None:
                self.bundle.close()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _turn(self) -> Iterator[Engine]:
        """The engine, for this thread alone."""
        self._check_usable()
        with self._lock:
            self._check_usable()  # it may have been closed meanwhile
            yield self.engine

    def _check_usable(self) -> None:
        if self._closed:
            raise BadInputError("This runner is closed: open another with rtmw_edge.load().")
        if os.getpid() != self._process:
            raise BadInputError(
                "This runner was opened before the process forked, and its threads stayed behind: open one here with "
                "rtmw_edge.load(), or start processes with multiprocessing's 'spawn'."
            )

    def _decode(self, logits: Logits) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.model.z_range is None:
            return decode(logits, subbin=self.subbin)
        return decode_3d(logits, self.model.z_range, subbin=self.subbin)


def _box_scores(scores: ArrayLike | None, people: int) -> NDArray[np.float32]:
    if scores is None:
        return np.ones(people, np.float32)
    try:
        array = np.asarray(scores, np.float32)
    except (TypeError, ValueError):
        raise BadInputError("The box scores are not numbers: pass one in 0..1 a box.") from None
    if array.shape != (people,):
        raise BadInputError(f"There are {people} boxes and box scores of shape {array.shape}: pass one score a box.")
    if not np.isfinite(array).all():
        raise BadInputError("The box scores hold a value that is not finite: pass one in 0..1 a box.")
    return array

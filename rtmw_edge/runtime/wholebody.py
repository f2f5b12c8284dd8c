"""rtmlib's `Wholebody`, call for call: change one import and run this project's bundles instead."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crops import FARTHEST, Picture, box_array, check_boxes, check_image
from ..errors import BadInputError, unknown
from ..keypoints import NUM_KEYPOINTS
from .detection import detections, whole_image
from .detectors import open_detector
from .frames import UInt8
from .loading import BUILTIN, load
from .runner import Runner

log = logging.getLogger(__name__)

MODES = ("performance", "balanced", "lightweight")
NO_DETECTOR = "none"
"""The `det` with which nobody is looked for, as `rtmw-edge run --detector none`."""

BACKENDS = {"onnxruntime": "onnx", "openvino": "openvino"}
"""rtmlib's backends that are a target here; its third, opencv, is not."""

OPENPOSE_FROM_COCO = (0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""COCO index of each of OpenPose's 18 body keypoints; 17 is the neck, put between the shoulders."""


class Wholebody:
    """133 keypoints of everybody in a picture, with the arguments and results of `rtmlib.Wholebody`.

    `pose` is a bundle (directory or .zip) or "builtin". Without `det` the builtin detector finds the people; another is
    an ONNX file of RTMDet or YOLOX, or a callable from a picture (H,W,3) to boxes (N,4), with or without their scores
    (`rtmw_edge.runtime.detection.detections`), and with "none" the whole picture is one person. So it is where nobody
    was found, as rtmlib has it. `device` is any of `rtmw_edge.load`; the builtin detector runs on the CPU. As with
    rtmlib a size means nothing without its file; files have sizes of their own (`det_input_size` is for detectors that
    take any), and a `mode` names no model here. `det_model` and `pose_model` are there for rtmlib's PoseTracker.

    Scores are in 0..1, so that thresholds of 0.3 to 0.5 mean what they do with rtmlib.

    >>> from rtmw_edge import Wholebody                      # was: from rtmlib import Wholebody
    >>> keypoints, scores = Wholebody(device="cpu")(image)   # doctest: +SKIP
    >>> keypoints.shape, scores.shape                        # doctest: +SKIP
    ((1, 133, 2), (1, 133))
    """

    def __init__(
        self,
        det: Callable[[UInt8], Any] | str | Path | None = None,
        det_input_size: tuple[int, int] | None = None,
        pose: str | Path | None = None,
        pose_input_size: tuple[int, int] | None = None,
        mode: str | None = None,
        to_openpose: bool = False,
        backend: str | None = None,
        device: str = "cpu",
        *,
        threads: int | None = None,
    ) -> None:
        if mode is not None and mode not in MODES:
            raise unknown("mode", mode, MODES)
        if not (det is None or callable(det) or isinstance(det, (str, Path))):
            raise BadInputError(
                f"det is {det!r}, not a detector: pass an ONNX file, 'builtin', a function from an image to boxes and "
                "scores, or 'none', and the whole image is one person."
            )
        for name, value in (("det", det), ("pose", pose)):
            if isinstance(value, str) and "://" in value:
                raise BadInputError(f"{name} is the address {value}, and nothing is fetched here: pass a file.")
        if pose is not None and str(pose).endswith(".onnx"):
            raise BadInputError(
                f"pose is the bare network {pose}: pass a bundle, made with rtmw-edge export --weights."
            )
        if mode is not None and pose is None:
            log.warning("Wholebody: mode '%s' names no model here; the builtin bundle runs. Pass pose=BUNDLE.", mode)
        # rtmlib has the first GPU under this name too.
        device = device.removesuffix(":0")
        finder = _opened(BUILTIN if det is None else det, device, threads, det_input_size)
        self.runner: Runner = load(pose or BUILTIN, device=device, threads=threads)
        self._check_backend(backend)
        self._check_size(None if pose is None else pose_input_size)
        self._to_openpose = to_openpose
        self.det_model = RtmlibDetector(finder)

    def __call__(self, image: Picture) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Keypoints (N,133,2) in pixels and scores (N,133) in 0..1 of the people in `image` (H,W,3) uint8 BGR.

        With `to_openpose` they are OpenPose's 134. Where the detector finds nobody the whole image is one person.
        """
        boxes = self.det_model(image)
        return self.pose_model(image, bboxes=check_boxes(boxes, image.shape))

    def pose_model(self, image: Picture, bboxes: ArrayLike = ()) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Keypoints and scores of the people in `bboxes`; without one the whole image is one person.

        Boxes that show nothing of the image, as those of rtmlib's PoseTracker after somebody has left it, have scores
        of 0.
        """
        height, width = check_image(image).shape[:2]
        boxes = box_array(bboxes)
        if not len(boxes):
            boxes = np.array([[0, 0, width, height]], np.float32)
        there = _show(boxes, width, height)
        poses = self.runner(image, boxes[there])
        keypoints = np.empty((len(boxes), NUM_KEYPOINTS, 2), np.float32)
        scores = np.zeros((len(boxes), NUM_KEYPOINTS), np.float32)
        keypoints[:] = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        keypoints[there], scores[there] = poses.keypoints[..., :2], self.runner.confidence(poses)
        return openpose(keypoints, scores) if self._to_openpose else (keypoints, scores)

    def _check_backend(self, backend: str | None) -> None:
        if backend is None:
            return
        target = self.runner.model.target
        if BACKENDS.get(backend) != target:
            self.runner.close()
            raise BadInputError(
                f"backend is '{backend}', but the bundle runs on {self.runner.engine.runtime}: leave backend out, or "
                "pass a bundle of target onnx (for 'onnxruntime') or openvino."
            )

    def _check_size(self, size: Any) -> None:
        if size is not None and tuple(size) != self.runner.input_size:
            wanted, there = "x".join(map(str, size)), "x".join(map(str, self.runner.input_size))
            self.runner.close()
            raise BadInputError(f"pose_input_size is {wanted}, but the bundle takes {there}: leave it out.")


def _opened(
    det: Callable[[UInt8], Any] | str | Path, device: str, threads: int | None, size: tuple[int, int] | None
) -> Callable[[UInt8], Any]:
    """The detector that `det` stands for."""
    if not isinstance(det, (str, Path)):
        return det
    if str(det) == NO_DETECTOR:
        return whole_image
    return open_detector(det, "cpu" if str(det) == BUILTIN else device, threads, size=size)


def _show(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.bool_]:
    """Which boxes (N,4) show something of the image; the runner tells what is wrong with those that are none."""
    near, far = boxes[:, :2], boxes[:, 2:]
    apart = (far < 0) | (near > (width - 1, height - 1)) | (near == far)
    return ~apart.any(axis=1) & ~(np.abs(boxes) > FARTHEST).any(axis=1)


class RtmlibDetector:
    """A detector as rtmlib calls one: a picture (H,W,3) in, boxes (N,4) xyxy of its people out."""

    det_mode = "human"
    """What rtmlib's PoseTracker wants to know: the boxes are of people alone."""

    def __init__(self, detector: Callable[[UInt8], Any]) -> None:
        self._detector = detector

    def __call__(self, image: Picture) -> NDArray[np.float32]:
        return detections(self._detector(check_image(image))).boxes


def openpose(
    keypoints: NDArray[np.float32], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """COCO-WholeBody's 133 keypoints and scores in OpenPose's order of 134: a neck, and the body sorted by side.

    The neck is the middle of the shoulders, as sure as the less sure of them.
    """
    neck = keypoints[:, 5:7].mean(axis=1, keepdims=True)
    neck_score = scores[:, 5:7].min(axis=1, keepdims=True)
    points = np.concatenate([keypoints[:, :17], neck, keypoints[:, 17:]], axis=1)
    marks = np.concatenate([scores[:, :17], neck_score, scores[:, 17:]], axis=1)
    order = [*OPENPOSE_FROM_COCO, *range(18, 134)]
    return points[:, order], marks[:, order]

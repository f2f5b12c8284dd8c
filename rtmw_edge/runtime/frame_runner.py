"""A frame in, a result out: who is there, their poses, ids, smoothing and metres."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..camera import ASSUMED_DEPTH, assumed_camera, to_camera
from ..errors import BadInputError
from .detection import NOBODY, Look, looking_with, whole_image
from .frames import Failure, Frame, Result
from .runner import Runner
from .smoothing import OneEuroOptions, PoseSmoother
from .tracking import Tracker, TrackingOptions, distinct


@dataclass(frozen=True, eq=False)
class View:
    """How pixels become metres: the intrinsic matrix (3,3) and the depth of the hip middle in metres.

    Without a matrix the camera is the one that RTMW3D assumes, with its principal point in the middle of the picture.
    """

    camera: NDArray[np.float64] | None = None
    depth: float = ASSUMED_DEPTH


class FrameRunner:
    """Runs a runner on frames, one source after another.

    `look` finds the people, as `looking_with(detector)` does; without it the whole picture is one. In moving sources
    they are followed (`tracking`) and their keypoints smoothed (`smoothing`; None: not at all); single images are taken
    each by itself. Poses of the same person are one in both (`tracking.same_oks`; with 1 every box has its own).
    A source that is run again begins anew, as another one does.
    """

    def __init__(
        self,
        runner: Runner,
        look: Look | None = None,
        *,
        tracking: TrackingOptions | None = None,
        smoothing: OneEuroOptions | None = None,
        view: View | None = None,
    ) -> None:
        self.runner = runner
        self._look = look or looking_with(whole_image)
        self._view = view or View()
        self._smoothing = smoothing
        options = tracking or TrackingOptions()
        self._same_oks = options.same_oks
        # A look that sees the whole picture is of no use once it is known where in it the person is.
        self._tracker = Tracker(options if look is not None else replace(options, detect_every=0))
        self._smoother: PoseSmoother | None = None
        self._source, self._index = "", 0
        self._size: tuple[int, ...] = ()

    def __call__(self, frame: Frame) -> Result | Failure:
        """The people of `frame`; a Failure of its source where it cannot be used. Raises BadInputError in live ones."""
        try:
            return self._follow(frame) if frame.origin.moving else self._alone(frame)
        except BadInputError as error:
            reason = f"{frame.name}: {error}"
            if frame.origin.live:
                raise BadInputError(reason) from error
            return Failure(frame.origin.name, reason)

    def _alone(self, frame: Frame) -> Result:
        start = time.perf_counter()
        found = self._look(frame)
        looked = time.perf_counter()
        people = found or NOBODY
        poses = self.runner(frame.image, people.boxes, people.scores)
        confidence = self.runner.confidence(poses)
        rows, _ = distinct(poses, confidence, self._same_oks)
        result = Result(frame, poses[rows], confidence[rows], boxed=found is not None)
        return self._finished(result, start, looked)

    def _follow(self, frame: Frame) -> Result:
        # An index that does not rise is one of another run: of a file that was replaced, of a camera opened again.
        is_new = frame.origin.name != self._source or frame.index <= self._index
        self._index = frame.index
        if is_new or frame.image.shape[:2] != self._size:  # a camera that comes back may have another size
            self._source, self._size = frame.origin.name, frame.image.shape[:2]
            self._tracker.reset() if is_new else self._tracker.forget()
            self._smoother = PoseSmoother(self._smoothing) if self._smoothing else None
        start = time.perf_counter()
        wants = self._tracker.wants_detections
        wanted = self._tracker.begin(self._look(frame) if wants else None)
        looked = time.perf_counter()
        poses = self.runner(frame.image, wanted.boxes, wanted.scores)
        rows, ids = self._tracker.finish(poses, self.runner.confidence(poses), frame.image.shape)
        poses = poses[rows]
        if self._smoother is not None:
            poses = self._smoother(poses, ids, frame.time_s)
        result = Result(frame, poses, self.runner.confidence(poses), ids)
        return self._finished(result, start, looked if wants else None)

    def _finished(self, result: Result, start: float, looked: float | None) -> Result:
        """The result with its metres and times."""
        metres = None
        frame, keypoints = result.frame, result.poses.keypoints
        if keypoints.shape[2] == 3:
            camera = assumed_camera(frame.image.shape) if self._view.camera is None else self._view.camera
            metres = to_camera(keypoints, camera, self._view.depth).astype(np.float32)
        ms = {"read": frame.read_ms}
        if looked is not None:
            ms["detect"] = 1000 * (looked - start)
        ms["pose"] = 1000 * (time.perf_counter() - (looked or start))
        return replace(result, metres=metres, ms=ms)

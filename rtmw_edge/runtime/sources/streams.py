"""Cameras and network addresses: frames without end, and a connection that comes back when it was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import cv2

from ...errors import NotAvailableError
from ..frames import Failure, Frame, Origin
from .addresses import without_password
from .capture import USUAL_FPS, fps_of, open_capture, read_frame
from .raw import PictureFormat

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
"""Seconds before a lost source is tried again, doubled each time."""
NAP_S = 0.1

Opener = Callable[[int | str, PictureFormat | None], cv2.VideoCapture | None]


class LiveStream:
    """A camera (number or /dev path) or an address; while it is gone, None comes instead of frames.

    Times are those of this machine's clock, for few cameras tell good ones. Raises NotAvailableError when it is not
    there at the beginning. `opener` is what opens it.
    """

    def __init__(self, target: int | str, wanted: PictureFormat | None, opener: Opener = open_capture) -> None:
        self._target, self._wanted, self._opener = target, wanted, opener
        name = f"camera {target}" if isinstance(target, int) else without_password(target)
        self.origin = Origin(name, fps=wanted.fps if wanted else USUAL_FPS, live=True)

    def __iter__(self) -> Iterator[Frame | Failure | None]:
        capture = self._opener(self._target, self._wanted)
        if capture is None:
            raise NotAvailableError(self._not_there())
        origin = Origin(self.origin.name, fps=fps_of(capture), live=True)
        index, begin, wait_s = 0, time.perf_counter(), FIRST_WAIT_S
        lost_s: float | None = None
        try:
            while True:
                start = time.perf_counter()
                image = None if capture is None else read_frame(capture)
                now = time.perf_counter()
                if image is not None:
                    if lost_s is not None:
                        log.warning("%s is back after %.1f s.", origin.name, now - lost_s)
                        lost_s, wait_s = None, FIRST_WAIT_S
                    yield Frame(origin, index, now - begin, image, 1000 * (now - start))
                    index += 1
                    continue
                if lost_s is None:
                    lost_s = now
                    log.warning("%s was lost after %d frames; trying to reach it again.", origin.name, index)
                if capture is not None:
                    capture.release()
                while time.perf_counter() < now + wait_s:
                    time.sleep(NAP_S)
                    yield None  # so that whoever waits can stop
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                capture = self._opener(self._target, self._wanted)
        finally:
            if capture is not None:
                capture.release()

    def _not_there(self) -> str:
        name = self.origin.name
        if "://" in name:
            return f"Cannot reach {name}: check the address, the network and the password."
        return f"There is no {name} here, or another program has it: check the cable, and ls /dev/video*."

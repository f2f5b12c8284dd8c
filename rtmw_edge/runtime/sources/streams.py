"""Cameras and network addresses: frames without end, and a connection that comes back when it was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import cv2

from ...errors import NotAvailableError
from ..frames import Failure, Frame, Origin
from .capture import USUAL_FPS, fps_of, open_capture, read_frame, without_password
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
        index, begin = 0, time.perf_counter()
        try:
            while True:
                start = time.perf_counter()
                image = read_frame(capture)
                now = time.perf_counter()
                if image is not None:
                    yield Frame(origin, index, now - begin, image, 1000 * (now - start))
                    index += 1
                    continue
                capture.release()
                log.warning("%s was lost after %d frames; trying to reach it again.", origin.name, index)
                for found in self._reconnect():
                    if found is not None:
                        capture = found
                        break
                    yield None
                log.warning("%s is back after %.1f s.", origin.name, time.perf_counter() - now)
        finally:
            capture.release()

    def _reconnect(self) -> Iterator[cv2.VideoCapture | None]:
        """None again and again, so that whoever waits can stop, then the capture that was opened."""
        wait_s = FIRST_WAIT_S
        while True:
            until = time.perf_counter() + wait_s
            while time.perf_counter() < until:
                time.sleep(NAP_S)
                yield None
            capture = self._opener(self._target, self._wanted)
            if capture is not None:
                yield capture
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _not_there(self) -> str:
        name = self.origin.name
        if "://" in name:
            return f"Cannot reach {name}: check the address, the network and the password."
        return f"There is no {name} here, or another program has it: check the cable, and ls /dev/video*."

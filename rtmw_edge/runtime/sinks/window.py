"""A window that shows the annotated frames, with what every Python has: Tk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from ...errors import NotAvailableError
from ..frames import Annotated, Failure

LARGEST = 960
"""Pixels of the longer side: Tk takes time for each."""


class Window:
    """Shows each frame; closing it, q or Escape calls `stop`. Must be used in the main thread.

    Raises NotAvailableError where there is no display or no Tk.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        try:
            import tkinter
        except ImportError:
            raise NotAvailableError(
                "--show needs Tk, which this Python has not: apt install python3-tk, or use --serve 8080 and a browser."
            ) from None
        try:
            self._root: Any = tkinter.Tk()
        except tkinter.TclError:
            raise NotAvailableError(
                "There is no display for --show: run it on a desktop, or use --serve 8080 and a browser."
            ) from None
        self._root.title("rtmw-edge")
        self._root.protocol("WM_DELETE_WINDOW", self._quit)
        for key in ("q", "<Escape>"):
            self._root.bind(key, lambda event: self._quit())
        self._image = tkinter.PhotoImage(master=self._root)
        tkinter.Label(self._root, image=self._image, borderwidth=0).pack()
        self._stop = stop
        self._open = True

    def write(self, annotated: Annotated) -> None:
        if not self._open:
            return
        picture = annotated.picture
        share = LARGEST / max(picture.shape[:2])
        if share < 1:
            small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
            picture = np.asarray(small, np.uint8)
        height, width = picture.shape[:2]
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).tobytes()
        self._image.configure(width=width, height=height, data=b"P6 %d %d 255 " % (width, height) + rgb, format="PPM")
        self._root.update()

    def fail(self, failure: Failure) -> None:
        """Told in the terminal."""

    def close(self) -> list[str]:
        self.discard()
        return []

    def discard(self) -> None:
        if self._open:
            self._open = False
            self._root.destroy()

    def _quit(self) -> None:
        self.discard()
        self._stop()

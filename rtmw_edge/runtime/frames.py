"""What flows through a run: frames come in, results go out, and what could not be read is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..poses import Poses

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Origin:
    """Where frames come from: a file's path, "camera 0", an address. `fps` is None for a single image.

    A `live` origin does not wait: frames that nobody took in time are dropped.
    """

    name: str
    fps: float | None = None
    live: bool = False

    @property
    def moving(self) -> bool:
        """Whether frame follows frame, so that people can be followed."""
        return self.fps is not None

    @property
    def stem(self) -> str:
        """A file name without ending for what is written about it: "clip", and "camera-0" for what is no file."""
        if not self.live:
            return Path(self.name).stem
        return "".join(c if c.isalnum() else "-" for c in self.name.rpartition("://")[2]).strip("-")


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture (H,W,3) uint8 BGR; `index` counts from 0 within its origin, `time_s` from the origin's start.

    `read_ms` is the time that reading and decoding it took.
    """

    origin: Origin
    index: int
    time_s: float
    image: UInt8
    read_ms: float = 0.0

    @property
    def name(self) -> str:
        """ "photo.jpg", or "clip.mp4#12" for the frame of index 12."""
        return f"{self.origin.name}#{self.index}" if self.origin.moving else self.origin.name


@dataclass(frozen=True)
class Failure:
    """A source that could not be used, or not to its end, and why, in one sentence that names it."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Result:
    """The people of one frame.

    `confidence` (N,133) is in 0..1. `ids` are the people's numbers, None for a single image. `metres` (N,133,3) are
    camera-frame coordinates (x right, y down, z away), None in 2D. `ms` are the times of "read", "detect" (where it was
    looked for people) and "pose". `boxed` is False when a boxes file was given that does not speak of this image.
    """

    frame: Frame
    poses: Poses
    confidence: NDArray[np.float32]
    ids: tuple[int, ...] | None = None
    metres: NDArray[np.float32] | None = None
    ms: dict[str, float] = field(default_factory=dict)
    boxed: bool = True


class Source(Protocol):
    """Something that frames come from."""

    @property
    def origin(self) -> Origin:
        """Its name, and what is known of its speed before it is opened."""

    def __iter__(self) -> Iterator[Frame | Failure | None]:
        """Open it, give its frames in order, and close it.

        What cannot be read comes as a Failure, not raised; None comes where a live source has nothing at the moment.
        """


class Annotated:
    """A result with its picture, drawn when somebody first wants to see it."""

    def __init__(self, result: Result, paint: Callable[[Result], UInt8]) -> None:
        self.result = result
        self._paint = paint

    @cached_property
    def picture(self) -> UInt8:
        """The frame (H,W,3) with its people drawn on it."""
        return self._paint(self.result)


class Sink(Protocol):
    """Something that results go to."""

    def write(self, annotated: Annotated) -> None:
        """Take one result."""

    def fail(self, failure: Failure) -> None:
        """Hear of a source that could not be used."""

    def close(self) -> list[str]:
        """Finish what was written and tell it, a line each: "poses: out.json". Nothing taken leaves nothing behind."""

    def discard(self) -> None:
        """Drop what is half-written, on a full disk too without an error; after `close` this does nothing."""

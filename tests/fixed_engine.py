"""An engine that runs nothing: every crop has the same answer, in 2D or 3D."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.runtime import Description, Engine, Model

WIDTH, HEIGHT = 48, 64


def spots() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The bin (133,) of every keypoint in x (of 96) and y (of 128): spread over the middle of the crop."""
    rng = np.random.default_rng(5)
    return rng.integers(24, 72, 133), rng.integers(20, 108, 133)


class FixedEngine(Engine):
    """Answers `spots` with this logit; in 3D the depth of keypoint k grows with k."""

    runtime = "fixed answers"
    devices = ("cpu",)

    def __init__(self, logit: float = 8.0, *, depth: bool = False, batch: int = 8) -> None:
        bins = (2 * WIDTH, 2 * HEIGHT, 2 * WIDTH) if depth else (2 * WIDTH, 2 * HEIGHT)
        model = Model("fixed", "none", "fp32", (WIDTH, HEIGHT), bins, 2.0 if depth else None, None)
        super().__init__(model, "cpu", 1, batch=batch, fixed=False)
        places = [*spots(), np.linspace(10, 86, 133).astype(np.int64)][: len(bins)]
        self._answers = []
        for size, place in zip(bins, places, strict=True):
            line = np.zeros((133, size), np.float32)
            line[np.arange(133), place] = logit / 10 if depth else logit
            self._answers.append(line)
        self.crops = 0

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        self.crops += len(crops)
        return [np.repeat(line[None], len(crops), axis=0) for line in self._answers]

    def describe(self) -> Description:
        return Description(self.runtime, "1", "cpu", 1, {}, 0)

"""Values for calibration to look at, and the histogram that its observer makes of them."""

from __future__ import annotations

import numpy as np
import torch
from rtmw_edge.calibration.counting import BinCounter
from rtmw_edge.calibration.histogram import Histogram
from rtmw_edge.calibration.observing import Observer, Seen


def observed(*batches: np.ndarray, threads: int = 1) -> Histogram:
    """The histogram of batches of values (crops, values), or (values,) of one crop."""
    observer = Observer("here:input", BinCounter(threads), Seen())
    for batch in batches:
        observer(torch.from_numpy(np.atleast_2d(batch).copy()))
    return observer.histogram


def heavy_tailed(count: int = 200_000) -> np.ndarray:
    """Student's t with 3 degrees of freedom, a little off zero."""
    return (np.random.default_rng(7).standard_t(3, count) + 0.7).astype(np.float32)


def silu_like(count: int = 200_000) -> np.ndarray:
    """Values as after SiLU: none below -0.278, a long tail above."""
    x = np.random.default_rng(3).standard_t(4, count) * 2
    return (x / (1 + np.exp(-x))).astype(np.float32)

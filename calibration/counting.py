"""Counting values into bins, in one walk over memory and on several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import NDArray

from .histogram import BINS

SMALL = 1 << 18
"""Tensors of fewer values are counted where they are: handing them to threads costs more than it saves."""


class BinCounter:
    """Counts values on `threads` threads; torch's own are idle meanwhile."""

    def __init__(self, threads: int) -> None:
        self._scratch = np.zeros((threads, 2 * BINS), np.int64)
        self._executor = ThreadPoolExecutor(threads)

    def count(self, values: NDArray[np.float32], exponent: int) -> NDArray[np.int64]:
        """Counts (2, BINS) of `values` (M,), all below 2**exponent in magnitude: from zero up, and below zero.

        Scaling by a power of two is exact, and cutting off what follows the point is the same rule on every scale.
        """
        factor = np.float32(BINS / 2.0**exponent)
        self._scratch[:] = 0
        parts = np.array_split(values, len(self._scratch)) if values.size >= SMALL else [values]
        jobs = [
            self._executor.submit(_count, part, factor, place)
            for part, place in zip(parts[1:], self._scratch[1:], strict=False)
        ]
        _count(parts[0], factor, self._scratch[0])
        for job in jobs:
            job.result()
        return np.asarray(self._scratch.sum(0).reshape(2, BINS))


@numba.njit(nogil=True, cache=True)
def _count(values: NDArray[np.float32], factor: np.float32, counts: NDArray[np.int64]) -> None:
    for i in range(values.size):
        bin_ = int(values[i] * factor)
        counts[bin_ if values[i] >= 0 else BINS - bin_] += 1  # no branch: signs cannot be predicted

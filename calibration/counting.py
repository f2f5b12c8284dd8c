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
        self._scratch = np.zeros((threads - 1, 2, BINS), np.int64)
        self._executor = ThreadPoolExecutor(max(threads - 1, 1))

    def count(self, values: NDArray[np.float32], exponent: int, counts: NDArray[np.int64]) -> None:
        """Add to `counts` (2, BINS) those of `values` (M,), all below 2**exponent in magnitude.

        The first row is for values from zero up, the second for those below, by magnitude. Scaling by a power of two is
        exact, and cutting off what follows the point is the same rule on every scale.
        """
        factor = np.float32(BINS / 2.0**exponent)
        helpers = len(self._scratch) if values.size >= SMALL else 0
        first, *parts = np.array_split(values, helpers + 1)
        jobs = []
        for part, scratch in zip(parts, self._scratch, strict=False):
            scratch[:] = 0
            jobs.append(self._executor.submit(_count, part, factor, scratch.reshape(-1)))
        _count(first, factor, counts.reshape(-1))
        for job, scratch in zip(jobs, self._scratch, strict=False):
            job.result()
            counts += scratch


@numba.njit(nogil=True, cache=True)
def _count(values: NDArray[np.float32], factor: np.float32, counts: NDArray[np.int64]) -> None:
    for i in range(values.size):
        bin_ = int(values[i] * factor)
        counts[bin_ if values[i] >= 0 else BINS - bin_] += 1  # no branch: signs cannot be predicted

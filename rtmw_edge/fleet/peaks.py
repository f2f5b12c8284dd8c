"""What a board sends back of its logits: where each line has its peak, and the score. A thousandth of their bytes.

Decoding without refinement looks at nothing else, so that the desktop gets the same keypoints from them, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..runtime.engine import Logits


def peaks_of(logits: Logits) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """The bin (N,133,axes) of the maximum per axis, and the score (N,133), the lower of the x and y maxima."""
    bins = np.stack([line.argmax(axis=2) for line in logits], axis=2).astype(np.int16)
    scores = np.minimum(logits[0].max(axis=2), logits[1].max(axis=2))
    return bins, scores


def logits_of(bins: NDArray[np.int16], scores: NDArray[np.float32], sizes: Sequence[int]) -> Logits:
    """Lines (N,133,size) per axis with these peaks of the height of the score, and nothing (-inf) elsewhere."""
    lines = []
    for axis, size in enumerate(sizes):
        line = np.full((*scores.shape, size), -np.inf, np.float32)
        np.put_along_axis(line, bins[..., axis, None].astype(np.intp), scores[..., None], axis=2)
        lines.append(line)
    return tuple(lines)

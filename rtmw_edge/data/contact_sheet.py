"""Many pictures side by side as one, to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SHEET_ASPECT = 16 / 10


def contact_sheet(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one size (H,W,3) side by side, in rows that make a sheet of about 16:10."""
    height, width = images[0].shape[:2]
    columns = min(len(images), max(1, round(math.sqrt(len(images) * _SHEET_ASPECT * height / width))))
    rows = math.ceil(len(images) / columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * height, i % columns * width
        sheet[y : y + height, x : x + width] = image
    return sheet

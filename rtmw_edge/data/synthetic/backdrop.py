"""What stands behind the people of one picture: pieces of pooled backgrounds, put together anew each time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .background import Photographs, draw_background
from .colour import draw_colour, draw_skin
from .filters import resized
from .leaves import paint_limbs
from .seeds import Pool, Streams
from .texture import noise

_PHOTOGRAPHIC = 0.7  # share of photographs where there are some


class Backdrops:
    """Draws backdrops for the pictures of one split. `photographs`: a folder to use in turn with drawn backgrounds."""

    def __init__(self, streams: Streams, photographs: Path | None) -> None:
        self._streams = streams
        self._photographs = Photographs(photographs) if photographs is not None else None
        self._pool: Pool[NDArray[np.uint8]] = Pool(self._make, width=40, pace=64, kept=64)

    def _make(self, entry: int) -> NDArray[np.uint8]:
        rng = self._streams.generator("background", entry)
        if self._photographs is not None and rng.random() < _PHOTOGRAPHIC:
            return self._photographs(rng)
        return draw_background(rng)

    def draw(self, index: int, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
        """A backdrop of `size` (width, height) for the picture at `index`, (H,W,3) uint8 BGR."""
        image = _piece(rng, self._pool.draw(index, rng), size)
        if rng.random() < 0.35:  # part of another place: more variety than there are places
            _blend(rng, image, _piece(rng, self._pool.draw(index, rng), size))
        if rng.random() < 0.3:
            skins = [draw_skin(rng, rng.random()) for _ in range(2)]
            limbs = image.astype(np.float32)
            paint_limbs(rng, limbs, int(rng.integers(1, 8)), np.stack([*skins, *(draw_colour(rng) for _ in range(4))]))
            image = np.clip(limbs, 0, 255).astype(np.uint8)
        return image


def _piece(rng: np.random.Generator, source: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A piece of a background, flipped, enlarged and tinted at random, (size[1], size[0], 3)."""
    height, width = source.shape[:2]
    aspect = size[0] / size[1]
    cut_width = max(8, int(min(width, height * aspect) * rng.uniform(0.3, 1)))
    cut_height = min(height, max(8, int(cut_width / aspect)))
    x, y = int(rng.integers(width - cut_width + 1)), int(rng.integers(height - cut_height + 1))
    piece = resized(source[y : y + cut_height, x : x + cut_width], size)
    if rng.random() < 0.5:
        piece = np.asarray(cv2.flip(piece, 1), np.uint8)
    if rng.random() < 0.5:
        tables = np.clip(np.arange(256)[:, None] * rng.uniform(0.7, 1.25, 3), 0, 255).astype(np.uint8)
        piece = np.asarray(cv2.LUT(piece, tables[:, None]), np.uint8)
    return piece


def _blend(rng: np.random.Generator, image: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
    """Put a part of `other` into `image`: below a line, beside one, or in patches."""
    height, width = image.shape[:2]
    kind = rng.integers(3)
    if kind == 0:
        cut = int(height * rng.uniform(0.3, 0.85))
        image[cut:] = other[cut:]
    elif kind == 1:
        cut = int(width * rng.uniform(0.2, 0.8))
        image[:, cut:] = other[:, cut:]
    else:
        patches = noise(rng, height, width, 3, int(rng.integers(2, 6))) > rng.uniform(0.4, 0.7)
        cv2.copyTo(other, patches.view(np.uint8), image)

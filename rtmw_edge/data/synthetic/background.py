"""Backgrounds: pictures without people, as cluttered and as varied as photographs are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from ...errors import BadInputError
from .colour import draw_scenery_colour as draw_colour
from .filters import blurred, resized
from .leaves import paint_leaves
from .mesh import FloatArray
from .scenery import draw_scenery
from .seeds import pick
from .texture import noise

HEIGHT, WIDTH = 480, 640
_PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@numba.njit(cache=True)
def _dim(image: FloatArray, share: FloatArray) -> None:
    """Multiply the pixels of `image` (H,W,3) by `share` (H,W), in place."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for k in range(3):
                image[y, x, k] *= share[y, x]


@numba.njit(cache=True)
def _mix(image: FloatArray, colour: FloatArray, share: FloatArray) -> None:
    """Turn `image` (H,W,3) into `colour` (3,) by `share` (H,W) 0..1, in place."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for k in range(3):
                image[y, x, k] += share[y, x] * (colour[k] - image[y, x, k])


@numba.njit(cache=True)
def _fill_below(image: FloatArray, top: NDArray[np.int64], colour: FloatArray, share: FloatArray) -> None:
    """Paint `image` (H,W,3) from row `top` (W,) on in `colour` (3,) times `share` (H,W), in place."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if y >= top[x]:
                for k in range(3):
                    image[y, x, k] = colour[k] * share[y, x]


def _cluttered(rng: np.random.Generator) -> FloatArray:
    """Things of all sizes over each other."""
    image = _open_land(rng) if rng.random() < 0.5 else np.tile(draw_colour(rng), (HEIGHT, WIDTH, 1))
    paint_leaves(rng, image, int(np.exp(rng.uniform(np.log(60), np.log(1500)))))
    return image


def _foliage(rng: np.random.Generator) -> FloatArray:
    """Leaves, grass and undergrowth, darker in its depth."""
    image = _open_land(rng)
    for _ in range(int(rng.integers(1, 4))):
        image *= np.float32(rng.uniform(0.5, 1))
        paint_leaves(rng, image, int(rng.integers(800, 3500)), foliage=True)
    return image


def _open_land(rng: np.random.Generator) -> FloatArray:
    """Sky, a far ridge and ground: snow, sand, water, grass, a pitch, a road."""
    image = np.empty((HEIGHT, WIDTH, 3), np.float32)
    horizon = int(HEIGHT * rng.uniform(-0.1, 0.9))
    rows = np.arange(HEIGHT, dtype=np.float32)[:, None]
    zenith, low = draw_colour(rng, 70), draw_colour(rng, 130)
    image[:] = (low + (zenith - low) * np.clip(1 - rows / max(horizon, 1), 0, 1))[:, None]
    if rng.random() < 0.5:
        clouds = np.clip(noise(rng, HEIGHT, WIDTH, 7, int(rng.integers(2, 5))) * 3 - rng.uniform(1, 2), 0, 1)
        _mix(image, draw_colour(rng, 180), clouds)
    for depth in range(int(rng.integers(0, 4))):  # ridges, woods or roofs, each nearer and darker
        ridge = noise(rng, 1, WIDTH, int(rng.integers(2, 8)), int(rng.integers(2, 8)))[0]
        top = horizon - (ridge * HEIGHT * rng.uniform(0.03, 0.35)).astype(int)
        colour = (low * 0.6 + draw_colour(rng, 20, 160) * 0.4) * np.float32(0.9 - 0.2 * depth)
        _fill_below(image, top, colour, 0.7 + 0.6 * noise(rng, HEIGHT, WIDTH, 6, 12, 0.8))
    ground = draw_colour(rng, 40, 245)
    if horizon < HEIGHT - 8:
        # Noise on the ground plane: rows near the horizon show more of it.
        plain = noise(rng, 512, 512, 8, 4, rng.uniform(0.5, 0.85))
        start = max(horizon, 0)
        distance = 40.0 / (np.arange(start, HEIGHT) - horizon + 4.0)
        x = (np.arange(WIDTH) - WIDTH / 2)[None] * distance[:, None] * rng.uniform(0.3, 2) + 256
        y = np.repeat(distance[:, None] * 500, WIDTH, 1)
        sampled = cv2.remap(plain, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, None, cv2.BORDER_WRAP)
        if rng.random() < 0.3:  # mown stripes, lanes, tiles
            sampled = sampled + rng.uniform(0.1, 0.6) * (np.sin(x * rng.uniform(0.02, 0.3)) > rng.uniform(-0.5, 0.95))
        image[start:] = ground * (0.65 + rng.uniform(0.2, 0.9) * (sampled - 0.3))[..., None]
    return np.clip(image, 0, 255).astype(np.float32)


def _smooth(rng: np.random.Generator) -> FloatArray:
    """A wall, a studio, fog: colours that flow into each other."""
    mix = noise(rng, HEIGHT, WIDTH, int(rng.integers(1, 8)), 2, rng.uniform(0.3, 0.7))[..., None]
    return (draw_colour(rng) * mix + draw_colour(rng) * (1 - mix)).astype(np.float32)


def _built(rng: np.random.Generator) -> FloatArray:
    """A room or a street, sometimes with things or plants strewn over it."""
    image = draw_scenery(rng, HEIGHT, WIDTH)
    if rng.random() < 0.4:
        paint_leaves(rng, image, int(rng.integers(10, 120)), foliage=rng.random() < 0.5)
    return image


def _fence(rng: np.random.Generator, image: FloatArray) -> None:
    """Wires, bars, a net or railings across the picture."""
    colour = draw_colour(rng).tolist()
    step, slope = rng.uniform(8, 60), rng.normal(0, 0.1) if rng.random() < 0.5 else 1.0
    thickness = int(rng.integers(1, 5))
    for x in np.arange(-HEIGHT, WIDTH + HEIGHT, step):
        cv2.line(image, (int(x), 0), (int(x + slope * HEIGHT), HEIGHT), colour, thickness, cv2.LINE_AA)
        if slope == 1.0:
            cv2.line(image, (int(x), HEIGHT), (int(x + slope * HEIGHT), 0), colour, thickness, cv2.LINE_AA)


def _light_up(rng: np.random.Generator, image: FloatArray) -> None:
    """Uneven light: soft large shadows and hard ones."""
    _dim(image, 1 + rng.uniform(0, 0.7) * (noise(rng, HEIGHT, WIDTH, 3, 2) - 0.5))
    if rng.random() < 0.3:
        shade = np.ones((HEIGHT, WIDTH), np.float32)
        for _ in range(int(rng.integers(1, 4))):
            corners = rng.uniform(-0.3, 1.3, (int(rng.integers(3, 6)), 2)) * (WIDTH, HEIGHT)
            cv2.fillPoly(shade, [corners.astype(np.int32)], float(rng.uniform(0.35, 0.8)), cv2.LINE_AA)
        _dim(image, blurred(shade, rng.uniform(1, 12)))


def _lamps(rng: np.random.Generator, image: FloatArray, blur: float) -> None:
    """Bright discs, which is what lamps and glints become out of focus."""
    for _ in range(int(rng.integers(3, 40))):
        at = (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)))
        cv2.circle(image, at, int(blur * rng.uniform(1, 3)), draw_colour(rng, 180).tolist(), -1, cv2.LINE_AA)


_KINDS: dict[Callable[[np.random.Generator], FloatArray], float] = {
    _cluttered: 0.27,
    _built: 0.36,
    _open_land: 0.17,
    _foliage: 0.14,
    _smooth: 0.06,
}


def draw_background(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A background (480,640,3) uint8 BGR."""
    image = np.ascontiguousarray(pick(rng, _KINDS)(rng), np.float32)
    if rng.random() < 0.12:
        _fence(rng, image)
    _light_up(rng, image)
    if rng.random() < 0.55:  # out of focus
        blur = float(np.exp(rng.uniform(np.log(0.6), np.log(6))))
        if blur > 2.5 and rng.random() < 0.3:
            _lamps(rng, image, blur)
        image = blurred(image, blur)
    _dim(image, 1 + rng.uniform(0.05, 0.35) * (noise(rng, HEIGHT, WIDTH, 8, 8, 0.9) - 0.5))
    return np.clip(image, 0, 255).astype(np.uint8)


class Photographs:
    """Anyone's photographs as backgrounds: all pictures below a folder but hidden ones, in the order of their names.

    Raises BadInputError when the folder holds none, or one that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        seen = (path for path in Path(folder).rglob("*") if not path.name.startswith("."))
        self._paths = sorted(path for path in seen if path.suffix.lower() in _PHOTOGRAPHS)
        if not self._paths:
            raise BadInputError(f"No photographs in '{folder}'; give --backgrounds a folder with .jpg or .png files.")

    def __len__(self) -> int:
        return len(self._paths)

    def __call__(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """One photograph, reduced so that its shorter side has 480 pixels."""
        path = self._paths[int(rng.integers(len(self._paths)))]
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise BadInputError(f"Cannot read the photograph '{path}'; remove it from the folder of --backgrounds.")
        scale = HEIGHT / min(image.shape[:2])
        size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
        return resized(np.asarray(image, np.uint8), size)

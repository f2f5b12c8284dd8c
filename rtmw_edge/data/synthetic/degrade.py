"""What cameras and files do to a picture: blur, colour, noise, low resolution, compression."""

from __future__ import annotations

import math

import cv2
import numba
import numpy as np
from numpy.typing import NDArray

from .filters import blurred, resized
from .mesh import FloatArray
from .seeds import choose


@numba.njit(fastmath=True, cache=True)
def _curve(
    image: FloatArray,
    gain: FloatArray,
    offset: FloatArray,
    curve: FloatArray,
    grey: np.float32,
    noise: np.float32,
    speckle: FloatArray,
    out: NDArray[np.uint8],
) -> None:
    """Desaturation, tone curve, colour balance and noise in one pass over (H,W,3).

    curve (1024,) maps brightness, in quarters of a grey level, to 0..255.
    """
    count = speckle.shape[0]
    at = 0
    for y in range(image.shape[0]):
        at = (at * 31 + y * 977 + 13) % (count - 3 * image.shape[1] - 1)
        for x in range(image.shape[1]):
            blue, green, red = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            mean = np.float32(0.114) * blue + np.float32(0.587) * green + np.float32(0.299) * red
            for k in range(3):
                value = image[y, x, k]
                value = max(np.float32(0), value + grey * (mean - value)) * np.float32(4)
                value = curve[min(1023, int(value))] * gain[k] + offset[k] + noise * speckle[at + 3 * x + k]
                out[y, x, k] = np.uint8(min(np.float32(255), max(np.float32(0), value)))


def _moving(rng: np.random.Generator, image: FloatArray) -> FloatArray:
    """Blur along a line of three to six pixels, as of a hand that shakes."""
    length = int(rng.integers(3, 7))
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), float(rng.uniform(0, 180)), 1)
    kernel = np.asarray(cv2.warpAffine(line, turn, (length, length)), np.float32)
    kernel /= np.float32(max(float(kernel.sum()), 1e-3))
    return np.asarray(cv2.filter2D(image, -1, kernel), np.float32)


def _compressed(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture after a JPEG file of quality 35 to 95."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 96))])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def degrade(image: FloatArray, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture (H,W,3) BGR, nominally 0..255, as a worse one of the same size."""
    height, width = image.shape[:2]
    if rng.random() < 0.25:
        image = blurred(image, rng.uniform(0.3, 1.1))
    if rng.random() < 0.04:
        image = _moving(rng, image)
    if rng.random() < 0.2:  # small people, enlarged: the body is 80 to 170 pixels high in the picture it came from
        small = math.exp(rng.uniform(math.log(0.4), math.log(0.85)))
        image = resized(image, (max(8, int(width * small)), max(8, int(height * small))), cv2.INTER_AREA)
    out = _expose(image, rng)
    if rng.random() < 0.45:
        out = _compressed(rng, out)
    if out.shape[:2] != (height, width):
        way = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[choose(rng, (0.6, 0.4))]
        out = resized(out, (width, height), way)
    return out


_SPECKLE = np.random.default_rng(0).standard_normal(400_000, dtype=np.float32)


def _expose(image: FloatArray, rng: np.random.Generator) -> NDArray[np.uint8]:
    mean = float(image[::4, ::4].mean())
    exposure = min(3.0, max(1.0, rng.uniform(70, 105) / max(mean, 1.0)))  # nobody keeps a black picture
    contrast = rng.uniform(0.8, 1.2)
    gain = np.full(3, contrast)
    if rng.random() < 0.4:
        gain *= rng.uniform(0.88, 1.12, 3)
    offset = np.full(3, 128 * (1 - contrast) + rng.normal(0, 8))
    gamma = rng.uniform(0.75, 1.3) if rng.random() < 0.5 else 1.0
    grey = 1.0 if rng.random() < 0.03 else rng.uniform(-0.3, 0.5) if rng.random() < 0.5 else 0.0
    noise = 8 * rng.random() ** 2 if rng.random() < 0.5 else 0.0
    curve = (255 * (np.arange(1024) * (exposure / 1020)) ** gamma).astype(np.float32)
    out = np.empty(image.shape, np.uint8)
    shift = int(rng.integers(len(_SPECKLE) // 2))
    _curve(
        image,
        gain.astype(np.float32),
        offset.astype(np.float32),
        curve,
        np.float32(grey),
        np.float32(noise),
        _SPECKLE[shift:],
        out,
    )
    return out

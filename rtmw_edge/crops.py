"""From image and person box to the network's crop, and from crop coordinates back to the image.

An integer coordinate is the centre of a pixel, as in OpenCV. The transform is mmpose's TopdownAffine without UDP: the
box is padded by 1.25, widened or heightened to the crop's aspect, and its middle lands on (width / 2, height / 2).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadInputError

PADDING = 1.25
"""How much larger than the person's box the crop is, before its aspect is fixed."""

FARTHEST = 1 << 24
"""Pixels; beyond, float32 does not tell one from the next, and no image is so large."""

LONGEST = (1 << 15) - 2
"""Pixels of the longer side that OpenCV 4 can warp."""

JPEG = b"\xff\xd8"
"""How a JPEG begins, which has no alpha and at most 8 bits."""

UInt8 = NDArray[np.uint8]
Picture = NDArray[Any]
"""A uint8 image before `check_image`: what `cv2.imread` gives may hold any numbers, as a type checker sees it."""
Float = NDArray[np.float64]


def box_to_crop(boxes: ArrayLike, input_size: tuple[int, int], padding: float = PADDING) -> tuple[Float, Float]:
    """Centres (N,2) and scales (N,2), both in image pixels, of the crops around `boxes` (N,4) xyxy.

    A scale is the crop's (width, height) in the image, in the aspect of `input_size` (width, height).
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    near, far = corners[:, :2], corners[:, 2:]
    extents = (far - near) * padding
    aspect = input_size[0] / input_size[1]
    return (near + far) / 2, np.maximum(extents, extents[:, ::-1] * (aspect, 1 / aspect))


def warp_matrix(
    center: ArrayLike, scale: ArrayLike, input_size: tuple[int, int], rotation_deg: float = 0.0
) -> NDArray[np.float64]:
    """The affine (2,3) from image to crop pixels; a positive rotation turns the crop's frame clockwise in the image."""
    width, height = input_size
    zoom = width / float(np.asarray(scale)[0])
    angle = math.radians(rotation_deg)
    cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
    x, y = np.asarray(center, np.float64)
    return np.array(
        [
            [cosine, sine, width / 2 - (cosine * x + sine * y)],
            [-sine, cosine, height / 2 - (cosine * y - sine * x)],
        ]
    )


def crop(
    image: UInt8, center: ArrayLike, scale: ArrayLike, input_size: tuple[int, int], out: UInt8 | None = None
) -> UInt8:
    """The crop (H,W,3) of `image` (H,W,3), bilinear, black outside the image; written into `out` when it is given."""
    matrix = warp_matrix(center, scale, input_size)
    if max(image.shape[:2]) > LONGEST:
        image, origin, step = _seen(image, np.asarray(center, np.float64), np.asarray(scale, np.float64))
        matrix = np.stack([step * matrix[:, 0], step * matrix[:, 1], matrix[:, :2] @ origin + matrix[:, 2]], axis=1)
    warped = cv2.warpAffine(image, matrix, input_size, dst=out, flags=cv2.INTER_LINEAR)
    return warped  # type: ignore[return-value]


def _seen(image: UInt8, center: Float, scale: Float) -> tuple[UInt8, Float, int]:
    """What a crop sees of a large image, at most `LONGEST` pixels of it: every so-many-th, and where the first lies."""
    step = math.ceil((scale.max() + 6) / (LONGEST - 2))  # 6 and two steps: the edges below
    limits = np.array(image.shape[1::-1])
    low = np.clip(np.floor(center - scale / 2) - 1 - step, 0, limits - 1).astype(int)
    high = np.clip(np.ceil(center + scale / 2) + 2 + step, low + 1, limits).astype(int)
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    return image[top:bottom:step, left:right:step], low.astype(np.float64), step


def to_image(
    points: ArrayLike, centers: ArrayLike, scales: ArrayLike, input_size: tuple[int, int]
) -> NDArray[np.float32]:
    """Crop pixels `points` (N,K,2|3) back to image pixels; a third coordinate is kept as it is.

    image = crop / (width, height) * scale + center - scale / 2, for `centers` (N,2) and `scales` (N,2).
    """
    moved = np.array(points, np.float64)
    middle, extent = np.asarray(centers)[:, None], np.asarray(scales)[:, None]
    moved[..., :2] = (moved[..., :2] / np.asarray(input_size) - 0.5) * extent + middle
    return moved.astype(np.float32)


def check_image(image: Picture) -> UInt8:
    """`image` when it is a non-empty uint8 BGR array (H,W,3); BadInputError otherwise."""
    if not isinstance(image, np.ndarray):
        raise BadInputError(
            f"The image is a {type(image).__name__}, not an array: pass a uint8 BGR array (height, width, 3)."
        )
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        taken = image.dtype in (np.uint8, np.uint16) and (image.ndim == 2 or image.shape[2:] in ((1,), (3,), (4,)))
        what = "convert it with rtmw_edge.crops.to_bgr8" if taken else "scale it to 0..255, and put the colours last"
        what = what if image.ndim in (2, 3) else "pass one image at a time"
        raise BadInputError(
            f"The image is {image.dtype} of shape {image.shape}, not uint8 BGR (height, width, 3): {what}."
        )
    if image.size == 0:
        raise BadInputError(f"The image of shape {image.shape} is empty: pass one of at least 1x1 pixel.")
    return image


def box_array(boxes: ArrayLike) -> NDArray[np.float32]:
    """`boxes` as float32 (N,4), N >= 0, wherever they lie; BadInputError for what is no such thing."""
    try:
        array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError):
        raise BadInputError("The boxes are not numbers: pass an array (N,4) of x1, y1, x2, y2.") from None
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise BadInputError(f"The boxes have shape {array.shape}, not (N,4): pass x1, y1, x2, y2 a person.")
    return array


def check_boxes(boxes: ArrayLike, image_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """`boxes` as float32 (N,4) xyxy, N >= 0; BadInputError for one that is not finite, inverted or outside the image.

    A box partly outside is fine. `image_shape` is (height, width, ...).
    """
    array = box_array(boxes)
    height, width = image_shape[:2]
    for index, (x1, y1, x2, y2) in enumerate(array.tolist()):  # sooner done than in numpy, for people in one image
        if not all(map(math.isfinite, (x1, y1, x2, y2))):
            why = "holds a value that is not finite: drop it"
        elif max(map(abs, (x1, y1, x2, y2))) > FARTHEST:
            why = f"reaches farther than {FARTHEST} pixels: drop it"
        elif x2 <= x1 or y2 <= y1:
            why = "is empty or inverted: pass x1 < x2 and y1 < y2"
        elif x2 < 0 or y2 < 0 or x1 > width - 1 or y1 > height - 1:
            why = f"lies wholly outside the {width}x{height} image: drop it or check its coordinates"
        else:
            continue
        values = ", ".join(f"{value:g}" for value in array[index])
        raise BadInputError(f"Box {index} ({values}) {why}.")
    return array


def to_bgr8(image: NDArray) -> UInt8:
    """Any image as uint8 BGR (H,W,3): grey is repeated, alpha is laid over black, 16 bits are scaled to 8.

    Takes uint8 or uint16 of shape (H,W), (H,W,1), (H,W,3) BGR or (H,W,4) BGRA; BadInputError for another.
    """
    array = np.asarray(image)
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise BadInputError(
            f"Cannot turn an image of {array.dtype} and shape {array.shape} into 8-bit BGR: "
            "pass uint8 or uint16 with 1, 3 or 4 channels."
        )
    if array.dtype == np.uint16:
        array = np.round(array / 257.0).astype(np.uint8)
    colour = array.reshape(*array.shape[:2], channels)
    if channels == 4:
        colour = np.round(colour[..., :3] * (colour[..., 3:] / 255.0)).astype(np.uint8)
    return check_image(np.ascontiguousarray(np.broadcast_to(colour, (*array.shape[:2], 3))))


def read_image(path: Path | str) -> UInt8:
    """The image file as uint8 BGR (H,W,3), turned upright by its EXIF orientation; BadInputError names a bad file."""
    path = Path(path)
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except FileNotFoundError:
        raise BadInputError(f"There is no image {path}: check the path.") from None
    except OSError as error:
        raise BadInputError(f"Cannot read the image {path}: {error.strerror}. Check the path.") from error
    try:
        image = _decode(data) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise BadInputError(
            f"Cannot decode {path} as an image: it is damaged, empty, of an unknown format or too large for OpenCV "
            "(2^30 pixels)."
        )
    try:
        return to_bgr8(image)
    except BadInputError as error:
        raise BadInputError(f"{path}: {error}") from None


def _decode(data: UInt8) -> NDArray | None:
    """An encoded picture as to_bgr8 takes it, upright; None for what is none."""
    upright = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if upright is None or data[:2].tobytes() == JPEG:
        return upright
    whole = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if whole is None or whole.ndim == 2 or whole.shape[2] != 4:
        return upright
    # Alpha comes only in the mode that does not turn by EXIF, so it is turned as the colours were.
    turned = (np.rot90(seen, turns) for seen in (whole, whole[:, ::-1]) for turns in range(4))
    return next((one for one in turned if np.array_equal(one[..., :3], upright)), whole)

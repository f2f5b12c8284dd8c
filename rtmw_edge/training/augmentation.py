"""From an annotated instance to a training crop: half body, box, rotation, flip, colour, blur, dropout (spec 4.4, 2.5).

The order and the distributions are those of RTMW's two training stages. Three things differ on purpose. The official
photometric distortion applies contrast twice or never; here it is once, before or after the HSV step. The official flip
of RTMW3D leaves depth unpermuted, which gives every left joint of a mirrored person the depth of its right twin; here
depth is permuted with x and y. Levels are rounded once, not truncated after every step. numpy and OpenCV only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from statistics import NormalDist
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..crops import PADDING, box_to_crop, warp_matrix
from ..data.instances import Instance
from ..errors import BadInputError
from ..keypoints import FLIP
from ..simcc import LEFT_HIP, RIGHT_HIP, Z_RANGE

UPPER, LOWER = slice(0, 11), slice(11, 23)
"""The two halves of a body, feet with the lower one; face and hands belong to neither."""
HALF_BODY_LABELLED, UPPER_LABELLED, LOWER_LABELLED = 9, 2, 3
"""Labelled keypoints that a half-body crop needs: in all, in the upper half, in the lower half."""
PREFER_UPPER = 0.7
HALF_BODY_PADDING = 1.5
PART_SCALE = (1.5, 2.0)
"""How much further a face or hand set is zoomed out, beside a second padding, so that it is as small as in a person."""
BLUR_SIZES = (3, 5, 7)
UNKNOWN_DEPTH = 1.0
"""What stands in z, in pixels, where the depth is not known; its weight is 0."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of an image on its way to a crop; the defaults are light, for rendered people.

    Probabilities, 0..1: `flip`; `half_body` (zoom on the upper or lower half, where enough is labelled); `rotation`;
    `shift_probability`; `photometric` (brightness, contrast, saturation, hue and channel order, each in half of the
    cases); `hsv` (the small jitter of RTMW3D); `colour` (ours: gain per channel, gamma, saturation, channel order);
    `grey`; `blur` (mean) and `median_blur`, 3 to 7 pixels; `dropout` (one black box).

    Sizes: `scale` bounds of the crop's size over the padded box's; `shift` in padded boxes and `rotation_degrees`, both
    times a normal truncated at one standard deviation, as is the scale within its bounds; `dropout_size` bounds of the
    box's sides over the crop's.

    Raises:
        BadInputError: a value is out of its range.
    """

    flip: float = 0.5
    half_body: float = 0.0
    rotation: float = 0.5
    rotation_degrees: float = 40.0
    scale: tuple[float, float] = (0.75, 1.3)
    shift: float = 0.08
    shift_probability: float = 1.0
    photometric: float = 0.0
    hsv: float = 0.0
    colour: float = 0.8
    grey: float = 0.05
    blur: float = 0.1
    median_blur: float = 0.0
    dropout: float = 0.3
    dropout_size: tuple[float, float] = (0.1, 0.35)

    def __post_init__(self) -> None:
        for one in fields(self):
            value, limit = getattr(self, one.name), 180.0 if one.name == "rotation_degrees" else 1.0
            if one.type == "float" and not 0 <= value <= limit:
                raise BadInputError(f"The augmentation's {one.name} is {value}; it lies in 0..{limit:g}.")
        for name, limit in (("scale", 10.0), ("dropout_size", 1.0)):
            bounds = getattr(self, name)
            numbers = len(bounds) == 2 and all(type(bound) in (int, float) for bound in bounds)
            if not numbers or not 0 < bounds[0] <= bounds[1] <= limit:
                raise BadInputError(
                    f"The augmentation's {name} is {list(bounds)}; give two numbers, 0 < low <= high <= {limit:g}."
                )

    def second_stage(self) -> Augmentation:
        """The same without shift, colour and dropout: the last epochs see people as they are; blur stays (spec 4.4)."""
        return replace(
            self, shift=0.0, shift_probability=0.0, photometric=0.0, hsv=0.0, colour=0.0, grey=0.0, dropout=0.0
        )


def augmented(
    image: NDArray[np.uint8],
    instance: Instance,
    input_size: tuple[int, ...],
    augmentation: Augmentation,
    rng: np.random.Generator,
    *,
    hidden_weight: float = 1.0,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """A random crop around an instance, with its keypoints and their weights.

    Args:
        image: (H, W, 3) uint8 BGR, the instance's picture.
        instance: one of a face or hand set (`whole` false) is zoomed out further (spec 4.4).
        input_size: (width, height) of the crop in pixels, or (width, height, depth) for RTMW3D.
        hidden_weight: weight of keypoints that are hidden; visible ones weigh 1, unlabelled ones 0.

    Returns:
        crop (height, width, 3) uint8 BGR; points (133, 2 or 3) float32 in crop pixels, which may lie outside the crop;
        weights (133, 2 or 3) float32 per axis. Depth is (z - z of the hips' middle) / Z_RANGE + 1 times depth / 2
        (spec 2.2); its weight is 0 where the instance has none, and everywhere where a hip has none.
    """
    plan = planned(instance, input_size, augmentation, rng, hidden_weight=hidden_weight)
    width, height = input_size[:2]
    crop = cv2.warpAffine(image, plan.matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return changed(crop, plan.changes), plan.points, plan.weights


class Change(NamedTuple):
    """One change of a crop's pixels, all chance drawn; a crop has one after the other.

    `kind`, and what `values` (int16) then holds: "levels", (256, 3) what every level of B, G and R becomes; "hsv", the
    same for hue (0..179), saturation and value, as OpenCV's 8-bit HSV has them; "order", (3,) the new order of the
    channels; "grey", none; "blur" and "median", none, with the filter's side in `size`, pixels; "dropout", (4,) the
    black box x, y, w, h.
    """

    kind: str
    values: NDArray[np.int16]
    size: int = 0


@dataclass(frozen=True)
class Plan:
    """Everything about a random crop but its pixels: as `augmented` makes it of the same chance.

    `matrix` (2, 3) float64 takes a point of the picture into the crop; `points` and `weights` as `augmented` returns
    them; `changes` are made after the warp, in order.
    """

    matrix: NDArray[np.float64]
    points: NDArray[np.float32]
    weights: NDArray[np.float32]
    changes: list[Change]


def planned(
    instance: Instance,
    input_size: tuple[int, ...],
    augmentation: Augmentation,
    rng: np.random.Generator,
    *,
    hidden_weight: float = 1.0,
) -> Plan:
    """A random crop around an instance, without a look at its picture; the arguments are those of `augmented`."""
    width, height = input_size[:2]
    mirrored = bool(rng.random() < augmentation.flip)
    center, extent = _frame(instance, augmentation, rng)
    rotation = 0.0
    if rng.random() < augmentation.rotation:
        rotation = augmentation.rotation_degrees * _truncated_normal(rng)
    matrix = _crop_matrix(center, extent, (width, height), rotation, mirrored)
    axes = [instance.keypoints.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]]
    weight = np.array([0.0, hidden_weight, 1.0], np.float32)[instance.visible]
    weights = [weight, weight]
    if len(input_size) == 3:
        depth, known = _depth(instance, input_size[2])
        axes.append(depth[:, None])
        weights.append(weight * known)
    points, per_axis = np.concatenate(axes, axis=1), np.stack(weights, axis=1)
    if mirrored:
        points, per_axis = points[FLIP], per_axis[FLIP]
    return Plan(matrix, points.astype(np.float32), per_axis, drawn_changes(augmentation, (width, height), rng))


def drawn_changes(a: Augmentation, size: tuple[int, int], rng: np.random.Generator) -> list[Change]:
    """The changes of a crop of `size` (width, height) by chance.

    Of the three kinds of colour change all that have a probability may apply; recipes name one.
    """
    changes: list[Change] = []
    if rng.random() < a.photometric:
        changes += _distortion(rng)
    if rng.random() < a.hsv:
        hue, saturation, value = (rng.uniform(-1, 1, 3) * (5, 30, 30) * rng.integers(0, 2, 3)).astype(int)
        changes.append(_hsv_change(hue, _LEVELS + saturation, _LEVELS + value))
    if rng.random() < a.colour:
        changes += _cast(rng)
    if rng.random() < a.grey:
        changes.append(Change("grey", _NO_VALUES))
    if rng.random() < a.blur:
        changes.append(Change("blur", _NO_VALUES, int(rng.choice(BLUR_SIZES))))
    if rng.random() < a.median_blur:
        changes.append(Change("median", _NO_VALUES, int(rng.choice(BLUR_SIZES))))
    if rng.random() < a.dropout:
        width, height = size
        h, w = (int(side * rng.uniform(*a.dropout_size)) for side in (height, width))
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        changes.append(Change("dropout", np.array([x, y, w, h], np.int16)))
    return changes


def changed(crop: NDArray[Any], changes: list[Change]) -> NDArray[np.uint8]:
    """The crop (h, w, 3) uint8 BGR after all changes; the argument stays as it is."""
    for kind, values, size in changes:
        if kind == "levels":
            crop = _mapped(crop, values)
        elif kind == "hsv":
            crop = cv2.cvtColor(_mapped(cv2.cvtColor(crop, cv2.COLOR_BGR2HSV), values), cv2.COLOR_HSV2BGR)
        elif kind == "order":
            crop = np.ascontiguousarray(crop[..., values])
        elif kind == "grey":
            crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        elif kind == "blur":
            crop = cv2.blur(crop, (size, size))
        elif kind == "median":
            crop = cv2.medianBlur(crop, size)
        else:
            x, y, w, h = values
            crop = crop.copy()
            crop[y : y + h, x : x + w] = 0
    return np.asarray(crop, dtype=np.uint8)


def _truncated_normal(rng: np.random.Generator) -> float:
    """A standard normal between -1 and 1, from exactly one uniform number."""
    return float(_NORMAL.inv_cdf(rng.uniform(_NORMAL.cdf(-1.0), _NORMAL.cdf(1.0))))


def _within(bounds: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = bounds
    return (low + high) / 2 + (high - low) / 2 * _truncated_normal(rng)


def _frame(
    instance: Instance, a: Augmentation, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre (2,) and extent (2,) of what the crop shows, in image pixels, before its aspect is fixed."""
    corners = instance.box.astype(np.float64).reshape(2, 2)
    center, extent = corners.mean(axis=0), (corners[1] - corners[0]) * PADDING
    if not instance.whole:
        extent = extent * PADDING * _within(PART_SCALE, rng)
    half = _half_body(instance, a, rng)
    if half is not None:
        center, extent = half
    if rng.random() < a.shift_probability:
        center = center + a.shift * extent * (_truncated_normal(rng), _truncated_normal(rng))
    return center, extent * _within(a.scale, rng)


def _half_body(
    instance: Instance, a: Augmentation, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Mean and padded extent of the labelled keypoints of one half of the body; None to keep the box."""
    labelled = instance.visible > 0
    if rng.random() >= a.half_body or np.count_nonzero(labelled) < HALF_BODY_LABELLED:
        return None
    upper, lower = (instance.keypoints[half][labelled[half]].astype(np.float64) for half in (UPPER, LOWER))
    prefer_upper = rng.random() < PREFER_UPPER
    upper_enough, lower_enough = len(upper) >= UPPER_LABELLED, len(lower) >= LOWER_LABELLED
    if not upper_enough and not lower_enough:
        return None
    chosen = upper if upper_enough and (prefer_upper or not lower_enough) else lower
    extent = np.ptp(chosen, axis=0) * HALF_BODY_PADDING
    return (chosen.mean(axis=0), extent) if extent.max() >= 1 else None


def _crop_matrix(
    center: NDArray[np.float64], extent: NDArray[np.float64], size: tuple[int, int], rotation: float, mirrored: bool
) -> NDArray[np.float64]:
    """The affine (2, 3) from the image to the crop; mirroring is in it, as if the image had been mirrored first."""
    _, scales = box_to_crop(np.concatenate([center - extent / 2, center + extent / 2]), size, padding=1.0)
    matrix = warp_matrix(center, scales[0], size, rotation)
    if mirrored:
        matrix[:, 0] = -matrix[:, 0]
        matrix[:, 2] = np.array(size) / 2 - matrix[:, :2] @ center
    return matrix


def _depth(instance: Instance, pixels: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Depth (133,) in pixels of the depth axis, and 1 where it is known; what is not in front of the camera is not."""
    unknown = np.full(len(instance.keypoints), UNKNOWN_DEPTH), np.zeros(len(instance.keypoints), np.float32)
    if instance.metres is None:
        return unknown
    z = instance.metres[:, 2].astype(np.float64)
    known = np.isfinite(z) & (z > 0)
    hips = [LEFT_HIP, RIGHT_HIP]
    if not known[hips].all():
        return unknown
    relative = z - z[hips].mean()
    return np.where(known, (relative / Z_RANGE + 1) * (pixels / 2), UNKNOWN_DEPTH), known.astype(np.float32)


_NORMAL = NormalDist()
_LEVELS = np.arange(256, dtype=np.float64)
_NO_VALUES = np.empty(0, np.int16)


def _mapped(crop: NDArray[Any], levels: NDArray[np.int16]) -> NDArray[Any]:
    """Every value of the crop replaced by levels (256, 3)."""
    return np.asarray(cv2.LUT(crop, levels[None].astype(np.uint8)))


def _levels_change(levels: NDArray[np.float64], kind: str = "levels") -> Change:
    """To levels (256,) or, per channel, (256, 3), rounded and clipped to 0..255."""
    rounded = np.clip(np.rint(levels), 0, 255).astype(np.int16)
    return Change(kind, np.broadcast_to(rounded.reshape(256, -1), (256, 3)))


def _hsv_change(hue: int, saturation: NDArray[np.float64], value: NDArray[np.float64]) -> Change:
    """The hue turned (180 is once around), saturation and value mapped by levels (256,)."""
    return _levels_change(np.stack([(_LEVELS + hue) % 180, saturation, value], axis=-1), "hsv")


def _order_change(rng: np.random.Generator) -> Change:
    return Change("order", rng.permutation(3).astype(np.int16))


def _distortion(rng: np.random.Generator) -> list[Change]:
    """Brightness, contrast, saturation, hue and channel order, each in half of the cases (mmpose, spec 4.4)."""
    brightness = rng.uniform(-32, 32) * rng.integers(2)
    contrast = rng.uniform(0.5, 1.5) if rng.integers(2) else 1.0
    late = bool(rng.integers(2))
    mode = int(rng.integers(4))
    bright = np.clip(_LEVELS + brightness, 0, 255)
    changes = [_levels_change(bright if late else bright * contrast)]
    if mode:
        saturation = rng.uniform(0.5, 1.5) if mode & 1 else 1.0
        hue = int(rng.integers(-18, 19)) if mode & 2 else 0
        changes.append(_hsv_change(hue, _LEVELS * saturation, _LEVELS))
    if late and contrast != 1.0:
        changes.append(_levels_change(_LEVELS * contrast))
    return [*changes, _order_change(rng)] if rng.integers(2) else changes


def _cast(rng: np.random.Generator) -> list[Change]:
    """Our own change for rendered people, whose light is tamer than a photograph's: gains per channel, gamma, HSV."""
    gain = rng.uniform(0.6, 1.45) * rng.uniform(0.85, 1.15, 3)
    levels = _LEVELS[:, None] * gain + rng.uniform(-28, 28)
    if rng.random() < 0.3:
        levels = 255 * np.clip(levels / 255, 0, 1) ** rng.uniform(0.6, 1.7)
    changes = [_levels_change(levels)]
    if rng.random() < 0.4:
        changes.append(_hsv_change(int(rng.integers(-18, 19)), _LEVELS * rng.uniform(0.3, 1.6), _LEVELS))
    return [*changes, _order_change(rng)] if rng.random() < 0.15 else changes

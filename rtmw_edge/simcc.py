"""SimCC, coordinate classification: keypoints to soft labels on a line of bins per axis, and logits back to keypoints.

There are two bins per crop pixel; a keypoint at pixel x has its peak at bin round(2 x). Depth (RTMW3D) is a third axis,
in metres relative to the middle of the hips. numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BadInputError

SPLIT_RATIO = 2
"""Bins per crop pixel."""

Z_RANGE = 2.1744869
"""RTMW3D's depth axis covers -Z_RANGE..Z_RANGE metres around the middle of the hips."""

LEFT_HIP, RIGHT_HIP = 11, 12
REFINE_RADIUS = 2
"""Bins on each side of the peak that the sub-bin decode looks at."""

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Labels:
    """Soft labels of N people: `x` (N,K,2w), `y` (N,K,2h) with peak 1, `weights` (N,K) in 0..1.

    In 3D also `z` (N,K,bins) and `z_weights` (N,K); otherwise None.
    """

    x: Float
    y: Float
    weights: Float
    z: Float | None = None
    z_weights: Float | None = None


def sigma_of(input_size: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard deviation of the label per axis, in bins: sqrt(bins / 16), rounded as the official configs write it.

    >>> sigma_of((192, 256)).tolist()
    [4.9, 5.66]
    """
    bins = np.asarray(input_size, np.float64) * SPLIT_RATIO
    sigma: NDArray[np.float64] = np.sqrt(bins / 16).round(2)
    return sigma


def encode(keypoints: ArrayLike, visible: ArrayLike, input_size: tuple[int, int]) -> Labels:
    """Labels of `keypoints` (N,K,2) in crop pixels for a crop of `input_size` (width, height).

    A keypoint of `visible` (N,K) below 0.5 has a zero label and keeps its visibility as weight; one whose three-sigma
    window lies wholly outside the crop has weight 0 (mmpose SimCCLabel, "gaussian").
    """
    points = np.asarray(keypoints, np.float64)
    shown = np.asarray(visible, np.float32)
    (x, y), weights = _encode_axes(points, shown, input_size)
    return Labels(x, y, weights)


def encode_3d(
    keypoints: ArrayLike,
    visible: ArrayLike,
    keypoints_3d: ArrayLike | None,
    input_size: tuple[int, int],
    z_range: float = Z_RANGE,
) -> Labels:
    """Labels on three axes; `keypoints_3d` (N,K,3) in metres in the camera frame, or None where depth is unknown.

    The depth axis has as many bins as the x axis. A joint outside the grid on any axis has weight 0 on all of them.
    With unknown depth the z labels are zero and so are the z weights (mmpose SimCC3DLabel).
    """
    points = np.asarray(keypoints, np.float64)
    shown = np.asarray(visible, np.float32)
    width, _ = input_size
    if keypoints_3d is None:
        (x, y), weights = _encode_axes(points, shown, input_size)
        return Labels(x, y, weights, np.zeros_like(x), np.zeros_like(weights))
    depth = np.asarray(keypoints_3d, np.float64)[..., 2]
    depth = depth - depth[:, [LEFT_HIP, RIGHT_HIP]].mean(axis=1, keepdims=True)
    z_pixels = (depth / z_range + 1) * (width / 2)
    points = np.concatenate([points, z_pixels[..., None]], axis=2)
    (x, y, z), weights = _encode_axes(points, shown, (*input_size, width))
    return Labels(x, y, weights, z, weights.copy())


def decode(logits: Sequence[NDArray], *, subbin: bool = False) -> tuple[Float, Float]:
    """Keypoints (N,K,2) in crop pixels and scores (N,K) from the x and y logits, each (N,K,bins).

    The coordinate is half the index of the maximum; `subbin` refines it around the bin. The score is the lower of the
    two maxima, as trained (not a probability: see `calibrated`); where it is not positive both coordinates are -0.5.
    Raises BadInputError when the logits are not two arrays (N,K,bins).
    """
    x, y = _checked(logits, axes=2)
    keypoints, scores = _decode_axes([x, y], subbin=subbin)
    return keypoints, scores


def decode_3d(logits: Sequence[NDArray], z_range: float = Z_RANGE, *, subbin: bool = False) -> tuple[Float, Float]:
    """Keypoints (N,K,3) as (x px, y px, z metres from the hip middle) and scores (N,K) from x, y and z logits.

    The score is the lower of the x and y maxima only; where it is not positive all three bin indices count as -1.
    """
    x, y, z = _checked(logits, axes=3)
    keypoints, scores = _decode_axes([x, y, z], subbin=subbin)
    half_depth = z.shape[2] / SPLIT_RATIO / 2
    keypoints[..., 2] = (keypoints[..., 2] / half_depth - 1) * z_range
    return keypoints, scores


def calibrated(scores: ArrayLike, a: float, b: float) -> Float:
    """Scores as trained to 0..1, an estimate of the chance that the keypoint is right: 1 / (1 + exp(-(a score + b))).

    `a` and `b` belong to one variant; they are fitted by rtmw_edge.evaluation.score_calibration.
    """
    # tanh saturates where exp would overflow.
    return (0.5 * (1 + np.tanh(0.5 * (a * np.asarray(scores, np.float32) + b)))).astype(np.float32)


def _encode_axes(
    points: NDArray[np.float64], visible: Float, sizes: tuple[int, ...]
) -> tuple[tuple[Float, ...], Float]:
    """One label line per axis and the shared weights; `points` (N,K,axes) in pixels, `sizes` pixels per axis."""
    sigma = sigma_of(sizes)
    bins = np.round(np.asarray(sizes) * SPLIT_RATIO).astype(int)
    peaks = np.round(points * SPLIT_RATIO)
    reaches = ((peaks - 3 * sigma < bins) & (peaks + 3 * sigma + 1 >= 0)).all(axis=-1)
    shown = visible >= 0.5
    weights = np.where(shown & ~reaches, np.float32(0), visible)
    lines = []
    for axis, size in enumerate(bins):
        offset = np.arange(size) - peaks[..., axis, None]
        line = np.exp(-(offset**2) / (2 * sigma[axis] ** 2))
        lines.append((line * (shown & reaches)[..., None]).astype(np.float32))
    return tuple(lines), weights.astype(np.float32)


def _checked(logits: Sequence[NDArray], axes: int) -> list[Float]:
    lines = [np.asarray(line, np.float32) for line in logits]
    if len(lines) != axes or any(
        line.ndim != 3 or line.shape[:2] != lines[0].shape[:2] or not line.shape[2] for line in lines
    ):
        shapes = ", ".join(str(line.shape) for line in lines) or "none"
        raise BadInputError(
            f"Cannot decode logits of shapes {shapes}: {axes} arrays (people, keypoints, bins) are needed, one an axis."
        )
    return lines


def _decode_axes(lines: list[Float], *, subbin: bool) -> tuple[Float, Float]:
    """Peak of every line in pixels (N,K,axes), and the lower of the x and y maxima (N,K)."""
    people, count, _ = lines[0].shape
    keypoints = np.empty((people, count, len(lines)), np.float32)
    scores = np.full((people, count), np.inf, np.float32)
    for axis, line in enumerate(lines):
        peak = line.argmax(axis=2)
        keypoints[..., axis] = peak + _refine(line, peak) if subbin else peak
        if axis < 2:  # now, while the line is in the processor's cache
            starts = np.arange(0, line.size, line.shape[2]).reshape(people, count)
            np.minimum(scores, line.reshape(-1)[starts + peak], out=scores)
    keypoints[~(scores > 0)] = -1
    keypoints /= SPLIT_RATIO
    return keypoints, scores


def _refine(line: Float, peak: NDArray[np.intp]) -> Float:
    """Offset in bins, within -1..1, of the vertex of the least-squares parabola through the bins around the peak.

    0 where the window leaves the line or the parabola has no maximum.
    """
    steps = np.arange(-REFINE_RADIUS, REFINE_RADIUS + 1, dtype=np.float32)
    squares = steps**2 - np.mean(steps**2)
    inside = (peak >= REFINE_RADIUS) & (peak < line.shape[2] - REFINE_RADIUS)
    centre = np.where(inside, peak, REFINE_RADIUS)
    window = np.take_along_axis(line, centre[..., None] + steps.astype(np.intp), axis=2)
    slope = window @ steps / np.sum(steps**2)
    curvature = window @ squares / np.sum(squares**2)
    curved = inside & (curvature < 0)
    offset = np.where(curved, -slope / (2 * np.where(curved, curvature, -1)), 0)
    return np.clip(offset, -1, 1).astype(np.float32)

"""The camera: where it stands, how it is turned, and how its picture is framed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from .mesh import FloatArray, moved
from .rotations import Vector, axis_angle, cross

_CLOSEST = np.float32(0.02)  # metres; anything nearer is projected as if it were there


@numba.njit(fastmath=True, cache=True)
def _projected(points: FloatArray, focal: np.float32, cx: np.float32, cy: np.float32) -> FloatArray:
    """Points (N,3) in camera axes to x and y in pixels and depth, in place."""
    for i in range(points.shape[0]):
        scale = focal / max(points[i, 2], _CLOSEST)
        points[i, 0] = points[i, 0] * scale + cx
        points[i, 1] = points[i, 1] * scale + cy
    return points


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. World axes: z up; camera axes: x right, y down, z forward. Integer pixels are pixel centres."""

    rotation: NDArray[np.float64]
    """(3,3) world to camera."""
    position: NDArray[np.float64]
    """(3,) metres."""
    focal: float = 1.0
    """Pixels; 1 gives normalized coordinates."""
    centre: tuple[float, float] = (0.0, 0.0)
    """Principal point, pixels."""

    def to_camera(self, points: FloatArray) -> FloatArray:
        """World points (N,3) in camera axes (N,3), metres."""
        return moved(points, self.rotation.astype(np.float32), (-self.rotation @ self.position).astype(np.float32))

    def project(self, points: FloatArray) -> FloatArray:
        """World points (N,3) to (N,3): x and y in pixels, depth in metres."""
        x, y = self.centre
        return _projected(self.to_camera(points), np.float32(self.focal), np.float32(x), np.float32(y))

    def zoomed(self, factor: int) -> Camera:
        """The same view with `factor` samples per pixel in each direction."""
        x, y = ((c + 0.5) * factor - 0.5 for c in self.centre)
        return replace(self, focal=self.focal * factor, centre=(x, y))

    def framed(self, region: NDArray[np.float64], target: NDArray[np.float64]) -> Camera:
        """The same place with the normalized `region` (x0,y0,x1,y1) shown within `target` (x0,y0,x1,y1) pixels.

        The picture is that part of the scene that a detector would cut out: the principal point may lie outside it.
        """
        size = np.maximum(region[2:] - region[:2], 1e-6)
        focal = float(((target[2:] - target[:2]) / size).min())
        centre = (target[:2] + target[2:]) / 2 - focal * (region[:2] + region[2:]) / 2
        return replace(self, focal=focal, centre=(float(centre[0]), float(centre[1])))

    @property
    def matrix(self) -> FloatArray:
        """Intrinsic matrix (3,3)."""
        x, y = self.centre
        return np.array([[self.focal, 0, x], [0, self.focal, y], [0, 0, 1]], np.float32)

    @property
    def forward(self) -> NDArray[np.float64]:
        """(3,) unit, in world axes."""
        return self.rotation[2]


def draw_camera(rng: np.random.Generator, target: Vector | FloatArray, distance: float) -> Camera:
    """A camera that looks at `target` (3,) from `distance` metres, mostly level and from slightly above."""
    pitch = float(np.clip(rng.normal(0.08, 0.2), -0.5, 0.9))
    roll = rng.normal(0, 0.07) if rng.random() < 0.92 else rng.normal(0, 0.35)
    forward = np.array([0.0, math.cos(pitch), -math.sin(pitch)])
    right = np.array([1.0, 0.0, 0.0])
    rotation = axis_angle(np.array([0.0, 0.0, 1.0]), roll) @ np.stack([right, cross(forward, right), forward])
    return Camera(rotation, np.asarray(target, np.float64) - forward * distance)


def draw_distance(rng: np.random.Generator, low: float = 1.8, high: float = 12.0) -> float:
    """Metres, log-uniform: near pictures have strong perspective."""
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))

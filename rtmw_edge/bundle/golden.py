"""Golden vectors: a few crops and what the model must answer, to re-run on any machine.

They are stored as `golden.npz`: `crops` (N,H,W,3) uint8 BGR; per axis `logits_x` (N,133,bins) float16, divided by
`peak_x`, their largest magnitude; and `keypoints` (N,133,2) float32 in crop pixels, decoded before that rounding. The
loader checks every shape and type against the manifest before numpy allocates anything.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError
from rtmw_edge.keypoints import NUM_KEYPOINTS
from rtmw_edge.simcc import SPLIT_RATIO, decode

from . import archive, limits
from .errors import BundleError, Reason
from .manifest import Manifest, Tolerance

Float = NDArray[np.float32]

RIVAL_PX = 2.0
"""A rival of a keypoint's peak lies more than this many crop pixels away from it."""

SURE_SIGMAS = 6.0
"""A keypoint is sure when on each axis its golden peak leads every rival by this many standard deviations of the error
that the tolerance allows: any runtime within the tolerance finds it. The others may flip between two rivals, as a hand
between left and right, on the rounding of a single integer."""


@dataclass(frozen=True, eq=False)
class Golden:
    """`crops` (N,H,W,3) uint8 BGR, `logits` per axis (N,133,bins), `keypoints` (N,133,2) in crop pixels."""

    crops: NDArray[np.uint8]
    logits: tuple[Float, ...]
    keypoints: Float

    def __len__(self) -> int:
        return len(self.crops)

    def first(self, count: int) -> Golden:
        """The first `count` crops and their answers."""
        return Golden(self.crops[:count], tuple(line[:count] for line in self.logits), self.keypoints[:count])


@dataclass(frozen=True)
class Agreement:
    """How far one crop's answer is from the golden one.

    `relative_rms` is |logits - golden| / |golden| over all axes; `keypoint_px_p99` the 99th percentile of the distance
    in crop pixels over the `sure` keypoints, 0 where none is. An answer that is not finite is infinitely far.
    """

    relative_rms: float
    keypoint_px_p99: float
    sure: int

    def within(self, tolerance: Tolerance) -> bool:
        return self.relative_rms <= tolerance.relative_rms and self.keypoint_px_p99 <= tolerance.keypoint_px_p99


def make(crops: NDArray[np.uint8], logits: Sequence[NDArray]) -> Golden:
    """Golden vectors of `crops` and the `logits` (N,133,bins) per axis x, y[, z] that the reference gives for them."""
    lines = tuple(np.asarray(line, np.float32) for line in logits)
    for line in lines:
        if line.shape[:2] != (len(crops), NUM_KEYPOINTS) or not np.isfinite(line).all() or not line.any():
            raise BadInputError(
                f"Golden logits of shape {line.shape} for {len(crops)} crops: "
                f"pass finite ones of shape (N,{NUM_KEYPOINTS},bins) for each axis."
            )
    if not 1 <= len(crops) <= limits.MAX_GOLDEN_CROPS:
        raise BadInputError(f"{len(crops)} golden crops: pass 1 to {limits.MAX_GOLDEN_CROPS}.")
    keypoints, _ = decode(lines[:2])
    return Golden(crops, lines, keypoints)


def agreement(golden: Golden, logits: Sequence[NDArray], tolerance: Tolerance) -> list[Agreement]:
    """Compare an engine's `logits` for `golden.crops` with the golden ones, crop by crop.

    `tolerance` only says which keypoints are sure; `Agreement.within` judges.
    """
    keypoints, _ = decode(logits[:2])
    distance = np.linalg.norm(keypoints - golden.keypoints, axis=2)
    sure = np.logical_and(*(_sure(line, tolerance.relative_rms) for line in golden.logits[:2]))
    found = []
    for index in range(len(golden)):
        want = np.concatenate([line[index].ravel() for line in golden.logits])
        have = np.concatenate([np.asarray(line[index]).ravel() for line in logits])
        count = int(sure[index].sum())
        if np.isfinite(have).all():
            rms = float(np.linalg.norm(have - want) / np.linalg.norm(want))
            p99 = float(np.percentile(distance[index, sure[index]], 99)) if count else 0.0
            found.append(Agreement(rms, p99, count))
        else:
            found.append(Agreement(float("inf"), float("inf"), count))
    return found


def _sure(line: Float, relative_rms: float) -> NDArray[np.bool_]:
    """Which keypoints (N,133) of one axis keep their peak under an error of `relative_rms`; `line` (N,133,bins)."""
    peak = line.argmax(axis=2)[..., None]
    far = np.abs(np.arange(line.shape[2]) - peak) > RIVAL_PX * SPLIT_RATIO
    lead = line.max(axis=2) - np.where(far, line, -np.inf).max(axis=2)
    error = relative_rms * np.sqrt(np.mean(np.square(line), axis=(1, 2)))
    sure: NDArray[np.bool_] = lead > SURE_SIGMAS * error[:, None]
    return sure


def save(golden: Golden, path: Path, axes: Sequence[str]) -> None:
    """Write `golden` to `path` (.npz); the same golden gives the same bytes."""
    arrays: dict[str, NDArray] = {"crops": golden.crops, "keypoints": golden.keypoints}
    for axis, line in zip(axes, golden.logits, strict=True):
        peak = np.abs(line).max()
        arrays[f"logits_{axis}"] = (line / peak).astype(np.float16)
        arrays[f"peak_{axis}"] = np.float32(peak).reshape(1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stored:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            stored.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def load(path: Path, manifest: Manifest, source: str) -> Golden:
    """Read golden vectors for the model that `manifest` describes.

    Raises BundleError when an array is missing, extra, or not of the shape and type that the model has.
    """
    with archive.opened(path) as stored:
        sizes = {member.filename: member.file_size for member in stored.infolist()}
        if sum(sizes.values()) > limits.MAX_GOLDEN_BYTES:
            raise BundleError(Reason.TOO_LARGE, f"{source} has golden arrays of over {limits.MAX_GOLDEN_BYTES} bytes.")
        lines = {f"logits_{axis}.npy" for axis in manifest.outputs} | {f"peak_{axis}.npy" for axis in manifest.outputs}
        if set(sizes) != {"crops.npy", "keypoints.npy"} | lines:
            _refuse(source, "does not hold exactly crops, keypoints and the logits of each axis")
        width, height = manifest.input_size
        crops = _array(stored, "crops", np.dtype(np.uint8), (height, width, 3), source)
        count = len(crops)
        if not 1 <= count <= limits.MAX_GOLDEN_CROPS:
            _refuse(source, f"holds {count} crops, not 1 to {limits.MAX_GOLDEN_CROPS}")
        keypoints = _array(stored, "keypoints", np.dtype("<f4"), (NUM_KEYPOINTS, 2), source, count)
        logits = []
        for axis, output in manifest.outputs.items():
            line = _array(stored, f"logits_{axis}", np.dtype("<f2"), (NUM_KEYPOINTS, output.bins), source, count)
            peak = _array(stored, f"peak_{axis}", np.dtype("<f4"), (), source, 1)
            logits.append(line.astype(np.float32) * peak)
    if not all(np.isfinite(line).all() and line.any() for line in (*logits, keypoints)):
        _refuse(source, "holds values that are not finite, or nothing but zeros")
    return Golden(crops, tuple(logits), keypoints)


def _array(
    stored: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...], source: str, count: int | None = None
) -> NDArray:
    """One array (count, *shape) of `dtype`; of any count when it is None."""
    data = io.BytesIO(archive.content(stored, f"{name}.npy"))
    try:
        version = np.lib.format.read_magic(data)
        found_shape, fortran, found_dtype = np.lib.format.read_array_header_1_0(data)
    except (ValueError, SyntaxError, tokenize.TokenError):
        version, found_shape, fortran, found_dtype = (0, 0), (), False, dtype
    if count is None and found_shape:
        count = found_shape[0]
    wanted = (count, *shape)
    body = data.read()
    same = version == (1, 0) and found_shape == wanted and found_dtype == dtype and not fortran
    if not same or len(body) != dtype.itemsize * math.prod(found_shape):
        _refuse(source, f"holds {name} in another shape or type than the manifest says")
    return np.frombuffer(body, dtype).reshape(wanted)


def _refuse(source: str, what: str) -> NoReturn:
    raise BundleError(Reason.BAD_GOLDEN, f"The golden file of {source} {what}; export the bundle again.")

"""A network small enough to write by hand, in every format: each keypoint follows the brightest column and row.

Crops are 48x64. Keypoint k sees the crop through its own positive colour weights; its x logits are the column means of
that picture, doubled in width by linear interpolation, and its y logits the row means: plain numpy says what is right.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtmw_edge import bundle

WIDTH, HEIGHT, KEYPOINTS = 48, 64, 133
COLOURS = np.random.default_rng(0).uniform(2.0, 10.0, (KEYPOINTS, 3)).astype(np.float32) / 3


def doubling(size: int) -> NDArray[np.float32]:
    """The (size, 2 size) matrix that puts pixel i at bin 2i and half of each neighbour between."""
    matrix = np.zeros((size, 2 * size), np.float32)
    for pixel in range(size):
        matrix[pixel, 2 * pixel] = 1
        matrix[pixel, max(2 * pixel - 1, 0)] += 0.5
        matrix[pixel, 2 * pixel + 1] += 0.5
    return matrix


def crops(count: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Noise with a bright cross in each crop, whose middle every keypoint finds."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, HEIGHT, WIDTH, 3), np.uint8)
    for image, (x, y) in zip(images, centers(count, seed), strict=True):
        image[y] = np.maximum(image[y], 190)
        image[:, x] = np.maximum(image[:, x], 200)
    return images


def centers(count: int = 3, seed: int = 0) -> NDArray[np.int64]:
    """The middles (count,2) of the crosses in `crops`, in pixels."""
    return np.random.default_rng(seed + 1).integers(8, 40, (count, 2))


def logits(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the network answers, in float64 inside: x (N,133,96) and y (N,133,128)."""
    seen = np.einsum("nhwc,kc->nkhw", images / 255.0, COLOURS.astype(np.float64))
    x = seen.mean(axis=2) @ doubling(WIDTH)
    y = seen.mean(axis=3) @ doubling(HEIGHT)
    return x.astype(np.float32), y.astype(np.float32)


def fields(
    target: str = "onnx", precision: str = "fp32", batch: int = 1, int8: int | None = None, **changes: Any
) -> dict[str, Any]:
    """Manifest fields of the tiny network for `bundle.write`; `int8` of its one convolution are on integers."""
    planar, single = target == "ncnn", precision in ("fp32", "fp16")
    int8 = int(precision.startswith("int8")) if int8 is None else int8
    return {
        "variant": "tiny",
        "target": target,
        "precision": precision,
        "grid": None if single else "common",
        "input": {
            "width": WIDTH,
            "height": HEIGHT,
            "batch": batch,
            "name": "in0" if planar else "image",
            "dtype": "float32" if planar else "uint8",
            "layout": "CHW" if planar else "NHWC",
            "color": "BGR",
        },
        "outputs": {
            "x": {"name": "out0" if planar else "x", "bins": 2 * WIDTH},
            "y": {"name": "out1" if planar else "y", "bins": 2 * HEIGHT},
        },
        "split": 2.0,
        "z_range": None,
        "score": {"a": 2.0, "b": -1.0},
        "tolerance": asdict(bundle.TOLERANCES.get(precision, bundle.TOLERANCES["fp32"])),
        "convolutions": {"total": 1, "int8": int(int8), "int8_macs": float(int8)},
        "tools": {"hand": "1"},
        "weights_sha256": "0" * 64,
        "table_sha256": None,
        "scales": None if single else "a test",
        **changes,
    }


def write_bundle(out: Path, files: dict[str, Path], **arguments: Any) -> Path:
    """A bundle of the tiny network around `files`, with true golden vectors."""
    images, answers = golden()
    return bundle.write(out, fields(**arguments), files, images, answers)


@lru_cache(maxsize=1)
def golden() -> tuple[NDArray[np.uint8], tuple[NDArray[np.float32], ...]]:
    """Three crops and the logits for them."""
    images = crops()
    return images, logits(images)


def opaque_bundle(out: Path, content: bytes = b"no parser ever sees this" * 100) -> Path:
    """A bundle whose model is not one, for tests that never open it."""
    model = out.with_name(f"{out.name}.model") / "model.onnx"
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(content)
    return write_bundle(out, {"model": model})

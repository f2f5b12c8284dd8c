"""Is the reference itself right? Its logits against the same network in float64, on a few crops.

Measured on the golden crops, in relative rms over all logits of a crop: float32 is off by 1e-6 (rtmw-n) to 1e-5 (rtmw-m
with weights of noise), operands of TF32's 10 bits of mantissa by 4e-4, those of bfloat16's 7 bits by 5e-3.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInputError, VerificationError
from .datasets import Dataset, Detected
from .evaluate import boxes_to_run

if TYPE_CHECKING:
    from ..runtime import Runner

LARGEST = 1e-4
"""Relative error beyond which a reference is not believed: between what float32 and what TF32 does."""

CROPS = 4
"""Crops that are compared; float64 takes a few times as long as float32."""


def first_crops(runner: Runner, dataset: Dataset, detections: Detected | None = None) -> NDArray[np.uint8]:
    """The crops (CROPS,H,W,3) of the first people of the data set as `runner` would cut them; fewer where it has fewer.

    Raises BadInputError when there is nobody.
    """
    found: list[NDArray[np.uint8]] = []
    for item in dataset:
        found += list(runner.cut(item.image, *boxes_to_run(item, detections)).crops.copy())
        if len(found) >= CROPS:
            break
    if not found:
        raise BadInputError(f"The data set {dataset.name} holds nobody to compare on: check its labels or detections.")
    return np.stack(found[:CROPS])


def relative_error(reference: Runner, weights: Path, crops: NDArray[np.uint8]) -> float:
    """The largest relative rms error of `reference`'s logits for `crops` (N,H,W,3) against its `weights` in float64."""
    exact = float64_logits(reference.model.variant, weights, crops)
    found = reference.logits(crops)
    squares = sum(np.square(a - b).sum(axis=(1, 2)) for a, b in zip(found, exact, strict=True))
    size = sum(np.square(b).sum(axis=(1, 2)) for b in exact)
    return float(np.sqrt(np.asarray(squares) / np.asarray(size)).max())


def check(error: float, name: str) -> None:
    """Raise VerificationError when a reference called `name` is too far from float64 to judge by."""
    if not error <= LARGEST:
        raise VerificationError(
            f"The reference {name} is no reference: its logits are {error:.2g} (relative rms) off those of the same "
            f"network in float64, at most {LARGEST:g} is believed. Use another reference, driver or runtime version."
        )


def float64_logits(variant: str, weights: Path, crops: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Logits (N,133,bins) per axis of the variant's network with the file `weights`, all in float64 on the CPU."""
    import torch

    from ..models import MEAN_RGB, STD_RGB, build
    from ..models.checkpoints import load_weights

    network = build(variant)
    load_weights(network, weights)
    network = network.double().eval()
    rgb = crops[..., ::-1].astype(np.float64)
    images = torch.from_numpy((rgb - np.array(MEAN_RGB)) / np.array(STD_RGB)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return [line.numpy() for line in network(images)]

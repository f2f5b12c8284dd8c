"""Golden vectors: rendered people and what the network, as a format carries it, answers to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rtmw_edge.quantization import Table

from rtmw_edge.bundle import Tolerance
from rtmw_edge.errors import BadInputError

if TYPE_CHECKING:
    from torch import Tensor

    from .rewrites import Deployable

FIRST = 100_000
"""Index of the first candidate in the renderer's validation split, far from the 500 people that are evaluated."""

CANDIDATES, CHOSEN = 12, 2
DISTURBANCE = 0.05
"""Standard deviation of the noise, in steps of 0..255, that tells calm int8 answers from nervous ones."""

ROOM, WIDEST = 2.5, 0.5
"""A runtime may be so many times as far from the golden logits as that noise moves them, and no further than the second
(relative rms). Measured on rtmw-n: the noise, down to a hundredth of it, moves calm crops by 0.035 to 0.05; right
runtimes are 0.03 to 0.1 away, one whose integers overflow 0.17, wrong files 1 and more; with random weights right
runtimes are 0.37 away, and there little can be told.
"""


def golden_vectors(
    network: Deployable, table: Table | None, kinds: Sequence[str]
) -> tuple[np.ndarray, list[np.ndarray], float]:
    """Crops uint8 (2,H,W,3), their logits (2,133,bins) per axis in float, or fake-quantized at `kinds` by `table`, and
    how far the logits move under noise (relative rms; 0 in float).

    In int8 no two runtimes agree to the last bit: where a value lies between two integers, one rounds up and the other
    down, and the difference spreads. How far depends on the crop, so of 12 the two are taken whose answers move least
    under noise that no camera would notice; that leaves the tolerance to find real faults. It depends on weights and
    scales too, so `tolerance` follows from that movement.

    Raises BadInputError where the network answers crops with nothing but zeros or with what is no number.
    """
    import torch
    from rtmw_edge.quantization.fake import fake_quantize
    from rtmw_edge.quantization.inference import for_inference

    from rtmw_edge.data.synthetic import Renderer

    from .rewrites import FromPixels, FromUint8

    renderer, size = Renderer("val"), network.variant.input_size
    count = CHOSEN if table is None else CANDIDATES
    movement = 0.0
    crops = np.stack([renderer.crop(FIRST + index, size=size).image for index in range(count)])
    reference = network if table is None else for_inference(fake_quantize(network, table, kinds))
    with torch.inference_mode():
        logits = FromUint8(reference)(torch.from_numpy(crops))
        _check_answers(logits, "float" if table is None else "int8")
        if table is not None:
            pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
            noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
            moved = relative_change(logits, FromPixels(reference)(pixels + DISTURBANCE * noise))
            calmest = np.sort(np.argsort(moved, kind="stable")[:CHOSEN])
            crops, logits = crops[calmest], tuple(axis[calmest] for axis in logits)
            movement = float(moved[calmest].max())
    return crops, [axis.numpy() for axis in logits], movement


def _check_answers(logits: Sequence[Tensor], arithmetic: str) -> None:
    sums = sum(axis.abs().sum((1, 2)) for axis in logits)
    if not all(0 < one < math.inf for one in np.asarray(sums).tolist()):
        raise BadInputError(
            f"In {arithmetic} the network answers a picture with nothing but zeros or with what is no number: "
            "check the weights; what a network that was never trained computes vanishes in int8."
        )


def tolerance(usual: Tolerance, movement: float) -> Tolerance:
    """The tolerance of golden logits that noise moves by `movement`: never less than the `usual` one."""
    rms = max(usual.relative_rms, min(ROOM * movement, WIDEST))
    return replace(usual, relative_rms=round(rms, 3))


def relative_change(before: Sequence[Tensor], after: Sequence[Tensor]) -> np.ndarray:
    """|after - before| / |before| over all axes, by crop (N,), for logits (N,133,bins) per axis."""
    difference = sum((new - old).square().sum((1, 2)) for old, new in zip(before, after, strict=True))
    size = sum(old.square().sum((1, 2)) for old in before)
    return np.sqrt(np.asarray(difference) / np.asarray(size))

"""What came out of comparing a device with a reference on the same crops."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import GateReport
from ..runtime import Description
from .agreement import PartAgreement
from .evaluate import Evaluation
from .intervals import Estimate


@dataclass(frozen=True)
class Side:
    """One side of the comparison: what it is, what really ran, and how good it is."""

    name: str
    variant: str
    target: str
    precision: str
    weights_sha256: str
    ran: Description
    evaluation: Evaluation


@dataclass(frozen=True)
class PartAp:
    """AP of one part in points (0..100) with 95 % intervals; `drop` is what the device lost, on the same resamples.

    `images`: on how many somebody has the part labelled.
    """

    images: int
    reference: Estimate
    device: Estimate
    drop: Estimate


@dataclass(frozen=True)
class PartMpjpe:
    """Hip-aligned MPJPE of one part in millimetres, and how many percent more the device has, on so many `images`."""

    images: int
    reference: Estimate
    device: Estimate
    percent: Estimate


@dataclass(frozen=True, eq=False)
class WorstCrop:
    """A crop (H,W,3) on which the two are far apart: keypoints (133,2) of both in its pixels, and `sure` (133,).

    `px` is the mean distance of the sure ones.
    """

    image_id: int
    px: float
    crop: NDArray[np.uint8]
    reference: NDArray[np.float32]
    device: NDArray[np.float32]
    sure: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Validation:
    """The whole comparison. Parts that nobody in the data has are left out of `ap`, `agreement`, `mpjpe`, `flip_ap`.

    `flip_ap`: with the flip test, AP in points by part of both sides without it ("none") and with each kind of it.
    """

    reference: Side
    device: Side
    gate: GateReport
    ap: dict[str, PartAp]
    agreement: dict[str, PartAgreement]
    mpjpe: dict[str, PartMpjpe]
    flip_ap: dict[str, dict[str, tuple[float, float]]]
    worst: tuple[WorstCrop, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; of the worst crops the images and figures."""
        return {
            **{name: asdict(getattr(self, name)) for name in ("reference", "device", "gate")},
            **{
                name: {part: asdict(figures) for part, figures in getattr(self, name).items()}
                for name in ("ap", "agreement", "mpjpe")
            },
            "flip_ap": self.flip_ap,
            "worst": [{"image_id": crop.image_id, "px": crop.px} for crop in self.worst],
        }

"""The zoo: what each variant is, what it costs, what was published about it. Lists are instant: no torch, no numpy.

Sizes and figures of the official variants are those of the MMPose model zoo (projects/rtmpose and projects/rtmpose3d);
parameters and multiply-accumulates are ours, counted on the built network by `macs.py` and held to it by a test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import unknown

MEAN_RGB = (123.675, 116.28, 103.53)
"""Mean of the 0..255 RGB input, subtracted first."""
STD_RGB = (58.395, 57.12, 57.375)
"""Standard deviation of the 0..255 RGB input, divided by second."""
URL_BASE = "https://download.openmmlab.com/mmpose/v1/"


@dataclass(frozen=True)
class Published:
    """Average precision 0..1 on COCO-WholeBody val as its authors publish it (detector boxes; flip test for 2D)."""

    whole: float
    source: str
    body: float | None = None
    foot: float | None = None
    face: float | None = None
    hand: float | None = None


@dataclass(frozen=True)
class Official:
    """The file that the authors published: `path` below URL_BASE; the head of its SHA-256 where its name has one."""

    path: str
    sha256_prefix: str | None
    published: Published

    @property
    def url(self) -> str:
        return URL_BASE + self.path

    @property
    def file_name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Variant:
    """One network: its size, its input and its axes.

    `input_size` is (width, height) in pixels. `depth` and `width` multiply the blocks and channels of CSPNeXt.
    `parameters` counts trainable values; `gmac` is 1e9 multiply-accumulates of one forward pass of one crop.
    """

    name: str
    input_size: tuple[int, int]
    depth: float
    width: float
    parameters: int
    gmac: float
    axes: tuple[str, ...] = ("x", "y")
    official: Official | None = None

    @property
    def pixels(self) -> tuple[int, ...]:
        """Pixels per axis. The depth axis is as long as the x axis, as in RTMW3D (288 wide, 384 high, 288 deep)."""
        width, height = self.input_size
        return (width, height, width)[: len(self.axes)]

    @property
    def bins(self) -> dict[str, int]:
        """Bins per axis."""
        from ..simcc import SPLIT_RATIO

        return {axis: size * SPLIT_RATIO for axis, size in zip(self.axes, self.pixels, strict=True)}

    @property
    def z_range(self) -> float | None:
        """Metres from the hip middle to either end of the depth axis; None where there is none."""
        from ..simcc import Z_RANGE

        return Z_RANGE if "z" in self.axes else None


_SMALL, _LARGE = (192, 256), (288, 384)
_XYZ = ("x", "y", "z")


def _official(name: str, whole: float, **parts: float) -> Official:
    """The file NAME.pth, whose name may end in eight digits of its SHA-256 and a date, with the AP published of it."""
    digest = re.search(r"-([0-9a-f]{8})_\d{8}$", name)
    if name.startswith("rtmw3d"):
        folder = "wholebody_3d_keypoint/rtmw3d"
        source = "MMPose model zoo (RTMW3D), COCO-WholeBody v1.0 val, no flip test; parts not given"
    else:
        folder = "projects/rtmw"
        source = "MMPose model zoo, COCO-WholeBody v1.0 val, detector boxes, flip test"
    published = Published(whole, source, **parts)
    return Official(f"{folder}/{name}.pth", digest and digest[1], published)


_ALL = (
    Variant("rtmw-n-256x192", _SMALL, 0.167, 0.25, 5_839_135, 0.72),
    Variant("rtmw-t-256x192", _SMALL, 0.167, 0.375, 10_064_435, 1.25),
    Variant("rtmw-s-256x192", _SMALL, 0.33, 0.5, 15_600_103, 1.99),
    Variant(
        "rtmw-m-256x192", _SMALL, 0.67, 0.75, 32_258_207, 4.30,
        official=_official(
            "rtmw-dw-l-m_simcc-cocktail14_270e-256x192-20231122",
            whole=0.582, body=0.676, foot=0.671, face=0.783, hand=0.491,
        ),
    ),
    Variant(
        "rtmw-l-256x192", _SMALL, 1.0, 1.0, 57_201_207, 7.89,
        official=_official(
            "rtmw-dw-x-l_simcc-cocktail14_270e-256x192-20231122",
            whole=0.660, body=0.743, foot=0.763, face=0.834, hand=0.598,
        ),
    ),
    Variant(
        "rtmw-x-256x192", _SMALL, 1.33, 1.25, 92_041_903, 13.04,
        official=_official(
            "rtmw-x_simcc-cocktail14_pt-ucoco_270e-256x192-13a2546d_20231208",
            whole=0.672, body=0.746, foot=0.770, face=0.844, hand=0.610,
        ),
    ),
    Variant(
        "rtmw-l-384x288", _LARGE, 1.0, 1.0, 57_354_295, 17.64,
        official=_official(
            "rtmw-dw-x-l_simcc-cocktail14_270e-384x288-20231122",
            whole=0.701, body=0.761, foot=0.793, face=0.884, hand=0.663,
        ),
    ),
    Variant(
        "rtmw-x-384x288", _LARGE, 1.33, 1.25, 92_194_991, 29.24,
        official=_official(
            "rtmw-x_simcc-cocktail14_pt-ucoco_270e-384x288-f840f204_20231122",
            whole=0.702, body=0.763, foot=0.796, face=0.884, hand=0.664,
        ),
    ),
    Variant("rtmw3d-n-256x192", _SMALL, 0.167, 0.25, 5_937_439, 0.74, _XYZ),
    Variant(
        "rtmw3d-l-384x288", _LARGE, 1.0, 1.0, 57_501_751, 17.66, _XYZ,
        official=_official("rtmw3d-l_8xb64_cocktail14-384x288-794dbc78_20240626", whole=0.678),
    ),
    Variant(
        "rtmw3d-x-384x288", _LARGE, 1.33, 1.25, 92_342_447, 29.26, _XYZ,
        official=_official("rtmw3d-x_8xb64_cocktail14-384x288-b0a0eab7_20240626", whole=0.680),
    ),
)  # fmt: skip

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _ALL}


def variant_named(name: str) -> Variant:
    """The variant called `name`. Raises BadInputError with the nearest name when there is none.

    >>> variant_named("rtmw-m-256x192").bins
    {'x': 384, 'y': 512}
    """
    if name not in VARIANTS:
        raise unknown("variant", name, VARIANTS)
    return VARIANTS[name]

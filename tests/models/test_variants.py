"""The zoo without torch: bins, names, published figures, and that listing it stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rtmw_edge.errors import BadInputError
from rtmw_edge.models import VARIANTS, variant_named


def test_names_say_height_by_width() -> None:
    for name, variant in VARIANTS.items():
        width, height = variant.input_size
        assert name.endswith(f"-{height}x{width}")
        assert ("z" in variant.axes) == name.startswith("rtmw3d") == (variant.z_range is not None)


def test_bins_are_two_per_pixel_and_depth_is_as_long_as_x() -> None:
    assert variant_named("rtmw-n-256x192").bins == {"x": 384, "y": 512}
    assert variant_named("rtmw3d-l-384x288").bins == {"x": 576, "y": 768, "z": 576}
    assert variant_named("rtmw3d-n-256x192").bins == {"x": 384, "y": 512, "z": 384}


def test_seven_official_files_whose_names_carry_their_digest() -> None:
    officials = {name: variant.official for name, variant in VARIANTS.items() if variant.official}
    assert len(officials) == 7
    for official in officials.values():
        assert official is not None and official.url.startswith("https://download.openmmlab.com/mmpose/v1/")
        if official.sha256_prefix:
            assert f"-{official.sha256_prefix}_" in official.file_name
    large = officials["rtmw-l-384x288"]
    assert large is not None and large.published.whole == 0.701 and large.published.hand == 0.663


def test_unknown_name() -> None:
    with pytest.raises(BadInputError, match="Unknown variant 'rtmw3d-m'"):
        variant_named("rtmw3d-m")


def test_the_zoo_and_the_weights_need_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, rtmw_edge.models, rtmw_edge.models.weights, rtmw_edge.models.download; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'safetensors', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

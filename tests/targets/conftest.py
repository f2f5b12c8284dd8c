"""What several of these files share: the small network, and its float TFLite file, which takes seconds to make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rtmw_edge.targets import target_named
from rtmw_edge.targets.base import Precision
from small_deployable import SmallDeployable, small_deployable, smooth_crops


@pytest.fixture(scope="session")
def network() -> SmallDeployable:
    return small_deployable()


@pytest.fixture(scope="session")
def crops() -> np.ndarray:
    return smooth_crops(8)


@pytest.fixture(scope="session")
def float_file(network: SmallDeployable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float network, converted once; tests edit copies of its graph."""
    pytest.importorskip("litert_torch")
    converted = target_named("tflite").convert(
        network, None, Precision.FP32, tmp_path_factory.mktemp("float"), 1, lambda step: None
    )
    assert (converted.dtype, converted.layout) == ("uint8", "NHWC")
    assert converted.outputs == {"x": "simcc_x", "y": "simcc_y"}
    assert converted.convolutions == {"total": 8, "int8": 0}
    return converted.files["model"]

"""The small network, which most of these files calibrate."""

from __future__ import annotations

import pytest
from small_deployable import SmallDeployable, small_deployable


@pytest.fixture(scope="session")
def network() -> SmallDeployable:
    return small_deployable()

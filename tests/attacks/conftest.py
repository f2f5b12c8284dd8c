"""A good bundle to damage."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models


@pytest.fixture()
def good(tmp_path: Path) -> Path:
    """A good bundle directory; its model is no model, so that any parser that saw it would fail."""
    return tiny_models.opaque_bundle(tmp_path / "tiny")

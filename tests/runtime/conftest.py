"""The tiny network as an ONNX bundle, and runners over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_formats
import tiny_models

from rtmw_edge.runtime import Runner, load


@pytest.fixture()
def tiny_bundle(tmp_path: Path) -> Path:
    """An ONNX bundle of the tiny network."""
    return tiny_models.write_bundle(tmp_path / "tiny-bundle", tiny_formats.onnx(tmp_path))


@pytest.fixture()
def runner(tiny_bundle: Path) -> Iterator[Runner]:
    """A runner of the tiny network on one thread."""
    with load(tiny_bundle, threads=1) as opened:
        yield opened

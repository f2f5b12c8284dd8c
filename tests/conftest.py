"""Where the tests find figures and, when they are there, the real sample photographs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Modules that several test folders share (tiny_models.py) lie beside this file.
sys.path.insert(0, str(Path(__file__).parent))

# The same examples in every run, whatever an earlier one has found.
hypothesis.settings.register_profile("same", derandomize=True, database=None)
hypothesis.settings.load_profile("same")

SAMPLES_VARIABLE = "RTMW_EDGE_SAMPLES"


def _use_one_torch_thread() -> None:
    """Tests run side by side, and on a busy machine torch's threads wait for each other: ten times slower than one.

    Not by OMP_NUM_THREADS, which NumPy in this process would not hear any more: processes that a test starts would then
    render other people than it does, in the last bits.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _begin_with_one_torch_thread() -> None:
    _use_one_torch_thread()


@pytest.fixture(autouse=True)
def _leave_one_torch_thread() -> Iterator[None]:
    """A test that runs a network on more leaves torch so, and with it the last bits of what the next ones compute."""
    yield
    _use_one_torch_thread()


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Figures computed by the official implementation; see tests/reference/README.md."""
    return Path(__file__).parent / "reference"


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """The folder of photographs with official annotations, named by RTMW_EDGE_SAMPLES or ../shared/samples."""
    beside = Path(__file__).parents[2] / "shared" / "samples"
    folder = Path(os.environ.get(SAMPLES_VARIABLE, beside))
    if not (folder / "coco").is_dir():
        pytest.skip(f"no sample photographs at {folder}; set {SAMPLES_VARIABLE} to the folder that holds coco/")
    return folder

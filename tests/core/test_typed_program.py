"""A user's typed program: what README and docs/running.md show passes a strict type checker, and a slip does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import rtmw_edge
from rtmw_edge import Wholebody
from rtmw_edge.runtime.detectors import open_detector

def boxes_alone(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.zeros((0, 4), np.float32)

def pose(path: str) -> NDArray[np.float32]:
    image = cv2.imread(path)
    assert image is not None
    with rtmw_edge.load("builtin", threads=2) as runner:
        poses = runner(image, open_detector()(image).boxes)
        keypoints, scores = Wholebody(det=boxes_alone)(image)
    return poses.part("left_hand")

rtmw_edge.laod()
"""


@pytest.mark.slow
def test_program_passes_mypy_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    words = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", "--cache-dir", ".", "program.py"]
    environment = {**os.environ, "MYPYPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    slip = PROGRAM.splitlines().index("rtmw_edge.laod()") + 1
    told = [line for line in ended.stdout.splitlines() if line.startswith("program.py:")]
    assert len(told) == 1 and told[0].startswith(f'program.py:{slip}: error: Module has no attribute "laod"'), told

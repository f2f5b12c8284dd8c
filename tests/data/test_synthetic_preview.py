"""`rtmw-edge data preview` and the contact sheet."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
from typer.testing import CliRunner

from rtmw_edge.cli.data import app
from rtmw_edge.data.contact_sheet import contact_sheet
from rtmw_edge.errors import BadInputError


def test_a_sheet_holds_all_pictures_in_order():
    images = [np.full((20, 15, 3), i, np.uint8) for i in range(7)]
    sheet = contact_sheet(images)
    assert sheet.shape[0] % 20 == 0 and sheet.shape[1] % 15 == 0
    columns = sheet.shape[1] // 15
    assert [int(sheet[i // columns * 20, i % columns * 15, 0]) for i in range(7)] == list(range(7))


def test_preview_writes_a_sheet(tmp_path):
    out = tmp_path / "sheet.png"
    result = CliRunner().invoke(app, ["preview", "--split", "val", "--count", "2", "--keypoints", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "2 pictures of split 'val'" in result.output
    assert cv2.imread(str(out)).shape == (512, 768, 3)


def test_preview_refuses_other_formats(tmp_path):
    result = CliRunner().invoke(app, ["preview", "--out", str(tmp_path / "sheet.gif")])
    assert isinstance(result.exception, BadInputError)
    assert "give --out a name that ends with .jpg or .png" in str(result.exception)


def test_without_numba_the_extra_is_named():
    code = "import sys; sys.modules['numba'] = None;from rtmw_edge.cli import main; main(['data', 'preview'])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 3
    assert "error: The people renderer needs numba" in result.stderr
    assert 'pip install "rtmw-edge[evaluate]"' in result.stderr and "Traceback" not in result.stderr

"""tools/convert_axes.py: the 2D form of a 3D run finds the same x and y, with a table for its own weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from rtmw_edge.quantization import Table  # noqa: E402
from rtmw_edge.quantization.fake import check_table  # noqa: E402
from rtmw_edge.targets.export import load_deployable  # noqa: E402

from rtmw_edge.models import build  # noqa: E402
from rtmw_edge.models.checkpoints import load_weights  # noqa: E402
from rtmw_edge.models.weights import embedded, shipped_table  # noqa: E402

TOOL = Path(__file__).parents[2] / "tools" / "convert_axes.py"
FLAT, DEEP = "rtmw-n-256x192", "rtmw3d-n-256x192"


def test_the_2d_form_of_a_3d_run(tmp_path: Path) -> None:
    run, out = tmp_path / "3d", tmp_path / "2d"
    run.mkdir()
    shutil.copy(embedded(DEEP), run / "weights.safetensors")
    shutil.copy(shipped_table(DEEP, "common"), run / "table.json")
    (run / "recipe.json").write_text(json.dumps({"variant": DEEP, "batch": 32}))
    subprocess.run([sys.executable, TOOL, run, FLAT, out], check=True)
    networks = [build(name).eval() for name in (DEEP, FLAT)]
    for network, folder in zip(networks, (run, out), strict=True):
        load_weights(network, folder / "weights.safetensors")
    images = torch.randn(2, 3, 256, 192, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (deep_x, deep_y, _), flat = networks[0](images), networks[1](images)
    # Temperatures of 10 and 1; the classifiers are stored in half precision.
    for deep, found in zip((deep_x, deep_y), flat, strict=True):
        assert (found - 10 * deep).abs().max() < 2e-3 * (10 * deep).abs().max()
    check_table(load_deployable(FLAT, out / "weights.safetensors"), Table.load(out / "table.json"))
    assert json.loads((out / "recipe.json").read_text()) == {"variant": FLAT, "batch": 32}

"""ai-edge-quantizer as a peer: the convolutions alone, on the same crops, with zero points, the tail in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_deployable import SmallDeployable, float_logits, relative_rms
from tflite_run import run

pytest.importorskip("litert_torch")
pytest.importorskip("ai_edge_quantizer")

from rtmw_edge.targets import tflite
from rtmw_edge.targets.peers import PEERS
from rtmw_edge.targets.tflite_model import CONVOLUTIONS, OPS, GraphEditor


def test_it_quantizes_the_convolutions_alone(
    network: SmallDeployable,
    crops: np.ndarray,
    float_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tflite, "float_graph", lambda *arguments: GraphEditor(float_file))
    steps: list[str] = []
    converted = PEERS["aeq"].quantize(network, crops, tmp_path, 1, steps.append)  # type: ignore[arg-type]
    assert steps == ["quantizing with ai-edge-quantizer"] and capfd.readouterr() == ("", "")
    assert converted.convolutions == {"total": 8, "int8": 8}
    assert converted.outputs == {"x": "simcc_x", "y": "simcc_y"}
    assert [path.name for path in tmp_path.iterdir()] == ["model.tflite"]

    graph = GraphEditor(converted.files["model"])
    read = [graph.scale(int(operator.inputs[0])) for operator in graph.operators(*CONVOLUTIONS)]
    assert any(scale is not None and scale[1] != 0 for scale in read)
    for operator in graph.operators(OPS.FULLY_CONNECTED, OPS.LOGISTIC, OPS.MUL):
        assert graph.dtype(int(operator.outputs[0])) == np.float32
    for found, exact in zip(run(converted.files["model"], crops), float_logits(network, crops), strict=True):  # type: ignore[arg-type]
        assert 1e-3 < relative_rms(found, exact) < 0.08

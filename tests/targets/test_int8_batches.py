"""Int8 files of several crops at once: each crop has the answer that the fake-quantized network gives it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rtmw_edge.quantization import COMMON, FULL, Grid
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.targets import target_named
from rtmw_edge.targets.base import Converted, Precision
from small_deployable import SmallDeployable, absmax_table, float_logits, relative_rms

from rtmw_edge.runtime.processor import int8_sums_overflow

Run = Callable[[Converted, np.ndarray], list[np.ndarray]]


def in_onnxruntime(converted: Converted, crops: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    from rtmw_edge.runtime.onnx_session import session_options

    opened = onnxruntime.InferenceSession(str(converted.files["model"]), session_options(threads=1))
    return list(opened.run(list(converted.outputs.values()), {"image": crops}))


def in_openvino(converted: Converted, crops: np.ndarray) -> list[np.ndarray]:
    import openvino

    from rtmw_edge.runtime.openvino_engine import FLOAT_KERNELS

    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    config |= FLOAT_KERNELS if int8_sums_overflow() else {}
    found = openvino.Core().compile_model(str(converted.files["xml"]), "CPU", config)({"image": crops})
    return [np.array(found[name]) for name in converted.outputs.values()]


def in_litert(converted: Converted, crops: np.ndarray) -> list[np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(str(converted.files["model"]), num_threads=1).get_signature_runner()(image=crops)
    return [found[name] for name in converted.outputs.values()]


@pytest.mark.parametrize(
    ("target", "package", "grid", "run"),
    [
        ("onnx", "onnxscript", COMMON, in_onnxruntime),
        ("tensorrt", "onnxscript", COMMON, in_onnxruntime),
        ("openvino", "openvino", COMMON, in_openvino),
        ("openvino", "openvino", FULL, in_openvino),
        ("tflite", "litert_torch", FULL, in_litert),
    ],
)
def test_three_crops_at_once(
    network: SmallDeployable, crops: np.ndarray, tmp_path: Path, target: str, package: str, grid: Grid, run: Run
) -> None:
    pytest.importorskip(package)
    writer, table, three = target_named(target), absmax_table(network, crops, grid), crops[:3]
    converted = writer.convert(network, table, Precision.INT8, tmp_path, 3, lambda step: None)
    expected = float_logits(fake_quantize(network, table, writer.carried(grid.name)), three)
    for found, wanted in zip(run(converted, three), expected, strict=True):
        assert found.shape == wanted.shape
        for crop in range(3):
            assert relative_rms(found[crop], wanted[crop]) < 0.03
            assert relative_rms(found[crop], wanted[crop - 1]) > 0.1

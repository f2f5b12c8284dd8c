"""Peers: other tools' calibration and quantization in place of ours, on the same crops and the same layers.

`rtmw-edge export --calibrator aeq|nncf|ort` writes a bundle whose scales a peer chose by its own defaults, so that ours
can be measured beside it. There is no quantization table and so nothing to read back, and no fake-quantized network:
the golden outputs are the float network's, with `TOLERANCE`.
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtmw_edge.bundle import Tolerance
from rtmw_edge.errors import BadInputError, unknown
from rtmw_edge.runtime.quiet import quiet_stderr

from .base import INPUT, Converted, OnStep, Precision, installed, output_names

if TYPE_CHECKING:
    from .rewrites import Deployable

OURS = "ours"
NNCF_SILENT = "NNCF_CI"

TOLERANCE = Tolerance(relative_rms=0.4, keypoint_px_p99=4.0)
"""Twice what NNCF's int8 is off the float rtmw-n (0.19); the tests hold another network to be off by more than 0.6."""

Quantize = Callable[["Deployable", np.ndarray, Path, int, OnStep], Converted]
"""(network, crops uint8 BGR (N,H,W,3), existing directory, batch of the graph, progress) -> the files.

All convolutions in int8 and everything else in float, as ours; ranges by the tool's own defaults over all crops.
"""


@dataclass(frozen=True)
class Peer:
    """A tool that calibrates and quantizes by itself; `requirements` are the distributions that `quantize` imports."""

    name: str
    target: str
    requirements: tuple[str, ...]
    quantize: Quantize


def peer_named(name: str, target: str, precision: Precision) -> Peer:
    """The peer called `name`; raises BadInputError when there is none, or when it writes another target or precision.

    Raises NotAvailableError when it is not installed.
    """
    if name not in PEERS:
        raise unknown("calibrator", name, (OURS, *PEERS))
    peer = PEERS[name]
    if (peer.target, Precision.INT8) != (target, precision):
        raise BadInputError(f"The calibrator {name} writes {peer.target} in int8, not {target} in {precision}.")
    installed(peer.requirements, extra="peers")
    return peer


def quantize_nncf(network: Deployable, crops: np.ndarray, out_dir: Path, batch: int, on_step: OnStep) -> Converted:
    """NNCF's post-training quantization of the OpenVINO model, with its bias correction.

    The preset MIXED (asymmetric activations) is what NNCF recommends for activations such as SiLU.
    """
    with _quiet():
        import nncf

    from . import openvino
    from .onnx import float_model

    model = openvino.read_onnx(float_model(network, batch, on_step))
    others = {node.get_type_name() for node in model.get_ops()}.difference(openvino.CONVOLUTIONS)
    on_step("quantizing with NNCF")
    with _quiet():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(_batches(crops, batch)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(crops),
            ignored_scope=nncf.IgnoredScope(types=sorted(others), validate=False),
        )
    openvino.halve_weights(quantized)
    return Converted(openvino.write(quantized, out_dir), output_names(network), _all(network))


def quantize_ort(network: Deployable, crops: np.ndarray, out_dir: Path, batch: int, on_step: OnStep) -> Converted:
    """ONNX Runtime's `quantize_static`: minimum and maximum, uint8 activations, int8 weights per channel."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    from .onnx import float_model, with_half_weights

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(_batches(crops, batch))

        def get_next(self) -> dict[str, np.ndarray] | None:
            held = next(self.left, None)
            return None if held is None else {INPUT: held}

    path = out_dir / "model.onnx"
    model = float_model(network, batch, on_step)
    on_step("quantizing with ONNX Runtime")
    with _quiet():
        quantize_static(
            model,
            path,
            Reader(),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    onnx.save(with_half_weights(onnx.load(path)), path)
    return Converted({"model": path}, output_names(network), _all(network))


def quantize_aeq(network: Deployable, crops: np.ndarray, out_dir: Path, batch: int, on_step: OnStep) -> Converted:
    """ai-edge-quantizer's static recipe: moving averages of minimum and maximum, zero points, weights per channel."""
    from .tflite import converted, float_graph

    path, source = out_dir / "model.tflite", out_dir / "float.tflite"
    float_graph(network, batch, on_step).save(source)
    on_step("quantizing with ai-edge-quantizer")
    with _quiet(), quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ai_edge_quantizer.qtyping import TFLOperationName
        from ai_edge_quantizer.quantizer import Quantizer

        quantizer = Quantizer(source)
        for operation in (TFLOperationName.CONV_2D, TFLOperationName.DEPTHWISE_CONV_2D):
            quantizer.add_static_config(".*", operation, activation_num_bits=8, weight_num_bits=8)
        seen = quantizer.calibrate(
            {"serving_default": [{INPUT: held} for held in _batches(crops, batch)]}, num_threads=1
        )
        path.write_bytes(quantizer.quantize(seen).quantized_model)
    source.unlink()
    return converted(network, path)


PEERS = {
    "aeq": Peer("aeq", "tflite", ("ai-edge-quantizer", "litert-torch"), quantize_aeq),
    "nncf": Peer("nncf", "openvino", ("nncf", "openvino"), quantize_nncf),
    "ort": Peer("ort", "onnx", ("onnxruntime", "onnx"), quantize_ort),
}
"""By the word of the command line."""


def _batches(crops: np.ndarray, batch: int) -> list[np.ndarray]:
    """Crops (batch,H,W,3) at a time, the last filled up by repeating."""
    filled = np.concatenate([crops, np.repeat(crops[-1:], -len(crops) % batch, axis=0)])
    return list(filled.reshape(-1, batch, *crops.shape[1:]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep a tool's advice and progress bars off the terminal, and NNCF from reporting home (it asks this variable)."""
    kept = os.environ.get(NNCF_SILENT)
    os.environ[NNCF_SILENT] = "1"
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        if kept is None:
            del os.environ[NNCF_SILENT]


def _all(network: Deployable) -> dict[str, int]:
    count = len(network.convolutions())
    return {"total": count, "int8": count}

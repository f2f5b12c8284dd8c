"""ONNX for TensorRT: the same graph with explicit integers that it takes, through ONNX Runtime or by itself.

TensorRT reads QuantizeLinear and DequantizeLinear with int8 and zero point 0 alone, float biases, and standard
operators only; from 11 on it knows no other quantization, and 8.5 to 10 take the same file when int8 is switched on:

    trtexec --onnx=model.onnx --int8 --saveEngine=model.plan

The runner does that by itself (`runtime.onnx_engine`). On a CPU the file runs in ONNX Runtime, slower than the one of
the `onnx` target, and with the same answers: so it is verified where there is no GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Precision
from .onnx import Onnx

if TYPE_CHECKING:
    from .onnx_qdq import Spelling


class TensorRt(Onnx):
    """The `tensorrt` target."""

    name = "tensorrt"
    grids = ("common",)

    def carried(self, grid: str) -> tuple[str, ...]:
        """Not what convolutions put out: NVIDIA's guide to Q/DQ leaves that in float, before a SiLU above all."""
        return ("input", "weight")

    def spelling(self, precision: Precision) -> Spelling:
        from .onnx_qdq import INT8

        return INT8


TARGET = TensorRt()

"""The float conversion torch -> ncnn by pnnx, from TorchScript: from ONNX it writes wrong networks without an error."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rtmw_edge.errors import RtmwEdgeError
from rtmw_edge.files import reported_disk_errors

from .base import OnStep
from .converter_process import run_converter
from .ncnn_model import NcnnModel

if TYPE_CHECKING:
    from torch import nn


def converted(network: nn.Module, size: tuple[int, int], on_step: OnStep) -> NcnnModel:
    """A network for inputs of `size` (width, height) in float32: blob `in0` (3,H,W) -> blobs `out0`, `out1`, ..."""
    import pnnx
    import torch

    width, height = size
    on_step("tracing the network")
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.zeros(1, 3, height, width))
    with tempfile.TemporaryDirectory(prefix="rtmw-edge-") as name:
        folder = Path(name)
        script = io.BytesIO()
        torch.jit.save(traced, script)
        with reported_disk_errors(folder / "network.pt"):  # torch ends the process where the disk is full
            (folder / "network.pt").write_bytes(script.getvalue())
        on_step("converting with pnnx")
        shape = f"inputshape=[1,3,{height},{width}]"
        run_converter("pnnx", [pnnx.EXEC_PATH, "network.pt", shape, "fp16=0", "optlevel=2"], folder)
        param, binary = folder / "network.ncnn.param", folder / "network.ncnn.bin"
        if not param.exists() or not binary.exists():
            raise RtmwEdgeError(
                "pnnx ended without an error but wrote no ncnn network; install the version of "
                "rtmw-edge[export] that this tool was tested with."
            )
        return NcnnModel.load(param, binary)

"""Our person detector in the formats of the targets, in float: one network, the same boxes and scores from each file.

One letterboxed picture in, `boxes` (1,A,4) xyxy in pixels of the input and `scores` (1,A,1) out, for each of the A
cells; suppression is the host's (`runtime/detectors/letterbox.py`). The ONNX file takes what RTMDet takes, normalized
BGR float32 (1,3,H,W); the others have the normalization inside, as bundles do: OpenVINO and TFLite take uint8 (1,H,W,3)
BGR, ncnn float32 (3,H,W) BGR of 0..255. The ONNX file keeps its weights under the network's own names: the one in the
package is what the others are made of.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rtmw_edge.errors import BadInputError, unknown
from rtmw_edge.models.person_detector import PersonDetector, boxes_of, cells
from rtmw_edge.models.variants import MEAN_RGB, STD_RGB

from .base import installed
from .onnx import HALF
from .rewrites import rewrite

if TYPE_CHECKING:
    import onnx

FORMATS = {
    "onnx": ("onnx", "onnxscript"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "tflite": ("litert-torch", "ai-edge-litert"),
    "ncnn": ("pnnx",),
}
"""What each needs beside torch."""
OUTPUTS = ("boxes", "scores")


class DeployableDetector(nn.Module):
    """A detector for inputs of `size` (width, height) in deployment form: batch norm folded, cells as constants."""

    middles: Tensor
    strides: Tensor

    def __init__(self, network: PersonDetector, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.network = copy.deepcopy(network).eval()
        rewrite(self.network)
        middles, strides = cells(size[1], size[0])
        self.register_buffer("middles", middles, persistent=False)
        self.register_buffer("strides", strides[:, None], persistent=False)
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized BGR (1,3,H,W) -> boxes (1,A,4), scores (1,A,1)."""
        logits, sides = self.network.raw(pixels)
        return boxes_of(sides, self.middles, self.strides), torch.sigmoid(logits)[..., None]


class FromBytes(nn.Module):
    """The same for pictures as they are in memory, uint8 (N,H,W,3) BGR."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, detector: DeployableDetector) -> None:
        super().__init__()
        self.detector = detector
        mean, std = (torch.tensor(rgb[::-1]).reshape(1, 3, 1, 1) for rgb in (MEAN_RGB, STD_RGB))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("inverse_std", 1 / std, persistent=False)
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        planes = pixels.permute(0, 3, 1, 2).to(torch.float32)
        boxes, scores = self.detector((planes - self.mean) * self.inverse_std)
        return boxes, scores


def export_detector(detector: DeployableDetector, target: str, out: Path) -> dict[str, Path]:
    """Write the detector into the folder `out` in the format of a target; its files by role.

    Weights are stored in half precision, which every runtime widens when it loads. Raises BadInputError for a target
    that has no writer, NotAvailableError when a converter is not installed.
    """
    if target not in FORMATS:
        raise unknown("target of detectors", target, FORMATS)
    installed(["torch", *FORMATS[target]])
    out.mkdir(parents=True, exist_ok=True)
    return {"onnx": _onnx, "openvino": _openvino, "tflite": _tflite, "ncnn": _ncnn}[target](detector, out)


def read_detector(path: Path) -> DeployableDetector:
    """The detector in an ONNX file that `export_detector` wrote. Raises BadInputError for any other file."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    stored = {item.name.removesuffix(HALF): numpy_helper.to_array(item) for item in model.graph.initializer}
    height, width = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[2:])
    detector = DeployableDetector(PersonDetector(), (width, height))
    wanted = detector.state_dict()
    if missing := sorted(set(wanted) - set(stored)):
        raise BadInputError(f"{path} is not a file of this project's detector: it has no weight '{missing[0]}'.")
    detector.load_state_dict({name: torch.from_numpy(stored[name].astype(np.float32)) for name in wanted})
    return detector


def onnx_model(detector: DeployableDetector) -> onnx.ModelProto:
    """The graph that takes what RTMDet takes, its weights in half precision."""
    from .onnx import with_half_weights

    width, height = detector.size
    return with_half_weights(_traced(detector, torch.zeros(1, 3, height, width)))


def _bytes_of(detector: DeployableDetector) -> Tensor:
    width, height = detector.size
    return torch.zeros(1, height, width, 3, dtype=torch.uint8)


def _traced(network: nn.Module, example: Tensor) -> onnx.ModelProto:
    """The ONNX graph of a network, with an input `image` and the outputs `boxes` and `scores`."""
    from .onnx import strip_trace, traced

    model = traced(network, example, OUTPUTS)
    strip_trace(model)
    return model


def _onnx(detector: DeployableDetector, out: Path) -> dict[str, Path]:
    import onnx

    model = onnx_model(detector)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out / "model.onnx")
    return {"model": out / "model.onnx"}


def _openvino(detector: DeployableDetector, out: Path) -> dict[str, Path]:
    from .openvino import read_onnx, write

    return write(read_onnx(_traced(FromBytes(detector), _bytes_of(detector))), out, compress_to_fp16=True)


def _tflite(detector: DeployableDetector, out: Path) -> dict[str, Path]:
    from .tflite import converted_graph
    from .tflite_weights import halve_weights

    graph = converted_graph(FromBytes(detector), _bytes_of(detector), OUTPUTS, lambda _: None)
    halve_weights(graph)
    graph.save(out / "model.tflite")
    return {"model": out / "model.tflite"}


def _ncnn(detector: DeployableDetector, out: Path) -> dict[str, Path]:
    from .ncnn import halved, normalizing, with_blob_names
    from .ncnn_model import NcnnModel
    from .ncnn_pnnx import converted

    names = {f"out{index}": name for index, name in enumerate(OUTPUTS)}
    model = with_blob_names(normalizing(converted(detector, detector.size, lambda _: None)), names)
    model = NcnnModel(tuple(halved(layer) for layer in model.layers))
    files = {"param": out / "model.param", "bin": out / "model.bin"}
    model.save(files["param"], files["bin"])
    return files

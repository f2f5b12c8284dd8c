"""ONNX, opset 18: for ONNX Runtime everywhere, and what the targets openvino and tensorrt begin with.

Float16 files hold their weights in half precision, cast to float32 inside the graph: every runtime folds the casts
when it loads, and computes in float32. Int8 files are spelled for ONNX Runtime on x86 (see `onnx_qdq.UINT8`), and what
stays float in a quantized file is stored in half precision too. 16-bit activations need opset 21, and an NPU to gain
by them: ONNX Runtime's CPU computes those convolutions in float, with the rounding of the grid.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rtmw_edge.quantization import GRIDS, Entry, Table
from rtmw_edge.quantization.table import KINDS

from rtmw_edge.bundle.limits import MAX_BATCH
from rtmw_edge.errors import VerificationError

from .base import INPUT, Converted, OnStep, Precision, Stored, output_names
from .half_precision import to_half
from .weight_matching import check_distinct, match_convolutions

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from .onnx_qdq import Spelling
    from .rewrites import Deployable

OPSET = 18
OPSET_16_BITS = 21
"""The first opset whose QuantizeLinear has 16-bit integers."""

HALF = ":half"
"""How the names of weights end that are stored in half precision."""

IR_VERSIONS = {OPSET: 8, OPSET_16_BITS: 10}
"""The oldest file version that has each opset, so that runtimes of 2023 (16 bits: of 2024) open the file."""


class Onnx:
    """The `onnx` target."""

    name = "onnx"
    grids: tuple[str, ...] = ("common", "affine", "w8", "w8a16")
    max_batch = MAX_BATCH

    def carried(self, grid: str) -> tuple[str, ...]:
        return KINDS

    def requirements(self) -> list[str]:
        return ["torch", "onnx", "onnxscript"]

    def convert(
        self, network: Deployable, table: Table | None, precision: Precision, out_dir: Path, batch: int, on_step: OnStep
    ) -> Converted:
        """Write `model.onnx`; see `Target.convert`."""
        import onnx

        from . import onnx_qdq

        if table is not None:
            check_distinct(network, table)
        model = float_model(network, batch, on_step, OPSET_16_BITS if precision is Precision.W8A16 else OPSET)
        if table is not None:
            on_step("inserting the scales")
            model = onnx_qdq.quantize(model, table.carrying(self.carried(table.grid)), self.spelling(precision))
        if precision is not Precision.FP32:
            model = with_half_weights(model)
        on_step("writing model.onnx")
        onnx.checker.check_model(model, full_check=True)
        path = out_dir / "model.onnx"
        onnx.save(model, path)
        return Converted({"model": path}, output_names(network), counted(network, table))

    def spelling(self, precision: Precision) -> Spelling:
        """How integers are stored."""
        from .onnx_qdq import UINT8, UINT16

        return UINT16 if precision is Precision.W8A16 else UINT8

    def spell(self, entry: Entry) -> np.ndarray:
        return entry.scale

    def read_scales(self, files: Mapping[str, Path], network: Deployable) -> dict[str, Stored]:
        """Scales and zero points by point, read from the nodes around each convolution."""
        import onnx

        from . import onnx_qdq

        return onnx_qdq.read_scales(onnx.load(files["model"]))


TARGET = Onnx()


def counted(network: Deployable, table: Table | None) -> dict[str, int]:
    """How many convolutions there are, and how many the table puts on integers of 8 bits."""
    total = len(network.convolutions())
    integer = table is not None and GRIDS[table.grid].precision == Precision.INT8
    return {"total": total, "int8": total - len(table.floats) if table is not None and integer else 0}


def float_model(network: Deployable, batch: int, on_step: OnStep, opset: int = OPSET) -> onnx.ModelProto:
    """The float32 graph, uint8 (batch,H,W,3) in, with every convolution node called as in the network.

    Quantizers between convolutions (`onnx_between.with_quantizers`) are in it, called by their points. Raises
    RtmwEdgeError when a convolution of the network is not found in the graph with the same weights.
    """
    import torch

    from .onnx_between import name_quantizers
    from .rewrites import FromUint8

    on_step("tracing the network")
    width, height = network.variant.input_size
    example = torch.zeros((batch, height, width, 3), dtype=torch.uint8)
    model = traced(FromUint8(network), example, output_names(network).values(), opset)
    name_quantizers(model, network)
    strip_trace(model)
    _spell_biases(model)
    _name_convolutions(model, network)
    return model


def traced(network: nn.Module, example: Tensor, outputs: Iterable[str], opset: int = OPSET) -> onnx.ModelProto:
    """The graph of a network as the exporter writes it, with the input `image` and these outputs."""
    import torch

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network.eval(),
            (example,),
            None,
            dynamo=True,
            external_data=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=list(outputs),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    if {item.version for item in model.opset_import if not item.domain} != {opset}:
        raise VerificationError(f"The exporter did not write opset {opset}; install the versions of rtmw-edge[export].")
    model.ir_version = IR_VERSIONS[opset]
    return model


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store every float32 matrix and kernel as float16, followed by a cast back; biases and scales stay float32.

    Raises BadInputError for a weight that float16 cannot hold.
    """
    import onnx
    from onnx import helper, numpy_helper

    casts = []
    for item in model.graph.initializer:
        values = numpy_helper.to_array(item)
        if values.dtype != np.float32 or np.count_nonzero(np.array(values.shape) > 1) < 2:
            continue
        name = item.name
        item.CopyFrom(numpy_helper.from_array(to_half(values, name), f"{name}{HALF}"))
        casts.append(helper.make_node("Cast", [f"{name}{HALF}"], [name], f"{name}:cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _spell_biases(model: onnx.ModelProto) -> None:
    """Give back the biases that the exporter leaves out where all are zero, as in a network before its training."""
    from onnx import numpy_helper

    from .onnx_qdq import convolutions

    values = {item.name: item for item in model.graph.initializer}
    for node in convolutions(model):
        if len(node.input) == 2:
            zeros = np.zeros(values[node.input[1]].dims[0], np.float32)
            name = f"{node.output[0]}:bias"
            model.graph.initializer.append(numpy_helper.from_array(zeros, name))
            node.input.append(name)


def _name_convolutions(model: onnx.ModelProto, network: Deployable) -> None:
    """Call each Conv node by the network's convolution that has its weights."""
    from onnx import numpy_helper

    from .onnx_qdq import convolutions

    values = {item.name: item for item in model.graph.initializer}
    nodes = {node.name: node for node in convolutions(model)}
    found = {}
    for key, node in nodes.items():
        weight, bias = (numpy_helper.to_array(values[name]) for name in node.input[1:3])
        found[key] = (weight, bias)
    for key, name in match_convolutions(found, network).items():
        nodes[key].name = name


def strip_trace(model: onnx.ModelProto) -> None:
    """Drop what the exporter writes for debugging, among it stack traces with the paths of this machine."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.producer_name, model.producer_version = "rtmw-edge", ""
    graph = model.graph
    del graph.value_info[:]
    del graph.metadata_props[:]
    graph.doc_string = ""
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del item.metadata_props[:]
        item.doc_string = ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about optional packages out of the progress lines."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

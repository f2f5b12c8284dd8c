"""TFLite: litert-torch converts the float network; scales and half-precision weights are then written into its graph.

The int8 file is ours rather than ai-edge-quantizer's: that computes weight scales itself, while here every number comes
from the quantization table.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rtmw_edge.quantization import GRIDS, Entry, Table
from rtmw_edge.quantization.table import BETWEEN, KINDS

from rtmw_edge.bundle.limits import MAX_BATCH
from rtmw_edge.files import reported_disk_errors

from .base import INPUT, Converted, OnStep, Precision, Stored, output_names
from .converter_process import run_converter
from .weight_matching import check_distinct, match_convolutions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .rewrites import Deployable
    from .tflite_model import GraphEditor


class TFLite:
    """The target `tflite`, for LiteRT and XNNPACK: uint8 NHWC BGR in, float32 logits out."""

    name = "tflite"
    grids = ("common", "affine", "full", "w8", "w8a16")
    max_batch = MAX_BATCH

    def carried(self, grid: str) -> tuple[str, ...]:
        return (*KINDS, *BETWEEN)

    def requirements(self) -> list[str]:
        return ["torch", "litert-torch", "ai-edge-litert"]

    def convert(
        self, network: Deployable, table: Table | None, precision: Precision, out_dir: Path, batch: int, on_step: OnStep
    ) -> Converted:
        """Write `model.tflite` into `out_dir`; see `Target.convert`."""
        from .tflite_weights import halve_weights

        graph = float_graph(network, batch, on_step)
        names = convolution_names(graph, network)
        if table is not None:
            on_step("writing the scales")
            quantize(graph, names, table, network)
        elif precision is Precision.FP16:
            on_step("halving the weights")
            halve_weights(graph)
        path = out_dir / "model.tflite"
        graph.save(path)
        return converted(network, path)

    def spell(self, entry: Entry) -> np.ndarray:
        """TFLite stores scales as they are."""
        return entry.scale

    def read_scales(self, files: Mapping[str, Path], network: Deployable) -> dict[str, Stored]:
        """The scales in the file, whose tensors carry the table's names."""
        from .tflite_model import GraphEditor
        from .tflite_scales import stored_in

        return stored_in(GraphEditor(files["model"]))


def quantize(graph: GraphEditor, names: Mapping[int, str], table: Table, network: Deployable) -> None:
    """Write a table into the float graph, in place, as its grid says; see `Target.convert`."""
    from rtmw_edge.quantization.wiring import wiring

    from .tflite_between import FullWriter
    from .tflite_integers import IntegerWriter
    from .tflite_weights import shrink_weights

    check_distinct(network, table)
    grid = GRIDS[table.grid]
    if not grid.calibrated:
        shrink_weights(graph, names, table)
    elif grid.between:
        FullWriter(graph, names, table, wiring(network)).write()
    else:
        IntegerWriter(graph, names, table).write()


def converted(network: Deployable, path: Path) -> Converted:
    """What was written to `path` of a graph that `float_graph` began."""
    from .tflite_model import CONVOLUTIONS, GraphEditor
    from .tflite_scales import computes_int8

    graph = GraphEditor(path)
    counts = {"total": sum(1 for _ in graph.operators(*CONVOLUTIONS)), "int8": computes_int8(graph)}
    return Converted({"model": path}, output_names(network), counts)


def float_graph(network: Deployable, batch: int, on_step: OnStep) -> GraphEditor:
    """The float32 graph as litert-torch writes it: uint8 (batch,H,W,3) BGR -> logits."""
    import torch

    from .rewrites import FromUint8

    width, height = network.variant.input_size
    example = torch.zeros(batch, height, width, 3, dtype=torch.uint8)
    return converted_graph(FromUint8(network), example, output_names(network).values(), on_step)


def converted_graph(network: nn.Module, example: Tensor, outputs: Iterable[str], on_step: OnStep) -> GraphEditor:
    """The graph of a network as litert-torch writes it, with the input `image` and these outputs."""
    import torch

    from .tflite_model import GraphEditor

    on_step("tracing the network")
    program = torch.export.export(network.eval(), (example,))
    with tempfile.TemporaryDirectory(prefix="rtmw-edge-") as name:
        folder = Path(name)
        traced = io.BytesIO()
        torch.export.save(program, traced)
        with reported_disk_errors(folder / "network.pt2"):  # torch ends the process where the disk is full
            (folder / "network.pt2").write_bytes(traced.getbuffer())
        on_step("converting with litert-torch")
        command = [sys.executable, "-m", f"{__package__}.tflite_convert", "network.pt2", "network.tflite"]
        run_converter("litert-torch", command, folder)
        graph = GraphEditor(folder / "network.tflite")
    graph.rename_signature([INPUT], list(outputs))
    return graph


def convolution_names(graph: GraphEditor, network: Deployable) -> dict[int, str]:
    """Convolution names by the index of the weight tensor.

    litert-torch keeps equal weights in one tensor; here each convolution is given its own.
    """
    from .tflite_integers import weight_axis
    from .tflite_model import CONVOLUTIONS
    from .tflite_weights import set_weight

    found: dict[int, tuple[Any, Any]] = {}
    for operator in graph.operators(*CONVOLUTIONS):
        weight, bias = (graph.constant(int(index)) for index in operator.inputs[1:3])
        assert weight is not None and bias is not None
        channels_first = (
            weight.transpose(0, 3, 1, 2) if weight_axis(graph, operator) == 0 else weight.transpose(3, 0, 1, 2)
        )
        index = int(operator.inputs[1])
        if index in found:
            index = graph.add_constant(f"{graph.name(index)}:{len(found)}", weight)
            set_weight(operator, index)
        found[index] = (channels_first, bias)
    return match_convolutions(found, network)


TARGET = TFLite()

"""OpenVINO IR: for Intel CPUs and GPUs, and for ARM CPUs.

The ONNX graph (`onnx.float_model`, and `onnx_qdq` for integers) is read by OpenVINO's own front end. Each pair of
quantize and dequantize becomes a FakeQuantize whose bounds are the reals of the integers -128 and 127, and the weights
stay int8 in the file. There is no grid with 16-bit activations: OpenVINO would compute their rounding in float.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rtmw_edge.quantization import GRIDS, Entry, Table
from rtmw_edge.quantization.table import BETWEEN, KINDS, role_of

from rtmw_edge.bundle.limits import MAX_BATCH
from rtmw_edge.errors import VerificationError
from rtmw_edge.files import check_disk_not_full

from .base import Converted, OnStep, Precision, Stored, output_names
from .half_precision import to_half
from .onnx import counted, float_model
from .onnx_between import with_quantizers
from .weight_matching import check_distinct

if TYPE_CHECKING:
    import openvino

    from .rewrites import Deployable

CONVOLUTIONS = ("Convolution", "GroupConvolution")

LOWEST, HIGHEST = -128, 127
LEVELS = HIGHEST - LOWEST + 1
OFF_GRID = 1e-3
"""How far, in steps, float32 bounds may lie from whole numbers of steps."""


class OpenVINO:
    """The `openvino` target."""

    name = "openvino"
    grids = ("common", "affine", "full", "w8")
    max_batch = MAX_BATCH

    def carried(self, grid: str) -> tuple[str, ...]:
        """What convolutions read, and between them all but the sigmoid: OpenVINO computes SiLU whole.

        Not what convolutions put out, unless the next reads just that: integer kernels need it not, and it costs time.
        """
        if GRIDS[grid].between:
            return (*KINDS, *(role for role in BETWEEN if role != "sigmoid"))
        return ("input", "weight")

    def requirements(self) -> list[str]:
        return ["torch", "onnx", "onnxscript", "openvino"]

    def convert(
        self, network: Deployable, table: Table | None, precision: Precision, out_dir: Path, batch: int, on_step: OnStep
    ) -> Converted:
        """Write `model.xml` and `model.bin`; see `Target.convert`."""
        from . import onnx_qdq

        if table is not None:
            check_distinct(network, table)
            table = table.carrying(self.carried(table.grid))
            if GRIDS[table.grid].between:
                network = with_quantizers(network, table)
        source = float_model(network, batch, on_step)
        if table is not None:
            on_step("inserting the scales")
            source = onnx_qdq.quantize(source, table, onnx_qdq.INT8)
        on_step("converting to OpenVINO")
        model = read_onnx(source)
        if table is not None:
            name_image_quantizer(model)
            halve_weights(model)
        on_step("writing model.xml and model.bin")
        files = write(model, out_dir, compress_to_fp16=precision is Precision.FP16)
        return Converted(files, output_names(network), counted(network, table))

    def spell(self, entry: Entry) -> np.ndarray:
        """A weight's scales; the bounds of an activation's FakeQuantize."""
        if entry.axis is not None:
            return entry.scale
        return np.array([LOWEST - entry.zero_point, HIGHEST - entry.zero_point], np.float32) * entry.scale

    def read_scales(self, files: Mapping[str, Path], network: Deployable) -> dict[str, Stored]:
        """Bounds by point, from each FakeQuantize, and the factors of each int8 weight.

        What a convolution reads and writes is found beside it, what stands between convolutions by its name.
        """
        import openvino

        stored: dict[str, Stored] = {}
        model = openvino.Core().read_model(files["xml"], files["bin"])
        for node in model.get_ops():
            point = _point(node)
            if role_of(point) in BETWEEN:
                stored[point] = _stored_bounds(node, point)
        for name, convolution in convolutions(model):
            read = _transposed(convolution.input_value(0).get_node())
            quantizers = {"input": read, "output": _output_quantizer(convolution)}
            for kind, node in quantizers.items():
                if node is not None and role_of(_point(node)) == kind:
                    stored[f"{name}:{kind}"] = _stored_bounds(node, f"{name}:{kind}")
            weight = _scale_of_weight(convolution.input_value(1).get_node())
            if weight is not None:
                stored[f"{name}:weight"] = Stored(weight)
        return stored


TARGET = OpenVINO()


def read_onnx(source: Any) -> openvino.Model:
    """The IR of an ONNX model, simplified as `openvino.convert_model` does.

    Not `convert_model` itself: it reports to its makers over the network unless somebody has opted out.
    """
    import onnx
    import openvino
    from openvino._offline_transformations import apply_moc_transformations

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(source, path)
        model = openvino.Core().read_model(path)
        apply_moc_transformations(model, cf=False, smart_reshape=True)
        # The model refers to the file's weights until it is cloned or saved.
        return model.clone()


def write(model: openvino.Model, out_dir: Path, compress_to_fp16: bool = False) -> dict[str, Path]:
    """Write `model.xml` and `model.bin` into `out_dir`."""
    import openvino

    path = out_dir / "model.xml"
    try:
        openvino.save_model(model, path, compress_to_fp16=compress_to_fp16)
    except RuntimeError:  # "basic_ios::clear: iostream error"
        check_disk_not_full(path)
        raise
    return {"xml": path, "bin": path.with_suffix(".bin")}


def name_image_quantizer(model: openvino.Model) -> None:
    """Give the quantizer of the image its name back: OpenVINO moves it before the transposition, which keeps that."""
    for _, convolution in convolutions(model):
        node = convolution.input_value(0).get_node()
        quantizer = _transposed(node)
        if quantizer is not node and quantizer.get_type_name() == "FakeQuantize":
            name = node.get_friendly_name()
            node.set_friendly_name(f"{name}:transposed")
            quantizer.set_friendly_name(name)


def halve_weights(model: openvino.Model) -> None:
    """Store a quantized model's float matrices and kernels in half precision; arithmetic stays as it is."""
    from openvino import opset8

    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("MatMul", *CONVOLUTIONS):
            continue
        for port in node.inputs():
            constant = port.get_source_output().get_node()
            if constant.get_type_name() == "Constant" and constant.get_element_type().to_string() == "f32":
                name = constant.get_friendly_name()
                half = opset8.constant(to_half(constant.data, name), name=f"{name}:half")
                port.replace_source_output(opset8.convert(half, "f32").output(0))


def convolutions(model: openvino.Model) -> Iterator[tuple[str, openvino.Node]]:
    """Every convolution with the name that the network has for it."""
    for node in model.get_ordered_ops():
        if node.get_type_name() in CONVOLUTIONS:
            yield node.get_friendly_name().removesuffix("/WithoutBiases"), node


def _point(node: openvino.Node) -> str:
    """The point that a FakeQuantize was written for; "" for any other node."""
    quantizes = node.get_type_name() == "FakeQuantize"
    return node.get_friendly_name().removesuffix(":dequantize") if quantizes else ""


def _transposed(node: openvino.Node) -> openvino.Node:
    """What `node` turns from pixels into planes; itself, if it does not."""
    found: openvino.Node = node.input_value(0).get_node() if node.get_type_name() == "Transpose" else node
    return found


def _consumer(node: openvino.Node | None) -> openvino.Node | None:
    """The only node that reads `node`; None when there is not exactly one."""
    readers = [] if node is None else list(node.output(0).get_target_inputs())
    return readers[0].get_node() if len(readers) == 1 else None


def _output_quantizer(convolution: openvino.Node) -> openvino.Node | None:
    """What stands behind a convolution and its biases; where all of these are zero OpenVINO drops their sum."""
    follower = _consumer(convolution)
    return follower if follower is not None and _point(follower) else _consumer(follower)


def _stored_bounds(quantizer: openvino.Node, point: str) -> Stored:
    """The two bounds of a FakeQuantize and the zero point that they mean; VerificationError when it is not int8."""
    bounds = [np.asarray(quantizer.input_value(port).get_node().data, np.float32).ravel() for port in (1, 2, 3, 4)]
    numbers = np.concatenate(bounds[:2])
    if numbers.size == 2 and np.array_equal(numbers, np.concatenate(bounds[2:])) and numbers[0] < numbers[1]:
        low, high = numbers.astype(np.float64)
        lowest = low * (LEVELS - 1) / (high - low)
        if quantizer.get_attributes()["levels"] == LEVELS and abs(lowest - round(lowest)) < OFF_GRID:
            return Stored(numbers, LOWEST - round(lowest))
    equal = ", as where a convolution's biases are all equal and OpenVINO moves them into the bounds; take another grid"
    raise VerificationError(
        f"The written openvino file quantizes '{point}' with bounds that are not int8 steps"
        f"{equal if role_of(point) == 'output' else ''}."
    )


def _scale_of_weight(node: openvino.Node) -> np.ndarray | None:
    """Factors (C,) of an int8 weight stored as Constant -> Convert -> Multiply (-> Reshape); None for another chain."""
    if node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Multiply":
        return None
    convert, factor = (node.input_value(port).get_node() for port in (0, 1))
    if convert.get_type_name() != "Convert" or factor.get_type_name() != "Constant":
        return None
    integers = convert.input_value(0).get_node()
    if integers.get_type_name() != "Constant" or integers.get_element_type().to_string() != "i8":
        return None
    return factor.data.ravel()

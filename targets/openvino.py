"""OpenVINO IR: for Intel CPUs and GPUs, and for ARM CPUs.

The ONNX graph (`onnx.float_model`, and `onnx_qdq` for int8) is read by OpenVINO's own front end. Each pair of quantize
and dequantize becomes a FakeQuantize whose bounds are multiples of the scale, and the weights stay int8 in the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rtmw_edge.quantization import Entry, Table

from rtmw_edge.errors import VerificationError

from .base import Converted, OnStep, Precision, Stored, installed
from .half_precision import to_half
from .onnx import INPUT, float_model, output_names

if TYPE_CHECKING:
    import openvino

    from .rewrites import Deployable

LEVELS = 256
LOWEST = np.float32(-128)
"""An int8 FakeQuantize's lower bound in steps: a power of two, so that the scale reads back exactly."""


class OpenVINO:
    """The `openvino` target."""

    name = "openvino"
    grids = ("common",)
    carried = ("input", "weight", "output")

    def requirements(self) -> list[str]:
        return ["torch", "onnx", "onnxscript", "openvino"]

    def convert(
        self,
        deployable: Deployable,
        table: Table | None,
        precision: Precision,
        out_dir: Path,
        batch: int,
        on_step: OnStep,
    ) -> Converted:
        """Write `model.xml` and `model.bin`; see `Target.convert`."""
        import openvino

        from . import onnx_qdq

        tools = installed(self.requirements())
        source = float_model(deployable, batch, on_step)
        total = sum(1 for _ in onnx_qdq.convolutions(source))
        if table is not None:
            on_step("inserting the scales")
            source = onnx_qdq.quantize(source, table, onnx_qdq.INT8)
        on_step("converting to OpenVINO")
        model = _read_onnx(source)
        if table is not None:
            _halve_matrices(model)
        on_step("writing model.xml and model.bin")
        path = out_dir / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=precision is Precision.FP16)
        return Converted(
            files={"xml": path, "bin": path.with_suffix(".bin")},
            input={"name": INPUT, "dtype": "uint8", "layout": "NHWC"},
            outputs=output_names(deployable),
            tools=tools,
            convolutions={"total": total, "int8": total if table is not None else 0},
        )

    def spell(self, entry: Entry) -> np.ndarray:
        return entry.scale

    def read_scales(self, files: Mapping[str, Path], deployable: Deployable) -> dict[str, Stored]:
        """Scales by point, from the bounds of FakeQuantize and from the factor of each int8 weight."""
        import openvino

        scales: dict[str, Stored] = {}
        for name, convolution in _convolutions(openvino.Core().read_model(files["xml"], files["bin"])):
            quantizers = {"input": convolution.input_value(0).get_node(), "output": _consumer(_consumer(convolution))}
            for kind, node in quantizers.items():
                if node is not None and node.get_type_name() == "FakeQuantize":
                    scales[f"{name}:{kind}"] = Stored(_scale_of(node, f"{name}:{kind}"))
            weight = _scale_of_weight(convolution.input_value(1).get_node())
            if weight is not None:
                scales[f"{name}:weight"] = Stored(weight)
        return scales


TARGET = OpenVINO()


def _read_onnx(source: Any) -> openvino.Model:
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


def _halve_matrices(model: openvino.Model) -> None:
    """Store the float tail's matrices of an int8 model in half precision; arithmetic stays as it is."""
    from openvino import opset8

    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        for port in node.inputs():
            constant = port.get_source_output().get_node()
            if constant.get_type_name() == "Constant" and constant.get_element_type().to_string() == "f32":
                name = constant.get_friendly_name()
                half = opset8.constant(to_half(constant.data, name), name=f"{name}:half")
                port.replace_source_output(opset8.convert(half, "f32").output(0))


def _convolutions(model: openvino.Model) -> Iterator[tuple[str, openvino.Node]]:
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            yield node.get_friendly_name().removesuffix("/WithoutBiases"), node


def _consumer(node: openvino.Node | None) -> openvino.Node | None:
    """The only node that reads `node`; None when there is not exactly one."""
    readers = [] if node is None else list(node.output(0).get_target_inputs())
    return readers[0].get_node() if len(readers) == 1 else None


def _scale_of(quantizer: openvino.Node, point: str) -> np.ndarray:
    """The scale whose multiples by -128 and 127 are a FakeQuantize's bounds; VerificationError when there is none."""
    low, high, out_low, out_high = (
        np.asarray(quantizer.input_value(port).get_node().data, np.float32).ravel() for port in (1, 2, 3, 4)
    )
    scale = low / LOWEST
    same = np.array_equal(low, out_low) and np.array_equal(high, out_high)
    if quantizer.get_attributes()["levels"] != LEVELS or not same or not np.array_equal(high, np.float32(127) * scale):
        raise VerificationError(f"The written openvino file quantizes '{point}' with bounds that are not int8 steps.")
    return scale


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

"""The grid `full` in ONNX: quantize and dequantize nodes after what stands between convolutions.

The network is exported with fake quantization at its places (`rewrites.Place`), which the exporter writes as pairs of
QuantizeLinear and DequantizeLinear. It notes which module each node comes from, and so each pair gets its point's name.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING

from rtmw_edge.quantization import Table
from rtmw_edge.quantization.table import BETWEEN

from rtmw_edge.errors import VerificationError

if TYPE_CHECKING:
    import onnx

    from .rewrites import Deployable

SCOPES = "pkg.torch.onnx.name_scopes"
"""Key of the exporter's note: the paths of the modules around a node, outermost first, then the node itself."""

SUFFIXES = {"QuantizeLinear": "quantize", "DequantizeLinear": "dequantize"}


def with_quantizers(network: Deployable, table: Table) -> Deployable:
    """A copy of the network that rounds to the table's integers at the places between convolutions that it names."""
    from rtmw_edge.quantization.fake import put_quantizers

    quantized = copy.deepcopy(network)
    put_quantizers(quantized, table.carrying(BETWEEN))
    return quantized


def name_quantizers(model: onnx.ModelProto, quantized: Deployable) -> None:
    """Call the nodes of each place "<point>:quantize" and "<point>:dequantize"; VerificationError when one is lost."""
    from rtmw_edge.quantization.fake import FakeQuantizeTensor

    places = {id(place.quant): point for point, place in quantized.between().items()}
    points = {
        f"network.{path}": places[id(module)]
        for path, module in quantized.named_modules()
        if isinstance(module, FakeQuantizeTensor)
    }
    expected = {f"{point}:{suffix}" for point in points.values() for suffix in SUFFIXES.values()}
    for node in model.graph.node:
        if node.op_type in SUFFIXES:
            notes = {item.key: item.value for item in node.metadata_props}
            scopes = ast.literal_eval(notes.get(SCOPES, "[]"))
            point = next((points[scope] for scope in reversed(scopes) if scope in points), "")
            node.name = f"{point}:{SUFFIXES[node.op_type]}"
            expected.discard(node.name)
    if expected:
        raise VerificationError(
            f"The exporter lost '{min(expected)}' or where it belongs; install the versions of rtmw-edge[export]."
        )

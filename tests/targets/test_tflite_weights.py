"""TFLite files that store weights small and compute in float32: float16, and int8 with one scale per channel (w8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import W8
from rtmw_edge.quantization.fake import fake_quantize, weights_table
from small_deployable import SmallDeployable, float_logits, relative_rms, small_deployable
from tflite_run import PLAIN_KERNELS, run

from rtmw_edge.errors import BadInputError

pytest.importorskip("litert_torch")

from rtmw_edge.targets import tflite
from rtmw_edge.targets.base import check_scales
from rtmw_edge.targets.tflite_model import OPS, GraphEditor
from rtmw_edge.targets.tflite_scales import computes_int8, stored_in
from rtmw_edge.targets.tflite_weights import halve_weights, set_weight


def test_half_precision_weights(network: SmallDeployable, float_file: Path, crops: np.ndarray) -> None:
    graph = GraphEditor(float_file)
    halve_weights(graph)
    path = float_file.with_name("half.tflite")
    graph.save(path)
    assert path.stat().st_size < 0.6 * float_file.stat().st_size
    assert stored_in(GraphEditor(path)) == {}
    rounded = small_deployable()
    with torch.no_grad():
        for module in rounded.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.weight.copy_(module.weight.half().float())
    for found, expected in zip(run(path, crops), float_logits(rounded, crops), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("value", "told"), [(7e4, r"7e\+04"), (np.nan, "nan")])
def test_a_weight_beyond_half_precision_is_refused_by_name(float_file: Path, value: float, told: str) -> None:
    graph = GraphEditor(float_file)
    weight = int(next(graph.operators(OPS.CONV_2D)).inputs[1])
    buffer = graph.model.buffers[graph.graph.tensors[weight].buffer]
    buffer.data = np.full(len(buffer.data) // 4, value, np.float32).view(np.uint8)
    with pytest.raises(BadInputError, match=f"reaches {told}, more than float16 holds; export it in fp32"):
        halve_weights(graph)


def test_a_matrix_product_s_weights_are_halved_too_and_shared_ones_once(float_file: Path) -> None:
    graph = GraphEditor(float_file)
    one, other = list(graph.operators(OPS.CONV_2D))[1:3]
    set_weight(other, int(one.inputs[1]))
    values = np.float32([[0.5, 0.25]])
    matrix, integers = graph.add_constant("matrix", values), graph.add_constant("integers", values.astype(np.int32))
    products = [
        graph.new_operator(OPS.BATCH_MATMUL, 1, [int(one.outputs[0]), weight], [weight])
        for weight in (matrix, integers)
    ]
    graph.graph.operators.extend(products)
    halve_weights(graph)
    assert int(one.inputs[1]) == int(other.inputs[1]) and int(products[1].inputs[1]) == integers
    widened = graph.producer(int(products[0].inputs[1]))
    assert widened is not None and graph.code(widened) == OPS.DEQUANTIZE
    stored = graph.constant(int(widened.inputs[0]))
    assert stored is not None and stored.dtype == np.float16
    np.testing.assert_array_equal(stored, values)
    written = [int(operator.outputs[0]) for operator in graph.operators(OPS.DEQUANTIZE)]
    assert len(set(written)) == len(written) == len({int(op.inputs[1]) for op in _weighted(graph)})


def _weighted(graph: GraphEditor) -> list[Any]:
    """The operators whose weights were widened."""
    written = {int(operator.outputs[0]) for operator in graph.operators(OPS.DEQUANTIZE)}
    return [op for op in graph.graph.operators if len(op.inputs) > 1 and int(op.inputs[1]) in written]


def test_eight_bit_weights_compute_in_float(network: SmallDeployable, float_file: Path, crops: np.ndarray) -> None:
    """Rounded weights and nothing else: the answers are the fake-quantized network's to float rounding."""
    table = weights_table(network, W8)
    graph = GraphEditor(float_file)
    tflite.quantize(graph, tflite.convolution_names(graph, network), table, network)  # type: ignore[arg-type]
    path = float_file.with_name("w8.tflite")
    graph.save(path)
    check_scales(table, stored_in(GraphEditor(path)), tflite.TARGET)
    assert computes_int8(GraphEditor(path)) == 0
    weights = sum(module.conv.weight.numel() for module in network.convolutions().values())
    assert float_file.stat().st_size - path.stat().st_size > 2 * weights
    expected = float_logits(fake_quantize(network, table), crops)
    for options in ({}, PLAIN_KERNELS):
        for found, wanted in zip(run(path, crops, **options), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    for wanted, exact in zip(expected, float_logits(network, crops), strict=True):
        assert 0.001 < relative_rms(wanted, exact) < 0.05

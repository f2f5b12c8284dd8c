"""What was trained with quantization in the loop is what every file computes: the gap that others report, closed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import AFFINE, COMMON, GRIDS, Table
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.quantization.learned import learnable, learned_parameters, learned_table, round_biases
from rtmw_edge.targets import TARGETS, target_named
from rtmw_edge.targets.base import Converted, Precision, check_scales, installed
from rtmw_edge.targets.rewrites import FromUint8
from small_deployable import (
    HEIGHT,
    WIDTH,
    SmallDeployable,
    absmax_table,
    float_logits,
    small_deployable,
    smooth_crops,
)
from torch.nn import functional as F

from rtmw_edge.errors import NotAvailableError
from rtmw_edge.runtime.processor import int8_sums_overflow

CROPS = smooth_crops(60)
STEPS = 16

Run = Callable[[np.ndarray], list[np.ndarray]]


@lru_cache
def trained(grid: str) -> tuple[SmallDeployable, Table]:
    """The small network after some steps towards its float self from ranges 3 times too wide, and its table."""
    exact = small_deployable()
    student = copy.deepcopy(exact)
    tight = absmax_table(exact, CROPS[:8], GRIDS[grid])
    entries = {
        point: entry
        if point.endswith(":weight") or point == "attention:output"
        else replace(entry, scale=3 * entry.scale)
        for point, entry in tight.entries.items()
    }
    start = replace(tight, entries=entries)
    learnable(student, start)
    scales = list(learned_parameters(student))
    weights = [convolution.conv.weight for convolution in student.convolutions().values()]
    optimizer = torch.optim.Adam([{"params": scales, "lr": 5e-2}, {"params": weights, "lr": 1e-5}])
    images = torch.from_numpy(CROPS[:8])
    with torch.no_grad():
        wanted = FromUint8(exact)(images)
    losses = []
    for _ in range(STEPS):
        found = FromUint8(student)(images)
        loss = torch.stack([F.mse_loss(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    with torch.no_grad():
        for name, convolution in student.convolutions().items():
            exact.convolutions()[name].conv.weight.copy_(convolution.conv.weight.half())
    # As a run ends: ONNX and TFLite store biases in whole steps, and a few values in a thousand feel that.
    round_biases(exact, learned_table(exact, student, start, "", {}))
    table = learned_table(exact, student, start, f"qat step {STEPS}", {})
    moved = [point for point, entry in start.entries.items() if table.entries[point].scale[0] != entry.scale[0]]
    assert len(moved) > 20
    return exact, table


def opened(name: str, converted: Converted) -> Run:
    """The file in its runtime, one thread, arithmetic in float32 outside of int8."""
    files, outputs = converted.files, list(converted.outputs.values())
    if name in ("onnx", "tensorrt"):
        import onnxruntime

        from rtmw_edge.runtime.onnx_session import session_options

        session = onnxruntime.InferenceSession(files["model"], session_options(1), providers=["CPUExecutionProvider"])
        return lambda crop: session.run(outputs, {"image": crop[None]})
    if name == "openvino":
        import openvino

        from rtmw_edge.runtime.openvino_engine import FLOAT_KERNELS, configuration

        config = configuration("cpu", 1) | (FLOAT_KERNELS if int8_sums_overflow() else {})
        request = openvino.Core().compile_model(str(files["xml"]), "CPU", config).create_infer_request()
        return lambda crop: [np.array(request.infer({"image": crop[None]})[output]) for output in outputs]
    if name == "tflite":
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(files["model"]), num_threads=1).get_signature_runner()
        return lambda crop: [runner(image=crop[None])[output] for output in outputs]
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    assert net.load_param(str(files["param"])) == 0 and net.load_model(str(files["bin"])) == 0

    def run(crop: np.ndarray) -> list[np.ndarray]:
        extractor = net.create_extractor()
        extractor.input("image", ncnn.Mat.from_pixels(crop, ncnn.Mat.PixelType.PIXEL_BGR, WIDTH, HEIGHT))
        return [np.array(extractor.extract(output)[1])[None] for output in outputs]

    return run


def sure(logits: np.ndarray) -> np.ndarray:
    """Of which lines (N, K) the highest bin stands out: by a tenth of the line's range over all but its neighbours."""
    peak = logits.argmax(2)[..., None]
    far = np.abs(np.arange(logits.shape[2]) - peak) > 1
    margin = logits.max(2) - np.where(far, logits, -np.inf).max(2)
    return margin > 0.1 * np.ptp(logits, axis=2)


@pytest.mark.parametrize("grid", [COMMON.name, AFFINE.name])
@pytest.mark.parametrize("name", TARGETS)
def test_the_file_finds_the_bins_of_the_trained_network(name: str, grid: str, tmp_path: Path) -> None:
    target = target_named(name)
    if grid not in target.grids:
        pytest.skip(f"{name} does not carry the grid {grid}")
    try:
        installed(target.requirements())
    except NotAvailableError as error:
        pytest.skip(str(error))
    network, table = trained(grid)
    converted = target.convert(network, table, Precision.INT8, tmp_path, 1, lambda step: None)
    check_scales(table, target.read_scales(converted.files, network), target)
    run = opened(name, converted)
    found = [np.concatenate(axis) for axis in zip(*[run(crop) for crop in CROPS], strict=True)]
    expected = float_logits(fake_quantize(network, table, target.carried(table.grid)), CROPS)
    confident = [sure(axis) for axis in float_logits(network, CROPS)]
    assert sum(int(axis.sum()) for axis in confident) > 100
    distances = [np.abs(ours.argmax(2) - theirs.argmax(2)) for ours, theirs in zip(found, expected, strict=True)]
    near = np.concatenate([distance[chosen] <= 1 for distance, chosen in zip(distances, confident, strict=True)])
    assert near.mean() >= 0.99

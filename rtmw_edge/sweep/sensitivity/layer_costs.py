"""What it costs to leave a convolution in float: measured in the target's runtime, or its multiply-accumulates.

ONNX Runtime's profile and OpenVINO's performance counters tell the time of every node; LiteRT and ncnn tell nothing
from Python, so there a convolution counts by its size.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...models.macs import multiply_accumulates
from ...quantization import GRIDS, Table
from ...runtime.openvino_engine import why_in_float
from ...targets import target_named
from ...targets.base import INPUT, Converted, OnStep, Precision, installed

if TYPE_CHECKING:
    import onnx

    from ...targets.rewrites import Deployable

RUNS = 30
"""Runs of each network, of which the fastest counts, node by node: what else the machine does only ever adds."""


@dataclass(frozen=True)
class LayerCosts:
    """By convolution: what a crop costs more when it is in float. `source` says in a sentence how that was found.

    `unit` is "ms", and a cost may then be below 0 where the runtime is slower in int8, or "MMAC".
    """

    unit: str
    source: str
    extra: dict[str, float]


def layer_costs(
    network: Deployable, table: Table, target: str | None, threads: int | None, on_step: OnStep = lambda _: None
) -> LayerCosts:
    """The costs in the runtime of `target`, "onnx" or "openvino"; multiply-accumulates for the others and for None.

    Raises NotAvailableError when the target's converter or runtime is not installed.
    """
    measure = {"onnx": _onnx_times, "openvino": _openvino_times}.get(target or "")
    if measure is None or target is None:
        return _by_size(network, "no target was named" if target is None else f"{target} tells no times of layers")
    if target == "openvino" and why_in_float():
        return _by_size(network, "OpenVINO computes int8 in float on this processor")
    installed(target_named(target).requirements())
    times = []
    for scales, precision in ((None, Precision.FP32), (table, _precision(table))):
        on_step(f"timing the layers in {target}, {precision}")
        with tempfile.TemporaryDirectory(prefix="rtmw-edge-") as folder:
            converted = target_named(target).convert(network, scales, precision, Path(folder), 1, lambda _: None)
            times.append(measure(converted, _crop(network), threads))
    single, integer = times
    names = [name for name in network.convolutions() if name not in table.floats]
    if not all(name in single and name in integer for name in names):
        return _by_size(network, f"the installed {target} runtime does not name its layers as expected")
    extra = {name: single[name] - integer[name] for name in names}
    if sum(extra.values()) <= 0:
        return _by_size(network, f"{target} is no faster in {_precision(table)} than in float on this machine")
    source = f"Fastest of {RUNS} runs in {target} in float and in {_precision(table)}, layer by layer, on this machine"
    return LayerCosts("ms", source, extra)


def _precision(table: Table) -> Precision:
    return Precision.INT8_MIXED if table.floats else Precision(GRIDS[table.grid].precision)


def _crop(network: Deployable) -> NDArray[np.uint8]:
    width, height = network.variant.input_size
    return np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)


def _by_size(network: Deployable, why: str) -> LayerCosts:
    macs = multiply_accumulates(network, network.variant.input_size)
    paths = {module: path for path, module in network.named_modules()}
    extra = {name: macs[paths[unit.conv]] / 1e6 for name, unit in network.convolutions().items()}
    return LayerCosts("MMAC", f"Multiply-accumulates, as {why}", extra)


def _onnx_times(converted: Converted, crop: NDArray[np.uint8], threads: int | None) -> dict[str, float]:
    """Milliseconds by convolution, with its quantizers, from ONNX Runtime's profile."""
    import onnx
    import onnxruntime

    from ...runtime.onnx_session import session_options

    owners = _owners(onnx.load(converted.files["model"]))
    with tempfile.TemporaryDirectory(prefix="rtmw-edge-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(converted.files["model"], options, providers=["CPUExecutionProvider"])
        for _ in range(RUNS):
            session.run(None, {INPUT: crop})
        events = json.loads(Path(session.end_profiling()).read_text())
    fastest: dict[str, float] = {}
    for event in events:
        if event.get("cat") == "Node":
            fastest[event["name"]] = min(fastest.get(event["name"], math.inf), event["dur"] / 1e3)
    times: dict[str, float] = {}
    for name, milliseconds in fastest.items():
        owner = owners.get(re.sub(r"(_token_\d+|_nchwc)?_kernel_time$", "", name))
        if owner is not None:
            times[owner] = times.get(owner, 0.0) + milliseconds
    return times


def _owners(model: onnx.ModelProto) -> dict[str, str]:
    """The convolution by every name that ONNX Runtime may give it or its quantizers.

    A convolution that is fused with a clamp, or laid out in blocks of channels, is called by the tensor that it writes.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    owners = {node.name: node.name.partition(":")[0] for node in model.graph.node if ":" in node.name}
    for conv in (node for node in model.graph.node if node.op_type == "Conv"):
        output = conv.output[0]
        owners |= {conv.name: conv.name, output: conv.name}
        owners |= {node.output[0]: conv.name for node in readers.get(output, []) if node.op_type in ("Relu", "Clip")}
    return owners


def _openvino_times(converted: Converted, crop: NDArray[np.uint8], threads: int | None) -> dict[str, float]:
    """Milliseconds by convolution, with the quantizers that are nodes of their own, from OpenVINO's counters."""
    import openvino

    from ...runtime.openvino_engine import configuration

    options = {**configuration("cpu", threads), "PERF_COUNT": True}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(converted.files["xml"], converted.files["bin"]), "CPU", options)
    owners = {}
    for node in compiled.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        if "originalLayersNames" in facts:
            # "stem.conv/WithoutBiases,stem.conv,stem.conv:output:dequantize,...": the first is what the node is about.
            first = str(facts["originalLayersNames"].astype(str)).split(",")[0]
            owners[node.get_friendly_name()] = re.split("[:/]", first)[0]
    request = compiled.create_infer_request()
    times: dict[str, float] = {}
    fastest: dict[str, float] = {}
    for _ in range(RUNS):
        request.infer({INPUT: crop})
        for node in request.profiling_info:
            milliseconds = node.real_time.total_seconds() * 1e3
            fastest[node.node_name] = min(fastest.get(node.node_name, math.inf), milliseconds)
    for name, milliseconds in fastest.items():
        owner = owners.get(name)
        if owner is not None:
            times[owner] = times.get(owner, 0.0) + milliseconds
    return times

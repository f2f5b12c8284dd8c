"""What this machine can run: which engines are installed, and which of their devices open a real (one-node) model."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import NotAvailableError, reason_of
from .quiet import quiet_stderr

ONNX_IDENTITY = base64.b64decode(
    "CAcSADo3ChAKAWESAWIiCElkZW50aXR5EgFnWg8KAWESCgoICAESBAoCCAFiDwoBYhIKCggIARIECgIIAUIECgAQDQ=="
)
"""An ONNX file of one Identity on one float."""

TFLITE_ADD = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAYAAAA4AAAAAMAAAABAAAABAAAACj///8BAAAAEAAAAAwAFAAQAAwACAAE"
    "AAwAAAAQAAAAUAAAAFQAAABYAAAAAQAAABQAAAAAAA4AFAAAABAADAALAAQADgAAABAAAAAAAAALDAAAABAAAACA////AQAAAAEA"
    "AAACAAAAAAAAAAAAAAABAAAAAQAAAAEAAAAAAAAAAgAAADAAAAAEAAAA5P///wgAAAAMAAAAAQAAAGIAAAABAAAAAQAAAAwADAAI"
    "AAAAAAAEAAwAAAAIAAAADAAAAAEAAABhAAAAAQAAAAEAAAABAAAACAAAAAQABAAEAAAA"
)
"""A TFLite file of one ADD on one float."""

NCNN_INPUT = "7767517\n1 1\nInput in0 0 1 in0\n"
"""An ncnn .param of one input."""

EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "export": (
        "export, calibrate, sweep, sensitivity",
        ("torch", "safetensors", "onnx", "onnxscript", "openvino", "ncnn", "pnnx", "litert-torch"),
    ),
    "train": ("train, qat", ("torch", "safetensors", "numba", "lightning-fabric", "tensorboard")),
    "evaluate": ("evaluate, validate on rendered people", ("numba",)),
    "search": ("sweep --search", ("optuna",)),
    "fleet": ("sweep --listen, worker", ("distributed",)),
    "peers": ("export --calibrator", ("nncf", "ai-edge-quantizer")),
}
"""What a board does without: the product's extra, the commands that need it, and the distributions they import."""


@dataclass(frozen=True)
class EngineState:
    """One runtime on this machine: `version` None when it is not installed, `devices` those that opened a model.

    `runs` is the target whose bundles it runs, or REFERENCE. `failed` maps a device that the runtime lists and that did
    not open to the reason. `install` is the command that brings the runtime.
    """

    name: str
    runs: str
    version: str | None
    install: str
    devices: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


REFERENCE = "reference"
"""What PyTorch runs, where the others have a target."""


def engine_states() -> list[EngineState]:
    """Every engine, tried in earnest; takes seconds where torch or OpenVINO must be imported."""
    return [engine_state(runs) for runs in _ENGINES]


def engine_state(runs: str) -> EngineState:
    """The engine of one target's bundles, or of the reference, tried in earnest."""
    runs = _runtime(runs)
    name, _, extra, devices = _ENGINES[runs]
    found = next((v for v in installed(*distributions(runs)).values() if v is not None), None)
    install = f'pip install "{extra}"'
    if found is None:
        return EngineState(name, runs, None, install)
    opened, failed = [], {}
    try:
        tries = devices()
    except Exception as error:  # a broken installation may raise anything
        return EngineState(name, runs, found, install, (), {"import": reason_of(error)})
    for device, attempt in tries.items():
        try:
            attempt()
            opened.append(device)
        except Exception as error:  # and so may a driver
            failed[device] = reason_of(error)
    return EngineState(name, runs, found, install, tuple(opened), failed)


def distributions(runs: str | None = None) -> tuple[str, ...]:
    """What brings the runtime of one target's bundles, or of the reference, each of them alone; None: of any engine."""
    engines = _ENGINES.values() if runs is None else [_ENGINES[_runtime(runs)]]
    return tuple(name for engine in engines for name in engine[1])


def installed(*distributions: str) -> dict[str, str | None]:
    """The version of each distribution, None where it is not installed."""
    return {name: _version(name) for name in distributions}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _runtime(target: str) -> str:
    """The target under which `_ENGINES` has the runtime of another: TensorRT's bundles are ONNX."""
    return "onnx" if target == "tensorrt" else target


Try = Callable[[], None]


def _onnx_devices() -> dict[str, Try]:
    from .onnx_session import PROVIDERS, onnx_runtime, open_session, session_options

    def attempt(device: str) -> None:
        open_session(ONNX_IDENTITY, session_options(), device)

    there = onnx_runtime().get_available_providers()
    return {device: partial(attempt, device) for device, provider in PROVIDERS.items() if provider in there}


def _openvino_devices() -> dict[str, Try]:
    import openvino

    core = openvino.Core()

    def attempt(name: str) -> None:
        value = openvino.opset13.parameter([1], openvino.Type.f32)
        core.compile_model(openvino.Model([openvino.opset13.relu(value)], [value]), name)

    return {name.lower(): partial(attempt, name) for name in core.available_devices}


def _tflite_devices() -> dict[str, Try]:
    from .tflite_engine import find_interpreter

    _, _, interpreter = find_interpreter()
    with quiet_stderr():
        opened = interpreter(model_content=TFLITE_ADD)
    return {"cpu": lambda: _invoke(opened)}


def _invoke(interpreter: Any) -> None:
    with quiet_stderr():  # "INFO: Created TensorFlow Lite XNNPACK delegate"
        interpreter.allocate_tensors()
    interpreter.invoke()


def _ncnn_devices() -> dict[str, Try]:
    import ncnn

    def attempt() -> None:
        if ncnn.Net().load_param_mem(NCNN_INPUT):
            raise NotAvailableError("it does not read a network of one layer")

    return {"cpu": attempt}


def _torch_devices() -> dict[str, Try]:
    import torch

    def attempt(name: str) -> None:
        torch.ones(1, device=name).add_(1).item()

    names = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return {name: partial(attempt, name) for name in names}


_ENGINES: dict[str, tuple[str, tuple[str, ...], str, Callable[[], dict[str, Try]]]] = {
    "onnx": ("ONNX Runtime", ("onnxruntime", "onnxruntime-gpu"), "rtmw-edge", _onnx_devices),
    "openvino": ("OpenVINO", ("openvino",), "rtmw-edge[openvino]", _openvino_devices),
    "tflite": ("LiteRT", ("ai-edge-litert", "tflite-runtime"), "rtmw-edge[tflite]", _tflite_devices),
    "ncnn": ("ncnn", ("ncnn",), "rtmw-edge[ncnn]", _ncnn_devices),
    REFERENCE: ("PyTorch", ("torch",), "rtmw-edge[torch]", _torch_devices),
}
"""What is called what, the distributions that bring it, the product's extra for them, and how its devices are tried."""

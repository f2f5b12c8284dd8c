"""ONNX Runtime: CPU, CUDA and TensorRT."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import NotAvailableError
from ..files import cache_dir
from .devices import missing_device, missing_runtime
from .engine import IN_INT8, BundleEngine, Description, Ran, Run, refusals_of
from .machine import int8_sums_overflow

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}
"""TF32 has 10 bits of mantissa: float32 on a GPU would not be the float32 that was verified."""

INSTALL = {
    "cuda": "install the NVIDIA driver and, in place of onnxruntime, run: pip install onnxruntime-gpu",
    "tensorrt": "install the NVIDIA driver and TensorRT and, in place of onnxruntime, run: pip install onnxruntime-gpu",
}
CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger")
INTEGER = ("QLinearConv", "ConvInteger")
WEIGHT_INPUT = {"QLinearConv": 3}
"""Which input holds the weights, where it is not the second."""

FOLD_WEIGHTS = "session.disable_quant_qdq"
"""8-bit weights under float arithmetic are widened once when the file opens, instead of at every run."""

KEEP_WEIGHTS = "session.disable_prepacking"
"""Profiles do not list weights that a kernel has packed for itself, and their shapes are wanted."""
ERRORS_ONLY = 3
EXACT_ON_OLD_X86 = "session.x64quantprecision"
"""uint8 x int8 products overflow 16 bits on x86 without VNNI; with this ONNX Runtime multiplies uint8 x uint8, which is
a fifth slower there and right. With VNNI it would halve the speed for nothing, so it is asked for only where needed."""

SPINNING = "session.intra_op.allow_spinning"
"""Threads that wait for one another run in circles for a while. On idle cores that is a quarter faster than to sleep;
where others want the cores, as those that draw and encode do, it takes twice as long (rtmw-n int8, two threads)."""

REST_BETWEEN_RUNS = "session.force_spinning_stop"
"""Threads that spin stop at the end of a run; for tens of milliseconds they would take a core from what comes next."""

QUANTIZED = ("w8a16", *IN_INT8)
"""Precisions whose files have quantizers of activations."""

INT8_FOR_TENSORRT = {"trt_int8_enable": "1"}
"""TensorRT refuses explicit integers unless int8 is switched on; it then takes the scales of the file."""

FUSED_BY_TENSORRT = "TensorRT fuses the network into kernels of its own and does not tell which of them are int8"


class OnnxEngine(BundleEngine):
    """One ONNX file in ONNX Runtime: a bundle of the target onnx, or of tensorrt."""

    runtime = "ONNX Runtime"
    devices = tuple(PROVIDERS)

    def load(self, bundle: Bundle) -> None:
        if self.device == "tensorrt" and bundle.manifest.target == "onnx" and self.model.precision in QUANTIZED:
            raise NotAvailableError(
                f"{bundle.path('model').parent} is an onnx bundle in {bundle.manifest.precision}, spelled for ONNX "
                "Runtime's own kernels, which TensorRT does not take: export it for tensorrt."
            )
        self._session = self._open_session(self._options())

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        answers: Sequence[NDArray[np.float32]] = self._session.run(self._outputs, {self._input: crops})
        return answers

    def beside(self, threads: int) -> list[Run]:
        """One session, which several threads may run at once."""
        return [self._again(threads).run] * self.streams

    def describe(self) -> Description:
        """From ONNX Runtime's own profile of one run: operators after fusion, and the provider that ran each."""
        width, height = self.model.input_size
        with tempfile.TemporaryDirectory(prefix="rtmw-edge-") as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            options.add_session_config_entry(KEEP_WEIGHTS, "1")
            session = self._open_session(options)
            session.run(self._outputs, {self._input: np.zeros((self._batch, height, width, 3), np.uint8)})
            events = json.loads(Path(session.end_profiling()).read_text())
        facts = (event["args"] for event in events if event.get("cat") == "Node")
        ran = [_ran(args) for args in facts if args.get("op_name") in CONVOLUTIONS]
        note = FUSED_BY_TENSORRT if self.device == "tensorrt" else ""
        return Description.of(self.runtime, _runtime().__version__, self.device, self._threads, ran, note)

    def _options(self) -> Any:
        options = session_options(self._threads, spin=self._spin)
        if self.model.precision == "w8":
            options.add_session_config_entry(FOLD_WEIGHTS, "1")
        return options

    def _open_session(self, options: Any) -> Any:
        runtime, chosen = _runtime(), providers_of(self.device, has_integers=self.model.precision in QUANTIZED)
        with refusals_of(self.runtime, self._bundle, self.device):
            # From bytes: a file could point at external data elsewhere on the disk.
            model = self._bundle.path("model").read_bytes()
            # Without enable_fallback=0 a provider that fails is replaced by the CPU, with no more than a warning.
            session = runtime.InferenceSession(model, options, providers=chosen, enable_fallback=0)
            self.check_names(value.name for value in (*session.get_inputs(), *session.get_outputs()))
        check_provider(session, self.device)
        return session


def _ran(args: dict[str, Any]) -> Ran:
    """A convolution, from the arguments of its event in a profile."""
    operator, provider = args["op_name"], args["provider"].removesuffix("ExecutionProvider")
    (weight,) = args["input_type_shape"][WEIGHT_INPUT.get(operator, 1)].values()
    (output,) = args["output_type_shape"][0].values()
    return Ran(f"{operator} ({provider})", operator in INTEGER, math.prod(output) // weight[0] * math.prod(weight))


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise missing_runtime("ONNX Runtime", "onnxruntime") from None
    return onnxruntime


def providers_of(device: str, *, has_integers: bool = False) -> list[tuple[str, dict[str, str]]]:
    """The providers for a session on `device`, with their options; `has_integers`: for a file with quantizers.

    TensorRT builds an engine for minutes when a file is first opened; it is kept in the cache folder, under a name that
    has the hash of the graph and the versions in it. Raises NotAvailableError where the device is not there.
    """
    there = _runtime().get_available_providers()
    if PROVIDERS[device] not in there:
        raise _missing(device, there)
    # TensorRT leaves what it does not know to the next provider: better CUDA than the CPU.
    rest = [PROVIDERS["cuda"]] if device == "tensorrt" and PROVIDERS["cuda"] in there else []
    found = [(name, dict(OPTIONS.get(name, {}))) for name in (PROVIDERS[device], *rest)]
    if device == "tensorrt":
        kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache_dir() / "tensorrt")}
        found[0][1].update({**kept, **(INT8_FOR_TENSORRT if has_integers else {})})
    return found


def check_provider(session: Any, device: str) -> None:
    """Raise NotAvailableError when `session` opened on another device after all."""
    if session.get_providers()[0] != PROVIDERS[device]:
        raise _missing(device, session.get_providers())


def _missing(device: str, providers: list[str]) -> Exception:
    names = {provider: name for name, provider in PROVIDERS.items()}
    there = [names[provider] for provider in providers if provider in names]
    return missing_device(device, OnnxEngine.runtime, there, INSTALL[device])


def session_options(threads: int | None = None, *, spin: bool = True) -> Any:
    """Options of a session for the latency of one run; None lets ONNX Runtime take all physical cores.

    Without `spin` threads that wait give their core to others.
    """
    options = _runtime().SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    if int8_sums_overflow():
        options.add_session_config_entry(EXACT_ON_OLD_X86, "1")
    options.add_session_config_entry(*((REST_BETWEEN_RUNS, "1") if spin else (SPINNING, "0")))
    return options

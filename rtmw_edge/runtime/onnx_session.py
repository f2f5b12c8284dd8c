"""Sessions of ONNX Runtime: their options, and a device that really runs them or an error that says what is missing."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import re
from pathlib import Path
from typing import Any

from ..errors import NotAvailableError, importing
from ..files import cache_dir, reported_disk_errors
from .devices import missing_device
from .processor import int8_sums_overflow

RUNTIME = "ONNX Runtime"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}
"""TF32 has 10 bits of mantissa: float32 on a GPU would not be the float32 that was verified."""

GPU_BUILD = 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "onnxruntime-gpu[cuda,cudnn]"'
"""Both lie in one folder: whichever is uninstalled takes files of the other with it."""

INSTALL = {
    "cuda": f"install the NVIDIA driver and run: {GPU_BUILD}",
    "tensorrt": f"install the NVIDIA driver and TensorRT and run: {GPU_BUILD}",
}
BRINGS = (
    (r"libcuda\.", "install the NVIDIA driver"),
    (r"libnv(infer|onnx)\w*\.so\.(?P<version>\d+)", 'install TensorRT: pip install "tensorrt=={version}.*"'),
    (r"", 'run: pip install "onnxruntime-gpu[cuda,cudnn]"'),
)
"""What brings a library of NVIDIA's, by the first pattern that its name begins with."""

ERRORS_ONLY = 3
SILENT = 4
EXACT_ON_OLD_X86 = "session.x64quantprecision"
"""uint8 x int8 products overflow 16 bits on x86 without VNNI; with this ONNX Runtime multiplies uint8 x uint8, which is
a fifth slower there and right. With VNNI it would halve the speed for nothing, so it is asked for only where needed."""

SPINNING = "session.intra_op.allow_spinning"
"""Threads that wait for one another run in circles for a while. On idle cores that is a quarter faster than to sleep;
where others want the cores, as those that draw and encode do, it takes twice as long (rtmw-n int8, two threads)."""

REST_BETWEEN_RUNS = "session.force_spinning_stop"
"""Threads that spin stop at the end of a run; for tens of milliseconds they would take a core from what comes next."""

INT8_FOR_TENSORRT = {"trt_int8_enable": "1"}
"""TensorRT refuses explicit integers unless int8 is switched on; it then takes the scales of the file."""


def onnx_runtime() -> Any:
    """The module, imported now; NotAvailableError where it is not installed."""
    with importing("This", "onnxruntime", RUNTIME):
        import onnxruntime
    return onnxruntime


def session_options(threads: int | None = None, *, spin: bool = True) -> Any:
    """Options of a session for the latency of one run; None lets ONNX Runtime take all physical cores.

    Without `spin` threads that wait give their core to others.
    """
    options = onnx_runtime().SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    if int8_sums_overflow():
        options.add_session_config_entry(EXACT_ON_OLD_X86, "1")
    options.add_session_config_entry(*((REST_BETWEEN_RUNS, "1") if spin else (SPINNING, "0")))
    return options


def open_session(model: bytes, options: Any, device: str, *, has_integers: bool = False) -> Any:
    """A session of `model`, the bytes of an ONNX file, that runs on `device` and on no other.

    `has_integers`: for a file with quantizers. Raises NotAvailableError where the device is not there, and lets through
    whatever else ONNX Runtime raises.
    """
    runtime, chosen = onnx_runtime(), _providers(model, device, has_integers)
    if device != "cpu":
        _load_libraries(runtime, device)
        runtime.set_default_logger_severity(SILENT)  # what it would print comes as an error
    try:
        # Without enable_fallback=0 a provider that fails is replaced by the CPU, with no more than a warning.
        session = runtime.InferenceSession(model, options, providers=chosen, enable_fallback=0)
    except Exception:
        _check_library(runtime, device)
        raise
    opened = session.get_providers()
    if opened[0] != PROVIDERS[device]:
        _check_library(runtime, device)
        raise _missing(device, opened)
    return session


def _providers(model: bytes, device: str, has_integers: bool) -> list[tuple[str, dict[str, str]]]:
    """The providers for a session on `device`, with their options; NotAvailableError where this build has none.

    TensorRT builds an engine for minutes when a file is first opened; it is kept in the cache folder. ONNX Runtime
    finds it again by versions and by the names in the graph, which other weights share: so each file has a folder.
    """
    there = onnx_runtime().get_available_providers()
    if PROVIDERS[device] not in there:
        raise _missing(device, there)
    # TensorRT leaves what it does not know to the next provider: better CUDA than the CPU.
    rest = [PROVIDERS["cuda"]] if device == "tensorrt" and PROVIDERS["cuda"] in there else []
    found = [(name, dict(OPTIONS.get(name, {}))) for name in (PROVIDERS[device], *rest)]
    if device == "tensorrt":
        folder = cache_dir() / "tensorrt" / hashlib.sha256(model).hexdigest()[:16]
        with reported_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
        found[0][1].update({**kept, **(INT8_FOR_TENSORRT if has_integers else {})})
    return found


def _load_libraries(runtime: Any, device: str) -> None:
    """Load NVIDIA's libraries where pip has put them; the system's loader does not look there."""
    if hasattr(runtime, "preload_dlls"):  # from 1.21 on
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            runtime.preload_dlls()
    if device == "tensorrt":
        with contextlib.suppress(ImportError, OSError):
            import tensorrt_libs  # noqa: F401  (loads them)


def _check_library(runtime: Any, device: str) -> None:
    """Raise NotAvailableError where ONNX Runtime's own library for `device` asks in vain for one of NVIDIA's.

    Only after a session was tried: ONNX Runtime's library must find its host when it is first loaded.
    """
    try:
        ctypes.CDLL(str(Path(runtime.__file__).parent / "capi" / f"libonnxruntime_providers_{device}.so"))
    except OSError as error:
        name = re.match(r"([^/\s]+): cannot open shared object file", str(error))
        if name:
            raise NotAvailableError(
                f"There is no device '{device}' for {RUNTIME} here, for want of {name[1]}; {_bringing(name[1])}."
            ) from None


def _bringing(library: str) -> str:
    """What to do for a library of NVIDIA's that is missing."""
    found = ((re.match(pattern, library), advice) for pattern, advice in BRINGS)
    return next(advice.format(**name.groupdict()) for name, advice in found if name)


def _missing(device: str, providers: list[str]) -> NotAvailableError:
    names = {provider: name for name, provider in PROVIDERS.items()}
    there = [names[provider] for provider in providers if provider in names]
    return missing_device(device, RUNTIME, there, INSTALL[device])

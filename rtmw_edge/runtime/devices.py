"""Which engine runs which target, on which device, and what to install where it is missing."""

from __future__ import annotations

from importlib import import_module
from numbers import Integral

from ..bundle import Bundle
from ..errors import BadInputError, NotAvailableError, unknown
from .engine import BundleEngine

DEVICES = ("cpu", "cuda", "tensorrt", "gpu", "npu")
"""Every device name there is; each engine has some of them."""

_ENGINES = {
    "onnx": ("onnx_engine", "OnnxEngine"),
    "openvino": ("openvino_engine", "OpenVinoEngine"),
    "tflite": ("tflite_engine", "TFLiteEngine"),
    "ncnn": ("ncnn_engine", "NcnnEngine"),
    "tensorrt": ("onnx_engine", "OnnxEngine"),
}


def engine_class(target: str) -> type[BundleEngine]:
    """The engine for the bundles of `target`; its module is imported now, its runtime only when it opens one."""
    module, name = _ENGINES[target]
    engine: type[BundleEngine] = getattr(import_module(f".{module}", __package__), name)
    return engine


def open_engine(
    bundle: Bundle,
    device: str = "cpu",
    threads: int | None = None,
    *,
    spin: bool = True,
    streams: int | None = None,
) -> BundleEngine:
    """Open `bundle` on `device`; `spin` and `streams` as in `BundleEngine.open`.

    Raises BadInputError for a device or a number of threads or streams that cannot be, NotAvailableError when the
    runtime or device is missing: there is never another one in its place.
    """
    check_device(device)
    check_threads(threads)
    target = bundle.manifest.target
    engine = engine_class(target)
    if device not in engine.devices:
        others = [name for name in _ENGINES if device in engine_class(name).devices]
        raise NotAvailableError(
            f"{engine.runtime} has no device '{device}': {target} bundles run on {', '.join(engine.devices)}. "
            f"For '{device}', export for {' or '.join(others)}."
        )
    return engine.open(bundle, device, threads, spin=spin, streams=streams)


def check_device(device: str) -> None:
    """Raise BadInputError, with the nearest name, when no engine has ever had such a device."""
    if device not in DEVICES:
        raise unknown("device", str(device), DEVICES)


def check_threads(threads: int | None) -> None:
    """Raise BadInputError for a number of threads that no runtime takes."""
    if threads is not None and not (isinstance(threads, Integral) and 1 <= threads <= 1024):
        raise BadInputError(f"Cannot run on {threads!r} threads: pass 1 to 1024, or none for all cores.")


def missing_device(device: str, runtime: str, there: list[str], install: str) -> NotAvailableError:
    """The error for a device that this machine's runtime does not have."""
    return NotAvailableError(
        f"There is no device '{device}' for {runtime} here (it has {', '.join(there) or 'none'}); {install}."
    )

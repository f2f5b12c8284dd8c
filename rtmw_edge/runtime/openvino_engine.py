"""OpenVINO: CPU, Intel GPU and NPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import importing
from .devices import missing_device
from .engine import IN_INT8, BundleEngine, Description, Ran, refusals_of
from .processor import int8_sums_overflow, lacks_dot_product

INSTALL = {
    "cpu": "install OpenVINO's CPU plugin again: pip install --force-reinstall openvino",
    "gpu": "install Intel's compute runtime (intel-opencl-icd) and join the group 'render'",
    "npu": "install Intel's NPU driver (linux-npu-driver) and join the group 'render'",
}
CONVOLUTIONS = ("Convolution", "GroupConvolution")
INTEGER = ("i8", "u8")

FLOAT_KERNELS = {"LP_TRANSFORMS_MODE": "NO"}
"""Keeps what the file quantizes as rounding in float32: the same answers, without integer kernels."""

IN_FLOAT = "so the rounding of int8 is computed in float32, exactly and without int8's speed."
WITHOUT_VNNI = (
    "This processor has no VNNI: OpenVINO's integer kernels would clip their sums (0.14 instead of 0.03 relative rms "
    f"on rtmw-n), {IN_FLOAT}"
)
WITHOUT_DOT_PRODUCT = (
    "This processor has no int8 dot product: OpenVINO's integer kernels would end the process with an illegal "
    f"instruction (2026.4), {IN_FLOAT}"
)


class OpenVinoEngine(BundleEngine):
    """One IR in OpenVINO, tuned for the latency of one request."""

    runtime = "OpenVINO"
    devices = tuple(INSTALL)
    _note = ""

    def load(self, bundle: Bundle) -> None:
        with importing("This", "rtmw-edge[openvino]", self.runtime):
            import openvino
        self._version = str(openvino.__version__).partition("-")[0]
        core = openvino.Core()
        there = sorted({name.partition(".")[0].lower() for name in core.available_devices})
        device = self.device
        if device not in there:
            raise missing_device(device, self.runtime, there, INSTALL[device])
        with refusals_of(self.runtime, bundle, self.device):
            model = core.read_model(bundle.path("xml"), bundle.path("bin"))
            settings = configuration(device, self._threads)
            if device == "cpu" and bundle.manifest.precision in IN_INT8 and (reason := why_in_float()):
                settings |= FLOAT_KERNELS
                self._note = reason
            self._compiled = core.compile_model(model, device.upper(), settings)
            self.check_names(name for port in (*model.inputs, *model.outputs) for name in port.get_names())
            self._ports = [self._compiled.output(name) for name in self._outputs]
        self._request = self._compiled.create_infer_request()

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        answers = self._request.infer({self._input: crops}, share_inputs=True)
        return [answers[output] for output in self._ports]

    def describe(self) -> Description:
        """From the compiled graph: the primitive of each convolution, and the precision of what it reads."""
        operators = ((operator, operator.get_rt_info()) for operator in self._compiled.get_runtime_model().get_ops())
        ran = [
            Ran(facts["primitiveType"].astype(str), facts["runtimePrecision"].astype(str) in INTEGER, _macs(operator))
            for operator, facts in operators
            if facts["layerType"].astype(str) in CONVOLUTIONS
        ]
        threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS")) if self.device == "cpu" else None
        return Description.of(self.runtime, self._version, self.device, threads, ran, self._note)

    def close(self) -> None:
        super().close()
        self._request = self._compiled = None


def why_in_float() -> str:
    """Why OpenVINO's integer kernels are not for this processor; "" where they are."""
    if int8_sums_overflow():
        return WITHOUT_VNNI
    return WITHOUT_DOT_PRODUCT if lacks_dot_product() else ""


def _macs(convolution: Any) -> int:
    """Multiply-accumulates of a convolution of the compiled graph; 0 when that does not show its weights."""
    if convolution.get_input_size() < 2:
        return 0
    batch, _, *positions = convolution.get_output_shape(0)
    return math.prod([batch, *positions]) * math.prod(convolution.get_input_shape(1))


def configuration(device: str, threads: int | None) -> dict[str, Any]:
    """OpenVINO's properties for the latency of one request in float32 arithmetic."""
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device != "npu":
        # Without this hint float layers run in bfloat16 or float16 where the machine has them, and nobody is told.
        settings["INFERENCE_PRECISION_HINT"] = "f32"
        settings["NUM_STREAMS"] = 1
    if device == "cpu":
        # Pinned, the threads of two engines share a core beside an idle one. A graph compiled for two streams would
        # need no pins, and answers wrong now and then (2026.4, quantizers in float32).
        settings["ENABLE_CPU_PINNING"] = False
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
    return settings

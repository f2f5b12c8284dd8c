"""LiteRT (ai-edge-litert), or its predecessor tflite-runtime where only that is installed: CPU, through XNNPACK."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import importing
from .engine import IN_INT8, BundleEngine, Description, Ran, refusals_of
from .processor import cores
from .quiet import quiet_stderr

RUNTIMES = (
    ("LiteRT", "ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite-runtime", "tflite_runtime.interpreter", "tflite-runtime"),
)
"""Name, module and distribution, best first."""

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
DELEGATE = "DELEGATE"

NO_FAST_KERNELS = (
    "LiteRT has no fast convolution with 16-bit activations: its plain kernels run them, on x86 24 times slower than "
    "fp32 (rtmw-n); w8a16 is for accuracy studies and for accelerators that have such arithmetic."
)


class TFLiteEngine(BundleEngine):
    """One .tflite file in an interpreter."""

    runtime = "LiteRT"
    devices = ("cpu",)

    def load(self, bundle: Bundle) -> None:
        self.runtime, self._version, interpreter = find_interpreter()
        # Its own choice is one thread, whatever the machine has. tflite-runtime's kernels for int8 are best with one:
        # on two cores two threads take ten times as long.
        alone = self.runtime == "tflite-runtime" and self.model.precision in IN_INT8
        self._threads = self._threads or (1 if alone else cores())
        with refusals_of(self.runtime, bundle, self.device):
            with quiet_stderr():  # "INFO: Created TensorFlow Lite XNNPACK delegate"
                self._interpreter = interpreter(model_path=str(bundle.path("model")), num_threads=self._threads)
                self._interpreter.allocate_tensors()
            inputs = {entry["name"]: entry["index"] for entry in self._interpreter.get_input_details()}
            outputs = {entry["name"]: entry["index"] for entry in self._interpreter.get_output_details()}
            self.check_names((*inputs, *outputs))
            self._read = inputs[self._input]
            self._written = [outputs[name] for name in self._outputs]

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        self._interpreter.set_tensor(self._read, crops)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output) for output in self._written]

    def describe(self) -> Description:
        """From the interpreter's operators: the types that each convolution reads, input x weights, and who runs it.

        XNNPACK has what it took over in operators of its own, which list the weights among their inputs.
        """
        tensors = {entry["index"]: entry for entry in self._interpreter.get_tensor_details()}
        operators = self._interpreter._get_ops_details()
        delegates = [operator for operator in operators if operator["op_name"] == DELEGATE]
        taken = {int(index) for delegate in delegates for index in delegate["inputs"]}
        ran = []
        for operator in operators:
            if operator["op_name"] in CONVOLUTIONS:
                read, weights = (tensors[int(index)] for index in operator["inputs"][:2])
                runner = "XNNPACK" if weights["index"] in taken else "interpreter"
                types = [np.dtype(entry["dtype"]).name for entry in (read, weights)]
                positions = math.prod(tensors[int(operator["outputs"][0])]["shape"][:-1])
                macs = int(positions) * int(math.prod(weights["shape"]))
                integer = types == ["int8", "int8"]
                ran.append(Ran(f"{runner} {operator['op_name']} {types[0]} x {types[1]}", integer, macs))
        note = NO_FAST_KERNELS if self.model.precision == "w8a16" else ""
        return Description.of(self.runtime, self._version, "cpu", self._threads, ran, note)


def find_interpreter() -> tuple[str, str, Any]:
    """Name, version and interpreter class of the best runtime that is installed; NotAvailableError when none is."""
    with importing("This", "rtmw-edge[tflite]", "LiteRT"):
        for name, module, distribution in RUNTIMES:
            with suppress(ModuleNotFoundError):
                return name, version(distribution), import_module(module).Interpreter
        raise ModuleNotFoundError

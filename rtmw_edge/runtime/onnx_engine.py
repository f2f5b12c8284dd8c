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
from ..errors import BadInputError, NotAvailableError
from .engine import IN_INT8, BundleEngine, Description, Ran, refusals_of
from .onnx_session import PROVIDERS, RUNTIME, onnx_runtime, open_session, session_options

CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger")
INTEGER = ("QLinearConv", "ConvInteger")
WEIGHT_INPUT = {"QLinearConv": 3}
"""Which input holds the weights, where it is not the second."""

FOLD_WEIGHTS = "session.disable_quant_qdq"
"""8-bit weights under float arithmetic are widened once when the file opens, instead of at every run."""

KEEP_WEIGHTS = "session.disable_prepacking"
"""Profiles do not list weights that a kernel has packed for itself, and their shapes are wanted."""

QUANTIZED = ("w8a16", *IN_INT8)
"""Precisions whose files have quantizers of activations."""

FUSED_BY_TENSORRT = "TensorRT fuses the network into kernels of its own and does not tell which of them are int8"


class OnnxEngine(BundleEngine):
    """One ONNX file in ONNX Runtime: a bundle of the target onnx, or of tensorrt."""

    runtime = RUNTIME
    devices = tuple(PROVIDERS)
    shared = True

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
            profile = Path(session.end_profiling())
            try:
                events = json.loads(profile.read_text())
            except (ValueError, FileNotFoundError) as error:  # ONNX Runtime does not tell that it could not write it
                raise BadInputError(
                    f"ONNX Runtime's profile of one run, which tells what really ran, was cut off in {profile.parent}: "
                    "free some space there, or let TMPDIR name another folder."
                ) from error
        facts = (event["args"] for event in events if event.get("cat") == "Node")
        # Before 1.21 the fences around an operator are events too, which have no provider.
        ran = [_ran(args) for args in facts if args.get("op_name") in CONVOLUTIONS and "provider" in args]
        note = FUSED_BY_TENSORRT if self.device == "tensorrt" else ""
        return Description.of(self.runtime, onnx_runtime().__version__, self.device, self._threads, ran, note)

    def _options(self) -> Any:
        options = session_options(self._threads, spin=self._spin)
        if self.model.precision == "w8":
            options.add_session_config_entry(FOLD_WEIGHTS, "1")
        return options

    def _open_session(self, options: Any) -> Any:
        with refusals_of(self.runtime, self._bundle, self.device):
            # From bytes: a file could point at external data elsewhere on the disk.
            model = self._bundle.path("model").read_bytes()
            session = open_session(model, options, self.device, has_integers=self.model.precision in QUANTIZED)
            self.check_names(value.name for value in (*session.get_inputs(), *session.get_outputs()))
        return session


def _ran(args: dict[str, Any]) -> Ran:
    """A convolution, from the arguments of its event in a profile."""
    operator, provider = args["op_name"], args["provider"].removesuffix("ExecutionProvider")
    (weight,) = args["input_type_shape"][WEIGHT_INPUT.get(operator, 1)].values()
    (output,) = args["output_type_shape"][0].values()
    return Ran(f"{operator} ({provider})", operator in INTEGER, math.prod(output) // weight[0] * math.prod(weight))

"""TFLite files run directly in the interpreter, tensor by tensor where a test needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

interpreter = pytest.importorskip("ai_edge_litert.interpreter")

PLAIN_KERNELS = {"experimental_op_resolver_type": interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
"""Options that leave XNNPACK out."""


def run(path: Path, crops: np.ndarray, **options: Any) -> list[np.ndarray]:
    """Logits of the axes x and y."""
    runner = interpreter.Interpreter(str(path), num_threads=1, **options).get_signature_runner()
    answers = [runner(image=crop[None]) for crop in crops]
    return [np.concatenate([answer[f"simcc_{axis}"] for answer in answers]) for axis in "xy"]


REFERENCE_KERNELS = interpreter.OpResolverType.BUILTIN_REF


def tensors(path: Path, crop: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor by name, as LiteRT's reference kernels compute it.

    Its optimized MEAN, which runs only without XNNPACK, truncates a zero point and is up to a step off.
    """
    opened = interpreter.Interpreter(
        str(path), experimental_preserve_all_tensors=True, experimental_op_resolver_type=REFERENCE_KERNELS
    )
    opened.allocate_tensors()
    opened.set_tensor(opened.get_input_details()[0]["index"], crop[None])
    opened.invoke()
    return {detail["name"]: opened.get_tensor(detail["index"]) for detail in opened.get_tensor_details()}

"""Which kernels LiteRT really runs: XNNPACK's for int8, its own plain ones for 16-bit activations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

pytest.importorskip("ai_edge_litert")
import tiny_formats

from rtmw_edge import bundle
from rtmw_edge.runtime import open_engine, tflite_engine
from rtmw_edge.runtime.engine import Description


def described(folder: Path, precision: str, files: dict[str, Path], threads: int | None = 1) -> Description:
    out = tiny_models.write_bundle(
        folder / precision,
        files,
        target="tflite",
        precision=precision,
    )
    with bundle.read(out) as opened, open_engine(opened, "cpu", threads=threads) as engine:
        return engine.describe()


@pytest.mark.parametrize(
    ("precision", "kernel"), [("fp32", "CONV_2D float32 x float32"), ("int8", "CONV_2D int8 x int8")]
)
def test_xnnpack_runs_what_it_can(precision: str, kernel: str, tmp_path: Path) -> None:
    ran = described(tmp_path, precision, tiny_formats.tflite(tmp_path, int8=precision == "int8"))
    assert ran.kernels == {f"XNNPACK {kernel}": 1} and ran.note == ""


@pytest.mark.parametrize(("precision", "threads"), [("fp32", 3), ("int8", 1)])
def test_the_predecessor_s_int8_takes_one_thread(
    precision: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tflite-runtime 2.14 on two cores: 248 ms with two threads, 26 with one."""
    _, version, interpreter = tflite_engine.find_interpreter()
    monkeypatch.setattr(tflite_engine, "find_interpreter", lambda: ("tflite-runtime", version, interpreter))
    monkeypatch.setattr(tflite_engine, "cores", lambda: 3)
    files = tiny_formats.tflite(tmp_path, int8=precision == "int8")
    assert described(tmp_path, precision, files, threads=None).threads == threads
    assert described(tmp_path / "two", precision, files, threads=2).threads == 2


def test_sixteen_bit_activations_have_plain_kernels_and_a_note(tmp_path: Path) -> None:
    files = tiny_formats.tflite(tmp_path, int8=True)
    files["model"].write_bytes(with_sixteen_bit_activations(files["model"].read_bytes()))
    ran = described(tmp_path, "w8a16", files)
    assert ran.kernels == {"interpreter CONV_2D int16 x int8": 1} and ran.int8 == 0
    assert ran.note.startswith("LiteRT has no fast convolution with 16-bit activations")


def with_sixteen_bit_activations(data: bytes) -> bytes:
    """The tiny int8 file with the activations of its convolution in 16 bits, at a 256th of their scales."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(data))
    graph = model.subgraphs[0]
    convolution = next(operator for operator in graph.operators if len(operator.inputs) == 3 and operator.inputs[2] > 0)
    read, _, bias = (graph.tensors[index] for index in convolution.inputs)
    for tensor in (read, graph.tensors[convolution.outputs[0]]):
        tensor.type = schema.TensorType.INT16
        tensor.quantization.scale = [scale / 256 for scale in tensor.quantization.scale]
    bias.type = schema.TensorType.INT64
    bias.quantization.scale = [scale / 256 for scale in bias.quantization.scale]
    buffer = model.buffers[bias.buffer]
    values: Any = np.frombuffer(bytes(buffer.data), np.int32).astype(np.int64)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    versions: dict[int, int] = {
        schema.BuiltinOperator.CONV_2D: 4,
        schema.BuiltinOperator.QUANTIZE: 2,
        schema.BuiltinOperator.DEQUANTIZE: 3,
    }
    for code in model.operatorCodes:
        code.version = versions.get(max(code.builtinCode, code.deprecatedBuiltinCode), code.version)
    pack: Callable[..., int] = model.Pack
    builder = flatbuffers.Builder(1 << 18)
    builder.Finish(pack(builder), b"TFL3")
    return bytes(builder.Output())

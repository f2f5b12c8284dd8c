"""The TFLite format's editor: signatures, operator versions, zero points, and what is not of one subgraph."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rtmw_edge.errors import BadInputError, VerificationError

pytest.importorskip("ai_edge_litert")

from rtmw_edge.targets.tflite_model import OPS, GraphEditor


def signed(inputs: list[str], outputs: list[str]) -> Any:
    """An editor whose signature has these entries, each on a tensor of its own."""
    editor: Any = GraphEditor.__new__(GraphEditor)
    names = [*inputs, *outputs]
    editor.graph = SimpleNamespace(tensors=[SimpleNamespace(name=b"tensor") for _ in names])
    entries = [SimpleNamespace(name=name.encode(), tensorIndex=index) for index, name in enumerate(names)]
    signature = SimpleNamespace(inputs=entries[: len(inputs)], outputs=entries[len(inputs) :])
    editor.model = SimpleNamespace(signatureDefs=[signature])
    return editor


def test_outputs_are_named_in_the_order_of_their_numbers() -> None:
    """A signature is kept in the order of its letters, in which output_10 comes before output_2."""
    editor = signed(["args_0"], sorted(f"output_{index}" for index in range(12)))
    signature = editor.model.signatureDefs[0]
    tensor_of = {entry.name.decode(): entry.tensorIndex for entry in signature.outputs}
    editor.rename_signature(["image"], [f"axis {index}" for index in range(12)])
    assert (signature.inputs[0].name, editor.graph.tensors[0].name) == ("image", "image")
    for index in range(12):
        assert editor.graph.tensors[tensor_of[f"output_{index}"]].name == f"axis {index}"
    assert {entry.tensorIndex: entry.name for entry in signature.outputs} == {
        tensor_of[f"output_{index}"]: f"axis {index}" for index in range(12)
    }


def test_a_graph_with_other_outputs_is_refused() -> None:
    with pytest.raises(BadInputError, match="has 3 tensors where simcc_x, simcc_y belong"):
        signed(["args_0"], ["output_0", "output_1", "output_2"]).rename_signature(["image"], ["simcc_x", "simcc_y"])


def test_a_model_of_several_subgraphs_is_refused(float_file: Path, tmp_path: Path) -> None:
    editor = GraphEditor(float_file)
    editor.model.subgraphs.append(editor.graph)
    editor.save(tmp_path / "two.tflite")
    with pytest.raises(BadInputError, match="has 2 subgraphs; only models of one can be read"):
        GraphEditor(tmp_path / "two.tflite")


def test_a_tensor_has_one_zero_point(float_file: Path) -> None:
    editor = GraphEditor(float_file)
    tensor = editor.add_tensor("odd", (2,), np.dtype(np.int8), np.float32([0.1, 0.2]), zero_point=5)
    scale = editor.scale(tensor)
    assert scale is not None and scale[1] == 5
    np.testing.assert_array_equal(scale[0], np.float32([0.1, 0.2]))
    editor.graph.tensors[tensor].quantization.zeroPoint = np.int64([5, 6])
    with pytest.raises(VerificationError, match="The tensor 'odd' has 2 zero points; ours have one"):
        editor.scale(tensor)


def test_an_operator_keeps_the_highest_version_that_it_needs(float_file: Path) -> None:
    """Float and integer convolutions of one file share a code, which must know both."""
    editor = GraphEditor(float_file)
    operator = next(editor.operators(OPS.CONV_2D))
    for asked, kept in ((3, 3), (2, 3), (4, 4)):
        editor.require_version(operator, asked)
        assert editor.model.operatorCodes[operator.opcodeIndex].version == kept


def test_a_new_operator_has_the_version_that_was_asked_for(float_file: Path) -> None:
    editor = GraphEditor(float_file)
    made = [editor.new_operator(OPS.DEQUANTIZE, version, [0], [1]) for version in (2, 5, 2)]
    codes = [editor.model.operatorCodes[operator.opcodeIndex] for operator in made]
    assert [code.version for code in codes] == [2, 5, 2] and codes[0] is codes[2]
    assert {editor.code(operator) for operator in made} == {OPS.DEQUANTIZE}

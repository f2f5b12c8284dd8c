"""What every target shares: which grid a precision is on, and the comparison of a file's scales with the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rtmw_edge.quantization import GRIDS, Entry, Table
from rtmw_edge.targets import ON_CPUS, TARGETS, target_named
from rtmw_edge.targets.base import Precision, Stored, check_scales, grid_of, precisions

from rtmw_edge.bundle import ROLES
from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.runtime.devices import engine_class
from rtmw_edge.runtime.machine import distributions

POINT = "head:weight"


def test_every_target_has_an_engine_and_files_by_name() -> None:
    """A new one is entered in each of these tables; where it is forgotten a command would end in a traceback."""
    assert set(TARGETS) == set(ROLES)
    for name in TARGETS:
        assert engine_class(name).runtime and distributions(name), name
    assert set(ON_CPUS) == {name for name in TARGETS if name != "tensorrt"}


class Plain:
    """A format that stores scales as they are, of weights alone."""

    name = "plain"
    grids = ("affine", "common", "w8")

    def carried(self, grid: str) -> tuple[str, ...]:
        return ("weight",)

    def spell(self, entry: Entry) -> np.ndarray:
        return entry.scale


TARGET: Any = Plain()


def table(grid: str = "common") -> Table:
    """One convolution of two channels, its output and its weights."""
    weight = Entry(np.float32([0.1, 0.2]), axis=0)
    return Table("small", {"head:output": Entry(np.float32([0.5])), POINT: weight}, grid=grid)


def test_the_default_grid_is_the_target_s_first_of_a_precision() -> None:
    for precision, name in ((Precision.INT8, "affine"), (Precision.INT8_MIXED, "affine"), (Precision.W8, "w8")):
        assert grid_of(TARGET, precision, None) is GRIDS[name]
    assert grid_of(TARGET, Precision.INT8_MIXED, "common") is GRIDS["common"]
    assert grid_of(TARGET, Precision.FP16, None) is None
    assert precisions(TARGET) == ("fp32", "fp16", "w8", "int8", "int8-mixed")
    onnx = grid_of(target_named("onnx"), Precision.INT8, None)
    assert onnx is not None and onnx.name == target_named("onnx").grids[0]


@pytest.mark.parametrize(
    ("precision", "grid", "has"),
    [
        (Precision.INT8, "w8", r"it has affine, common\."),
        (Precision.W8, "affine", r"it has w8\."),
        (Precision.INT8, "full", r"it has affine, common\."),
        (Precision.FP32, "common", r"that precision has no grid\."),
    ],
)
def test_a_grid_of_another_precision_is_refused(precision: Precision, grid: str, has: str) -> None:
    with pytest.raises(BadInputError, match=f"plain cannot honour the grid {grid} in {precision}: {has}"):
        grid_of(TARGET, precision, grid)


def test_a_file_holds_the_points_that_its_format_carries_and_no_others() -> None:
    right = Stored(np.float32([0.1, 0.2]))
    check_scales(table(), {POINT: right}, TARGET)
    with pytest.raises(VerificationError, match=f"holds no scale for '{POINT}'; nothing was kept"):
        check_scales(table(), {}, TARGET)
    with pytest.raises(VerificationError, match="quantizes 'head:output', which is not in the table"):
        check_scales(table(), {POINT: right, "head:output": Stored(np.float32([0.5]))}, TARGET)


@pytest.mark.parametrize(
    ("stored", "difference"),
    [
        (Stored(np.float32([0.1, 0.2]).astype(np.float64)), "stored as float64, not float32"),
        (Stored(np.float32([0.1])), "1 numbers instead of 2"),
        (Stored(np.float32([0.2, 0.1])), r"0\.2 instead of 0\.1 at channel 0"),
        (Stored(np.float32([0.1, 0.3])), r"0\.3 instead of 0\.2 at channel 1"),
    ],
)
def test_another_scale_is_told_with_both_numbers(stored: Stored, difference: str) -> None:
    with pytest.raises(VerificationError, match=f"another scale for '{POINT}' than the table: {difference}; nothing"):
        check_scales(table(), {POINT: stored}, TARGET)


def test_another_zero_point_is_told_with_both() -> None:
    with pytest.raises(VerificationError, match=f"holds the zero point 1 for '{POINT}' and the table 0; nothing"):
        check_scales(table(), {POINT: Stored(np.float32([0.1, 0.2]), 1)}, TARGET)

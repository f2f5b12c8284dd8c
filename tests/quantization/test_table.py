"""The quantization table as a file: exact, canonical, and refusing what it cannot use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rtmw_edge.quantization import Entry, Table

from rtmw_edge.errors import BadInputError


def table() -> Table:
    rng = np.random.default_rng(3)
    entries = {
        "backbone.stem.0.conv:input": Entry(np.float32([0.1]), source="percentile 99.99"),
        "backbone.stem.0.conv:output": Entry(np.float32([np.nextafter(np.float32(0.3), np.float32(1))]), source="mse"),
        "backbone.stem.0.conv:weight": Entry(rng.uniform(1e-9, 2, 500).astype(np.float32), axis=0, source="weights"),
    }
    return Table(
        "rtmw-n-256x192",
        entries,
        provenance={"source": "synthetic:4", "seed": 0},
        weights_sha256="ab" * 32,
        floats=("head.final_layer.conv",),
        bias_corrections={"backbone.stem.0.conv": rng.normal(size=500).astype(np.float32)},
    )


def test_a_saved_table_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    saved = table()
    saved.save(tmp_path / "table.json")
    loaded = Table.load(tmp_path / "table.json")
    assert loaded.variant == "rtmw-n-256x192" and loaded.grid == "common"
    assert loaded.provenance == saved.provenance and loaded.sha256 == saved.sha256
    assert loaded.weights_sha256 == saved.weights_sha256 and loaded.floats == saved.floats
    (correction,), (kept,) = saved.bias_corrections.values(), loaded.bias_corrections.values()
    assert kept.dtype == np.float32 and kept.tobytes() == correction.tobytes()
    for point, entry in saved.entries.items():
        other = loaded.entries[point]
        assert other.scale.dtype == np.float32 and other.scale.tobytes() == entry.scale.tobytes(), point
        assert (other.zero_point, other.bits, other.axis, other.low, other.high, other.source) == (
            (entry.zero_point, entry.bits, entry.axis, entry.low, entry.high, entry.source)
        )


@pytest.mark.parametrize(
    ("provenance", "text"),
    [
        (
            {"method": "percentile 99.99", "crops": 200, "source": "ph\no\x1btos"},
            "percentile 99.99, 200 crops of ph?o?tos",
        ),
        ({"method": "qat", "steps": 900, "data": {"source": "synthetic:train"}}, "qat, 900 steps on synthetic:train"),
        ({"method": "weights"}, "weights"),
        ({}, "not said"),
        ({"method": "mse", "crops": 1, "source": "s" * 999}, "mse, 1 crops of " + "s" * 184),
    ],
)
def test_where_scales_are_from_in_words(provenance: dict[str, object], text: str) -> None:
    plain = replace(table(), provenance=provenance, bias_corrections={})
    assert plain.origin == text
    assert replace(table(), provenance=provenance).origin == f"{text}, biases corrected"[:200]


def test_the_order_of_entries_does_not_change_the_bytes() -> None:
    first = table()
    second = replace(first, entries=dict(reversed(list(first.entries.items()))))
    assert first.to_bytes() == second.to_bytes()


def test_what_is_left_in_float_loses_all_that_it_had() -> None:
    """Its scales, and the correction of a bias that nothing shifts any more; what was in float before stays so."""
    left = table().leaving_in_float(["backbone.stem.0.conv"])
    assert left.floats == ("backbone.stem.0.conv", "head.final_layer.conv")
    assert left.entries == {} and left.bias_corrections == {}


def test_one_bit_of_one_scale_changes_the_hash() -> None:
    first = table()
    entry = first.entries["backbone.stem.0.conv:input"]
    changed = {**first.entries, "backbone.stem.0.conv:input": Entry(np.nextafter(entry.scale, np.float32(1)))}
    assert replace(first, entries=changed).sha256 != first.sha256


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format": "other"}, 'it does not say "format": "rtmw-edge quantization table".'),
        ({"version": 3}, "its version is 3, not 2; use a newer rtmw-edge."),
        ({"grid": "afine"}, "its grid is 'afine', this tool knows common, affine, full, w8, w8a16."),
        ({"entries": {"a:middle": {}}}, "point 'a:middle' does not end in one of :input, :weight, :output, :silu"),
        ({"bias_corrections": {"a": [float("inf")]}}, "a bias correction is not a list of finite numbers."),
        ({"entries": {"a:input": {}}}, "KeyError at 'range'."),
        ({"entries": None}, "AttributeError"),
        ({"floats": "head.final_layer.conv"}, "its floats is not a list."),
        ({"provenance": ["synthetic:4"]}, "its provenance is not a dict."),
        ({"provenance": {"loss": float("nan")}}, "ValueError at Out of range float values are not JSON compliant"),
        ({"weights_sha256": None}, "its weights_sha256 is not a text."),
    ],
)
def test_a_file_that_cannot_be_used_is_told_why(tmp_path: Path, change: dict[str, object], text: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**json.loads(table().to_bytes()), **change}))
    with pytest.raises(BadInputError) as caught:
        Table.load(path)
    assert str(caught.value).startswith(f"{path} is not a quantization table that can be used: ")
    assert text in str(caught.value)


@pytest.mark.parametrize("scale", [[0.0], [-1.0], [float("nan")], [1e39], [1e-42], [2.0**-41]])
def test_a_scale_that_is_no_scale_is_refused_by_name(tmp_path: Path, scale: list[float]) -> None:
    document = json.loads(table().to_bytes())
    document["entries"]["backbone.stem.0.conv:input"]["scale"] = scale
    path = tmp_path / "table.json"
    path.write_text(json.dumps(document))
    with pytest.raises(BadInputError, match=r"point 'backbone\.stem\.0\.conv:input': A scale is not a finite number"):
        Table.load(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"zero_point": 200}, "Zero point 200 in the range [-127, 127] is none of 8 bits; calibrate again."),
        ({"zero_point": -128}, "Zero point -128 in the range [-127, 127] is none of 8 bits; calibrate again."),
        ({"range": [-32767, 32767]}, "Zero point 0 in the range [-32767, 32767] is none of 8 bits; calibrate again."),
        ({"range": [127, -127]}, "Zero point 0 in the range [127, -127] is none of 8 bits; calibrate again."),
        ({"bits": 4}, "It has 4 bits and axis None; there are 8 and 16 bits, None and 0."),
        ({"axis": 1}, "It has 8 bits and axis 1; there are 8 and 16 bits, None and 0."),
        ({"zero_point": 0.5}, "zero_point, bits, axis and range are whole numbers."),
        ({"bits": None}, "zero_point, bits, axis and range are whole numbers."),
        ({"range": [-127, "127"]}, "zero_point, bits, axis and range are whole numbers."),
    ],
)
def test_numbers_that_are_none_of_the_integers_are_refused_by_name(
    tmp_path: Path, change: dict[str, object], text: str
) -> None:
    document = json.loads(table().to_bytes())
    document["entries"]["backbone.stem.0.conv:input"].update(change)
    path = tmp_path / "table.json"
    path.write_text(json.dumps(document))
    with pytest.raises(BadInputError) as caught:
        Table.load(path)
    assert str(caught.value).endswith(f"point 'backbone.stem.0.conv:input': {text}")


def test_other_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"Cannot read the quantization table .*absent.json: No such file"):
        Table.load(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("not json")
    with pytest.raises(BadInputError, match="is not a quantization table: not JSON"):
        Table.load(tmp_path / "text.json")
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(BadInputError, match="is not a quantization table: not JSON"):
        Table.load(tmp_path / "deep.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInputError, match="is not a quantization table: not JSON"):
        Table.load(tmp_path / "bytes.json")


def test_a_file_that_no_table_can_fill_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.json"
    table().save(path)
    size = path.stat().st_size
    monkeypatch.setattr("rtmw_edge.quantization.table.MAX_BYTES", size)
    assert Table.load(path).variant == "rtmw-n-256x192"
    monkeypatch.setattr("rtmw_edge.quantization.table.MAX_BYTES", size - 1)
    with pytest.raises(BadInputError, match=f"has {size} bytes, more than any quantization table; give another"):
        Table.load(path)


def test_nobody_changes_the_scale_of_an_entry() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Entry(np.float32([0.5])).scale[0] = 1


def test_a_per_tensor_scale_has_one_number() -> None:
    with pytest.raises(BadInputError, match=r"A scale has shape \(2,\) for axis None"):
        Entry(np.float32([1, 2]))

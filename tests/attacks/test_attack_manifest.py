"""Hostile and damaged manifests: bounded before they are read, then read to the last key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import fields

from rtmw_edge.bundle import BundleError, Manifest, Reason, limits, read
from rtmw_edge.bundle.manifest import signed


def refused(bundle: Path, text: bytes, reason: Reason, message: str) -> None:
    (bundle / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError, match=message) as caught:
        read(bundle)
    assert caught.value.reason is reason
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def changed(bundle: Path, *path: str, value: Any) -> bytes:
    """The manifest with one value replaced, and its sha256 made to fit, as whoever means harm does."""
    data = json.loads((bundle / "manifest.json").read_text())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return signed(data)


def manifest(**changes: Any) -> bytes:
    """A whole manifest of the tiny network, which needs no files beside it."""
    files = [{"role": role, "path": f"{role}.x", "size": 1, "sha256": "0" * 64} for role in ("model", "golden")]
    written = {"format": "rtmw-edge bundle", "version": 1, "created_by": "a test", "gates": None}
    return signed({**written, **fields(**changes), "files": files})


def test_a_newer_format(good: Path) -> None:
    text = json.dumps({"format": "rtmw-edge bundle", "version": 2, "a key of tomorrow": 1}).encode()
    refused(
        good,
        text,
        Reason.NEWER_FORMAT,
        r"was written by a newer rtmw-edge \(format 2\); this one reads up to 1\. Upgrade with: pip install --upgrade",
    )


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, None])
def test_a_version_that_is_none(good: Path, version: object) -> None:
    refused(good, changed(good, "version", value=version), Reason.BAD_MANIFEST, "has no valid format version")


@pytest.mark.parametrize("text", [b"{}", b'{"name": "a web application", "version": 2}'])
def test_the_manifest_of_another_program(good: Path, text: bytes) -> None:
    refused(good, text, Reason.NOT_A_BUNDLE, 'does not say "format": "rtmw-edge bundle"')


def test_a_huge_manifest(good: Path) -> None:
    text = b"[" * (limits.MAX_MANIFEST_BYTES + 1)
    refused(good, text, Reason.TOO_LARGE, "The manifest.json of .* has over 65536 bytes")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"version": ' + b"9" * 50_000 + b"}",
        b'{"format": "\xff\xfe"}',
        b"\xef\xbb\xbf{}",
    ],
    ids=["empty", "words", "deep list", "deep object", "endless number", "not utf-8", "byte order mark"],
)
def test_what_is_no_json(good: Path, text: bytes) -> None:
    refused(good, text, Reason.BAD_MANIFEST, "is not valid JSON")


@pytest.mark.parametrize("text", [b"[]", b"1", b'"x"', b"null"])
def test_json_that_is_no_object(good: Path, text: bytes) -> None:
    refused(good, text, Reason.BAD_MANIFEST, "must hold a JSON object, not")


def test_a_key_twice(good: Path) -> None:
    text = (good / "manifest.json").read_bytes().replace(b'"target": "onnx"', b'"target": "ncnn", "target": "onnx"')
    refused(good, text, Reason.BAD_MANIFEST, "has the key 'target' twice")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_a_number_that_json_does_not_have(good: Path, number: bytes) -> None:
    text = (good / "manifest.json").read_bytes().replace(b'"a": 2.0', b'"a": ' + number)
    refused(good, text, Reason.BAD_MANIFEST, f"holds {number.decode()}, which is no JSON number")


def test_an_infinite_number_in_digits(good: Path) -> None:
    text = (good / "manifest.json").read_bytes().replace(b'"a": 2.0', b'"a": 1e999')
    refused(good, text, Reason.BAD_MANIFEST, r"has a = inf, but it must be a number from")


@pytest.mark.parametrize("path", [(), ("input",), ("outputs", "x"), ("score",), ("tolerance",), ("convolutions",)])
def test_an_unknown_key(good: Path, path: tuple[str, ...]) -> None:
    text = changed(good, *path, "surprise", value=1)
    refused(good, text, Reason.BAD_MANIFEST, "has the unknown key 'surprise'")


@pytest.mark.parametrize("key", sorted({*fields(), "files", "created_by", "gates", "sha256"}))
def test_a_missing_key(good: Path, key: str) -> None:
    data = json.loads((good / "manifest.json").read_text())
    del data[key]
    refused(good, json.dumps(data).encode(), Reason.BAD_MANIFEST, f"lacks '{key}'")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("variant",), "a b", "has variant = 'a b', but it must be a plain name"),
        (("variant",), "\x1b[31m", r"has variant = '\\x1b\[31m'"),
        (("target",), "coreml", "must be one of onnx, openvino, tflite, ncnn"),
        (("target",), ["onnx"], "must be printable text"),
        (("precision",), "int4", "must be one of fp32, fp16, w8, w8a16, int8, int8-mixed"),
        (("input", "width"), 10**9, "has width = 1000000000, but it must be a whole number from 32 to 1024"),
        (("input", "width"), 48.0, "has width = 48.0"),
        (("input", "batch"), 10**6, "has batch = 1000000"),
        (("input", "batch"), True, "has batch = True"),
        (("input", "dtype"), "object", "must be one of uint8, float32"),
        (("input", "color"), "RGB", "must be one of BGR"),
        (("input", "name"), "n" * 257, "has name = 'nnn.*, but it must be printable text of 1 to 256 characters"),
        (("input",), None, "'input', must be an object, not None"),
        (("outputs",), {"y": 1, "x": 2}, "must have the outputs x, y or x, y, z in this order"),
        (("outputs", "x", "bins"), 10**12, "has bins = 1000000000000"),
        (("outputs", "x", "bins"), 97, "has 97 x bins for 48 pixels at split 2"),
        (("split",), 0, "has split = 0, but it must be a number from 1 to 8"),
        (("split",), 4, "has 4 bins per pixel, and 2 alone are decoded; export it again"),
        (("z_range",), 2.0, "must have z_range exactly when it has a z output"),
        (("score", "a"), "2", "has a = '2', but it must be a number"),
        (("score", "a"), 10**400, "has a = 1000.*, but it must be a number"),
        (("tolerance", "relative_rms"), 1e9, "has relative_rms = 1000000000.0, but it must be a number from 0 to 1"),
        (("tolerance", "keypoint_px_p99"), -1, "has keypoint_px_p99 = -1"),
        (("convolutions", "int8"), 2, "claims 2 int8 convolutions of 1"),
        (("convolutions", "int8_macs"), 1.5, "has int8_macs = 1.5, but it must be a number from 0 to 1"),
        (("convolutions", "int8_macs"), True, "has int8_macs = True"),
        (("convolutions", "int8_macs"), 0.5, "claims int8 arithmetic for 0 convolutions"),
        (("convolutions",), {"total": 1, "int8": 1, "int8_macs": 1.0}, "claims 1 int8 convolutions in fp32"),
        (("precision",), "w8", "has the grid None in w8: integers alone have one"),
        (("grid",), "common", "has the grid common in fp32: integers alone have one"),
        (("table_sha256",), "0" * 64, "claims scales of integers in fp32, which has none"),
        (("scales",), "percentile", "claims scales of integers in fp32, which has none"),
        (("tools",), {"../x": "1"}, "must have at most 32 tools with plain names"),
        (("tools",), {f"t{i}": "1" for i in range(33)}, "must have at most 32 tools"),
        (("tools",), {"t": "line\nline"}, "must be printable text"),
        (("weights_sha256",), "A" * 64, "must be a sha256 of 64 lower-case hexadecimal digits"),
        (("table_sha256",), "0" * 63, "must be a sha256"),
        (("files",), [], r"has files = \[\], but it must be a list of 1 to 16 entries"),
        (("files",), [{}] * 17, "must be a list of 1 to 16 entries"),
        (("files",), [[]], r"'files' entry 0, must be an object"),
    ],
)
def test_a_value_of_the_wrong_type_or_range(good: Path, path: tuple[str, ...], value: object, message: str) -> None:
    refused(good, changed(good, *path, value=value), Reason.BAD_MANIFEST, message)


@pytest.mark.parametrize(("precision", "int8"), [("int8", 0), ("w8", 1), ("w8a16", 1)])
def test_int8_convolutions_of_another_precision(precision: str, int8: int) -> None:
    text = manifest(precision=precision, int8=int8)
    with pytest.raises(BundleError, match=f"claims {int8} int8 convolutions in {precision}; export the bundle again"):
        Manifest.from_json(text, "it")
    right = manifest(precision=precision, int8=1 - int8)
    assert Manifest.from_json(right, "it").precision == precision


def test_scales_of_integers_that_come_from_nowhere() -> None:
    with pytest.raises(BundleError, match=r"does not say what its scales of integers are from; export the bundle"):
        Manifest.from_json(manifest(precision="int8", scales=None), "it")


def test_a_mixed_bundle_may_leave_all_in_float() -> None:
    assert Manifest.from_json(manifest(precision="int8-mixed", int8=0), "it").convolutions.int8 == 0


def gated() -> dict[str, Any]:
    """A good gate report, as a manifest holds it."""
    drop = {"part": "face", "measure": "ap_drop", "limit": 0.5, "value": 0.7, "low": 0.4, "high": 1.1, "passed": False}
    distance = {"part": "whole", "measure": "px_p99", "limit": 4, "value": 2.5, "low": 2, "high": 3, "passed": True}
    return {
        "gate": "default",
        "reference": "torch:cpu",
        "data": "synthetic:val:100",
        "images": 100,
        "strict": False,
        "passed": False,
        "checks": [drop, distance],
    }


def test_a_gate_report_is_read(good: Path) -> None:
    (good / "manifest.json").write_bytes(changed(good, "gates", value=gated()))
    with read(good) as opened:
        report = opened.manifest.gates
        assert report is not None and not report.passed and [check.passed for check in report.checks] == [False, True]
        assert opened.manifest == Manifest.from_json(opened.manifest.to_json(), "it")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("gates",), [], r"'gates', must be an object, not \[\]"),
        (("gates", "surprise"), 1, "has the unknown key 'surprise'"),
        (("gates", "checks"), [], r"has checks = \[\], but it must be a list of 1 to 30 entries"),
        (("gates", "checks"), [{}] * 31, "must be a list of 1 to 30 entries"),
        (("gates", "images"), 0, "has images = 0"),
        (("gates", "strict"), 0, "has strict = 0, but it must be true or false"),
        (("gates", "passed"), "yes", "has passed = 'yes', but it must be true or false"),
        (("gates", "passed"), True, "claims that its gate passed, which its checks deny"),
        (("gates", "checks"), gated()["checks"][1:], "claims that its gate failed, which its checks deny"),
        (("gates", "strict"), True, "claims another verdict on face ap_drop"),
        (("gates", "checks", 0, "value"), 0.4, "claims another verdict on face ap_drop than its figures give"),
        (("gates", "data"), "a\nb", "must be printable text"),
        (("gates", "checks", 0, "passed"), True, "claims another verdict on face ap_drop than its figures give"),
        (("gates", "checks", 0, "part"), "hands", "must be one of body, foot, face, left_hand, right_hand, whole"),
        (("gates", "checks", 0, "measure"), "ap", "must be one of ap_drop, px_p50, px_p90, px_p99, mpjpe_percent"),
        (("gates", "checks", 0, "limit"), -0.5, "has limit = -0.5, but it must be a number from 0"),
        (("gates", "checks", 0, "value"), "0.7", "has value = '0.7'"),
        (("gates", "checks", 0, "low"), None, "a figure without its interval"),
        (("gates", "checks", 0, "more"), 1, "has the unknown key 'more'"),
    ],
)
def test_a_gate_report_that_is_wrong(good: Path, path: tuple[Any, ...], value: object, message: str) -> None:
    data = json.loads((good / "manifest.json").read_text())
    data["gates"] = gated()
    if path == ("gates", "strict") and value is True:
        data["gates"]["checks"][0].update(value=0.4, passed=True)
        data["gates"]["passed"] = True
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    refused(good, json.dumps(data).encode(), Reason.BAD_MANIFEST, message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_is_taken_or_refused_and_never_crashes(good: Path, data: st.DataObject) -> None:
    manifest = json.loads((good / "manifest.json").read_text())
    key = data.draw(st.sampled_from(sorted(manifest)))
    place = manifest
    if isinstance(manifest[key], dict) and manifest[key] and data.draw(st.booleans()):
        place, key = manifest[key], data.draw(st.sampled_from(sorted(manifest[key])))
    place[key] = data.draw(json_values)
    try:
        taken = Manifest.from_json(signed(manifest), "it")
    except BundleError as error:
        assert str(error).isprintable() and len(str(error)) < 500
    else:
        assert Manifest.from_json(taken.to_json(), "it") == taken

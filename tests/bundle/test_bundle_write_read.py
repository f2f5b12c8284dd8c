"""A bundle written is the bundle read, as a directory and as a .zip, and nothing else is ever overwritten."""

from __future__ import annotations

import errno
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_models

from rtmw_edge import bundle
from rtmw_edge.bundle import writing
from rtmw_edge.errors import BadInputError, VerificationError


@pytest.fixture(params=["tiny", "tiny.zip"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny_models.opaque_bundle(tmp_path / request.param)


def test_read_gives_back_what_was_written(written: Path) -> None:
    with bundle.read(written) as opened:
        manifest = opened.manifest
        assert (manifest.variant, manifest.target, manifest.precision) == ("tiny", "onnx", "fp32")
        assert manifest.input_size == (48, 64) and manifest.bins == (96, 128)
        assert manifest.score == bundle.manifest.Score(2.0, -1.0)
        assert manifest.tolerance == bundle.TOLERANCES["fp32"]
        assert manifest.created_by.startswith("rtmw-edge ")
        assert opened.path("model").read_bytes() == b"no parser ever sees this" * 100


def test_golden_vectors_survive(written: Path) -> None:
    images = tiny_models.crops()
    x, y = tiny_models.logits(images)
    with bundle.read(written) as opened:
        golden = opened.golden()
    assert np.array_equal(golden.crops, images)
    assert np.allclose(golden.logits[0], x, rtol=1e-3, atol=1e-5) and np.allclose(
        golden.logits[1], y, rtol=1e-3, atol=1e-5
    )
    assert np.array_equal(golden.keypoints, np.repeat(tiny_models.centers()[:, None], 133, axis=1))


def test_an_archive_is_removed_from_the_temporary_directory(tmp_path: Path) -> None:
    opened = bundle.read(tiny_models.opaque_bundle(tmp_path / "tiny.zip"))
    assert opened.root.is_dir()
    opened.close()
    assert not opened.root.exists()


def test_an_archive_s_files_are_in_order_without_dates_and_can_be_read_by_whoever_unpacks_it(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    names = [f"{letter}.bin" for letter in "qwertyuiopasdfgh"]
    for name in names:
        (stage / name).write_bytes(name.encode())
    writing._pack(stage, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        found = archive.infolist()
    assert [member.filename for member in found] == sorted(names)
    assert {(member.external_attr >> 16, member.date_time) for member in found} == {(0o100644, (1980, 1, 1, 0, 0, 0))}


@pytest.mark.parametrize("name", ["tiny", "tiny.zip"])
def test_the_same_files_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    first = tiny_models.opaque_bundle(tmp_path / "a" / name)
    second = tiny_models.opaque_bundle(tmp_path / "b" / name)
    if first.is_dir():
        first, second = first / "golden.npz", second / "golden.npz"
    assert first.read_bytes() == second.read_bytes()


def test_a_bundle_is_replaced_and_nothing_else_is(written: Path) -> None:
    assert tiny_models.opaque_bundle(written, b"another model" * 9) == written
    with bundle.read(written) as opened:
        assert opened.path("model").read_bytes() == b"another model" * 9


def test_an_output_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(BadInputError, match=r"Refusing to overwrite '.*thesis': it is not empty .* another --out\."):
        tiny_models.opaque_bundle(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "x"


def test_a_bundle_with_a_note_beside_it_is_not_replaced(written: Path) -> None:
    if written.is_dir():
        (written / "notes.txt").write_text("measured on Tuesday")
    else:
        with zipfile.ZipFile(written, "a") as archive:
            archive.writestr("notes.txt", "measured on Tuesday")
    with pytest.raises(BadInputError, match=r"Refusing to overwrite .* holds more than a bundle"):
        bundle.check_replaceable(written)


def test_what_a_mac_leaves_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    made = tiny_models.opaque_bundle(tmp_path / "tiny")
    for name in (".DS_Store", "._manifest.json", "._model.onnx", "._golden.npz"):
        (made / name).write_bytes(b"\x00\x05\x16\x07")
    with bundle.read(made) as opened:
        assert opened.path("model").read_bytes() == b"no parser ever sees this" * 100
    tiny_models.opaque_bundle(made)
    assert not [path for path in made.iterdir() if path.name.startswith(".")]
    (made / "._more").mkdir()
    with pytest.raises(BadInputError, match=r"Refusing to overwrite .* holds more than a bundle"):
        bundle.check_replaceable(made)


@pytest.mark.parametrize("target", ["tiny", "tiny.zip", "nowhere"])
def test_a_link_is_not_replaced(tmp_path: Path, target: str) -> None:
    tiny_models.opaque_bundle(tmp_path / "tiny")
    tiny_models.opaque_bundle(tmp_path / "tiny.zip")
    (tmp_path / "latest").symlink_to(tmp_path / target)
    with pytest.raises(BadInputError, match=r"Refusing to overwrite '.*latest': it is a link; name what it points to"):
        bundle.check_replaceable(tmp_path / "latest")


def test_an_archive_needs_a_place_that_is_no_folder_and_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "mine.zip").mkdir()
    with pytest.raises(BadInputError, match=r"Cannot write the archive '.*mine\.zip': it is a folder\. Choose another"):
        bundle.check_replaceable(tmp_path / "mine.zip")
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(BadInputError, match="Refusing to overwrite"):
        bundle.check_replaceable(tmp_path / "pipe.zip")


@pytest.mark.parametrize("content", [b"PK\x03\x04 someone else's archive" * 9, b"{}"])
def test_a_file_of_someone_else_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "holiday.zip"
    out.write_bytes(content)
    with pytest.raises(BadInputError, match="Refusing to overwrite"):
        tiny_models.opaque_bundle(out)
    assert out.read_bytes() == content


@pytest.mark.parametrize("name", ["tiny", "tiny.zip"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rtmw_edge.bundle.writing.shutil.copyfile", full)
    with pytest.raises(BadInputError, match=r"The disk is full while writing .*tiny.*free some space"):
        tiny_models.opaque_bundle(tmp_path / "out" / name)
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name != f"{name}.model"] == []


def test_fields_that_make_no_manifest_are_refused_when_written(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    with pytest.raises(bundle.BundleError, match=r"has precision = 'int4', but it must be one of fp32, fp16, w8"):
        tiny_models.write_bundle(tmp_path / "out", {"model": model}, precision="int4")
    assert not (tmp_path / "out").exists()


def test_a_refusal_comes_back_whole_from_another_process(tmp_path: Path) -> None:
    with pytest.raises(bundle.BundleError) as caught:
        bundle.read(tmp_path)
    other = pickle.loads(pickle.dumps(caught.value))
    assert (type(other), other.reason, str(other)) == (bundle.BundleError, caught.value.reason, str(caught.value))


def test_a_manifest_is_readable_json(tmp_path: Path) -> None:
    out = tiny_models.opaque_bundle(tmp_path / "tiny")
    data = json.loads((out / "manifest.json").read_text())
    assert (data["format"], data["version"]) == ("rtmw-edge bundle", 1)
    assert [entry["role"] for entry in data["files"]] == ["model", "golden"]
    assert out.stat().st_mode & 0o777 == 0o755 and (out / "manifest.json").stat().st_mode & 0o044 == 0o044


def test_a_manifest_that_was_changed_is_refused_though_it_makes_sense(tmp_path: Path) -> None:
    written = tiny_models.opaque_bundle(tmp_path / "tiny")
    path = written / "manifest.json"
    data = json.loads(path.read_text())
    data["score"]["a"] += 1
    path.write_text(json.dumps(data))
    with pytest.raises(bundle.BundleError, match="was changed after it was written: its sha256 is another's; get or"):
        bundle.read(written)
    path.write_bytes(bundle.manifest.signed(data))
    with bundle.read(written) as opened:
        assert opened.manifest.score is not None and opened.manifest.score.a == data["score"]["a"]


def test_what_a_gate_said_is_written_into_the_manifest_alone(written: Path) -> None:
    check = bundle.gate_report.judged("face", "ap_drop", 0.5, (0.7, 0.4, 1.1), strict=False)
    report = bundle.GateReport("mine", "torch:cpu", "synthetic:val:9", 9, strict=False, passed=False, checks=(check,))
    with bundle.read(written) as before:
        measured = before.manifest
    bundle.record_gates(written, report, measured)
    with bundle.read(written) as after:
        assert after.manifest.gates == report and after.manifest.files == measured.files
    assert report.sentence() == (
        "The gate 'mine' failed against torch:cpu on synthetic:val:9, 9 images. "
        "face: 0.70 AP points lost (at most 0.5; 95 % 0.40 to 1.10, within noise)."
    )
    bundle.record_gates(written, report, measured)
    assert tiny_models.opaque_bundle(written) == written, "a bundle with a report is still ours to replace"
    assert not [path for path in written.parent.iterdir() if path.name.startswith(f".{written.name}")]


def test_a_gate_says_nothing_of_a_bundle_that_it_did_not_measure(written: Path) -> None:
    check = bundle.gate_report.judged("face", "ap_drop", 0.5, (0.3, 0.1, 0.4), strict=False)
    report = bundle.GateReport("mine", "torch:cpu", "synthetic:val:9", 9, strict=False, passed=True, checks=(check,))
    with bundle.read(written) as before:
        measured = before.manifest
    tiny_models.opaque_bundle(written, b"what another export wrote meanwhile")
    with pytest.raises(VerificationError, match=r"'mine' was not written into .*tiny.*: another export replaced the"):
        bundle.record_gates(written, report, measured)
    with bundle.read(written) as after:
        assert after.manifest.gates is None


def test_the_rule_of_a_limit() -> None:
    judged = bundle.gate_report.judged
    assert judged("foot", "ap_drop", 1.0, (1.0, 0.2, 1.7), strict=False).passed
    assert judged("foot", "ap_drop", 1.0, (1.0, 0.2, 1.7), strict=False).within_noise
    for interval, open_ in (((0.6, 0.2, 1.0), True), ((1.5, 1.0, 2.0), True), ((0.6, 0.2, 0.9), False)):
        assert judged("foot", "ap_drop", 1.0, interval, strict=False).within_noise is open_
    assert not judged("foot", "ap_drop", 1.0, (1.0, 0.2, 1.7), strict=True).passed
    assert judged("foot", "ap_drop", 1.0, (0.3, 0.2, 1.0), strict=True).passed
    assert not judged("foot", "ap_drop", 0.5, (99.0, 0.0, 0.0), strict=True).passed, "a figure outside its interval"
    assert not judged("foot", "ap_drop", 1.0, (1.01, 0.2, 1.7), strict=False).passed
    assert not judged("foot", "ap_drop", 0.0, None, strict=False).passed
    assert judged("foot", "ap_drop", 0.0, (-0.4, -1.0, 0.1), strict=False).passed

"""Hostile and damaged .zip bundles: bounded by their index, before a byte is unpacked."""

from __future__ import annotations

import shutil
import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from bad_zip import BOMB_BYTES, claim, little_memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtmw_edge.bundle import BundleError, Reason, check_replaceable, limits, read
from rtmw_edge.errors import BadInputError


@pytest.fixture(autouse=True)
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where archives are unpacked in these tests; a refused one must leave nothing here."""
    place = tmp_path / "unpacked"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def packed(good: Path, *extra: tuple[zipfile.ZipInfo | str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """`good` as an archive, with members added."""
    out = good.with_name("attack.zip")
    with zipfile.ZipFile(out, "w", compression) as archive:
        for path in sorted(good.iterdir()):
            archive.write(path, path.name)
        for name, content in extra:
            archive.writestr(name, content)
    return out


def refused(path: Path, reason: Reason, text: str) -> None:
    with pytest.raises(BundleError, match=text) as caught:
        read(path)
    assert caught.value.reason is reason and str(caught.value).isprintable()
    assert list((path.parent / "unpacked").iterdir()) == []


def test_a_bundle_zipped_by_hand_is_read(good: Path) -> None:
    with read(packed(good)) as bundle:
        assert bundle.manifest.variant == "tiny"
    with read(packed(good, compression=zipfile.ZIP_STORED)) as bundle:
        assert bundle.path("model").stat().st_size == 2400


@pytest.mark.parametrize(
    "name", ["../escape", "/etc/cron.d/x", "sub/model.onnx", "..", "C:\\x", "sub/", ".hidden", "é"]
)
def test_a_path_that_escapes(good: Path, name: str) -> None:
    refused(packed(good, (name, b"x")), Reason.BAD_NAME, "plain names and lie side by side; nothing was unpacked")


def test_a_symlink(good: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(packed(good, (link, b"/etc/passwd")), Reason.NOT_A_FILE, "holds 'link' as a link or device")


def test_a_bomb(good: Path) -> None:
    bomb = packed(good, ("zeros", bytes(64 << 20)))
    refused(bomb, Reason.TOO_LARGE, r"holds 'zeros', which would unpack \d+ bytes to 67108864; nothing was unpacked")


def test_an_archive_that_would_fill_the_disk(good: Path) -> None:
    path = packed(good, ("huge", b"x"))
    content = path.read_bytes()
    place = content.rindex(b"PK\x01\x02")
    sizes = struct.pack("<LL", 8 << 20, limits.MAX_BUNDLE_BYTES + 1)
    path.write_bytes(content[: place + 20] + sizes + content[place + 28 :])
    refused(path, Reason.TOO_LARGE, "would unpack to more than 1073741824 bytes")


def test_a_member_that_unpacks_to_more_than_it_says(good: Path) -> None:
    (good / "model.onnx").write_bytes(b"y" * 50_000)
    path = packed(good)
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    assert content[place + 46 : place + 56] == b"model.onnx"
    content[place + 24 : place + 28] = struct.pack("<L", 2400)
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        read(path)
    assert caught.value.reason in (Reason.WRONG_HASH, Reason.BAD_ARCHIVE)


def test_a_manifest_that_unpacks_to_more_than_it_says(good: Path) -> None:
    size = (good / "manifest.json").stat().st_size
    with (good / "manifest.json").open("ab") as manifest:
        manifest.write(b" " * BOMB_BYTES)
    path = packed(good)
    claim(path, "manifest.json", size)
    with little_memory():
        refused(path, Reason.BAD_ARCHIVE, "is a damaged .zip")
    with little_memory(), pytest.raises(BadInputError, match="Refusing to overwrite"):
        check_replaceable(path)


def test_very_many_members(good: Path) -> None:
    path = packed(good, *((f"{index}", b"") for index in range(60)))
    refused(path, Reason.TOO_LARGE, "lists more than the 17 files that a bundle may have; nothing was unpacked")


def test_an_index_of_gigabytes(good: Path) -> None:
    path = packed(good)
    content = bytearray(path.read_bytes())
    content[-10:-6] = struct.pack("<L", 3 << 30)
    path.write_bytes(content)
    refused(path, Reason.TOO_LARGE, "lists more than the 17 files")


def test_a_hidden_second_index(good: Path) -> None:
    path = packed(good)
    content = path.read_bytes()
    path.write_bytes(content[:-22] + b"PK\x06\x07" + bytes(16) + content[-22:])
    refused(path, Reason.TOO_LARGE, "lists more than the 17 files")


def test_something_appended(good: Path) -> None:
    path = packed(good)
    path.write_bytes(path.read_bytes() + b"a second archive or a script")
    refused(path, Reason.BAD_ARCHIVE, "is a damaged .zip")


def test_a_name_twice(good: Path) -> None:
    with pytest.warns(UserWarning):
        path = packed(good, ("model.onnx", b"another"))
    refused(path, Reason.BAD_ARCHIVE, "holds one file name twice")


def test_an_unusual_compression(good: Path) -> None:
    refused(packed(good, compression=zipfile.ZIP_LZMA), Reason.BAD_ARCHIVE, "encrypted or in an unusual compression")


def test_an_encrypted_member(good: Path) -> None:
    path = packed(good)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused(path, Reason.BAD_ARCHIVE, "encrypted or in an unusual compression")


def test_no_manifest(good: Path) -> None:
    (good / "manifest.json").unlink()
    refused(packed(good), Reason.NOT_A_BUNDLE, "is no bundle: it holds no manifest.json")


def test_a_huge_manifest(good: Path) -> None:
    (good / "manifest.json").write_bytes(b" " * (limits.MAX_MANIFEST_BYTES + 1))
    refused(packed(good), Reason.TOO_LARGE, "has over 65536 bytes")


def test_an_extra_and_a_missing_file(good: Path) -> None:
    refused(packed(good, ("more.bin", b"x")), Reason.EXTRA_FILE, "holds more.bin, which its manifest does not list")
    (good / "model.onnx").unlink()
    refused(packed(good), Reason.MISSING_FILE, "lacks model.onnx")


def test_a_changed_byte(good: Path) -> None:
    content = bytearray((good / "model.onnx").read_bytes())
    content[7] ^= 1
    (good / "model.onnx").write_bytes(content)
    refused(packed(good), Reason.WRONG_HASH, "model.onnx in .*attack.zip is damaged")


def test_a_full_temporary_directory(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    path = packed(good)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    with pytest.raises(BadInputError, match=r"The disk is full while writing .*unpacked"):
        read(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_refused_or_harmless(good: Path, data: st.DataObject) -> None:
    path = packed(good)
    content = bytearray(path.read_bytes())
    model = (good / "model.onnx").read_bytes()
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(1, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        bundle = read(path)
    except BundleError as error:
        assert str(error).isprintable()
    else:
        with bundle:
            assert bundle.path("model").read_bytes() == model
    assert list((path.parent / "unpacked").iterdir()) == []


def test_a_good_bundle_stays_good_when_copied(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "copy")
    read(tmp_path / "copy").close()

"""Hostile and damaged bundle directories: each is refused with its own reason and sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rtmw_edge.bundle import BundleError, Reason, limits, read
from rtmw_edge.errors import BadInputError


def refused(path: Path, reason: Reason, text: str) -> None:
    with pytest.raises(BundleError, match=text) as caught:
        read(path)
    assert caught.value.reason is reason and caught.value.exit_code == 2
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()


def edit(bundle: Path, **changes: Any) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def files(bundle: Path, **changes: Any) -> list[dict[str, Any]]:
    """The manifest's list of files with the first entry changed."""
    first, *others = json.loads((bundle / "manifest.json").read_text())["files"]
    return [first | changes, *others]


def test_a_changed_byte(good: Path) -> None:
    content = bytearray((good / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (good / "model.onnx").write_bytes(content)
    refused(good, Reason.WRONG_HASH, r"model.onnx in .*tiny is damaged: its sha256 is .* copy or export it again\.")


def test_a_changed_golden_file(good: Path) -> None:
    content = bytearray((good / "golden.npz").read_bytes())
    content[100] ^= 1
    (good / "golden.npz").write_bytes(content)
    refused(good, Reason.WRONG_HASH, "golden.npz in .* is damaged")


def test_a_truncated_file(good: Path) -> None:
    os.truncate(good / "model.onnx", 100)
    refused(good, Reason.WRONG_SIZE, "model.onnx in .* has 100 bytes, but the manifest says 2400")


def test_a_file_that_goes_on_after_its_end(good: Path) -> None:
    """The bytes that were promised are there, with the right hash; a parser would see the others too."""
    with (good / "model.onnx").open("ab") as file:
        file.write(b"!")
    refused(good, Reason.WRONG_SIZE, "model.onnx in .* has 2401 bytes, but the manifest says 2400")


def test_a_missing_file(good: Path) -> None:
    (good / "model.onnx").unlink()
    refused(good, Reason.MISSING_FILE, "lacks model.onnx, which its manifest lists; copy it again")


def test_an_extra_file(good: Path) -> None:
    (good / "model.onnx.data").write_bytes(b"weights from elsewhere")
    refused(good, Reason.EXTRA_FILE, "holds model.onnx.data, which its manifest does not list; move it elsewhere")


def test_an_extra_file_with_a_terminal_escape_in_its_name(good: Path) -> None:
    (good / "\x1b[2Jx").write_bytes(b"x")
    refused(good, Reason.EXTRA_FILE, r"holds '\\x1b\[2Jx', which its manifest does not list")


@pytest.mark.parametrize("name", [".hidden", ".DS_Store.onnx", "_model.onnx"])
def test_an_extra_file_that_no_mac_leaves(good: Path, name: str) -> None:
    (good / name).write_bytes(b"x")
    refused(good, Reason.EXTRA_FILE, rf"holds '?{name}'?, which its manifest does not list")


def test_very_many_files(good: Path) -> None:
    for index in range(limits.MAX_FILES + 2):
        (good / f"{index}.bin").touch()
    refused(good, Reason.TOO_LARGE, "holds more than the 17 files that a bundle may have")


def test_a_subdirectory(good: Path) -> None:
    (good / "more").mkdir()
    refused(good, Reason.NOT_A_FILE, "holds 'more', which is no plain file")


def test_a_symlink_out(good: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    (good / "model.onnx").rename(outside)
    (good / "model.onnx").symlink_to(outside)
    refused(good, Reason.NOT_A_FILE, "holds 'model.onnx', which is no plain file; copy the bundle with its files")


def test_a_manifest_that_is_a_link_to_an_endless_device(good: Path) -> None:
    (good / "manifest.json").unlink()
    (good / "manifest.json").symlink_to("/dev/zero")
    refused(good, Reason.NOT_A_FILE, "holds 'manifest.json', which is no plain file")


def test_a_pipe_does_not_block(good: Path) -> None:
    (good / "model.onnx").unlink()
    os.mkfifo(good / "model.onnx")
    refused(good, Reason.NOT_A_FILE, "holds 'model.onnx', which is no plain file")


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "", "a\\b", "x" * 65, "a\x00b", 7]
)
def test_a_path_that_escapes(good: Path, path: object) -> None:
    edit(good, files=files(good, path=path))
    refused(good, Reason.BAD_MANIFEST, r"'files' entry 0, has path = .* must be a plain name of at most 64")


def test_one_file_for_two_roles(good: Path) -> None:
    entries = files(good)
    edit(good, files=[entries[0], entries[0] | {"role": "golden"}])
    refused(good, Reason.BAD_MANIFEST, "lists one file twice, or itself")


def test_a_manifest_that_lists_itself(good: Path) -> None:
    edit(good, files=files(good, path="manifest.json"))
    refused(good, Reason.BAD_MANIFEST, "lists one file twice, or itself")


def test_a_part_of_another_target(good: Path) -> None:
    edit(good, files=files(good, role="param"))
    refused(good, Reason.BAD_MANIFEST, "must list exactly the files golden, model of onnx bundles")


def test_a_missing_role(good: Path) -> None:
    edit(good, files=files(good)[:1])
    refused(good, Reason.BAD_MANIFEST, "must list exactly the files golden, model of onnx bundles")


@pytest.mark.parametrize("size", [limits.MAX_BUNDLE_BYTES + 1, 0, -1, True, 2400.0, "2400", None])
def test_an_absurd_size(good: Path, size: object) -> None:
    edit(good, files=files(good, size=size))
    refused(good, Reason.BAD_MANIFEST, r"has size = .* must be a whole number from 1 to 1073741824")


def test_files_that_are_absurd_together(good: Path) -> None:
    edit(good, files=files(good, size=limits.MAX_BUNDLE_BYTES))
    refused(good, Reason.TOO_LARGE, "promises more than 1073741824 bytes of files")


def test_no_manifest(good: Path) -> None:
    (good / "manifest.json").unlink()
    refused(good, Reason.NOT_A_BUNDLE, "is no bundle: it holds no manifest.json; make one with rtmw-edge export")


def test_a_file_that_is_no_bundle(good: Path) -> None:
    refused(
        good / "model.onnx", Reason.NOT_A_BUNDLE, "model.onnx is no bundle: a bundle is a directory with a manifest"
    )


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(
        BadInputError, match=r"There is no bundle at .*nowhere: check the path, make one .* 'builtin'\."
    ):
        read(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(good: Path) -> None:
    good.chmod(0)
    with pytest.raises(BadInputError, match=r"Cannot read the bundle .*: Permission denied"):
        read(good)
    good.chmod(0o755)

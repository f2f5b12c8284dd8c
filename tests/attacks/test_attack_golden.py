"""Hostile golden vectors: their shapes are compared with the manifest before numpy allocates anything."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from pathlib import Path

import pytest
from bad_zip import BOMB_BYTES, claim, little_memory

from rtmw_edge.bundle import BundleError, Reason, limits, read
from rtmw_edge.bundle.manifest import signed


def golden_with(good: Path, name: str, content: bytes) -> Path:
    """`good` with one array of its golden file replaced, and every hash of the manifest made right again."""
    with zipfile.ZipFile(good / "golden.npz") as archive:
        arrays = {member: archive.read(member) for member in archive.namelist()}
    arrays[name] = content
    with zipfile.ZipFile(good / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for member, array in arrays.items():
            archive.writestr(member, array)
    hash_again(good)
    return good


def hash_again(good: Path) -> None:
    """Make what the manifest says of the golden file right again."""
    content = (good / "golden.npz").read_bytes()
    manifest = json.loads((good / "manifest.json").read_text())
    manifest["files"][1] |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (good / "manifest.json").write_bytes(signed(manifest))


def refused(path: Path, reason: Reason, text: str) -> None:
    with read(path) as bundle, pytest.raises(BundleError, match=text) as caught:
        bundle.golden()
    assert caught.value.reason is reason


def npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("logits_x.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (3, 133, 96), }\n", b"cos\nsystem\n.")),
        ("logits_x.npy", npy("{'descr': '<f2', 'fortran_order': False, 'shape': (1000000000000,), }\n")),
        ("logits_x.npy", npy("{'descr': '<f2', 'fortran_order': False, 'shape': (3, 133, 96), }\n", bytes(10))),
        ("logits_x.npy", npy("{'descr': '<f2', 'fortran_order': False, 'shape': (-3, 133, 96), }\n", bytes(10))),
        (
            "logits_x.npy",  # all that there is, in the other order
            npy("{'descr': '<f2', 'fortran_order': True, 'shape': (3, 133, 96), }\n", bytes(2 * 3 * 133 * 96)),
        ),
        ("crops.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 64, 48, 3), }\n")),
        ("crops.npy", npy("__import__('os').system('true')\n")),
        ("crops.npy", npy("(" * 5000)),
        ("crops.npy", b""),
        ("peak_x.npy", b"\x93NUMPY\x03\x00"),
    ],
)
def test_golden_arrays_that_are_not_what_they_should_be(good: Path, name: str, content: bytes) -> None:
    with (
        read(golden_with(good, name, content)) as bundle,
        pytest.raises(BundleError, match="another shape or type") as e,
    ):
        bundle.golden()
    assert e.value.reason is Reason.BAD_GOLDEN


def test_a_golden_bomb(good: Path) -> None:
    refused(golden_with(good, "crops.npy", bytes(limits.MAX_GOLDEN_BYTES + 1)), Reason.TOO_LARGE, "which would unpack")


def test_a_golden_array_that_unpacks_to_more_than_it_says(good: Path) -> None:
    golden_with(good, "crops.npy", bytes(BOMB_BYTES))
    claim(good / "golden.npz", "crops.npy", 1000)
    hash_again(good)
    with little_memory():
        refused(good, Reason.BAD_ARCHIVE, "is a damaged .zip")


def test_a_golden_array_too_many(good: Path) -> None:
    refused(
        golden_with(good, "more.npy", b"x"),
        Reason.BAD_GOLDEN,
        "does not hold exactly crops, keypoints and the logits of each axis",
    )


def test_golden_values_that_are_not_finite(good: Path) -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n"
    refused(
        golden_with(good, "peak_x.npy", npy(header, struct.pack("<f", float("nan")))),
        Reason.BAD_GOLDEN,
        "holds values that are not finite, or nothing but zeros",
    )

"""The board's side without a fleet: parcels are what their names say, and answers are those of plain figures."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_formats
import tiny_models

from rtmw_edge import bundle
from rtmw_edge.errors import BadInputError
from rtmw_edge.files import sha256_of
from rtmw_edge.fleet import work
from rtmw_edge.fleet.parcels import chunk_of, fetch, pack_bundle, pack_crops
from rtmw_edge.fleet.peaks import logits_of, peaks_of
from rtmw_edge.fleet.work import do
from rtmw_edge.runtime import timing
from rtmw_edge.simcc import decode, decode_3d


@pytest.fixture
def parcels(tmp_path: Path) -> Path:
    return tmp_path / "parcels"


@pytest.fixture
def packed(tmp_path: Path, parcels: Path) -> str:
    """The tiny network's bundle as a parcel; its sha256."""
    (tmp_path / "made").mkdir()
    made = tiny_models.write_bundle(tmp_path / "made" / "bundle", tiny_formats.onnx(tmp_path / "made"))
    return pack_bundle(made, parcels)


def counted(parcels: Path, heard: list[int]) -> Callable[[str, int], bytes]:
    """A source of the parcels that notes every call's offset."""

    def source(sha256: str, offset: int) -> bytes:
        heard.append(offset)
        return chunk_of(parcels, sha256, offset)

    return source


def test_a_bundle_travels_once_in_chunks_and_is_the_same(
    tmp_path: Path, parcels: Path, packed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pack_bundle(tmp_path / "made" / "bundle", parcels) == packed  # whenever it is packed
    (tmp_path / "made" / "bundle" / ".DS_Store").touch()  # by a Mac, whose owner looked at the folder
    assert pack_bundle(tmp_path / "made" / "bundle", parcels) == packed
    monkeypatch.setattr("rtmw_edge.fleet.parcels.CHUNK_BYTES", 1000)
    heard: list[int] = []
    path = fetch(packed, tmp_path / "cache", counted(parcels, heard))
    size = (parcels / packed).stat().st_size
    assert heard == [*range(0, size, 1000), size] and sha256_of(path) == packed
    fetch(packed, tmp_path / "cache", counted(parcels, heard))
    assert len(heard) == size // 1000 + 2  # nothing more
    with bundle.read(path) as opened, zipfile.ZipFile(path) as archive:
        assert opened.manifest.variant == "tiny" and len(archive.namelist()) == len(opened.manifest.files) + 1


def test_nothing_of_this_machine_s_workers_runs_beside_what_is_timed() -> None:
    """As two processes of workers would: each takes the lock by a descriptor of its own."""
    inside: list[str] = []

    def enter(name: str, alone: bool) -> None:
        with work._beside(alone=alone):
            inside.append(name)

    with work._beside(alone=False), work._beside(alone=False):
        timed = threading.Thread(target=enter, args=("timed", True), daemon=True)
        timed.start()
        timed.join(0.2)
        assert inside == []
    timed.join(10)
    with work._beside(alone=True):
        other = threading.Thread(target=enter, args=("other", False), daemon=True)
        other.start()
        other.join(0.2)
        assert inside == ["timed"]
    other.join(10)
    assert inside == ["timed", "other"]


def test_a_changed_byte_is_refused_and_not_kept(tmp_path: Path, parcels: Path, packed: str) -> None:
    def changed(sha256: str, offset: int) -> bytes:
        found = bytearray(chunk_of(parcels, sha256, offset))
        if found:
            found[len(found) // 2] ^= 1
        return bytes(found)

    answer = do(request(packed, "accuracy", crops=[]), tmp_path / "cache", changed)
    assert answer["exit_code"] == 2 and answer["refused"].startswith(f"What came as the parcel {packed[:12]} has the")
    assert "was not opened; run the sweep again with --retry." in answer["refused"] and "data" not in answer
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cached_parcel_that_rotted_is_fetched_again(tmp_path: Path, parcels: Path, packed: str) -> None:
    source = partial(chunk_of, parcels)
    path = fetch(packed, tmp_path / "cache", source)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert sha256_of(fetch(packed, tmp_path / "cache", source)) == packed


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    for name in ("../" + "a" * 61, "a" * 63, "A" * 64, ""):
        with pytest.raises(BadInputError, match="is no sha256; a parcel is named by one"):
            chunk_of(tmp_path, name, 0)
        with pytest.raises(BadInputError, match="is no sha256; a parcel is named by one"):
            fetch(name, tmp_path, lambda sha256, offset: b"")


@pytest.mark.parametrize("axes", [2, 3])
def test_peaks_decode_to_the_bit_as_the_logits_do(axes: int) -> None:
    rng = np.random.default_rng(axes)
    sizes = (96, 128, 96)[:axes]
    logits = tuple(rng.normal(0, 1, (3, 133, size)).astype(np.float32) for size in sizes)
    logits[0][1, :20] -= 10  # no score above 0: no place
    bins, scores = peaks_of(logits)
    read: Any = decode if axes == 2 else partial(decode_3d, z_range=2.0)
    for found, expected in zip(read(logits_of(bins, scores, sizes)), read(logits), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert all((a.argmax(2) == b.argmax(2)).all() for a, b in zip(logits_of(bins, scores, sizes), logits, strict=True))


def request(sha256: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "bundle": sha256, "device": "cpu", "threads": 1, **more}


def test_the_crops_peaks_are_those_of_plain_numpy(tmp_path: Path, parcels: Path, packed: str) -> None:
    crops = tiny_models.crops(5)
    sent = [pack_crops(crops[:3], parcels), pack_crops(crops[3:], parcels)]
    answer = do(request(packed, "accuracy", crops=sent), tmp_path / "cache", partial(chunk_of, parcels))
    bins, scores = peaks_of(tiny_models.logits(crops))
    with np.load(io.BytesIO(answer["arrays"])) as arrays:
        np.testing.assert_array_equal(arrays["bins"], bins)
        np.testing.assert_allclose(arrays["scores"], scores, rtol=1e-4)
    assert answer["data"]["golden_rms"] < 1e-3 and answer["data"]["runs"]["runtime"] == "ONNX Runtime"
    assert answer["environment"]["onnxruntime"]


def test_what_a_board_cannot_do_is_an_answer(tmp_path: Path, parcels: Path, packed: str) -> None:
    source = partial(chunk_of, parcels)
    asked = {**request(packed, "speed", reference=None), "device": "cuda"}
    answer = do(asked, tmp_path / "cache", source)
    assert answer["exit_code"] == 3 and "cuda" in answer["refused"]
    (tmp_path / "wrong").mkdir()
    files = tiny_formats.onnx(tmp_path / "wrong", gain=2.0)
    wrong = pack_bundle(tiny_models.write_bundle(tmp_path / "wrong" / "bundle", files), parcels)
    answer = do(request(wrong, "accuracy", crops=[]), tmp_path / "cache", source)
    assert answer["exit_code"] == 1 and "on golden crop 0 the logits are" in answer["refused"]
    missing = do(request("0" * 64, "accuracy", crops=[]), tmp_path / "cache", source)
    assert missing["exit_code"] == 2 and missing["refused"].startswith("FileNotFoundError")


@pytest.mark.parametrize(("reference", "threads", "taken"), [("b", 0, 6), (None, 3, 3)])
def test_bundle_and_reference_have_the_threads_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str | None, threads: int, taken: int
) -> None:
    """All cores where none are; and the bundle is what is weighed, not what it is timed against."""
    opened: list[tuple[str, int]] = []

    def load(path: Path, device: str, threads: int, verify: bool) -> Any:
        opened.append((path.name, threads))
        return nullcontext(path.name)

    monkeypatch.setattr(work, "cores", lambda: 6)
    monkeypatch.setattr(work, "fetch", lambda sha256, cache, source: cache / sha256)
    monkeypatch.setattr(work, "load", load)
    monkeypatch.setattr(work, "paced", lambda runner, other: {"pair": (runner, other)})
    monkeypatch.setattr(work, "peak_memory_mb", lambda path, device, threads: (path.name, device, threads))
    asked = {**request("a", "speed", reference=reference), "threads": threads}
    data = do(asked, tmp_path, partial(chunk_of, tmp_path))["data"]
    assert data == {"pair": ("a", reference or "a"), "threads": taken, "memory_mb": ("a", "cpu", taken)}
    assert opened == [("a", taken), (reference or "a", taken)]


def test_speed_is_in_turns_with_the_reference(
    tmp_path: Path, parcels: Path, packed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 7)
    answer = do(request(packed, "speed", reference=packed), tmp_path / "cache", partial(chunk_of, parcels))
    data = answer["data"]
    assert data["rounds"] == 7 and data["threads"] == 1 and 0 < data["ratio_low"] <= data["ratio"] <= data["ratio_high"]
    assert 20 < data["memory_mb"] < 500 and data["ms_p50"] > 0

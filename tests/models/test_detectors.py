"""Fetching detectors: out of their zips, against what others recorded of them, from a server on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from bad_zip import damaged_zip
from file_server import Server, serving
from typer.testing import CliRunner

from rtmw_edge.cli.fetch import fetch
from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.models import detectors, download
from rtmw_edge.models.detectors import DETECTORS, cached_detector, detector_named, fetch_detector

NETWORK = np.random.default_rng(1).bytes(200_000)
DIGEST = hashlib.sha256(NETWORK).hexdigest()


def zipped(*names: str) -> bytes:
    """A zip as mmdeploy's: the network under `names`, among its descriptions."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("20230504/rtmdet/detail.json", "{}")
        for name in names:
            archive.writestr(name, NETWORK)
    return buffer.getvalue()


ZIP = zipped("20230504/rtmdet/end2end.onnx")
SMALL = dataclasses.replace(DETECTORS["rtmdet-nano"], sha256=DIGEST)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "CHUNK_BYTES", 16_384)
    with serving(ZIP, monkeypatch) as running:
        yield running


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_network_is_taken_out_of_the_zip(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTMW_EDGE_CACHE", str(tmp_path))
    server.cuts = [100_000]
    fetched = fetch_detector(SMALL, url=server.url)
    path = tmp_path / "rtmdet_nano_8xb32-100e_coco-obj365-person-05d8511e.onnx"
    assert fetched == download.Fetched(path, DIGEST, DIGEST) and path.read_bytes() == NETWORK
    assert names(tmp_path) == [path.name] and cached_detector(SMALL) == path
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-"]
    assert fetch_detector(SMALL, url=server.url, cache=tmp_path) == fetched and len(server.requests) == 2


def test_a_cut_for_good_is_taken_up_by_the_next_run(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0]
    with pytest.raises(BadInputError, match=r"was cut after 0\.1 MB, which are kept"):
        fetch_detector(SMALL, url=server.url, cache=tmp_path)
    assert names(tmp_path) == [f"{SMALL.file_name}.part"]
    assert fetch_detector(SMALL, url=server.url, cache=tmp_path).sha256 == DIGEST
    assert names(tmp_path) == [SMALL.file_name]


def test_the_bare_network_is_taken_as_it_is(server: Server, tmp_path: Path) -> None:
    server.content = NETWORK
    assert fetch_detector(SMALL, url=server.url, cache=tmp_path).path.read_bytes() == NETWORK


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (zipped("a.onnx")[:-30] + b"", "The SHA-256 of .* is .*, but should be"),
        (zipped(), r"The zip of .*05d8511e\.onnx holds 0 ONNX files, not one\."),
        (zipped("a.onnx", "b.onnx"), r"holds 2 ONNX files, not one\."),
        (ZIP[:5000] + b"\0" + ZIP[5001:], r"The zip of .* is damaged \(Bad CRC-32"),
        (damaged_zip(), r"The zip of .* is damaged \("),
        (b"<html>please log in</html>", f"but should be {DIGEST}"),
    ],
)
def test_what_is_another_file_is_not_kept(server: Server, tmp_path: Path, content: bytes, text: str) -> None:
    server.content = content
    with pytest.raises(
        VerificationError, match=rf"{text}.*The file was not kept; fetch again, or pass another --url\."
    ):
        fetch_detector(SMALL, url=server.url, cache=tmp_path)
    assert names(tmp_path) == []


def test_a_changed_file_in_the_cache_is_named(server: Server, tmp_path: Path) -> None:
    fetched = fetch_detector(SMALL, url=server.url, cache=tmp_path)
    fetched.path.write_bytes(NETWORK[:-1])
    with pytest.raises(VerificationError, match=rf"but should be {DIGEST}\. Delete it and fetch again\."):
        fetch_detector(SMALL, cache=tmp_path)


def test_local_files_are_checked_the_same_way(tmp_path: Path) -> None:
    for name, content in (("d.zip", ZIP), ("d.onnx", NETWORK)):
        (tmp_path / name).write_bytes(content)
        cache = tmp_path / f"cache-{name}"
        assert fetch_detector(SMALL, file=tmp_path / name, cache=cache).path.read_bytes() == NETWORK
    with pytest.raises(VerificationError, match=r"but should be 0{64}\. Pass another --file, or"):
        fetch_detector(SMALL, file=tmp_path / "d.zip", cache=tmp_path / "other", sha256="0" * 64)
    assert names(tmp_path / "other") == []
    with pytest.raises(BadInputError, match=r"There is no file '.*no\.zip' to install"):
        fetch_detector(SMALL, file=tmp_path / "no.zip", cache=cache)


def test_the_list_is_well_formed() -> None:
    for name, detector in DETECTORS.items():
        assert detector.name == name and re.fullmatch("[0-9a-f]{64}", detector.sha256)
        assert detector.url.startswith(("https://download.openmmlab.com/", "https://github.com/Megvii-BaseDetection/"))
        assert all(side % 32 == 0 for side in detector.input_size)
    assert len({detector.sha256 for detector in DETECTORS.values()}) == len(DETECTORS) == 10
    with pytest.raises(BadInputError, match="Unknown detector 'rtmdet-s'; did you mean 'rtmdet-"):
        detector_named("rtmdet-s")


def test_the_command(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detectors.DETECTORS, "rtmdet-nano", SMALL)
    app = typer.Typer()
    app.command()(fetch)
    done = CliRunner().invoke(app, ["rtmdet-nano", "--url", server.url, "--cache", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"SHA-256 {DIGEST}: as other projects have recorded it" in done.output
    assert SMALL.file_name in done.output.replace("\n", "") and names(tmp_path) == [SMALL.file_name]

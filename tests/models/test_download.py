"""`rtmw-edge fetch` against a server on this machine: cuts, resumes, wrong bytes, full disks, proxies."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_zip import damaged_zip
from file_server import Server, serving

from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.models import VARIANTS, Variant, download
from rtmw_edge.models.variants import Official


def _checkpoint() -> bytes:
    """What a `.pth` is to the downloader: a zip with stored, checksummed records."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data/0", np.random.default_rng(0).bytes(300_000))
    return buffer.getvalue()


CONTENT = _checkpoint()
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = "x.pth"
PART = "x.pth.part"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "CHUNK_BYTES", 16_384)
    with serving(CONTENT, monkeypatch) as running:
        yield running


def variant(sha256_prefix: str | None = DIGEST[:8]) -> Variant:
    base = VARIANTS["rtmw-x-256x192"]
    assert base.official is not None
    return dataclasses.replace(base, official=Official(f"a/{FILE}", sha256_prefix, base.official.published))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_complete_download(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    fetched = download.fetch(
        variant(), url=server.url, cache=tmp_path / "new", on_progress=lambda *done: seen.append(done)
    )
    assert fetched == download.Fetched(tmp_path / "new" / FILE, DIGEST, DIGEST[:8])
    assert fetched.path.read_bytes() == CONTENT
    assert names(tmp_path / "new") == [FILE]
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(seen) > 10
    assert download.fetch(variant(), url=server.url, cache=tmp_path / "new") == fetched
    assert len(server.requests) == 1  # the second time it was there


def test_cut_connection_is_taken_up_in_the_same_run(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    assert download.fetch(variant(), url=server.url, cache=tmp_path).path.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-", "bytes=150000-"]


def test_cut_for_good_keeps_what_came_for_the_next_run(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0]
    with pytest.raises(BadInputError, match=r"was cut after 0\.1 MB, which are kept\. Run the command again to go on"):
        download.fetch(variant(), url=server.url, cache=tmp_path)
    assert names(tmp_path) == [PART]
    assert download.fetch(variant(), url=server.url, cache=tmp_path).sha256 == DIGEST
    assert server.requests[-1][1] == "bytes=100000-"
    assert names(tmp_path) == [FILE]


def test_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / PART).write_bytes(CONTENT[:1000])
    assert download.fetch(variant(), url=server.url, cache=tmp_path).path.read_bytes() == CONTENT


def test_part_that_is_complete_or_too_long(server: Server, tmp_path: Path) -> None:
    (tmp_path / PART).write_bytes(CONTENT)
    assert download.fetch(variant(), url=server.url, cache=tmp_path).sha256 == DIGEST
    assert len(server.requests) == 1
    (tmp_path / FILE).unlink()
    (tmp_path / PART).write_bytes(CONTENT + b"more")
    assert download.fetch(variant(), url=server.url, cache=tmp_path).sha256 == DIGEST
    assert server.requests[-1][1] is None


def test_wrong_hash_is_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as error:
        download.fetch(variant("deadbeef"), url=server.url, cache=tmp_path)
    assert str(error.value) == (
        f"The SHA-256 of {PART.removesuffix('.part')} is {DIGEST}, but should begin with deadbeef. "
        "The file was not kept; fetch again, or pass another --url."
    )
    assert error.value.exit_code == 1
    assert names(tmp_path) == []


def test_given_digest_goes_first(server: Server, tmp_path: Path) -> None:
    assert download.fetch(variant(None), url=server.url, cache=tmp_path, sha256=DIGEST.upper()).checked == DIGEST
    with pytest.raises(VerificationError, match=f"should be {'0' * 64}.*Delete it and fetch again"):
        download.fetch(variant(), url=server.url, cache=tmp_path, sha256="0" * 64)
    with pytest.raises(BadInputError, match="--sha256 'abc' is not a SHA-256: pass its 64 hexadecimal digits"):
        download.fetch(variant(), url=server.url, cache=tmp_path, sha256="abc")


def test_without_known_digest_damage_still_shows(server: Server, tmp_path: Path) -> None:
    assert download.fetch(variant(None), url=server.url, cache=tmp_path / "good").checked is None
    server.content = b"<html>please log in</html>"
    with pytest.raises(VerificationError, match=r"is not a whole PyTorch checkpoint\. The file was not kept"):
        download.fetch(variant(None), url=server.url, cache=tmp_path / "page")
    server.content = CONTENT[:150_000] + b"\0" + CONTENT[150_001:]
    with pytest.raises(VerificationError, match="is not a whole PyTorch checkpoint"):
        download.fetch(variant(None), url=server.url, cache=tmp_path / "bit")
    server.content = damaged_zip()
    with pytest.raises(VerificationError, match="is not a whole PyTorch checkpoint"):
        download.fetch(variant(None), url=server.url, cache=tmp_path / "bit")
    assert names(tmp_path / "page") == names(tmp_path / "bit") == []


def test_not_found_and_not_reachable(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(
        BadInputError, match=r"The server answered 404 Not Found for http://127.*Pass another --url, or --file"
    ):
        download.fetch(variant(), url=server.url, cache=tmp_path)
    server.shutdown()
    server.server_close()
    with pytest.raises(BadInputError, match=r"Cannot reach http://127.*refused.*pass it as --file"):
        download.fetch(variant(), url=server.url, cache=tmp_path)
    with pytest.raises(BadInputError, match=r"Cannot fetch 'file:///etc/passwd': only http and https are understood"):
        download.fetch(variant(), url="file:///etc/passwd", cache=tmp_path)
    assert names(tmp_path) == []


class _FullDisk(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if path.name == PART and mode == "wb":
            real(path, "wb").close()
            return _FullDisk()
        return real(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(BadInputError, match=r"The disk is full while writing .*x\.pth\.part, which was not kept"):
        download.fetch(variant(), url=server.url, cache=tmp_path)
    assert names(tmp_path) == []


def test_interrupt_leaves_the_part_only(server: Server, tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch(variant(), url=server.url, cache=tmp_path, on_progress=interrupt)
    assert names(tmp_path) == [PART]
    assert CONTENT.startswith((tmp_path / PART).read_bytes())
    download.fetch(variant(), url=server.url, cache=tmp_path)
    assert server.requests[-1][1] is not None and names(tmp_path) == [FILE]


def test_proxy_of_the_environment(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    download.fetch(variant(), url="http://weights.invalid/x.pth", cache=tmp_path)
    assert server.requests == [("http://weights.invalid/x.pth", None)]


def test_local_file_is_checked_the_same_way(tmp_path: Path) -> None:
    source, cache = tmp_path / "downloaded.pth", tmp_path / "cache"
    source.write_bytes(CONTENT)
    fetched = download.fetch(variant(), file=source, cache=cache)
    assert fetched == download.Fetched(cache / FILE, DIGEST, DIGEST[:8])
    assert fetched.path.read_bytes() == CONTENT and source.exists()
    with pytest.raises(VerificationError, match="should begin with deadbeef"):
        download.fetch(variant("deadbeef"), file=source, cache=tmp_path / "other")
    with pytest.raises(BadInputError, match=r"There is no file '.*absent' to install\. Pass --file the downloaded ch"):
        download.fetch(variant(), file=tmp_path / "absent", cache=cache)
    assert not (tmp_path / "other").exists() and names(cache) == [FILE]


def test_own_sizes_have_no_official_file(tmp_path: Path) -> None:
    with pytest.raises(
        BadInputError, match="No official file exists for rtmw-n-256x192: it is this project's own size"
    ):
        download.fetch(VARIANTS["rtmw-n-256x192"], cache=tmp_path)

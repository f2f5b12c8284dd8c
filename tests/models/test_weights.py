"""Where weights are looked for, and what is said when there are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtmw_edge.errors import BadInputError
from rtmw_edge.files import cache_dir
from rtmw_edge.models import VARIANTS, weights


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(folder of shipped weights, cache), both empty."""
    package, cache = tmp_path / "package", tmp_path / "cache"
    package.mkdir()
    cache.mkdir()
    monkeypatch.setattr(weights, "FOLDER", package)
    monkeypatch.setenv("RTMW_EDGE_CACHE", str(cache))
    return package, cache


def test_explicit_then_shipped_then_fetched(places: tuple[Path, Path], tmp_path: Path) -> None:
    package, cache = places
    official = VARIANTS["rtmw-m-256x192"].official
    assert official is not None
    fetched = cache / official.file_name
    fetched.touch()
    assert weights.find("rtmw-m-256x192") == fetched
    shipped = package / "rtmw-m-256x192.safetensors"
    shipped.touch()
    assert weights.find("rtmw-m-256x192") == shipped == weights.embedded("rtmw-m-256x192")
    own = tmp_path / "own.pth"
    own.touch()
    assert weights.find("rtmw-m-256x192", own) == own
    link = tmp_path / "link.safetensors"
    link.symlink_to(shipped)
    for same in (link, Path(os.path.relpath(shipped))):
        assert weights.find("rtmw-m-256x192", same) == shipped, "table and score that ship with it are not found"


def test_absent_weights_say_how_to_get_them(places: tuple[Path, Path]) -> None:
    with pytest.raises(BadInputError, match="run 'rtmw-edge fetch rtmw-x-384x288', or pass --weights FILE"):
        weights.find("rtmw-x-384x288")
    with pytest.raises(BadInputError, match=r"No weights are published for rtmw-s-256x192: train them with"):
        weights.find("rtmw-s-256x192")
    (places[0] / "rtmw-n-256x192.safetensors").touch()
    with pytest.raises(BadInputError, match=r"rtmw-t-256x192 \(weights ship with: rtmw-n-256x192\): train"):
        weights.find("rtmw-t-256x192")
    with pytest.raises(BadInputError, match=r"There are no weights at 'nowhere\.pth'\. Pass --weights a \.pth"):
        weights.find("rtmw-n-256x192", Path("nowhere.pth"))
    with pytest.raises(BadInputError, match="Unknown variant 'rtmw-q'"):
        weights.find("rtmw-q")


def test_score_calibration(places: tuple[Path, Path]) -> None:
    path = places[0] / "rtmw-n-256x192.json"
    assert weights.score_calibration("rtmw-n-256x192") is None
    path.write_text('{"note": "not fitted"}')
    assert weights.score_calibration("rtmw-n-256x192") is None
    path.write_text('{"score": {"a": 1.5, "b": -4}}')
    assert weights.score_calibration("rtmw-n-256x192") == (1.5, -4.0)


def test_a_table_may_ship_with_the_weights(places: tuple[Path, Path]) -> None:
    path = places[0] / "rtmw-n-256x192.common.table.json"
    assert weights.shipped_table("rtmw-n-256x192", "common") is None
    path.touch()
    assert weights.shipped_table("rtmw-n-256x192", "common") == path
    assert weights.shipped_table("rtmw-n-256x192", "affine") is None


def test_cache_is_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RTMW_EDGE_CACHE")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_dir() == Path("/home/somebody/.cache/rtmw-edge")

"""`rtmw-edge models` and `rtmw-edge fetch` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rtmw_edge.cli.fetch import fetch
from rtmw_edge.cli.models import models
from rtmw_edge.errors import BadInputError
from rtmw_edge.models import VARIANTS, Variant, download, weights


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "package")
    monkeypatch.setenv("RTMW_EDGE_CACHE", str(tmp_path / "cache"))
    app = typer.Typer()
    app.command()(models)
    app.command()(fetch)

    def invoke(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


def test_models_as_json(run: Any, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "rtmw-n-256x192.safetensors").touch()
    rows = {row["variant"]: row for row in json.loads(run("models", "--json"))}
    assert list(rows) == list(VARIANTS)
    medium, nano = rows["rtmw-m-256x192"], rows["rtmw-n-256x192"]
    assert medium["parameters"] == 32_258_207 and medium["gmac"] == 4.30 and medium["origin"] == "fetch"
    assert medium["input"] == {"width": 192, "height": 256}
    assert medium["published_ap"] == {"whole": 0.582, "body": 0.676, "foot": 0.671, "face": 0.783, "hand": 0.491}
    assert "COCO-WholeBody" in medium["published_by"] and medium["weights"] is None
    assert nano["published_ap"] is None and nano["origin"] == "package"
    assert nano["weights"] == str(tmp_path / "package" / "rtmw-n-256x192.safetensors")
    assert rows["rtmw3d-l-384x288"]["published_ap"]["whole"] == 0.678
    assert rows["rtmw-t-256x192"]["origin"] == "train"


def test_models_as_a_table(run: Any) -> None:
    output = run("models")
    line = next(line for line in output.splitlines() if line.startswith("rtmw-l-384x288"))
    assert line.split() == ["rtmw-l-384x288", "57.35", "17.64", "70.1", "76.1", "79.3", "88.4", "66.3", "to", "fetch"]
    assert "rtmw-edge fetch VARIANT" in output


@pytest.mark.parametrize(
    ("checked", "text"),
    [
        (None, "not checked, its authors publish none; compare it, or pass it as --sha256"),
        ("ab" * 4, "begins with abababab, as its official name says"),
        ("ab" * 32, "as given"),
    ],
)
def test_fetch_says_what_was_checked(run: Any, monkeypatch: pytest.MonkeyPatch, checked: str | None, text: str) -> None:
    asked: dict[str, Any] = {}

    def fake(variant: Variant, **named: Any) -> download.Fetched:
        asked.update(named, variant=variant)
        named["on_progress"](1, 2)
        return download.Fetched(Path("/cache/m.pth"), "ab" * 32, checked)

    monkeypatch.setattr(download, "fetch", fake)
    output = run("fetch", "rtmw-m-256x192", "--url", "http://mirror/m.pth", "--cache", "c")
    assert "/cache/m.pth" in output and f"SHA-256 {'ab' * 32}: {text}" in output
    assert asked["variant"].name == "rtmw-m-256x192"
    assert asked["url"] == "http://mirror/m.pth" and asked["cache"] == Path("c")


def test_fetch_takes_it_from_one_place(run: Any) -> None:
    with pytest.raises(BadInputError, match=r"--url http://m/m.pth and --file m.pth are two places to take it from"):
        run("fetch", "rtmw-m-256x192", "--url", "http://m/m.pth", "--file", "m.pth")


def test_fetch_refuses_unknown_names(run: Any) -> None:
    with pytest.raises(BadInputError, match="Unknown variant 'rtmw-m'"):
        run("fetch", "rtmw-m")

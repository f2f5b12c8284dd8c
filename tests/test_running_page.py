"""docs/running.md: every command on it is one that the program takes, and its defaults are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from rtmw_edge.camera import ASSUMED_DEPTH
from rtmw_edge.cli import app
from rtmw_edge.models.detectors import DETECTORS
from rtmw_edge.runtime.detectors.detector import MOST_IOU, SCORE
from rtmw_edge.runtime.serve import MOST_VIEWERS, _Handler
from rtmw_edge.runtime.sinks import ENDINGS
from rtmw_edge.runtime.smoothing import OneEuroOptions
from rtmw_edge.runtime.sources import open_sources
from rtmw_edge.runtime.sources.raw import PIXELS, PictureFormat
from rtmw_edge.runtime.tracking import TrackingOptions

TEXT = (Path(__file__).parents[1] / "docs" / "running.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The words after `rtmw-edge` of every command in a shell block, but for the first, which is the form of all."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    lines = [line.rpartition("rtmw-edge ")[2] for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if "[" not in line]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_program_takes_it(words: list[str]) -> None:
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    values = command.make_context(words[0], words[1:]).params
    if words[0] == "fetch":
        assert values["name"] in DETECTORS
        return
    raw = PictureFormat.parse(values["raw"]) if values["raw"] else None
    assert words[0] == "run"
    assert open_sources([*(values["sources"] or []), *(values["source"] or [])], raw=raw, live=values["live"])


def test_there_are_commands() -> None:
    assert len(commands()) == 10


@pytest.mark.parametrize("options", [TrackingOptions(), OneEuroOptions()])
def test_defaults_are_the_code_s(options: object) -> None:
    for name, value in vars(options).items():
        assert re.search(rf"^\| `{name}` \| {value:g}[ |]", TEXT, re.MULTILINE), name


def test_names_are_the_code_s() -> None:
    detection = (*(f"`{name}`" for name in DETECTORS), f"({SCORE})", f"more than {MOST_IOU}")
    viewers = f"at most {MOST_VIEWERS} viewers"
    for name in (*ENDINGS, *PIXELS, *_Handler.PATHS, *detection, f"{ASSUMED_DEPTH:g}", viewers):
        assert name in TEXT, name

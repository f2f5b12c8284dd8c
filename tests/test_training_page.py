"""docs/training.md: every command on it is one that the program takes, with recipes, keys and variants that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

pytest.importorskip("torch")

from rtmw_edge.cli import app
from rtmw_edge.models.variants import VARIANTS
from rtmw_edge.training.recipe import read_recipe, shipped_recipes

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def commands() -> list[list[str]]:
    """The words of every rtmw-edge command in the page's shell blocks, torchrun's own options left out."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["rtmw-edge"]:
            found.append(words[1:])
        elif words[:1] == ["torchrun"]:
            found.append(words[words.index("rtmw_edge") + 1 :])
    return found


def test_the_page_has_the_commands_that_it_promises() -> None:
    names = [words[0] for words in commands()]
    assert names.count("train") >= 8 and {"data", "evaluate", "export", "verify", "run", "fetch"} <= set(names)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_program_takes_it(words: list[str]) -> None:
    command = typer.main.get_command(app)
    name = "rtmw-edge"
    while hasattr(command, "commands"):
        name, words = words[0], words[1:]
        command = command.commands[name]
    values = command.make_context(name, list(words)).params
    if name == "train" and not values.get("list_"):
        assert read_recipe(values["recipe"], values["set_"] or ()).variant in VARIANTS
    if name in ("evaluate", "export", "fetch"):
        variant = values.get("model") or values.get("variant") or values["name"]
        assert variant in VARIANTS


def test_recipes_and_keys_in_the_text_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert set(re.findall(r"`(rtmw[\w-]*-distill)`", text)) == {n for n in shipped_recipes() if n.endswith("-distill")}
    for override in re.findall(r"--set ([\w.]+=[\w.:/-]+)", text):
        key = override.partition("=")[0]
        if key == "key":
            continue  # --set key=value
        named = {"steps": "rtmw-n-256x192", "distillation.teacher": "rtmw-n-256x192-distill"}
        read_recipe(named.get(key, "rtmw-m-256x192"), [override])

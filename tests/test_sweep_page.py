"""docs/sweep.md and the recipe of docs/results: commands that the program takes, keys and limits that exist."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import typer

pytest.importorskip("torch")

from rtmw_edge.cli import app
from rtmw_edge.models.variants import VARIANTS
from rtmw_edge.runtime import timing
from rtmw_edge.sweep import compare, verdicts
from rtmw_edge.sweep.budget import Budget
from rtmw_edge.sweep.config import SearchConfig, SweepConfig, parse_config, read_config
from rtmw_edge.sweep.plan import plan_of
from rtmw_edge.sweep.search.problem import problem_of
from rtmw_edge.sweep.search.start import TOGETHER
from rtmw_edge.toml_files import tomllib

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("rtmw-edge ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_the_program_takes_it(words: list[str]) -> None:
    command = typer.main.get_command(app)
    name = "rtmw-edge"
    while hasattr(command, "commands"):
        name, words = words[0], words[1:]
        command = command.commands[name]
    values = command.make_context(name, list(words)).params
    assert name != "export" or "variant" not in values or values["variant"] in VARIANTS


def test_every_key_is_on_the_page() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    example, search = map(tomllib.loads, blocks[:2])
    assert parse_config(example, ROOT).images == 0
    assert parse_config(search, ROOT).search == SearchConfig(Budget.parse("hands<=0.5,body<=0.5,whole<=0.5"), trials=60)
    table = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ([^|]*) \|", TEXT, re.MULTILINE))))
    keys = {item.name for kind in (SweepConfig, SearchConfig) for item in fields(kind)}
    assert table | set(example) == keys - {"folder"}  # where the file lies


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    for words in (
        f"{timing.ROUNDS} rounds of blocks of at least {timing.BLOCK_SECONDS:g} s",
        f"spreads by more than {timing.MAX_SPREAD:.0%}".replace("%", " %"),
        f"more than {timing.MAX_BUSY:.0%} of the processor".replace("%", " %"),
        f"more than {timing.MAX_DRIFT:.0%} from the first third".replace("%", " %"),
        f"the whole interval of the ratio below {verdicts.FASTER}",
        f"at least {compare.LEAST_AP} points of AP ({compare.LEAST_PERCENT} % of MPJPE)",
        f"several at a time ({TOGETHER} for each of `--processes`)",
        f"files may grow by {compare.LEAST_SIZE:.0%}, memory by {compare.LEAST_MEMORY:.0%}".replace("%", " %"),
    ):
        assert words in " ".join(TEXT.split()), words


def test_the_recipe_of_the_shipped_models_can_be_planned(tmp_path: Path) -> None:
    """The weights of before fine-tuning are made by `make results`; the shipped ones stand in for them here."""
    text, before = (ROOT / "benchmarks" / "shipped_sweep.toml").read_text(), "sweeps/before-qat.safetensors"
    assert text.count(f'"../{before}"') == 1 and f"{before}:" in (ROOT / "Makefile").read_text()
    weights = ROOT / "rtmw_edge" / "models" / "weights"
    copy = tmp_path / "sweep.toml"
    copy.write_text(
        text.replace(f"../{before}", str(weights / "rtmw-n-256x192.safetensors")).replace(
            "../rtmw_edge/models/weights", str(weights)
        )
    )
    found = plan_of(read_config(copy))
    targets = {item.cell.target for item in found.cells}
    assert "torch" in targets and "onnx" in targets
    assert all(item.inputs.weights.is_file() for item in found.cells)


def test_the_recipe_of_the_search_can_be_searched() -> None:
    problem = problem_of(read_config(ROOT / "benchmarks" / "search.toml"))
    assert "shipped common" in problem.given and len(problem.space.groups) == 16

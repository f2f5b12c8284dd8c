"""Boards: what makes sense on each, in which order to try it, and what to beware of, with the source of every claim.

One TOML file a board in `devices/`. A claim is a sentence, where it comes from, and who has measured it: "us" with this
toolkit on that board, "emulation" with this toolkit on its processor as QEMU emulates it, "others" with another network
or tool, "nobody" for what follows from how things are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rtmw_edge.errors import BadInputError, unknown
from rtmw_edge.runtime.devices import DEVICES
from rtmw_edge.toml_files import tomllib

from . import TARGETS, target_named
from .base import Precision, grid_of

FOLDER = Path(__file__).with_name("devices")
MEASURED = ("us", "emulation", "others", "nobody")


@dataclass(frozen=True)
class Claim:
    """One sentence, its source (an address, or which part of this toolkit measured it), and who measured it."""

    text: str
    source: str
    measured: str


@dataclass(frozen=True)
class Choice:
    """One thing to export for a board. `device` and `threads` are of the run there; `why` is what speaks for it."""

    target: str
    precision: str
    grid: str | None
    device: str
    threads: int
    why: Claim

    @property
    def words(self) -> str:
        """ "ncnn int8 common" """
        return " ".join(word for word in (self.target, self.precision, self.grid) if word)


@dataclass(frozen=True)
class Minimum:
    """The oldest version of a distribution that will do, and why."""

    runtime: str
    version: str
    why: Claim


@dataclass(frozen=True)
class Board:
    """A board or kind of machine.

    Attributes:
        name: the word of the command line. title, processor: in words.
        threads: numbers of threads that make sense, the best for one stream first.
        choices: what to export, the first to be tried first. traps: what goes wrong there.
    """

    name: str
    title: str
    processor: str
    threads: tuple[int, ...]
    choices: tuple[Choice, ...]
    minimums: tuple[Minimum, ...]
    traps: tuple[Claim, ...]

    def pick(self, target: str | None = None, precision: str | None = None, grid: str | None = None) -> Choice:
        """The first choice that has what is asked for; BadInputError when none has."""
        for choice in self.choices:
            asked = ((target, choice.target), (precision, choice.precision), (grid, choice.grid))
            if all(wanted is None or wanted == has for wanted, has in asked):
                return choice
        asked_for = " ".join(word for word in (target, precision, grid) if word)
        there = "; ".join(choice.words for choice in self.choices)
        raise BadInputError(
            f"Nothing is known of {asked_for} on {self.name}; it has {there}. Leave out --board to export it anyway."
        )


def board_names() -> tuple[str, ...]:
    """The names of all boards, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


@lru_cache(maxsize=32)
def board_named(name: str) -> Board:
    """The board called `name`; raises BadInputError with the nearest name when there is none."""
    if name not in board_names():
        raise unknown("board", name, board_names())
    document = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    return parse_board(name, document)


def parse_board(name: str, document: Mapping[str, Any]) -> Board:
    """The board in a TOML document; BadInputError for an unknown key or name, or a claim without its source."""
    _check_keys(document, {"title", "processor", "threads", "choice", "minimum", "trap"}, name)
    return Board(
        name,
        str(document["title"]),
        str(document["processor"]),
        tuple(int(count) for count in document["threads"]),
        tuple(_choice(table, name, int(document["threads"][0])) for table in document["choice"]),
        tuple(_minimum(table, name) for table in document.get("minimum", [])),
        tuple(_claim(table, name) for table in document.get("trap", [])),
    )


def _choice(table: Mapping[str, Any], board: str, threads: int) -> Choice:
    _check_keys(table, {"target", "precision", "grid", "device", "threads", *CLAIM}, board)
    target, precision = table["target"], Precision.named(table["precision"])
    grid = table.get("grid")
    if target not in TARGETS:
        raise unknown("target", target, TARGETS)
    grid_of(target_named(target), precision, grid)
    device = table.get("device", "cpu")
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    return Choice(target, str(precision), grid, device, int(table.get("threads", threads)), _claim(table, board))


def _minimum(table: Mapping[str, Any], board: str) -> Minimum:
    _check_keys(table, {"runtime", "version", *CLAIM}, board)
    return Minimum(str(table["runtime"]), str(table["version"]), _claim(table, board))


CLAIM = ("text", "source", "measured")


def _claim(table: Mapping[str, Any], board: str) -> Claim:
    lacking = [key for key in CLAIM if not str(table.get(key, "")).strip()]
    if lacking:
        raise BadInputError(f"A claim about {board} lacks its {lacking[0]}: {dict(table)}.")
    if table["measured"] not in MEASURED:
        raise unknown(f"measurer of a claim about {board}", str(table["measured"]), MEASURED)
    return Claim(str(table["text"]), str(table["source"]), str(table["measured"]))


def _check_keys(table: Mapping[str, Any], known: set[str], board: str) -> None:
    for key in table:
        if key not in known:
            raise unknown(f"key of the board {board}", key, sorted(known))

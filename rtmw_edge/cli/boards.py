"""`rtmw-edge boards`: which boards are known, and what to export for one, with the source of every claim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..targets.boards import Board, Choice, Claim
    from .console import Console


def boards(
    name: Annotated[str | None, typer.Argument(help="One board, in full; all in a line each when left out.")] = None,
) -> None:
    """What to export for a board, and how to run it there.

    With what to beware of, and who has measured it.
    """
    from ..targets.boards import board_named, board_names
    from .console import Console

    console = Console(highlight=False, soft_wrap=True)
    if name is None:
        for board in map(board_named, board_names()):
            console.print(f"{board.name:12} {board.title}: {board.pick().words}")
        return
    board = board_named(name)
    console.print(f"{board.name}: {board.title}\n{board.processor}")
    for choice in board.choices:
        console.print(f"- {_run_with(choice)}: {_said(choice.why)}")
    for minimum in board.minimums:
        console.print(f"- at least {minimum.runtime} {minimum.version}: {_said(minimum.why)}")
    for trap in board.traps:
        console.print(f"- beware: {_said(trap)}")


def picked(
    console: Console, name: str, target: str | None, precision: str | None, grid: str | None
) -> tuple[str, str, str | None]:
    """Target, precision and grid for a board, said on `console` with the reason and the traps."""
    from ..targets.boards import board_named

    board: Board = board_named(name)
    choice = board.pick(target, precision, grid)
    lines = [f"{board.name} ({board.title}): {_run_with(choice)}. {_said(choice.why)}"]
    for line in (*lines, *(f"Beware: {_said(trap)}" for trap in board.traps)):
        console.print(line, soft_wrap=True, highlight=False)
    return choice.target, choice.precision, choice.grid


def _run_with(choice: Choice) -> str:
    return f"{choice.words}, run with --device {choice.device} --threads {choice.threads}"


def _said(claim: Claim) -> str:
    return f"{claim.text} [measured by {claim.measured}: {claim.source}]"

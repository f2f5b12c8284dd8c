"""`rtmw-edge sweep`: every cell of a TOML file exported, verified, evaluated and timed, in one store that resumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..sweep.config import SweepConfig
    from ..sweep.plan import Plan
    from ..sweep.start import Options
    from .console import Console


def sweep(
    config: Annotated[Path, typer.Argument(help="What to sweep over (TOML, see docs/sweep.md).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the store; an earlier sweep there goes on. By default sweeps/NAME.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the cells and an estimate of the time, and stop.")
    ] = False,
    processes: Annotated[int, typer.Option(help="Processes that evaluate side by side.", min=1)] = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed before.")] = False,
    search: Annotated[
        bool, typer.Option("--search", help="Search layer choices and calibrations under the budget of [search].")
    ] = False,
    listen: Annotated[
        str | None, typer.Option(help="Where the boards that the sweep names join: tls://0.0.0.0:8786.")
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(help="Seconds to wait for a board, at the start or when it left.", min=0, show_default="600"),
    ] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="The fleet's authority (PEM).")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="This machine's certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).")] = None,
) -> None:
    """Export, verify, evaluate and time what a file lists.

    Every cell of the product of its variants, targets, precisions and more. Killed at any moment it goes on where it
    was; a cell that fails is recorded with its reason. The exit code is 1 when a cell failed. Results: rtmw-edge
    results show STORE, and STORE/report.html.

    With --search the sweep's axes and its [search] are what trials choose among (docs/sweep.md); the exit code is 1
    when none keeps the budget.
    """
    from ..errors import BadInputError, VerificationError, importing
    from ..sweep.config import read_config
    from .console import Console

    console = Console(highlight=False, soft_wrap=True)
    chosen = read_config(config)
    if listen is None and (tls_ca or tls_cert or tls_key):
        raise BadInputError("Certificates are for the boards that join: add --listen tls://0.0.0.0:8786.")
    if listen is None and wait is not None:
        raise BadInputError("--wait is for boards that join: add --listen tls://0.0.0.0:8786, or leave it out.")
    if search and (chosen.away or listen):
        boards = ", ".join(chosen.away) or "boards"
        raise BadInputError(f"A search runs on this machine, not on {boards}; leave them out of it, and --listen.")
    with importing("A sweep", "rtmw-edge[export]"):
        from ..sweep.plan import plan_of
        from ..sweep.start import Options, start, start_with_boards

    options = Options(out or Path("sweeps") / config.stem, processes, retry)
    if search:
        _search(console, chosen, options, plan=plan)
        return
    planned = plan_of(chosen)
    if plan:
        _print_plan(console, planned, options)
        return
    from ..fleet.link import link_to

    link = None if listen is None else link_to(listen, tls_ca, tls_cert, tls_key)
    if link is None and chosen.away:
        raise BadInputError(
            f"The sweep runs on {', '.join(chosen.away)}; say where workers join: --listen tls://0.0.0.0:8786."
        )
    if link is not None and not chosen.away:
        raise BadInputError('The sweep names no board that could join; write boards = ["local", "pi5"] in it.')
    if link is None:
        failed = start(planned, options, console)
    else:
        failed = start_with_boards(chosen, link, 600.0 if wait is None else wait, options, console)
    if failed:
        raise VerificationError(
            f"{failed} of {len(planned.cells)} cells failed; rtmw-edge results show {options.folder} says why."
        )


def _search(console: Console, config: SweepConfig, options: Options, *, plan: bool) -> None:
    from ..sweep.search.start import describe, start

    if plan:
        describe(config, console)
    else:
        start(config, options, console)


def _print_plan(console: Console, plan: Plan, options: Options) -> None:
    from ..sweep.estimate import expected_of

    expected = expected_of(plan.cells, options.folder, options.processes, retry=options.retry)
    for planned in plan.cells:
        left = expected.of(planned)
        words = "done" if not left else f"about {left:.0f} s" + (" here, and the board's" if planned.cell.board else "")
        console.print(f"{planned.cell.variant}  {planned.cell.label}  {words}")
    for what, reason in plan.not_possible.items():
        console.print(f"not possible: {what}: {reason}")
    boards = dict.fromkeys(planned.cell.board for planned in plan.cells if planned.cell.board)
    less = f"; less where {', '.join(boards)} did theirs before, which is known when they join" if boards else ""
    console.print(f"{len(plan.cells)} cells, {expected.sentence}{less}")

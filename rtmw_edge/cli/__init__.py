"""The command line: one module per command; errors raised on purpose become one line and an exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..errors import BadInputError, RtmwEdgeError
from .benchmark import benchmark
from .boards import boards
from .calibrate import calibrate
from .data import app as data_app
from .doctor import doctor
from .evaluate import evaluate
from .export import export
from .fetch import fetch
from .inspect import inspect
from .models import models
from .qat import qat
from .quickstart import quickstart
from .results import app as results_app
from .run import run
from .sensitivity import sensitivity
from .sweep import sweep
from .train import train
from .validate import validate
from .verify import verify
from .worker import worker

TEMPFILE_SAYS = "No usable temporary directory"
"""How Python's error begins where all folders for temporary files are full; by number it is a missing file."""


class _Interrupted(Exception):
    """Ctrl-C, under a name that Typer does not end the process for in silence; or the signal that it holds."""


class _NobodyReads(Exception):
    """Whoever read our output went away (`| head`), under a name that Typer does not exit with 1 for."""


def _nobody_reads() -> bool:
    """Whether it is standard output that broke, and not a pipe to a process of ours."""
    import select

    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted(*error.args) from error
        except BrokenPipeError as error:
            if _nobody_reads():
                raise _NobodyReads from error
            raise


app = typer.Typer(
    name="rtmw-edge",
    cls=_Commands,
    help="Whole-body pose (RTMW, 133 keypoints) on small devices: export, run, verify and compare INT8 models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    quickstart, sweep, run, calibrate, export, evaluate, verify, validate, inspect, benchmark, sensitivity, models,
    boards, worker, fetch, doctor, train, qat,
):  # fmt: skip
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(results_app, name="results")


def _version(value: bool) -> None:
    if value:
        from .. import __version__

        print(f"rtmw-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
) -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise BadInputError("The folder that this shell is in is gone: cd to one that is there.") from None
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr)


def _open_standard() -> None:
    """Give what was closed (`2>&-`) to nobody, so that no file of ours gets its number."""
    import os

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 good, 1 verification failed, 2 bad input, 3 not available, 130 interrupted.

    SIGTERM and SIGHUP clean up as Ctrl-C does, and end the process by that signal; `train`, `qat` and `run` finish
    their step first, and exit with 130.
    """
    from ..signals import die_of, heard_as_ctrl_c

    _open_standard()
    ended_by: tuple[Any, ...] = ()
    try:
        with heard_as_ctrl_c():
            app(args=arguments)
    except RtmwEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except (_Interrupted, KeyboardInterrupt) as error:
        ended_by = error.args
        with suppress(OSError):  # of a terminal that is gone
            done = "terminated" if ended_by else "interrupted"
            print(f"{done}; nothing half-written was left", file=sys.stderr, flush=True)
        if not ended_by:
            raise SystemExit(130) from None
    except (_NobodyReads, BrokenPipeError):
        # Not our error; devnull keeps the exit quiet.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        raise SystemExit(0) from None
    except OSError as error:
        from ..files import FULL, UNUSABLE

        if error.errno in FULL:
            print("error: The disk is full; free some space and run the command again.", file=sys.stderr)
        elif error.errno in UNUSABLE and error.filename is not None:
            print(f"error: Cannot use '{error.filename}': {error.strerror}. Choose another place.", file=sys.stderr)
        elif str(error.strerror).startswith(TEMPFILE_SAYS):
            advice = "free some space, or let TMPDIR name a folder that can be written"
            print(f"error: {error.strerror}: {advice}.", file=sys.stderr)
        else:
            raise
        raise SystemExit(2) from None
    if ended_by:  # out here nothing keeps alive what has still to be removed
        die_of(ended_by[0])

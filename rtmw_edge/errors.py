"""The errors that the toolkit raises on purpose; each carries the exit code that the command line returns.

0 good; 1 a gate or a verification failed; 2 bad usage or bad input; 3 a runtime or device is missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class RtmwEdgeError(Exception):
    """Base of all errors raised on purpose: one sentence that says what happened, which value, and what to do."""

    exit_code = 2


class BadInputError(RtmwEdgeError):
    """Bad usage or bad input (exit code 2)."""


class VerificationError(RtmwEdgeError):
    """A gate or a verification failed (exit code 1)."""

    exit_code = 1


class NotAvailableError(RtmwEdgeError):
    """A runtime or device that was asked for is not there (exit code 3)."""

    exit_code = 3


def unknown(what: str, value: str, choices: Iterable[str]) -> BadInputError:
    """The error for a name that is not one of `choices`, with the nearest name when one is near.

    >>> str(unknown("target", "onxn", ["onnx", "ncnn"]))
    "Unknown target 'onxn'; did you mean 'onnx'? Choose one of: onnx, ncnn."
    """
    names = list(choices)
    spelled = {name.lower(): name for name in names}
    begun = [name for name in spelled if value and name.startswith(value.lower())]
    near = difflib.get_close_matches(value.lower(), begun or spelled, n=1, cutoff=0.0 if begun else 0.5)
    hint = f"; did you mean '{spelled[near[0]]}'?" if near else "."
    return BadInputError(f"Unknown {what} '{value}'{hint} Choose one of: {', '.join(names)}.")


def reason_of(error: BaseException) -> str:
    """What somebody else's exception says, in one line of at most 300 characters; its type where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def importing(user: str, install: str, name: str | None = None) -> Iterator[None]:
    """Around the imports that `user` needs: NotAvailableError where one fails, with what brings it or why it fails.

    `install` is the distribution that brings it, `name` what people call it; None for the module's own name.
    """
    try:
        yield
    except ImportError as error:
        what = f"{user} needs {name or error.name or 'a package'}, which"
        if isinstance(error, ModuleNotFoundError):
            raise NotAvailableError(f'{what} is not installed. Run: pip install "{install}".') from error
        # A library of the system that is missing, or another numpy than it was built for.
        why = str(error).partition("\n")[0].rstrip(".")
        raise NotAvailableError(f"{what} is installed and does not load: {why}.") from error

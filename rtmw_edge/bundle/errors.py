"""The one error of this package, with the reason as a value beside the sentence."""

from __future__ import annotations

from enum import Enum

from rtmw_edge.errors import BadInputError


class Reason(str, Enum):
    """Why a bundle was refused; every refusal has exactly one."""

    NOT_A_BUNDLE = "not a bundle"
    NEWER_FORMAT = "newer format"
    BAD_MANIFEST = "bad manifest"
    TOO_LARGE = "too large"
    BAD_NAME = "bad name"
    NOT_A_FILE = "not a plain file"
    MISSING_FILE = "missing file"
    EXTRA_FILE = "extra file"
    WRONG_SIZE = "wrong size"
    WRONG_HASH = "wrong hash"
    BAD_ARCHIVE = "bad archive"
    BAD_GOLDEN = "bad golden vectors"


class BundleError(BadInputError):
    """A bundle that is refused: one sentence for people, `reason` for programs."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[BundleError], tuple[Reason, str]]:
        return type(self), (self.reason, str(self))  # a process pool that cannot unpickle an error waits forever


SHOWN_CHARACTERS = 60


def shown(value: object) -> str:
    """A value from a file in a form that is safe to print: escaped, and cut to SHOWN_CHARACTERS."""
    text = ascii(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."

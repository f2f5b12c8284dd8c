"""Rich's console, which prints names as they are, and for which a reader that went away is no exit code of its own."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import rich.console

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


class Console(rich.console.Console):
    """Rich ends the process with 1 where `| head` has read enough, which here is a failed gate.

    It would draw a house for `coco:house:images` too, also without markup.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def bar(*columns: ProgressColumn) -> Progress:
    """Progress on standard error, which goes when it is done; none where that is no terminal.

    Without `columns` it has what is done, a bar, the count and the time that is left.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    usual = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*(columns or usual), console=console, transient=True, disable=not console.is_terminal)

"""Rich's console, which prints names as they are, and for which a reader that went away is no exit code of its own."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import rich.console
import rich.status
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


class Console(rich.console.Console):
    """Rich ends the process with 1 where `| head` has read enough, which here is a failed gate.

    It would draw a house for `coco:house:images` too, also without markup, and takes a folder `[/x]` for markup.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, markup=False, **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def status(self, status: rich.console.RenderableType, **options: Any) -> rich.status.Status:
        return _Status(_as_it_is(status), console=self, **options)


class _Status(rich.status.Status):
    """A line that changes. Rich's own reads markup and emoji in it, whatever its console does."""

    def update(self, status: rich.console.RenderableType | None = None, **options: Any) -> None:
        super().update(_as_it_is(status), **options)


def _as_it_is(status: Any) -> Any:
    return Text(status) if isinstance(status, str) else status


def bar(*columns: ProgressColumn) -> Progress:
    """Progress on standard error, which goes when it is done; none where that is no terminal.

    Without `columns` it has what is done, a bar, the count and the time that is left.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    what = TextColumn("{task.description}", markup=False)
    usual = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*(columns or usual), console=console, transient=True, disable=not console.is_terminal)

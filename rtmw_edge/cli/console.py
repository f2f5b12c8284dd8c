"""Rich's console, for which a reader that went away is not an exit code of its own."""

from __future__ import annotations

import errno
import os

import rich.console


class Console(rich.console.Console):
    """Rich ends the process with 1 where `| head` has read enough, which here is a failed gate."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

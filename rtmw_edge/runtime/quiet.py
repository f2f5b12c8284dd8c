"""Keep what native code prints off the terminal; what is wrong is raised, not printed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_one = threading.RLock()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send the process's standard error nowhere, for the moment of opening something; one thread at a time."""
    with _one:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)

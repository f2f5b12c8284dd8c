"""Keep what native code prints off the terminal; what is wrong is raised, not printed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# OpenCV reads it once, when a first video is opened or written. FFmpeg tells of every damaged packet on stderr, where
# it is no use: a sentence of ours follows.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_lock = threading.Lock()
_inside = 0
_kept = -1


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send the process's standard error nowhere, for the moment of opening something; in any number of threads.

    The first to come in turns it away and the last to leave turns it back.
    """
    global _inside, _kept
    with _lock:
        if not _inside:
            if sys.stderr is not None:
                sys.stderr.flush()
            _kept = os.dup(2)
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                os.dup2(_kept, 2)
                os.close(_kept)

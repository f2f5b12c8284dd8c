"""A converter in a process of its own: silent when it works, quoted when it fails, gone when it hangs.

Converters print pages, keep gigabytes, and now and then die in native code; none of that belongs into this process.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rtmw_edge.errors import RtmwEdgeError
from rtmw_edge.files import check_disk_not_full

TIMEOUT_S = 1800.0
"""Thirty times what the slowest conversion of the largest variant takes on two cores."""
QUOTED_CHARACTERS = 600

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3", "PYTHONWARNINGS": "ignore", "JAX_PLATFORMS": "cpu"}


def run_converter(tool: str, command: Sequence[str], folder: Path, timeout_s: float = TIMEOUT_S) -> None:
    """Run `command` in `folder`, where it may leave what it likes.

    Raises RtmwEdgeError with the last lines of its output when it fails or takes longer than `timeout_s` seconds, and
    BadInputError when it leaves the disk full.
    """
    log = folder / "converter.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **QUIET},
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise RtmwEdgeError(
                f"{tool} was still converting after {timeout_s:.0f} s and was stopped; try again on a faster or less "
                f"busy machine. Its last words: {_tail(log)}"
            ) from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    check_disk_not_full(folder)  # pnnx ends as if nothing were wrong
    if code != 0:
        raise RtmwEdgeError(
            f"{tool} could not convert the network (exit code {code}); check its version with `rtmw-edge doctor`. "
            f"Its last words: {_tail(log)}"
        )


def _tail(log: Path) -> str:
    text = " ".join(log.read_text(encoding="utf-8", errors="replace").split())
    return text[-QUOTED_CHARACTERS:] or "(none)"

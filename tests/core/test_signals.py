"""Signals that are held back from processes until they can hear them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import multiprocessing, signal
from rtmw_edge.signals import held_back

def tell():
    print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), flush=True)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=tell)
    with held_back(signal.SIGINT, signal.SIGTERM):
        process.start()
    process.join()
    tell()
"""


def test_the_first_process_that_is_spawned_has_them_held_back_too(tmp_path: Path) -> None:
    """With it Python starts one of its own, and lets them through again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[<Signals.SIGINT: 2>, <Signals.SIGTERM: 15>]", "[]"]

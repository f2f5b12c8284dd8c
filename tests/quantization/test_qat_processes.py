"""Fine-tuning with quantization in processes of their own: killed at any point, and on two ranks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.fake import check_table
from rtmw_edge.targets.export import load_deployable
from small_runs import TINY, forget, register

from rtmw_edge.models.checkpoints import read_state

SCRIPT = Path(__file__).parents[1] / "small_runs.py"
pytestmark = pytest.mark.slow


def start(out: Path, steps: int, ranks: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable]
    if ranks > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command += ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "QAT": "1"}
    return subprocess.Popen(
        [*command, str(SCRIPT), str(out), str(steps)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> list[str]:
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return [line for line in out.splitlines() if line.startswith("step ") and not line.startswith("step 0 ")]


def pair(out: Path) -> tuple[dict[str, torch.Tensor], Table]:
    """What a run wrote; the two belong together."""
    register()
    table = Table.load(out / "table.json")
    check_table(load_deployable(TINY, out / "weights.safetensors"), table)
    forget()
    return read_state(out / "weights.safetensors"), table


def test_killed_or_on_two_ranks_it_is_the_same_run(tmp_path: Path) -> None:
    whole = finished(start(tmp_path / "whole", 5))
    assert len(whole) == 5
    seen = set()
    process = start(tmp_path / "killed", 5)
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        seen.add(line.strip())
        if line.startswith("step 3 "):
            os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL
    seen |= set(finished(start(tmp_path / "killed", 5)))
    assert sorted(line for line in seen if not line.startswith("step 0 ")) == sorted(whole)
    (state, table), (other, same) = pair(tmp_path / "whole"), pair(tmp_path / "killed")
    assert table.to_bytes() == same.to_bytes()
    assert all(torch.equal(value, other[name]) for name, value in state.items())
    assert [path.name for path in (tmp_path / "killed").glob(".*")] == [".rtmw-edge"]
    two = finished(start(tmp_path / "two", 5, ranks=2))
    # Both ranks report the loss of the whole batch; sums in another order send values to other integers.
    assert len(two) == 10 and len(set(two)) == 5
    for line, wanted in zip(sorted(set(two)), whole, strict=True):
        assert float(line.split()[2]) == pytest.approx(float(wanted.split()[2]), rel=0.03)
    _, table = pair(tmp_path / "two")
    assert table.provenance["samples"] == 20

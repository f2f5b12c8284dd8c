"""Fine-tuning with quantization in processes of their own: killed at any point, and on two ranks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.fake import check_table
from rtmw_edge.targets.export import load_deployable
from small_processes import Process, Start, finished, small_processes
from small_runs import TINY, NoValidation, forget, register, small_qat

from rtmw_edge.models.checkpoints import read_state
from rtmw_edge.training import loop

pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with small_processes(tmp_path / "torchrun") as start:
        yield partial(start, QAT="1")


def trained(process: Process) -> list[str]:
    """The steps but the validation before them."""
    return [line for line in finished(process) if not line.startswith("step 0 ")]


def pair(out: Path) -> tuple[dict[str, torch.Tensor], Table]:
    """What a run wrote; the two belong together."""
    register()
    table = Table.load(out / "table.json")
    check_table(load_deployable(TINY, out / "weights.safetensors"), table)
    forget()
    return read_state(out / "weights.safetensors"), table


def in_this_process(out: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run of four steps says that nobody kills."""
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(loop, "Validation", NoValidation)
    records = list(small_qat(out, "steps=4").run())
    return [f"step {record['step']} {record['loss']!r}" for record in records if record["step"]]


def test_killed_or_on_two_ranks_it_is_the_same_run(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = in_this_process(tmp_path / "whole", monkeypatch)
    assert len(whole) == 4
    seen = set()
    process = start(tmp_path / "killed", 4)
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        seen.add(line.strip())
        if line.startswith("step 3 "):
            os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL
    seen |= set(finished(start(tmp_path / "killed", 4)))
    assert sorted(line for line in seen if not line.startswith("step 0 ")) == sorted(whole)
    (state, table), (other, same) = pair(tmp_path / "whole"), pair(tmp_path / "killed")
    assert table.to_bytes() == same.to_bytes()
    assert all(torch.equal(value, other[name]) for name, value in state.items())
    assert [path.name for path in (tmp_path / "killed").glob(".*")] == [".rtmw-edge"]
    two = trained(start(tmp_path / "two", 4, ranks=2))
    # Both ranks report the loss of the whole batch; sums in another order send values to other integers.
    assert len(two) == 8 and len(set(two)) == 4
    for line, wanted in zip(sorted(set(two)), whole, strict=True):
        assert float(line.split()[2]) == pytest.approx(float(wanted.split()[2]), rel=0.03)
    _, table = pair(tmp_path / "two")
    assert table.provenance["samples"] == 16

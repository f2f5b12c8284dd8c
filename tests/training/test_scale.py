"""Several ranks are one process, and a killed run is one that was not: in processes of their own."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from fleet_workers import until
from small_processes import finished, small_processes
from small_runs import TINY

from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import read_state, save_safetensors
from rtmw_edge.models.variants import VARIANTS

pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path):
    with small_processes(tmp_path / "torchrun") as start:
        yield start


def test_two_ranks_give_the_loss_and_the_gradients_of_one_process(start, tmp_path):
    """On the same global batch, with every batch norm over both ranks; one of them accumulates as well."""
    files = [tmp_path / "one.pt", tmp_path / "two.pt"]
    one = finished(start(tmp_path / "one", 2, DUMP=str(files[0]), DOUBLE="1"))
    two = finished(start(tmp_path / "two", 2, "synchronized=all", ranks=2, DUMP=str(files[1]), DOUBLE="1"))
    for line, other in zip(one, sorted(set(two)), strict=True):
        assert float(line.split()[2]) == pytest.approx(float(other.split()[2]), rel=1e-5)
    ours, theirs = (torch.load(file) for file in files)
    grads = [torch.cat([g.flatten() for g in dump["gradients"].values()]) for dump in (ours, theirs)]
    assert torch.linalg.norm(grads[0]) > 0.1
    assert torch.linalg.norm(grads[0] - grads[1]) < 1e-5 * torch.linalg.norm(grads[0])
    for name, value in ours["state"].items():
        assert torch.allclose(value.double(), theirs["state"][name].double(), rtol=1e-4, atol=1e-5), name


def test_stage_two_of_a_distillation_trains_the_head_alone_on_two_ranks_as_on_one(start, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, TINY.name, TINY)
    save_safetensors(build(TINY.name), tmp_path / "teacher.safetensors")
    settings = [2, "distillation.stage=2", f"distillation.teacher={TINY.name}", "synchronized=all"]
    dumps = []
    for ranks in (1, 2):
        variables = {"DUMP": str(tmp_path / f"{ranks}.pt"), "TEACHER": str(tmp_path / "teacher.safetensors")}
        finished(start(tmp_path / f"of {ranks}", *settings, ranks=ranks, DOUBLE="1", **variables))
        dumps.append(torch.load(variables["DUMP"])["gradients"])
    one, two = ({name: gradient for name, gradient in dump.items() if gradient is not None} for dump in dumps)
    assert one.keys() == two.keys() and {name.split(".")[0] for name in one} == {"head"}
    grads = [torch.cat([gradient.flatten() for gradient in dump.values()]) for dump in (one, two)]
    assert torch.linalg.norm(grads[0] - grads[1]) < 1e-5 * torch.linalg.norm(grads[0])


def test_a_resumed_run_of_two_ranks_records_the_losses_of_both(start, tmp_path):
    """The record of step 4 is a mean over steps that lie on either side of the stop."""
    whole = finished(start(tmp_path / "whole", 4, "checkpoint_every=3", ranks=2, LOG_EVERY="4"))
    cut = start(tmp_path / "cut", 4, "checkpoint_every=3", ranks=2, LOG_EVERY="4", DIE_AFTER="3")
    cut.communicate(timeout=900)
    assert cut.returncode != 0
    assert finished(start(tmp_path / "cut", 4, "checkpoint_every=3", ranks=2, LOG_EVERY="4")) == whole


def test_a_run_killed_at_any_point_ends_like_one_that_was_not(start, tmp_path):
    whole = finished(start(tmp_path / "whole", 5, WORKERS="1"))
    assert len(whole) == 5
    seen = set()
    for pause in (2, 3):  # killed after a step with and one without a checkpoint, somewhere in the next one
        process = start(tmp_path / "killed", 5, WORKERS="1")
        for line in process.stdout:
            seen.add(line.strip())
            if line.startswith(f"step {pause} "):
                os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        process.stderr.close()
        assert process.returncode == -signal.SIGKILL
    seen |= set(finished(start(tmp_path / "killed", 5, WORKERS="1")))
    assert sorted(seen) == sorted(whole)
    weights = [read_state(tmp_path / run / "weights.safetensors") for run in ("whole", "killed")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    rows = (tmp_path / "killed" / "train.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [str(step) for step in range(1, 6)]
    assert [path.name for path in (tmp_path / "killed").glob(".*")] == [".rtmw-edge"]


@pytest.mark.parametrize("everybody", [False, True])
def test_an_interrupt_of_two_ranks_comes_with_the_next_step_and_is_saved(start, tmp_path, everybody):
    """torchrun passes it on to its ranks; a scheduler that ends a job tells them too, so that it comes twice."""
    process = start(tmp_path / "run", 100_000, "checkpoint_every=1000000", ranks=2)
    until(lambda: (tmp_path / "run" / "train.csv").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    asked = time.monotonic()
    for pid in (process.pid, *(map(int, ranks) if everybody else ())):
        os.kill(pid, signal.SIGTERM if everybody else signal.SIGINT)
    process.communicate(timeout=60)
    assert time.monotonic() - asked < 25  # after 30 s torchrun kills
    assert (tmp_path / "run" / "last.pt").is_file() and process.returncode != 0

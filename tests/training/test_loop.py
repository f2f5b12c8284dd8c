"""The loop: schedule, average, exact resume, accumulation, logs, interrupts, distillation."""

import copy
import csv
import dataclasses
import itertools
import math
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rtmw_edge.quantization.official import official_state
from rtmw_edge.targets.rewrites import deployable
from small_processes import another_process_in
from small_runs import TINY, TINY_3D, Noise, NoValidation, forget, in_double_precision, small_recipe
from torch.utils.data import get_worker_info

from rtmw_edge import signals
from rtmw_edge.cli.train import _line, follow
from rtmw_edge.errors import BadInputError
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import as_stored, load_weights, read_metadata, read_state, save_safetensors
from rtmw_edge.models.variants import MEAN_RGB, STD_RGB, VARIANTS, Variant
from rtmw_edge.signals import StopSignals
from rtmw_edge.training import checkpoint, clock, loop, ranks, spectral, validation
from rtmw_edge.training.distillation import logit_loss
from rtmw_edge.training.ema import Ema
from rtmw_edge.training.logs import Logs
from rtmw_edge.training.loss import SimccLoss, part_weights
from rtmw_edge.training.norms import does_nothing
from rtmw_edge.training.recipe import passes, read_recipe
from rtmw_edge.training.schedule import Schedule
from rtmw_edge.training.validation import Validation, is_better


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(loop, "Validation", NoValidation)
    yield
    forget()
    VARIANTS.pop("rtmw-wide-64x96", None)


def trainer(out, *overrides, **arguments):
    return loop.Trainer(small_recipe(*overrides), out, data=Noise(), workers=0, **arguments)


def settle(student, people):
    """Evaluation mode, with the statistics of a first batch in the batch norms."""
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    pictures = torch.stack([torch.from_numpy(people[index].image[:96, :64]) for index in range(4)])
    with torch.no_grad():
        student.train()(loop.normalized(pictures))
    student.eval()


@pytest.fixture
def _heard_signals():
    """SIGHUP as it is without nohup, and SIGINT as it is in the foreground: elsewhere they are ignored."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt(number):
    """Send a signal to this process, which would end it if no run were listening."""
    assert getattr(signal.getsignal(number), "__self__", None).__class__ is StopSignals
    os.kill(os.getpid(), number)


def gradients(training):
    return torch.cat([p.grad.flatten() for p in training.network.parameters() if p.grad is not None])


def test_the_learning_rate_warms_up_stays_and_falls_as_a_cosine():
    recipe = read_recipe("rtmw-n-256x192", ["steps=1000", "warmup=101", "lr=1e-3", "lr_end=1e-5"])
    schedule = Schedule(recipe, None)
    assert schedule.learning_rate(0) == pytest.approx(1e-8)
    assert schedule.learning_rate(50) == pytest.approx(5e-4, rel=1e-4)
    assert schedule.learning_rate(100) == schedule.learning_rate(499) == 1e-3
    assert schedule.learning_rate(750) == pytest.approx((1e-3 + 1e-5) / 2)
    assert schedule.learning_rate(1000) == pytest.approx(1e-5)


def test_crops_become_the_colours_that_the_network_takes():
    crops = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = (crops.numpy()[..., ::-1] - np.float64(MEAN_RGB)) / np.float64(STD_RGB)
    np.testing.assert_allclose(loop.normalized(crops).numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


def test_on_a_cpu_large_kernels_work_on_transforms_and_silu_keeps_its_input(tmp_path):
    network = trainer(tmp_path, "compile=false", device="cpu").network
    forwards = {name: vars(module).get("forward") for name, module in network.named_modules()}
    assert [name for name, forward in forwards.items() if type(forward).__module__ == spectral.__name__] == [
        "head.conv_dec.conv", "head.final_layer.conv", "head.final_layer2.conv",
    ]  # fmt: skip
    assert not any(module.inplace for module in network.modules() if isinstance(module, torch.nn.SiLU))


def test_epochs_become_steps_late_samples_validations_and_a_fading_teacher():
    recipe = read_recipe("rtmw-m-256x192", ["epochs=20", "late=5", "batch=64", "micro=32", "validate_every=10"])
    schedule = Schedule(recipe, 1000)
    assert schedule.steps == math.ceil(20 * 1000 / 64) == 313
    assert schedule.late_from == 15_000
    assert [step for step in range(1, 314) if schedule.is_due(10, step, step - 1)] == [157, 313]
    assert [schedule.share_left(step) for step in (0, 15, 16, 312)] == pytest.approx([1.0, 1.0, 0.95, 0.05])
    steps = Schedule(read_recipe("rtmw-n-256x192", ["steps=100", "late=10"]), None)
    assert steps.late_from == 90 * 32 and steps.share_left(25) == 0.75


@pytest.mark.parametrize(("stage", "loss"), [(1, 1 + 0.25 * 8 * 0.75), (2, 0.25 * 8 * 0.75)])
def test_a_pass_has_its_share_of_the_lesson_and_stage_2_no_labels(stage, loss):
    def taught(images, outputs, share_left):
        return torch.tensor(8.0 * share_left)

    taught.stage = stage
    run = SimpleNamespace(
        module=lambda images: ((), None, None),
        label_loss=lambda *_: torch.tensor(1.0),
        lesson=taught,
        fabric=SimpleNamespace(autocast=nullcontext),
        schedule=SimpleNamespace(share_left=lambda step: 1 - step / 20),
        step=5,
    )
    assert float(loop.Trainer._loss(run, None, None, None, None, share=0.25)) == pytest.approx(loss)


def test_the_average_follows_its_formula():
    network = torch.nn.BatchNorm1d(1)
    ema = Ema(network, decay=0.99, ramp=100)
    before = copy.deepcopy(ema.network.state_dict())
    with torch.no_grad():
        network.weight.add_(1.0)
        network.running_mean.add_(2.0)
        network.num_batches_tracked += 7
    ema.update(network, step=9)
    momentum = 0.99 * math.exp(-10 / 100) + 0.01
    after = ema.network.state_dict()
    assert float(after["weight"] - before["weight"]) == pytest.approx(momentum, rel=1e-6)
    assert float(after["running_mean"]) == pytest.approx(2 * momentum, rel=1e-6)
    assert int(after["num_batches_tracked"]) == 7


def test_the_average_takes_in_the_step_that_was_just_made(tmp_path):
    training = trainer(tmp_path, "steps=1")
    before = {name: value.detach().clone() for name, value in training.network.named_parameters()}
    training.train_step(next(training.batches()))
    momentum = training.recipe.ema_decay * math.exp(-1 / training.recipe.ema_ramp) + 1 - training.recipe.ema_decay
    after, average = (dict(network.named_parameters()) for network in (training.network, training.ema.network))
    name = "head.cls_x.weight"
    assert not torch.equal(before[name], after[name])
    torch.testing.assert_close(average[name], torch.lerp(before[name], after[name], momentum), rtol=1e-6, atol=1e-8)


def test_what_is_validated_and_written_is_the_average(tmp_path, monkeypatch):
    shown = []

    class Look(NoValidation):
        def figures(self, network, device):
            shown.append(network)
            return super().figures(network, device)

    monkeypatch.setattr(loop, "Validation", Look)
    training = trainer(tmp_path, "steps=3")
    list(training.run())
    assert [network is training.ema.network for network in shown] == [True]
    average, last = (as_stored(network.state_dict()) for network in (training.ema.network, training.network))
    for file in ("weights.safetensors", "best.safetensors"):
        assert all(torch.equal(average[name], value) for name, value in read_state(tmp_path / file).items())
    assert not torch.equal(average["head.cls_x.weight"], last["head.cls_x.weight"])


def test_a_gradient_is_cut_to_the_norm_of_the_recipe(tmp_path, monkeypatch):
    norms = []
    for clip in ("0", "1e-3"):
        training = trainer(tmp_path, "steps=1", f"clip={clip}")
        step = lambda training=training: norms.append(float(gradients(training).norm()))  # noqa: E731
        monkeypatch.setattr(training.optimizer, "step", step)
        training.train_step(next(training.batches()))
    assert norms[0] > 0.01 and norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_dropout_is_another_in_every_step_and_the_same_after_a_restart(tmp_path, monkeypatch):
    training = trainer(tmp_path, "steps=2", "dropout=0.5")
    monkeypatch.setattr(training.optimizer, "step", lambda: None)
    batches = next(training.batches())
    first, second = training.train_step(batches), training.train_step(batches)
    training.step = 0
    assert float(first) != float(second) and float(training.train_step(batches)) == float(first)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("optimizer=muon", "precision=bf16", "dropout=0.2")])
def test_a_stopped_run_goes_on_to_the_very_same_losses_and_weights(tmp_path, extra):
    whole = trainer(tmp_path / "whole", "steps=5", *extra)
    losses = [record["loss"] for record in whole.run()]
    first = trainer(tmp_path / "parts", "steps=5", *extra)
    records = first.run()
    begun = [next(records)["loss"] for _ in range(3)]
    records.close()
    again = trainer(tmp_path / "parts", "steps=5", *extra)
    assert again.step == 3
    assert begun + [record["loss"] for record in again.run()] == losses
    assert losses[0] != losses[1]
    for one, other in ((whole.network, again.network), (whole.ema.network, again.ema.network)):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    with (tmp_path / "parts" / "train.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4, 5]
    load_weights(build(TINY.name), tmp_path / "parts" / "weights.safetensors")
    assert read_metadata(tmp_path / "parts" / "best.safetensors")["ap_whole"] == "0.01"
    assert list((tmp_path / "parts" / "tensorboard").iterdir())
    assert not list(trainer(tmp_path / "parts", "steps=5", *extra).run())


def test_weights_that_are_no_numbers_leave_the_checkpoint_of_before(tmp_path):
    training = trainer(tmp_path, "steps=4", "checkpoint_every=1")
    records = training.run()
    next(records)
    training.network.head.cls_x.weight.register_hook(lambda gradient: torch.full_like(gradient, math.inf))
    with pytest.raises(
        BadInputError, match=r"NaN or infinite by step 2, and last\.pt of step 1 is kept; lower lr, or "
    ):
        next(records)
    again = trainer(tmp_path, "steps=4", "lr=1e-4")
    assert again.step == 1 and all(value.isfinite().all() for value in again.network.state_dict().values())
    load_weights(build(TINY.name), tmp_path / "weights.safetensors")
    fresh = trainer(tmp_path / "fresh", "steps=4", "validate_every=1")
    fresh.network.head.cls_x.weight.register_hook(lambda gradient: torch.full_like(gradient, math.nan))
    with pytest.raises(BadInputError, match="infinite by step 1, and nothing was saved before; lower lr, or"):
        list(fresh.run())


def test_a_run_is_what_it_was_given(tmp_path):
    class Fewer(Noise):
        def __len__(self):
            return 17

    for seed in (1, 2):
        torch.manual_seed(seed)
        small_recipe()
        save_safetensors(build(TINY.name), tmp_path / f"{seed}.safetensors")
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    list(trainer(tmp_path / "run", "steps=1", start=one).run())
    assert trainer(tmp_path / "run", "steps=1").step == trainer(tmp_path / "run", "steps=1", start=one).step == 1
    list(trainer(tmp_path / "run", "steps=2").run())  # writes the checkpoint without being told of --weights again
    with pytest.raises(BadInputError, match=r"with --weights of SHA-256 \w{12}, not of SHA-256 \w{12}; choose another"):
        trainer(tmp_path / "run", "steps=1", start=two)
    with pytest.raises(
        BadInputError, match=r"--data noise of 40 instances, not noise of 17 instances; choose another --o"
    ):
        loop.Trainer(small_recipe("steps=1"), tmp_path / "run", data=Fewer(), workers=0)
    with pytest.raises(BadInputError, match="holds a run with --data noise of 40 instances, not left out; choose"):
        loop.Trainer(small_recipe("steps=1"), tmp_path / "run", workers=0)


def test_a_run_that_goes_on_says_what_it_leaves_of_its_recipe(tmp_path, caplog):
    list(trainer(tmp_path, "steps=1").run())
    trainer(tmp_path, "steps=1")
    assert "instead of" not in caplog.text
    trainer(tmp_path, "steps=1", "lr=2e-3")
    assert caplog.messages == ["the run goes on with lr 0.002 instead of 0.001"]


def test_a_backbone_from_quantization_aware_training_gets_statistics_to_train_on(tmp_path):
    small_recipe()
    torch.manual_seed(1)
    save_safetensors(official_state(deployable(build(TINY.name).eval())), tmp_path / "folded.safetensors")
    training = trainer(tmp_path / "run", "steps=1", backbone=tmp_path / "folded.safetensors")
    for network in (training.network, training.ema.network):
        assert not [m for m in network.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d) and does_nothing(m)]


def test_a_run_that_distils_keeps_its_teacher(tmp_path):
    small_recipe()
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_safetensors(build(TINY.name), tmp_path / f"{seed}.safetensors")
    settings = ("steps=1", f"distillation.teacher={TINY.name}")
    list(trainer(tmp_path / "run", *settings, teacher=tmp_path / "1.safetensors").run())
    assert trainer(tmp_path / "run", *settings, teacher=tmp_path / "1.safetensors").step == 1
    with pytest.raises(BadInputError, match=r"holds a run with --teacher of SHA-256 \w{12}, not of SHA-256 "):
        trainer(tmp_path / "run", *settings, teacher=tmp_path / "2.safetensors")


def test_a_kill_between_checkpoint_and_weights_is_mended_by_the_same_command(tmp_path, monkeypatch):
    list(trainer(tmp_path, "steps=1").run())
    (tmp_path / "weights.safetensors").unlink()
    half = tmp_path / ".weights.safetensors.abcdefgh.safetensors"
    half.write_bytes(b"half")
    assert list(trainer(tmp_path, "steps=1").run()) == []
    assert read_metadata(tmp_path / "weights.safetensors")["steps"] == "1"
    assert not half.exists() and (tmp_path / ".rtmw-edge").is_file()


def test_one_process_at_a_time_trains_in_a_folder(tmp_path):
    with checkpoint.alone(tmp_path):
        (tmp_path / ".last.pt.other.pt").touch()
    training = trainer(tmp_path, "steps=1")
    with another_process_in(tmp_path):
        with pytest.raises(
            BadInputError, match=r"Another process trains in '.*'; wait for it, or choose another --out\."
        ):
            list(training.run())
        assert (tmp_path / ".last.pt.other.pt").exists()  # it may be that one's
    assert [record["step"] for record in trainer(tmp_path, "steps=1").run()] == [1]
    assert not (tmp_path / ".last.pt.other.pt").exists()


class Dying(Noise):
    """Kills the worker that reads it."""

    def __getitem__(self, index):
        if get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Lost(Noise):
    """Its images are not there."""

    def __getitem__(self, index):
        return dataclasses.replace(super().__getitem__(index), image=Path(f"nowhere/{index}.jpg"))


def test_errors_of_workers_are_one_sentence(tmp_path):
    recipe = small_recipe("steps=2")
    with pytest.raises(BadInputError, match=r"^None of 40 images in a row of 'noise' can be read, .*configuration\.$"):
        list(loop.Trainer(recipe, tmp_path / "lost", data=Lost(), workers=1).run())
    with pytest.raises(
        BadInputError, match=r"that makes samples was killed, .* with fewer --workers or a smaller window"
    ):
        list(loop.Trainer(recipe, tmp_path / "dying", data=Dying(), workers=1).run())


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_is_not_there_is_one_sentence(tmp_path, monkeypatch, error):
    def full(*arguments, **options):
        raise error

    training = trainer(tmp_path, "steps=1")
    monkeypatch.setattr(training, "_loss", full)
    with pytest.raises(BadInputError, match=r"A pass of 4 samples does not fit in memory; .* with --set micro=2\."):
        list(training.run())


def test_every_step_tells_all_ranks_who_asks_to_stop_and_what_could_not_be_read(tmp_path, monkeypatch):
    training = trainer(tmp_path, "steps=2")
    crops, points, weights, skipped = next(training.batches())[0]
    monkeypatch.setattr(type(training.fabric), "world_size", 2)
    monkeypatch.setattr(loop.ranks, "total", lambda fabric, value: value + value.new_tensor([0, 0, 1, 3]))
    training.train_step([(crops, points, weights, skipped + 1)])
    assert training._stops == 1 and training.skipped == len(skipped) + 3


@pytest.mark.slow
def test_an_interrupt_stops_after_the_step_and_saves_it(tmp_path):
    training = trainer(tmp_path, "steps=5", "checkpoint_every=100")
    records = training.run()
    next(records)
    interrupt(signal.SIGTERM)
    next(records)
    with pytest.raises(KeyboardInterrupt):
        next(records)
    assert trainer(tmp_path, "steps=5").step == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("_heard_signals")
def test_a_signal_that_comes_twice_at_once_is_one_and_a_later_one_ends(monkeypatch):
    """torchrun passes on to its ranks what a scheduler sends to every process."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    told = []
    stops = StopSignals(lambda: told.append("once"))
    with stops:
        interrupt(signal.SIGINT)
        now[0] += 0.9
        interrupt(signal.SIGINT)
        interrupt(signal.SIGHUP)
        assert stops.asked and told == ["once"]
        now[0] += 0.2
        interrupt(signal.SIGHUP)  # a terminal that closes sends two
        with pytest.raises(KeyboardInterrupt):
            interrupt(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_interrupt_in_a_validation_ends_it_and_saves_the_next_step(tmp_path, monkeypatch):
    """A validation on COCO takes minutes, which nobody waits for who pressed Ctrl-C."""
    seen = []

    def evaluate(runner, dataset, on_progress):
        interrupt(signal.SIGINT)
        for done in range(1, 4):
            seen.append(done)
            on_progress(done, 3)

    monkeypatch.setattr(validation, "evaluate", evaluate)
    monkeypatch.setattr(loop, "Validation", lambda text, is_stopped: Validation("synthetic:val:3", is_stopped))
    training = trainer(tmp_path, "steps=5", "checkpoint_every=100", "validate_every=1")
    with pytest.raises(KeyboardInterrupt):
        list(training.run())
    assert seen == [1] and not (tmp_path / "validation.csv").exists()
    assert trainer(tmp_path, "steps=5").step == 2


def test_a_validation_that_a_stop_left_out_is_made_up_for(tmp_path, monkeypatch):
    settings = ("steps=4", "validate_every=2", "checkpoint_every=100")
    training = trainer(tmp_path, *settings)
    step = training.train_step

    def interrupted(passes):
        if training.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(passes)

    monkeypatch.setattr(training, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(training.run())
    assert not (tmp_path / "validation.csv").exists()
    assert [record["step"] for record in trainer(tmp_path, *settings).run() if "ap_whole" in record] == [2, 4]
    assert (tmp_path / "validation.csv").read_text().split() == ["step,ap_whole", "2,0.01", "4,0.02"]


def test_a_run_that_was_stopped_says_where_it_goes_on(tmp_path, monkeypatch, capsys):
    training = trainer(tmp_path, "steps=5", "checkpoint_every=100")
    step = training.train_step

    def interrupted(passes):
        interrupt(signal.SIGINT)
        return step(passes)

    monkeypatch.setattr(training, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        follow(training)
    assert capsys.readouterr().err.endswith("stopped; the same command goes on after step 1\n")


def test_an_interrupt_in_the_last_validation_is_none_that_succeeds(tmp_path, monkeypatch):
    def evaluate(runner, dataset, on_progress):
        interrupt(signal.SIGINT)
        on_progress(1, 3)

    monkeypatch.setattr(validation, "evaluate", evaluate)
    monkeypatch.setattr(loop, "Validation", lambda text, is_stopped: Validation("synthetic:val:3", is_stopped))
    for _ in range(2):  # the second has nothing but the validation to do
        with pytest.raises(KeyboardInterrupt):
            list(trainer(tmp_path, "steps=1").run())
    training = trainer(tmp_path, "steps=1")
    assert (training.step, training.validated) == (1, 0)


def test_a_process_ends_though_an_error_left_its_worker_alive(tmp_path):
    """Python sends workers SIGTERM, which they ignore, and waits for them."""
    code = (
        "import sys\n"
        f"sys.path.append({str(Path(__file__).parents[1])!r})\n"
        "from test_loop import Lost, Path, loop, small_recipe\n"
        "try:\n"
        f"    training = loop.Trainer(small_recipe('steps=2'), Path({str(tmp_path)!r}), data=Lost(), workers=1)\n"
        "    list(training.run())\n"
        "except Exception as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 1 and "None of 40 images in a row" in done.stderr


def test_a_full_disk_under_the_checkpoint_is_one_sentence(tmp_path):
    """torch's own error is a RuntimeError about a position in a zip."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from rtmw_edge.training import checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"checkpoint.write(Path({str(tmp_path)!r}), {{'a': torch.zeros(100_000)}})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert re.search(
        r"BadInputError: Cannot write .*last\.pt: File too large\. Choose another place\.$", done.stderr.strip()
    )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _double(monkeypatch):
    monkeypatch.setattr(loop, "normalized", loop.normalized)
    monkeypatch.setitem(ranks.PRECISIONS, "fp32", ranks.PRECISIONS["fp32"])
    in_double_precision()
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.usefixtures("_double")
def test_accumulated_passes_give_the_loss_and_the_gradient_of_the_whole_batch(tmp_path):
    """With batch norms in evaluation mode: their statistics are those of a pass by nature."""
    for variant, official in ((TINY.name, 0), (TINY_3D.name, 0), (TINY.name, 8)):
        found = []
        for micro in (4, 1):
            three = ["beta=10", "bone_weight=2"] if variant == TINY_3D.name else []
            settings = [f"variant={variant}", f"micro={micro}", f"official_batch={official}", "steps=1", "clip=0"]
            training = trainer(tmp_path / "none", *settings, *three)
            training.label_loss.float()
            batches = next(training.batches())
            settle(training.student, Noise())
            training.student.train = lambda mode=True, student=training.student: student
            assert len(batches) == 4 // micro
            loss = training.train_step(batches)
            found.append((loss, gradients(training)))
            if official and micro == 4:
                published = SimccLoss(TINY.input_size, part_weights({"face": 0.5}), official_scaling=True).float()
                crops, points, weights, _ = batches[0]
                again = trainer(tmp_path / "none", *settings)
                settle(again.student, Noise())
                logits, *_ = again.student(loop.normalized(crops))
                # The sum over four samples, on a device that would have had eight.
                assert float(loss) == pytest.approx(2 * published(logits, points, weights).item(), rel=1e-5)
        (one, ours), (other, theirs) = found
        assert float(one) == pytest.approx(float(other), rel=1e-5)
        assert torch.linalg.norm(ours - theirs) < 1e-5 * torch.linalg.norm(ours)


@pytest.mark.slow
def test_distillation_runs_through_both_stages_to_a_whole_network(tmp_path):
    VARIANTS["rtmw-wide-64x96"] = Variant("rtmw-wide-64x96", (64, 96), 0.167, 0.25, 0, 0.0)
    torch.manual_seed(5)
    save_safetensors(build("rtmw-wide-64x96"), tmp_path / "teacher.safetensors")
    first = trainer(
        tmp_path / "one", "steps=2", "distillation.teacher=rtmw-wide-64x96", teacher=tmp_path / "teacher.safetensors"
    )
    before = first.student.align.weight.clone()
    plain = trainer(tmp_path / "plain", "steps=2")
    batches = next(first.batches())
    taught, alone = first.train_step(batches), plain.train_step(batches)
    assert float(taught) > float(alone) and not torch.equal(before, first.student.align.weight)
    list(first.run())
    stage_2 = ["steps=2", "distillation.stage=2", f"distillation.teacher={TINY.name}"]
    with pytest.raises(BadInputError, match=r"pass --teacher RUN/weights\.safetensors"):
        trainer(tmp_path / "two", *stage_2)
    alone = trainer(tmp_path / "alone", *stage_2, teacher=tmp_path / "one" / "weights.safetensors")
    with torch.no_grad():
        logits, features, _ = alone.student.train()(loop.normalized(batches[0][0]))
        theirs = alone.lesson.teacher.head(features)
    expected = logit_loss(logits, theirs, beta=alone.recipe.beta, weight=1.0)
    assert float(alone.train_step(batches)) == pytest.approx(float(expected), rel=1e-4)  # labels have no part in it
    second = trainer(tmp_path / "two", *stage_2, teacher=tmp_path / "one" / "weights.safetensors")
    list(second.run())
    stage_1_state = read_state(tmp_path / "one" / "weights.safetensors")
    stage_2_state = read_state(tmp_path / "two" / "weights.safetensors")
    for name, value in stage_1_state.items():
        same = torch.equal(value, stage_2_state[name])
        assert same or name.startswith("head."), name
    assert not torch.equal(stage_1_state["head.cls_x.weight"], stage_2_state["head.cls_x.weight"])
    with pytest.raises(BadInputError, match="the recipe does not distil"):
        trainer(tmp_path / "three", teacher=tmp_path / "teacher.safetensors")


@pytest.mark.slow
def test_what_does_not_fit_is_refused(tmp_path):
    training = trainer(tmp_path, "steps=1")
    list(training.run())
    with pytest.raises(BadInputError, match=r"holds a run with batch 4, not 2; choose another --out"):
        trainer(tmp_path, "steps=1", "batch=2")
    with pytest.raises(BadInputError, match=r"holds a run with window 1024, not 64; choose another --out"):
        trainer(tmp_path, "steps=1", "window=64")
    with pytest.raises(BadInputError, match=f"holds a run with variant {TINY.name}, not {TINY_3D.name}"):
        trainer(tmp_path, "steps=1", f"variant={TINY_3D.name}")
    (tmp_path / "last.pt").write_bytes(b"half a file")
    with pytest.raises(BadInputError, match="cannot be read; choose another --out, or delete it"):
        trainer(tmp_path, "steps=1")
    torch.save({"network": {}}, tmp_path / "last.pt")
    with pytest.raises(BadInputError, match="was written by another version"):
        trainer(tmp_path, "steps=1")
    with pytest.raises(BadInputError, match="counts 3 epochs, and rendered people have none"):
        loop.Trainer(small_recipe("epochs=3", "late=0"), tmp_path / "other", workers=0)
    state = {name: value for name, value in build(TINY.name).state_dict().items() if name != "backbone.stem.0.bn.bias"}
    torch.save(state, tmp_path / "backbone.pth")
    with pytest.raises(BadInputError, match=r"does not fit rtmw-tiny-64x96 \(Missing key.*stem\.0\.bn\.bias"):
        trainer(tmp_path / "other", "steps=1", backbone=tmp_path / "backbone.pth")


def test_a_batch_that_cannot_be_dealt_out_is_refused():
    recipe = small_recipe("batch=12", "micro=4")
    assert passes(recipe, 1) == (4, 3) and passes(recipe, 3) == (4, 1)
    with pytest.raises(BadInputError, match="A batch of 12 cannot be dealt out to 2 ranks in passes of 4"):
        passes(recipe, 2)
    with pytest.raises(BadInputError, match="A batch of 12 cannot be dealt out to 5 ranks;"):
        passes(small_recipe("batch=12"), 5)


def test_a_full_disk_is_one_sentence_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    checkpoint.write(tmp_path, {"step": 1})
    before = (tmp_path / "last.pt").read_bytes()
    opened = Path.open

    def full(self, mode="r", *arguments, **options):
        return opened(Path("/dev/full") if mode == "wb" else self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(BadInputError, match=r"The disk is full while writing .*last\.pt, which was not kept"):
        checkpoint.write(tmp_path, {"step": 2, "weights": torch.zeros(100_000)})
    assert (tmp_path / "last.pt").read_bytes() == before and os.listdir(tmp_path) == ["last.pt"]


def test_a_validation_that_fails_loses_no_step(tmp_path, monkeypatch):
    def damaged(self, network, device):
        raise BadInputError("Cannot decode b.jpg as an image")

    whole = NoValidation.figures
    monkeypatch.setattr(NoValidation, "figures", damaged)
    for _ in range(2):
        with pytest.raises(BadInputError, match="Cannot decode b"):
            list(trainer(tmp_path, "steps=3", "validate_every=2").run())
    assert trainer(tmp_path, "steps=3", "validate_every=2").step == 2
    monkeypatch.setattr(NoValidation, "figures", whole)
    assert [record["step"] for record in trainer(tmp_path, "steps=3", "validate_every=2").run()] == [2, 3]
    assert (tmp_path / "best.safetensors").is_file()
    assert list(trainer(tmp_path, "steps=3", "validate_every=2").run()) == []


def test_another_validation_set_begins_its_figures_anew(tmp_path, monkeypatch):
    class Look:
        def __init__(self, text, is_stopped):
            self.figure = {"easy": {"ap_whole": 0.9}, "hard": {"ap_whole": 0.2, "pck_whole": 0.1}}[text]

        def figures(self, network, device):
            return self.figure

    monkeypatch.setattr(loop, "Validation", Look)
    list(trainer(tmp_path, "steps=1", "validation=easy").run())
    again = trainer(tmp_path, "steps=2", "validation=hard")
    list(again.run())
    assert again.best["ap_whole"] == 0.2
    assert read_metadata(tmp_path / "best.safetensors")["ap_whole"] == "0.2"
    assert (tmp_path / "validation.csv").read_text().split() == ["step,ap_whole,pck_whole", "2,0.2,0.1"]
    assert (tmp_path / "validation-until-1.csv").read_text().split() == ["step,ap_whole", "1,0.9"]
    assert list(trainer(tmp_path, "steps=2", "validation=hard").run()) == []
    finished = list(trainer(tmp_path, "steps=2", "validation=easy").run())
    assert finished == [{"step": 2, "ap_whole": 0.9}], "a run that is done is validated on the other set as well"
    assert read_metadata(tmp_path / "best.safetensors")["ap_whole"] == "0.9"


def test_what_would_be_without_effect_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="for rendered people, not for annotated sets; leave out --backgrounds"):
        trainer(tmp_path, "steps=1", backgrounds=tmp_path)
    settings = ("steps=1", "distillation.stage=2", f"distillation.teacher={TINY.name}")
    (teacher := tmp_path / "teacher.pth").write_bytes(b"")
    with pytest.raises(BadInputError, match="Stage 2 has the backbone of its teacher; leave out --backbone"):
        trainer(tmp_path, *settings, backbone=tmp_path / "backbone.pth", teacher=teacher)


def test_images_that_cannot_be_read_are_told_of(tmp_path, capsys, monkeypatch):
    training = trainer(tmp_path, "steps=1")
    batches = [[(*batch[:3], batch[3] + 1) for batch in step] for step in training.batches()]
    monkeypatch.setattr(training, "batches", lambda: batches)
    follow(training)
    assert "4 times an image could not be read and the next one was taken" in capsys.readouterr().err
    record = {"loss": 1.0, "images_per_second": 9.0, "eta_s": 60.0, "skipped": 4.0}
    assert _line(record) == "loss 1.0000  9.0 img/s  ETA 1 min  4 images unreadable"


def test_every_step_has_its_own_learning_rate(tmp_path, monkeypatch):
    training = trainer(tmp_path, "steps=4", "warmup=2")
    seen = []
    monkeypatch.setattr(training.optimizer, "set_lr", seen.append)
    list(training.run())
    assert seen == [training.schedule.learning_rate(step) for step in range(4)]
    assert seen != [training.schedule.learning_rate(step + 1) for step in range(4)]


def test_a_run_takes_up_all_that_it_left(tmp_path):
    training = trainer(tmp_path, "steps=9")
    for batches in itertools.islice(training.batches(), 2):
        training.train_step(batches)
    training.seconds, training.skipped, training.validated, training.best = 12.5, 3, 1, {"ap_whole": 0.5}
    training.losses, training.lanes, training.span = [torch.tensor(1.0), torch.tensor(2.0)], 7, 2
    training.save()
    again = trainer(tmp_path, "steps=9")
    assert (again.step, again.saved, again.seconds, again.skipped) == (2, 2, 12.5, 3)
    assert (again.validated, again.best, again.lanes, again.span) == (1, {"ap_whole": 0.5}, 7, 2)
    assert [float(loss) for loss in again.losses] == [1.0, 2.0]
    for one, other in ((training.student, again.student), (training.ema.network, again.ema.network)):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    kept, taken = (run.optimizer.state_dict()[0]["state"] for run in (training, again))
    assert kept.keys() == taken.keys() and len(kept) > 10
    for index, moments in kept.items():
        assert all(torch.equal(value, taken[index][name]) for name, value in moments.items())
    assert [batch[1].shape for batch in next(again.batches())] == [(4, 133, 2)]
    assert len(list(again.batches())) == 7


def test_a_caller_that_stops_listening_loses_no_step_and_unreadable_images_add_up(tmp_path):
    training = trainer(tmp_path, "steps=9", "checkpoint_every=100")
    crops, points, weights, skipped = next(training.batches())[0]
    training.batches = lambda: iter([[(crops, points, weights, skipped + 1)]] * 9)
    records = training.run()
    assert [next(records)["skipped"] for _ in range(3)] == [4, 8, 12]
    records.close()
    again = trainer(tmp_path, "steps=9")
    assert (again.step, again.skipped) == (3, 12)


def test_speed_counts_steps_alone_and_what_is_left_those_of_this_run(tmp_path, monkeypatch):
    """A step takes 2 s, a validation 100 s, the caller 50 s."""
    now = [0.0]

    class Look(NoValidation):
        def figures(self, network, device):
            now[0] += 100
            return super().figures(network, device)

    def records(steps, *settings):
        training = trainer(tmp_path, f"steps={steps}", *settings)
        step = training.train_step

        def slow(passes):
            now[0] += 2
            return step(passes)

        monkeypatch.setattr(training, "train_step", slow)
        for record in training.run():
            if "loss" in record:
                yield record, training.schedule
                now[0] += 50

    monkeypatch.setattr(loop, "Validation", Look)
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now[0]))
    ((first, _), (second, _)) = records(2)
    assert (first["eta_s"], second["eta_s"]) == (2.0, 0.0)
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    found = list(records(6, "validate_every=3", "lr_end=1e-5"))
    assert [record["step"] for record, _ in found] == [4, 6]
    assert [record["images_per_second"] for record, _ in found] == [2.0, 2.0]  # four pictures in 2 s
    assert found[0][0]["eta_s"] == (2 + 100 + 2) / 2 * 2
    for record, schedule in found:
        assert record["lr"] == schedule.learning_rate(record["step"] - 1) != schedule.learning_rate(record["step"])
    with (tmp_path / "train.csv").open() as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    # 54 s until the end of step 2, and from then on in the second run, which began at 0
    assert seconds == [2, 54, 54 + 104, 54 + 158]


def test_weights_say_how_far_they_were_trained_and_the_best_what_they_reached(tmp_path):
    training = trainer(tmp_path, "steps=3")
    list(training.run())
    assert not any(module.training for module in training.ema.network.modules())
    notes = {"variant": TINY.name, "steps": "3", "samples": "12"}
    for name, figures in (("weights", {}), ("best", {"ap_whole": "0.01"})):
        metadata = read_metadata(tmp_path / f"{name}.safetensors")
        assert {key: metadata[key] for key in notes} == notes
        assert {key: value for key, value in metadata.items() if key.startswith("ap")} == figures


def test_logs_drop_what_lies_behind_the_checkpoint(tmp_path):
    logs = Logs(tmp_path, 0)
    for step in (1, 2, 3):
        logs.write("train", {"step": step, "loss": step / 3})
    logs.write("validation", {"step": 3, "ap_whole": 0.5})
    logs.close()
    with (tmp_path / "train.csv").open("a") as file:
        file.write("4")  # a row that a kill cut
    Logs(tmp_path, 2).close()
    assert (tmp_path / "train.csv").read_text().split() == ["step,loss", "1,0.3333333", "2,0.6666667"]
    assert not (tmp_path / "validation.csv").exists()


def test_the_best_is_the_highest_ap_and_in_3d_the_lowest_error():
    assert is_better({"ap_whole": 0.2}, {}) and is_better({"ap_whole": 0.2}, {"ap_whole": 0.1})
    assert not is_better({"ap_whole": 0.1}, {"ap_whole": 0.1})
    assert is_better({"ap_whole": 0.1, "mpjpe_whole": 50.0}, {"ap_whole": 0.2, "mpjpe_whole": 60.0})
    assert not is_better({"ap_whole": 0.3, "mpjpe_whole": 70.0}, {"ap_whole": 0.2, "mpjpe_whole": 60.0})


@pytest.mark.slow
def test_validation_reports_every_part():
    small_recipe()
    torch.manual_seed(0)
    figures = Validation("synthetic:val:4").figures(build(TINY_3D.name), "cpu")
    parts = ["body", "foot", "face", "left_hand", "right_hand", "whole"]
    assert {f"ap_{part}" for part in parts} | {f"pck_{part}" for part in parts} <= figures.keys()
    assert figures["mpjpe_whole"] > 100  # a fresh network is far off, in millimetres
    assert 0 <= figures["ap_whole"] <= 1

"""Images per second of a whole training step: normalization, network, loss, gradients, clipping, optimiser, average.

    python benchmarks/train_step.py [--variant rtmw-m-256x192] [--batch 16] [--modes fp32 bf16 compile] [--seconds 20]
    python benchmarks/train_step.py --official /tmp/official --modes fp32 --threads 2 --seconds 120
    torchrun --nproc-per-node 8 benchmarks/train_step.py --device cuda --batch 8192 --micro 1024

The batch is the same random one in every step and lies in memory: the loader is measured by loader.py. "compile" is
bf16 through torch.compile, without the minutes of compiling. Prints the median step. Run it on a quiet machine.

With --official the step of MMPose (official_step.py says how to get it), always in float32 as its configuration has
it, is taken in turns with ours from the same weights, and the ratio of images per second is printed with its 95 %
interval. Both losses must agree first, at those weights and after steps: otherwise they did different work. Where the
machine is not quiet, --processor-time counts this process's own time; with --threads 1 the figure is one core's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from official_step import OfficialStep

from rtmw_edge.errors import RtmwEdgeError
from rtmw_edge.runtime.timing import FEWEST_ROUNDS, Pace, busy_share, summary
from rtmw_edge.training.loop import Trainer
from rtmw_edge.training.ranks import has_bfloat16
from rtmw_edge.training.recipe import read_recipe
from rtmw_edge.training.stream import Batch

Clock = Callable[[], float]

MODES = {
    "fp32": ["precision=fp32"],
    "bf16": ["precision=bf16"],
    "compile-fp32": ["precision=fp32", "compile=true"],
    "compile": ["precision=bf16", "compile=true"],
}
WARM_UP = 3
SAME_LOSS, SAME_BFLOAT16 = 1e-4, 1e-2
"""Relative difference from the official loss at the same weights that the sums' order, or bfloat16, may make."""
SAME_FALL = 0.25
"""Share of the fall of the loss over the warm-up by which the two may differ: AdamW's first steps are signs only."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="rtmw-m-256x192")
    parser.add_argument("--batch", type=int, default=16, help="samples of a step, over all ranks")
    parser.add_argument("--micro", type=int, default=0, help="samples of a pass of a rank; 0 for all of its share")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["fp32", "bf16", "compile"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each mode is measured")
    parser.add_argument("--processor-time", action="store_true", help="instead of the clock's")
    parser.add_argument("--official", type=Path, metavar="FOLDER", help="compare with MMPose's step, installed there")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for mode in options.modes:
        if not mode.endswith("fp32") and not has_bfloat16(options.device):
            print(f"{mode}: not measured, this processor has no bfloat16 arithmetic")
            continue
        trainer = trainer_of(options, mode)
        clock = time.process_time if options.processor_time else time.perf_counter
        name = f"{options.variant} {options.device} batch {options.batch} {mode}"
        if options.official:
            print(f"{name}: {against_official(trainer, options, clock)}", flush=True)
        else:
            rate, memory = measure(trainer, options.seconds, clock)
            if trainer.is_first:
                print(f"{name}: {rate:.1f} images/s{memory}", flush=True)


def trainer_of(options: argparse.Namespace, mode: str) -> Trainer:
    """A trainer whose learning rate is the recipe's from the first step on, with the official scaling of the loss."""
    overrides = [f"batch={options.batch}", f"micro={options.micro}", "steps=1000000", "warmup=1", *MODES[mode]]
    overrides += ["late=0", "validate_every=1000000"]
    overrides.append(f"official_batch={options.micro or options.batch}")
    with tempfile.TemporaryDirectory() as folder:
        return Trainer(read_recipe(options.variant, overrides), Path(folder), device=options.device, workers=0)


def measure(trainer: Trainer, seconds: float, clock: Clock = time.perf_counter) -> tuple[float, str]:
    """Images per second of the median step, and what it took of the GPU's memory."""
    batches = random_batches(trainer)
    steps: list[float] = []
    while len(steps) < WARM_UP + 3 or sum(steps[WARM_UP:]) < seconds:
        steps.append(timed(lambda: float(trainer.train_step(batches)), clock))
    on_gpu = trainer.fabric.device.type == "cuda"
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if on_gpu else ""
    return trainer.recipe.batch / statistics.median(steps[WARM_UP:]), memory


def against_official(trainer: Trainer, options: argparse.Namespace, clock: Clock) -> str:
    """One line on our step and the official one, in turns. SystemExit where they do different work."""
    recipe, batches = trainer.recipe, random_batches(trainer)
    official = OfficialStep(
        options.official,
        recipe.variant,
        trainer.network.state_dict(),
        batches,
        lr=recipe.lr,
        device=options.device,
    )
    losses = np.array([(float(trainer.train_step(batches)), official()) for _ in range(WARM_UP)])
    print(f"losses of the first steps: ours {losses[:, 0].round(6)}, MMPose's {losses[:, 1].round(6)}", flush=True)
    same = SAME_LOSS if recipe.precision == "fp32" else SAME_BFLOAT16
    falls = losses[0] - losses[-1]
    if abs(losses[0, 0] - losses[0, 1]) > same * losses[0, 1] or abs(falls[0] - falls[1]) > SAME_FALL * falls[1]:
        raise SystemExit("The losses differ: the two steps do different work, and their times cannot be compared.")
    pace = in_single_turns(lambda: float(trainer.train_step(batches)), official, options.seconds, clock)
    noise = f"; noisy: {', '.join(pace.noisy)}" if pace.noisy else ""
    ours, theirs = (1e3 * recipe.batch / ms for ms in (pace.ms_p50, pace.reference_ms_p50))
    return (
        f"{ours:.1f} images/s, MMPose {theirs:.1f}, {1 / pace.ratio:.2f}x "
        f"({1 / pace.ratio_high:.2f} to {1 / pace.ratio_low:.2f}, {pace.rounds} rounds){noise}"
    )


def in_single_turns(run: Callable[[], object], reference: Callable[[], object], seconds: float, clock: Clock) -> Pace:
    """As `timing.in_turns`, for calls of seconds: a call is a block, and the caches need no call of their own."""
    busy, load = busy_share(), os.getloadavg()[0]
    turns: tuple[list[float], list[float]] = ([], [])
    while len(turns[0]) < FEWEST_ROUNDS or sum(turns[0]) + sum(turns[1]) < seconds:
        for call, times in zip((run, reference), turns, strict=True):
            times.append(timed(call, clock))
    mine, theirs = ([np.array([time]) for time in times] for times in turns)
    return summary(mine, theirs, busy, load)


def timed(call: Callable[[], object], clock: Clock) -> float:
    """Seconds of a call that waits for its own result, on a GPU too."""
    begun = clock()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - begun


def random_batches(trainer: Trainer) -> list[Batch]:
    """The passes of one step, all of them the same."""
    width, height = trainer.variant.input_size
    axes = len(trainer.variant.axes)
    random = torch.Generator().manual_seed(0)
    crops = torch.randint(0, 256, (trainer.micro, height, width, 3), dtype=torch.uint8, generator=random)
    points = torch.rand(trainer.micro, 133, axes, generator=random) * width
    weights = torch.ones(trainer.micro, 133, axes)
    return [(crops, points, weights, torch.zeros(trainer.micro))] * trainer.passes


if __name__ == "__main__":
    try:
        main()
    except RtmwEdgeError as error:
        raise SystemExit(str(error)) from error

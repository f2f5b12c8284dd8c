"""Images per second of a whole training step: normalization, network, loss, gradients, clipping, optimiser, average.

    python benchmarks/train_step.py [--variant rtmw-m-256x192] [--batch 16] [--modes fp32 bf16 compile] [--seconds 20]
    torchrun --nproc-per-node 8 benchmarks/train_step.py --device cuda --batch 8192 --micro 1024

The batch is the same random one in every step and lies in memory: the loader is measured by loader.py. "compile" is
bf16 through torch.compile, without the minutes of compiling. Prints the median step. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from rtmw_edge.training.loop import Trainer
from rtmw_edge.training.recipe import read_recipe
from rtmw_edge.training.stream import Batch

MODES = {
    "fp32": ["precision=fp32"],
    "bf16": ["precision=bf16"],
    "compile-fp32": ["precision=fp32", "compile=true"],
    "compile": ["precision=bf16", "compile=true"],
}
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="rtmw-m-256x192")
    parser.add_argument("--batch", type=int, default=16, help="samples of a step, over all ranks")
    parser.add_argument("--micro", type=int, default=0, help="samples of a pass of a rank; 0 for all of its share")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["fp32", "bf16", "compile"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each mode is measured")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for mode in options.modes:
        overrides = [f"batch={options.batch}", f"micro={options.micro}", "official_batch=0", *MODES[mode]]
        rate, memory, first = measure(options.variant, overrides, options.device, options.seconds)
        if first:
            print(f"{options.variant} {options.device} batch {options.batch} {mode}: {rate:.1f} images/s{memory}")


def measure(variant: str, overrides: list[str], device: str, seconds: float) -> tuple[float, str, bool]:
    """Images per second of the median step, what it took of the GPU's memory, and whether this is rank 0."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(read_recipe(variant, ["steps=1000000", *overrides]), Path(folder), device=device, workers=0)
    batches = random_batches(trainer)
    steps: list[float] = []
    while len(steps) < WARM_UP + 3 or sum(steps[WARM_UP:]) < seconds:
        begun = time.perf_counter()
        trainer.train_step(batches)
        if device == "cuda":
            torch.cuda.synchronize()
        steps.append(time.perf_counter() - begun)
    memory = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device == "cuda" else ""
    return trainer.recipe.batch / statistics.median(steps[WARM_UP:]), memory, trainer.is_first


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
    main()

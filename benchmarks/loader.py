"""How many worker processes a training step needs, so that it never waits for samples: annotated or rendered ones.

    python benchmarks/loader.py --data CONFIG [--recipe rtmw-m-256x192] [--batch 64] [--device cuda]
    python benchmarks/loader.py --recipe rtmw-n-256x192 --batch 32 --threads 1           rendered people

Measures what a sample costs a core (processor time: reading, or rendering as often as the recipe does, and warping and
augmenting, which a GPU does for rendered people itself) and how long the step takes with crops at hand; says how many
workers that needs, and how many images per second 16 cores could feed. Then trains for --seconds with so many workers,
or with --workers N, and says which share of the time the step waited. With several GPUs every rank needs that many.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from pathlib import Path

import cv2
import torch
from train_step import WARM_UP, measure

from rtmw_edge.errors import RtmwEdgeError
from rtmw_edge.training.loop import Trainer
from rtmw_edge.training.recipe import read_recipe

SETTLED = 256
"""Samples after which rendered people are mostly reused, as in a long run."""
CORES = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="configuration of annotated sets; without, rendered people")
    parser.add_argument("--recipe", default="rtmw-m-256x192")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="of the step; 0 for all cores")
    parser.add_argument("--workers", type=int, default=0, help="0 for as many as the step needs")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the three measurements")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    cost = cost_of_sample(trainer_of(options, workers=0), options.seconds)
    rate, _ = measure(trainer_of(options, workers=0), options.seconds)
    cores = os.cpu_count() or 1
    print(
        f"a sample of {options.data or 'rendered people'} ({options.recipe}) costs a core {1e3 * cost:.1f} ms: "
        f"{CORES} cores feed {CORES / cost:.0f} images/s, the {cores} of this machine {cores / cost:.0f}"
    )
    needed = max(1, math.ceil(rate * cost))
    where = f"cpu with --threads {torch.get_num_threads()}" if options.device == "cpu" else options.device
    print(
        f"the step of {options.batch} ({where}) takes {rate:.1f} images/s: samples keep {rate * cost:.2f} cores busy, "
        f"it needs --workers {needed}"
    )
    workers = options.workers or needed
    waited, steps, broken = waiting(trainer_of(options, workers), options.seconds)
    print(f"with --workers {workers} the step waited {waited:.1%} of the time, over {steps} steps")
    if broken:
        print(f"{broken} images could not be read")


def trainer_of(options: argparse.Namespace, workers: int) -> Trainer:
    length = ["epochs=1000"] if options.data else ["steps=1000000", "late=0", "validate_every=1000000"]
    recipe = read_recipe(options.recipe, [*length, f"batch={options.batch}", "micro=0"])
    with tempfile.TemporaryDirectory() as folder:
        return Trainer(recipe, Path(folder), data=options.data, device=options.device, workers=workers)


def cost_of_sample(trainer: Trainer, seconds: float) -> float:
    """Seconds of a core for one sample, made and collated in this process."""
    cv2.setNumThreads(1)
    batches, batch = trainer.batches(), trainer.recipe.batch
    for _ in range(math.ceil(SETTLED / batch)):
        next(batches)
    begun, count = time.process_time(), 0
    while time.process_time() - begun < seconds:
        next(batches)
        count += batch
    return (time.process_time() - begun) / count


def waiting(trainer: Trainer, seconds: float) -> tuple[float, int, int]:
    """The share of the time for which the step waited for its samples, the steps taken, and images not read."""
    batches = trainer.batches()
    broken, waited, steps = 0, 0.0, 0
    for _ in range(WARM_UP + trainer.workers):  # the workers' first batches are late
        trainer.train_step(next(batches))
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        asked = time.perf_counter()
        passes = next(batches)
        waited += time.perf_counter() - asked
        float(trainer.train_step(passes))  # the figure is there when the device has done its work
        broken += sum(int(batch[3].sum()) for batch in passes)
        steps += 1
    return waited / (time.perf_counter() - begun), steps, broken


if __name__ == "__main__":
    try:
        main()
    except RtmwEdgeError as error:
        raise SystemExit(str(error)) from error

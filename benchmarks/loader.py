"""Samples per second that the loader makes, on annotated photographs or rendered people: compare with train_step.py.

    python benchmarks/loader.py --data CONFIG [--recipe rtmw-m-256x192] [--workers 16] [--seconds 30]
    python benchmarks/loader.py --recipe rtmw-n-256x192 --workers 2         rendered people

A step waits for the loader where this is less than train_step.py's images per second times the ranks that share these
cores. Prints the rate after the first batch of every worker, and what one sample costs one core.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from rtmw_edge.training.loop import Trainer
from rtmw_edge.training.recipe import read_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="configuration of annotated sets; without, rendered people")
    parser.add_argument("--recipe", default="rtmw-m-256x192")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    length = ["epochs=1000"] if options.data else ["steps=1000000", "late=0"]
    recipe = read_recipe(options.recipe, [*length, f"batch={options.batch}", "micro=0"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), data=options.data, device="cpu", workers=options.workers)
    batches = trainer.batches()
    for _ in range(max(1, options.workers)):
        next(batches)
    begun, steps, broken = time.perf_counter(), 0, 0
    while time.perf_counter() - begun < options.seconds:
        broken += sum(int(batch[3].sum()) for batch in next(batches))
        steps += 1
    spent = time.perf_counter() - begun
    rate = steps * options.batch / spent
    where = options.data or "rendered people"
    cores = min(max(1, options.workers), os.cpu_count() or 1)
    print(
        f"{where}, {recipe.variant}, {options.workers} workers: {rate:.0f} samples/s, {1e3 * cores / rate:.1f} ms each"
    )
    if broken:
        print(f"{broken} images could not be read")


if __name__ == "__main__":
    main()

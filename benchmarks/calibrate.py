"""What calibration costs beyond running the float network: `python benchmarks/calibrate.py [--variant rtmw-m-256x192]`

Float passes and calibrating passes over the same batches take turns in one run, so that other work on the machine
spoils both alike. Weights do not matter to speed: without a file they are drawn at random. Crops are noise and made
before; rendering or decoding them is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rtmw_edge.calibration import Method
from rtmw_edge.calibration.collect import Settings, table_of
from rtmw_edge.calibration.observing import Pass, normalized
from rtmw_edge.calibration.sources import BATCH
from rtmw_edge.quantization import GRIDS
from rtmw_edge.targets.rewrites import Deployable, deployable

from rtmw_edge.models import build, variant_named
from rtmw_edge.models.checkpoints import load_weights

IMAGES = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="rtmw-m-256x192")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--grid", choices=[name for name, grid in GRIDS.items() if grid.calibrated], default="common")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batches", type=int, default=5, help=f"timed batches of {BATCH}, each run both ways")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    network, grid = network_of(options.variant, options.weights), GRIDS[options.grid]
    width, height = network.variant.input_size
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, height, width, 3), np.uint8)
    through = Pass(network, grid)

    def plain() -> None:
        with torch.inference_mode():
            network(normalized(crops, network.variant))

    alone, calibrating = [], []
    for number in range(options.batches + 1):
        both = seconds(plain), seconds(lambda: through.add(crops))
        if number:  # the first warms up
            alone.append(both[0])
            calibrating.append(both[1])
    print(f"{options.variant}, grid {grid.name}, {options.threads} threads, {options.batches} batches of {BATCH}")
    for place, clock in enumerate(("the clock", "processor time of all threads")):
        before, after = (statistics.median(times[place] for times in runs) for runs in (alone, calibrating))
        before_ms, after_ms = 1e3 * before / BATCH, 1e3 * after / BATCH
        ratio = statistics.median(c[place] / a[place] for a, c in zip(alone, calibrating, strict=True))
        print(f"by {clock}: float {before_ms:.1f} ms a crop, calibrating {after_ms:.1f}, ratio {ratio:.2f}")
        print(f"  {IMAGES} images: {IMAGES * after / BATCH:.0f} s, of which {IMAGES * before / BATCH:.0f} s float")
    observed = through.observed()
    for method, correction in [*((method, False) for method in Method), (Method.PERCENTILE, True)]:
        settings = Settings(method, grid, bias_correction=correction)
        _, taken = seconds(partial(table_of, network, observed, settings))
        print(f"then {method}{' and bias correction' if correction else ''}: {taken:.1f} s of processor time")


def network_of(variant: str, weights: Path | None) -> Deployable:
    """The deployable network of a variant, with weights from a file or drawn at random."""
    torch.manual_seed(0)
    network = build(variant_named(variant)).eval()
    if weights is not None:
        load_weights(network, weights)
    return deployable(network)


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds that one call takes, by the clock and of processor time; the latter bears a busy machine better."""
    begun = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


if __name__ == "__main__":
    main()

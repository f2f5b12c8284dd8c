"""What a step of quantization-aware training costs, as a multiple of the float step: with and without the teacher.

    python benchmarks/qat_step.py [--variant rtmw-n-256x192] [--batch 16] [--precision fp32] [--rounds 8] [--threads 2]

Both trainers take the same optimiser and the same random batch from memory, in turns, so that whatever else the machine
does falls on both; medians of the turns' ratios. On a CPU the time is the processor's, on a GPU the clock's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from rtmw_edge.quantization import GRIDS
from rtmw_edge.quantization.qat import QatTrainer
from rtmw_edge.targets.scales import calibrate
from train_step import random_batches

from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.training.loop import Trainer
from rtmw_edge.training.recipe import read_recipe

WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="rtmw-n-256x192")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--grid", choices=["common", "affine"], default="common")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = [f"{key}={getattr(options, key)}" for key in ("batch", "precision", "optimizer")]
    settings += ["micro=0", "official_batch=0", "steps=1000000", "late=0", "validate_every=1000000"]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        torch.manual_seed(0)
        save_safetensors(build(options.variant), weights)
        plain = Trainer(
            read_recipe(options.variant, settings), Path(folder) / "float", device=options.device, workers=0
        )  # fmt: skip
        quantized = QatTrainer(
            read_recipe(f"{options.variant}-qat", [*settings, f"quantization.grid={options.grid}"]),
            Path(folder) / "qat", device=options.device, weights=weights, workers=0,
            start_table=lambda network: calibrate(network, "synthetic:4", grid=GRIDS[options.grid]),
        )  # fmt: skip
    lesson, batches = quantized.lesson, random_batches(plain)
    turns: dict[str, list[float]] = {"float": [], "qat": [], "qat without the teacher": []}
    for _ in range(WARM_UP + options.rounds):
        for name, seconds in turns.items():
            quantized.lesson = None if name.endswith("teacher") else lesson
            trainer = plain if name == "float" else quantized
            begun = now(options.device)
            trainer.train_step(batches)
            seconds.append(now(options.device) - begun)
    for name, seconds in turns.items():
        ratios = [mine / theirs for mine, theirs in zip(seconds, turns["float"], strict=True)][WARM_UP:]
        print(f"{name:24} {1000 * statistics.median(seconds[WARM_UP:]):8.0f} ms  {statistics.median(ratios):.2f}")


def now(device: str) -> float:
    """Seconds: of the processor, or of the clock when a GPU has done its work."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()

"""How closely every target's int8 file follows the fake-quantized network that was trained: bins and AP, on 200 crops.

    python benchmarks/qat_fidelity.py rtmw-n-256x192 --run runs/rtmw-n-256x192-qat [--targets onnx ncnn] [--people 200]

For each target the run's weights and table are exported, and the bundle runs the first people of the renderer's
validation split. It is compared with PyTorch computing with exactly the points that the format carries (ncnn does not
quantize outputs). "within 1 bin": of the keypoints of which the float network is confident (calibrated score at least
0.5, and again at least 0.8), the share whose bins differ by at most one on every axis. The floor is the same of PyTorch
in float32 against itself in float64: a value between two integers goes to either, and what that changes spreads, so
that no runtime can be expected to be closer. AP is in points: PyTorch's in float32, in float64, and the target's.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.quantization.inference import for_inference
from rtmw_edge.quantization.qat import TakesRgb
from rtmw_edge.targets import TARGETS, target_named
from rtmw_edge.targets.export import export, load_deployable
from torch import Tensor, nn

import rtmw_edge
from rtmw_edge.evaluation import Evaluation, evaluate, open_dataset
from rtmw_edge.models import score_calibration, variant_named
from rtmw_edge.poses import Poses
from rtmw_edge.runtime import Runner
from rtmw_edge.runtime.runner import Cut
from rtmw_edge.runtime.torch_engine import TorchEngine

CONFIDENT = (0.5, 0.8)


class Remembering(Runner):
    """A runner that keeps the bins and confidences of everybody it has seen."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner.engine, runner.bundle)
        self.bins: list[np.ndarray] = []
        self.confidences: list[np.ndarray] = []

    def poses(self, logits: Any, cut: Cut) -> Poses:
        poses = super().poses(logits, cut)
        self.bins.append(np.stack([line.argmax(axis=2) for line in logits], axis=2))
        self.confidences.append(self.confidence(poses))
        return poses


class InDouble(nn.Module):
    """A network that computes in float64: no sum of a convolution is rounded there."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.variant, self.network = network.variant, copy.deepcopy(network).double()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return cast(tuple[Tensor, ...], self.network(images.double()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant")
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished rtmw-edge qat")
    parser.add_argument("--best", action="store_true", help="the pair that validated best, not the last")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--people", type=int, default=200)
    options = parser.parse_args()
    variant, dataset = variant_named(options.variant), open_dataset(f"synthetic:val:{options.people}")
    names = ("best.safetensors", "best.json") if options.best else ("weights.safetensors", "table.json")
    weights, table = options.run / names[0], Table.load(options.run / names[1])
    network = load_deployable(variant, weights)

    def seen(module: Any) -> tuple[Remembering, Evaluation]:
        engine = TorchEngine(cast(Any, module), "cpu", score=score_calibration(variant))
        return judged(Runner(engine))

    def judged(runner: Runner) -> tuple[Remembering, Evaluation]:
        remembering = Remembering(runner)
        return remembering, evaluate(remembering, dataset)

    exact, figures = seen(TakesRgb(network))
    sure = [np.concatenate(exact.confidences) >= confidence for confidence in CONFIDENT]
    counts = ", ".join(f"{who.sum()} at {at}" for who, at in zip(sure, CONFIDENT, strict=True))
    print(f"{options.variant}, {options.people} people, of {sure[0].size} keypoints confident: {counts}")
    print("float            " + points(figures))
    references: dict[tuple[str, ...], tuple[Remembering, Evaluation]] = {}
    for name in options.targets:
        carried = target_named(name).carried(table.grid)
        if carried not in references:
            fake = TakesRgb(for_inference(fake_quantize(network, table, carried)))
            references[carried] = seen(fake)
            double, figures = seen(InDouble(fake))
            print(f"torch, {'+'.join(carried)}: floor {within(references[carried][0], double, sure)}")
            print("float32          " + points(references[carried][1]))
            print("float64          " + points(figures))
        reference, _ = references[carried]
        with tempfile.TemporaryDirectory() as folder:
            out = export(options.variant, name, "int8", Path(folder) / "bundle", weights=weights, table=table)
            runner = rtmw_edge.load(out, threads=torch.get_num_threads())
            found, figures = judged(runner)
            print(f"{name:16} {points(figures)}   within 1 bin of torch {within(reference, found, sure)}")
            found.engine.close()


def points(figures: Evaluation) -> str:
    return "  ".join(f"{part} {100 * scores.ap:5.2f}" for part, scores in figures.parts.items())


def within(one: Remembering, other: Remembering, sure: list[np.ndarray]) -> str:
    """Per group of keypoints, the share whose bins differ by at most one on every axis, and of those that are equal."""
    distance = np.abs(np.concatenate(one.bins) - np.concatenate(other.bins)).max(axis=2)
    return ", ".join(f"{100 * (distance[who] <= 1).mean():.2f} % (equal {100 * (distance[who] == 0).mean():.1f} %)"
                     for who in sure)  # fmt: skip


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()

"""Post-training int8 of ours beside the runtimes' own tools, at the same layers: who loses less of every part's AP?

    python benchmarks/peers.py --weights sweeps/before-qat.safetensors [--people 1000] [--targets onnx]

NNCF, ai-edge-quantizer and ONNX Runtime's quantize_static have zero points, so that ours is on the grid `affine`, by
the default method and by the one that most of them take, minimum and maximum. All calibrate on the same 200 rendered
people and are judged on validation people from number 2000 on, whom no other figure is of and on whom nothing was
chosen. Prints the AP of each, and the points that the peer loses against ours, with the 95 % interval over people.

Weights of before the fine-tuning with quantization (the Makefile has them): calibrating those of after is not
post-training quantization.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rtmw_edge.targets.export import export

from rtmw_edge.evaluation import evaluate
from rtmw_edge.evaluation.datasets import SyntheticPeople
from rtmw_edge.evaluation.gates import read_gate
from rtmw_edge.evaluation.validate import Contender, validate
from rtmw_edge.evaluation.validation import PartAp
from rtmw_edge.runtime import load

VARIANT = "rtmw-n-256x192"
CALIBRATION = "synthetic:200"
FIRST = 2000
PEERS = {"onnx": "ort", "openvino": "nncf", "tflite": "aeq"}
METHODS = ("percentile", "minmax")


def points(parts: Mapping[str, float]) -> str:
    return "  ".join(f"{part} {value:.1f}" for part, value in parts.items())


def lost(parts: Mapping[str, PartAp]) -> str:
    drops = {part: ap.drop for part, ap in parts.items()}
    return ", ".join(f"{part} {drop.value:.1f} ({drop.low:.1f} to {drop.high:.1f})" for part, drop in drops.items())


def against(peer: Path, ours: Path, dataset: SyntheticPeople, threads: int) -> dict[str, PartAp]:
    """AP of ours (the reference) and of the peer (the device), on the very same crops."""
    with load(ours, threads=threads) as reference, load(peer, threads=threads) as device:
        return validate(Contender("ours", reference, ""), Contender("peer", device, ""), dataset, read_gate()).ap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--targets", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    dataset = SyntheticPeople(options.people, first=FIRST)
    for target in options.targets:
        with tempfile.TemporaryDirectory() as name:
            folder, weights = Path(name), options.weights
            single = export(VARIANT, target, "fp32", folder / "float", weights=weights)
            with load(single, threads=options.threads) as runner:
                figures = evaluate(runner, dataset)
            print(f"{target} float: {points({part: 100 * ap.ap for part, ap in figures.parts.items()})}", flush=True)
            calibrated = {"weights": weights, "calibration": CALIBRATION}
            peer = export(VARIANT, target, "int8", folder / "peer", calibrator=PEERS[target], **calibrated)
            for method in METHODS:
                ours = export(VARIANT, target, "int8", folder / method, grid="affine", method=method, **calibrated)
                parts = against(peer, ours, dataset, options.threads)
                print(f"{target} ours, affine {method}: {points({p: ap.reference.value for p, ap in parts.items()})}")
                print(f"{target} {PEERS[target]}: {points({p: ap.device.value for p, ap in parts.items()})}")
                print(f"{target} {PEERS[target]} loses against ours: {lost(parts)}", flush=True)


if __name__ == "__main__":
    main()

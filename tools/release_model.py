"""Make a run of `rtmw-edge qat` an embedded model: weights, table, calibrated score, card, ready bundle, picture.

    python tools/release_model.py runs/n-qat --training "how the float weights that it began with were trained"

Writes rtmw_edge/models/weights/VARIANT.{safetensors,GRID.table.json,json,md}, a picture in docs/ and, of rtmw-n, the
bundle that is ready to run. Every figure in the card is measured here, on the fixed validation set of rendered people.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from string import Template

import cv2
import numpy as np
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.qat import TABLES
from rtmw_edge.targets.export import export

from rtmw_edge.camera import root_depth, to_camera
from rtmw_edge.evaluation import Evaluation, evaluate, open_dataset
from rtmw_edge.evaluation.datasets import Dataset
from rtmw_edge.evaluation.score_calibration import collect, fit
from rtmw_edge.files import atomic_write
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import load_weights, read_metadata, save_safetensors
from rtmw_edge.models.variants import variant_named
from rtmw_edge.models.weights import FOLDER
from rtmw_edge.runtime import Runner, load, torch_runner
from rtmw_edge.runtime.drawing import draw
from rtmw_edge.runtime.loading import BUILTIN_DIRECTORY
from rtmw_edge.runtime.view3d import SkeletonView
from rtmw_edge.training.checkpoint import LAST, RECIPE

ROOT = Path(__file__).parents[1]
READY = "rtmw-n-256x192"
"""The variant whose int8 bundle ships too."""
SHOWN = 0.1
"""Confidence from which a keypoint is drawn."""
PICTURES = {"rtmw-n-256x192": "poses.jpg", "rtmw3d-n-256x192": "poses-3d.jpg"}
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon with AdamW"}
PARTS = ("body", "foot", "face", "left_hand", "right_hand", "whole")

CARD = Template("""# $variant: model card

$role of rtmw-edge: small enough to ship, good enough to try every command and to compare int8 with float.

| | |
|---|---|
| architecture | $family (CSPNeXt depth $depth, width $width; PAFPN; SimCC head$axes), $parameters M parameters, $gmac GMAC, 256x192 |
| data | rendered people only (`rtmw_edge/data/synthetic`, split `train`); no photograph, no annotation of any data set |
| training | $training |
| quantization | then $steps steps ($samples crops) with quantization in the loop (`rtmw-edge qat`, batch $batch, $optimizer): one table on the grid `$grid` for every target, its scales from `$source` |
| file | fp16 safetensors, $megabytes MB; Apache-2.0 |
| calibrated score | 1 / (1 + exp(-($a * logit + $b))): chance that a keypoint is within its own OKS 0.5 radius of the truth |

Measured by `rtmw-edge evaluate $variant` and `rtmw-edge evaluate $int8` on the $count rendered people of the split `val` with
their true boxes. AP and AR by the COCO-WholeBody protocol; PCK: within 5 % of the box's height.

| part | AP fp32 (torch) | AR fp32 | PCK fp32 | AP int8 (ONNX Runtime) | PCK int8 |
|---|---|---|---|---|---|
$rows
$depths
## What it cannot do
- It is undertrained: it was still getting better when its time was up. Train on with `rtmw-edge train --weights`, and `rtmw-edge qat` after.
- It has never seen a photograph. On real people it finds large, upright, well-lit figures on quiet ground and often fails on others;
  use the official weights (`rtmw-edge fetch rtmw-m-256x192`) for work on photographs.
- Hands are its weakest part: a hand is 10 to 20 pixels in a 256x192 crop. Small and blurred people, heavy occlusion and crowds
  fail: the rendered people that it is measured on are mostly upright, whole and sharp.
$limits- The rendered people follow what a renderer knows; annotators mark hips, shoulders and jaw lines a little elsewhere.
- No claim is made about any group of people. Do not use it where an error harms somebody.
""")


DEPTHS = Template("""
MPJPE in millimetres, depths and all, hips of truth and result put together; PA-MPJPE: every part moved, turned and scaled to
fit its labels. The face and hands count from the hips too, so that the turn of a head counts with the whole body's.

| part | MPJPE fp32 | PA-MPJPE fp32 | MPJPE int8 | PA-MPJPE int8 |
|---|---|---|---|---|
$rows
""")
DEPTH_PARTS = ("body", "face", "left_hand", "right_hand", "whole")
DEPTH_LIMITS = """- Depth is guessed from one picture, for people of a usual size: distance to the camera is not measured, and a pose seen from
  straight ahead hides which arm is nearer.
"""


def picture(runner: Runner, dataset: Dataset, path: Path, columns: int = 8) -> None:
    """The first people of `dataset` side by side, with the poses that `runner` finds; 3D ones from aside, below."""
    tiles = []
    for item, _ in zip(dataset, range(columns), strict=False):
        poses = runner(item.image, item.people.boxes)
        confidence = runner.confidence(poses)
        drawn = draw(item.image, replace(poses, scores=confidence), threshold=SHOWN)
        tile = cv2.resize(drawn, (300, 400), interpolation=cv2.INTER_AREA)
        if item.labels_3d is not None and poses.keypoints.shape[2] == 3:
            metres = to_camera(poses.keypoints, item.labels_3d.camera, root_depth(item.labels_3d.metres))
            tile = cv2.vconcat([tile, SkeletonView(0)(metres, confidence, size=300, threshold=SHOWN)])
        tiles.append(tile)
    with atomic_write(path) as temporary:
        cv2.imwrite(str(temporary), np.concatenate(tiles, axis=1), [cv2.IMWRITE_JPEG_QUALITY, 88])


def pose_rows(exact: Evaluation, quantized: Evaluation) -> str:
    return "\n".join(
        f"| {part.replace('_', ' ')} | {exact.parts[part].ap:.3f} | {exact.parts[part].ar:.3f} | {exact.pck[part]:.3f} "
        f"| {quantized.parts[part].ap:.3f} | {quantized.pck[part]:.3f} |"
        for part in PARTS
    )


def depth_rows(exact: Evaluation, quantized: Evaluation) -> str:
    return "\n".join(
        f"| {part.replace('_', ' ')} | {exact.mpjpe[part].root:.1f} | {exact.mpjpe[part].procrustes:.1f} "
        f"| {quantized.mpjpe[part].root:.1f} | {quantized.mpjpe[part].procrustes:.1f} |"
        for part in DEPTH_PARTS
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of rtmw-edge qat")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--table", type=Path, help="another table for the run's weights than its own")
    parser.add_argument("--training", required=True, help="how the weights it began with were trained, for the card")
    arguments = parser.parse_args()
    source = arguments.run / LAST
    recipe = json.loads((arguments.run / RECIPE).read_text())
    metadata = read_metadata(source)
    variant = variant_named(recipe["variant"])
    if variant.name not in PICTURES:
        parser.error(f"{variant.name} does not ship, only {' and '.join(PICTURES)}: add it to PICTURES")
    network = build(variant)
    load_weights(network, source)
    weights = FOLDER / f"{variant.name}.safetensors"
    save_safetensors(network, weights, metadata=metadata)
    table = Table.load(arguments.table or arguments.run / TABLES[LAST])
    table.save(FOLDER / f"{variant.name}.{table.grid}.table.json")

    dataset = open_dataset(f"synthetic:val:{arguments.count}")
    with torch_runner(variant.name, weights) as runner:
        exact = evaluate(runner, dataset)
        a, b = fit(*collect(runner, dataset))
    with atomic_write(FOLDER / f"{variant.name}.json") as path:
        path.write_text(json.dumps({"score": {"a": round(a, 5), "b": round(b, 5)}}, indent=1) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        ready = (BUILTIN_DIRECTORY if variant.name == READY else Path(folder)) / f"{variant.name}-onnx-int8"
        shutil.rmtree(ready, ignore_errors=True)
        export(variant.name, "onnx", "int8", ready)
        with load(ready) as runner:
            quantized = evaluate(runner, dataset)
            picture(runner, dataset, ROOT / "docs" / PICTURES[variant.name])

    card = CARD.substitute(
        variant=variant.name,
        role="The embedded model" if variant.name == READY else "The embedded 3D model",
        family="RTMW3D" if exact.mpjpe else "RTMW",
        axes=" for x, y and z" if exact.mpjpe else "",
        int8="builtin" if variant.name == READY else "BUNDLE",
        depths=DEPTHS.substitute(rows=depth_rows(exact, quantized)) if exact.mpjpe else "",
        limits=DEPTH_LIMITS if exact.mpjpe else "",
        depth=variant.depth,
        width=variant.width,
        parameters=f"{variant.parameters / 1e6:.2f}",
        gmac=variant.gmac,
        steps=metadata["steps"],
        samples=f"{int(metadata['steps']) * recipe['batch']:,}",
        batch=recipe["batch"],
        optimizer=OPTIMIZERS[recipe["optimizer"]],
        grid=table.grid,
        source=table.provenance.get("method", "the fine-tuning"),
        training=arguments.training,
        megabytes=f"{weights.stat().st_size / 1e6:.1f}",
        a=f"{a:.4f}",
        b=f"{b:.4f}",
        count=arguments.count,
        rows=pose_rows(exact, quantized),
    )
    with atomic_write(FOLDER / f"{variant.name}.md") as path:
        path.write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    main()

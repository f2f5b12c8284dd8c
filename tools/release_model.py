"""Make a run of `rtmw-edge qat` the embedded model: weights, table, calibrated score, card, ready bundle, picture.

    python tools/release_model.py runs/n-qat --training "how the float weights that it began with were trained"

Writes rtmw_edge/models/weights/VARIANT.{safetensors,GRID.table.json,json,md} and rtmw_edge/builtin/VARIANT-onnx-int8/.
Every figure in the card is measured here, on the fixed validation set of rendered people.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from string import Template

import cv2
import numpy as np
from rtmw_edge.quantization import Table
from rtmw_edge.targets.export import export

from rtmw_edge.evaluation import evaluate, open_dataset
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

ROOT = Path(__file__).parents[1]
OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon with AdamW"}
PARTS = ("body", "foot", "face", "left_hand", "right_hand", "whole")

CARD = Template("""# $variant: model card

The embedded model of rtmw-edge: small enough to ship, good enough to try every command and to compare int8 with float.

| | |
|---|---|
| architecture | RTMW (CSPNeXt depth $depth, width $width; PAFPN; SimCC head), $parameters M parameters, $gmac GMAC, 256x192 |
| data | rendered people only (`rtmw_edge/data/synthetic`, split `train`); no photograph, no annotation of any data set |
| training | $training |
| quantization | then $steps steps ($samples crops) with quantization in the loop (`rtmw-edge qat`, batch $batch, $optimizer): one table on the grid `$grid` for every target, its scales from `$source` |
| file | fp16 safetensors, $megabytes MB; Apache-2.0 |
| calibrated score | 1 / (1 + exp(-($a * logit + $b))): chance that a keypoint is within its own OKS 0.5 radius of the truth |

Measured by `rtmw-edge evaluate $variant` and `rtmw-edge evaluate builtin` on the $count rendered people of the split `val` with
their true boxes. AP and AR by the COCO-WholeBody protocol; PCK: within 5 % of the box's height.

| part | AP fp32 (torch) | AR fp32 | PCK fp32 | AP int8 (ONNX Runtime) | PCK int8 |
|---|---|---|---|---|---|
$rows

## What it cannot do
- It is undertrained: it was still getting better when its time was up. Train on with `rtmw-edge train --weights`, and `rtmw-edge qat` after.
- Int8 costs most on the face, whose keypoints must be right to a pixel.
- It has never seen a photograph. On real people it finds large, upright, well-lit figures on quiet ground and often fails on others;
  use the official weights (`rtmw-edge fetch rtmw-m-256x192`) for work on photographs.
- Hands are its weakest part: a hand is 10 to 20 pixels in a 256x192 crop. Small and blurred people, heavy occlusion and crowds
  fail: the rendered people that it is measured on are mostly upright, whole and sharp.
- The rendered people follow what a renderer knows; annotators mark hips, shoulders and jaw lines a little elsewhere.
- No claim is made about any group of people. Do not use it where an error harms somebody.
""")


def picture(runner: Runner, dataset: Dataset, path: Path, columns: int = 8) -> None:
    """The first people of `dataset` side by side, with the poses that `runner` finds."""
    tiles = []
    for item, _ in zip(dataset, range(columns), strict=False):
        poses = runner(item.image, item.people.boxes)
        drawn = draw(item.image, replace(poses, scores=runner.confidence(poses)), threshold=0.1)
        tiles.append(cv2.resize(drawn, (300, 400), interpolation=cv2.INTER_AREA))
    with atomic_write(path) as temporary:
        cv2.imwrite(str(temporary), np.concatenate(tiles, axis=1), [cv2.IMWRITE_JPEG_QUALITY, 88])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of rtmw-edge qat")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--table", type=Path, help="another table for the run's weights than its own")
    parser.add_argument("--training", required=True, help="how the weights it began with were trained, for the card")
    arguments = parser.parse_args()
    source = arguments.run / "weights.safetensors"
    recipe = json.loads((arguments.run / "recipe.json").read_text())
    metadata = read_metadata(source)
    variant = variant_named(recipe["variant"])
    network = build(variant)
    load_weights(network, source)
    weights = FOLDER / f"{variant.name}.safetensors"
    save_safetensors(network, weights, metadata=metadata)
    table = Table.load(arguments.table or arguments.run / "table.json")
    table.save(FOLDER / f"{variant.name}.{table.grid}.table.json")

    dataset = open_dataset(f"synthetic:val:{arguments.count}")
    with torch_runner(variant.name, weights) as runner:
        exact = evaluate(runner, dataset)
        a, b = fit(*collect(runner, dataset))
    with atomic_write(FOLDER / f"{variant.name}.json") as path:
        path.write_text(json.dumps({"score": {"a": round(a, 5), "b": round(b, 5)}}, indent=1) + "\n")
    ready = BUILTIN_DIRECTORY / f"{variant.name}-onnx-int8"
    shutil.rmtree(ready, ignore_errors=True)
    export(variant.name, "onnx", "int8", ready)
    with load(ready) as runner:
        quantized = evaluate(runner, dataset)
        picture(runner, dataset, ROOT / "docs" / "poses.jpg")

    rows = [
        f"| {part.replace('_', ' ')} | {exact.parts[part].ap:.3f} | {exact.parts[part].ar:.3f} | {exact.pck[part]:.3f} "
        f"| {quantized.parts[part].ap:.3f} | {quantized.pck[part]:.3f} |"
        for part in PARTS
    ]
    card = CARD.substitute(
        variant=variant.name,
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
        rows="\n".join(rows),
    )
    with atomic_write(FOLDER / f"{variant.name}.md") as path:
        path.write_text(card, encoding="utf-8")
    print(card)


if __name__ == "__main__":
    main()

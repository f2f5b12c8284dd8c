"""Weights of a 2D variant for its 3D form to begin with, or of a trained 3D variant for its 2D form:

    python tools/convert_axes.py rtmw-n.safetensors rtmw3d-n-256x192 start.safetensors
    python tools/convert_axes.py runs/n3d-qat rtmw-n-256x192 runs/n-qat

The second converts a run of `rtmw-edge qat` whole: weights, table and recipe, as tools/release_model.py takes them.
Trunk and head are the same networks. RTMW's logits reach 10 and are trained at temperature 1, RTMW3D's reach 1 and are
trained at 10, so the classifiers of x and y are divided or multiplied by 10: the loss of both is the same to the last
digit. A new depth classifier starts as the official recipe has it, normal with a deviation of 0.01. Only convolutions
are quantized, so a quantization table serves both forms.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from rtmw_edge.quantization import Table
from rtmw_edge.quantization.qat import TABLES

from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import read_metadata, read_state, save_safetensors
from rtmw_edge.training.checkpoint import LAST, RECIPE

TEMPERATURE = 10.0
DEPTH = "head.cls_z.weight"


def convert(source: Path, variant: str, out: Path) -> None:
    """Write the weights `source` as those of `variant`; SystemExit where they are not another form of it."""
    torch.manual_seed(0)
    network = build(variant)
    state = read_state(source)
    factor = (TEMPERATURE if DEPTH in state else 1.0) / (TEMPERATURE if "z" in network.variant.axes else 1.0)
    for name in ("head.cls_x.weight", "head.cls_y.weight"):
        state[name] = state[name].float() * factor
    if "z" not in network.variant.axes:
        state.pop(DEPTH, None)
    missing, unexpected = network.load_state_dict(state, strict=False)
    if set(missing) - {DEPTH} or unexpected:
        raise SystemExit(f"{source} is not another form of {variant}: {missing} {unexpected}")
    if missing:
        torch.nn.init.normal_(network.get_parameter(DEPTH), std=0.01)
    save_safetensors(network, out, metadata=read_metadata(source) | {"variant": variant})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="weights, or the folder of a run of rtmw-edge qat")
    parser.add_argument("variant", help="the variant that is written")
    parser.add_argument("out", type=Path, help="a file, or a folder for a run")
    arguments = parser.parse_args()
    source, variant, out = arguments.source, arguments.variant, arguments.out
    if source.is_file():
        return convert(source, variant, out)
    out.mkdir(parents=True, exist_ok=True)
    convert(source / LAST, variant, out / LAST)
    replace(Table.load(source / TABLES[LAST]), variant=variant).save(out / TABLES[LAST])
    recipe = json.loads((source / RECIPE).read_text())
    (out / RECIPE).write_text(json.dumps(recipe | {"variant": variant}, indent=1) + "\n")


if __name__ == "__main__":
    main()

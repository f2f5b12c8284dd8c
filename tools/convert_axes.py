"""Weights of a 2D variant for its 3D form to begin with, or of a trained 3D variant for its 2D form:

    python tools/convert_axes.py rtmw-n.safetensors rtmw3d-n-256x192 start.safetensors
    python tools/convert_axes.py runs/n3d/weights.safetensors rtmw-n-256x192 n.safetensors [--table runs/n3d/table.json]

Trunk and head are the same networks. RTMW's logits reach 10 and are trained at temperature 1, RTMW3D's reach 1 and are
trained at 10, so the classifiers of x and y are divided or multiplied by 10: the loss of both is the same to the last
digit. A new depth classifier starts as the official recipe has it, normal with a deviation of 0.01. Only convolutions
are quantized, so a quantization table serves both forms; --table writes it anew beside the weights, for the new variant.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from rtmw_edge.quantization import Table

from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import read_metadata, read_state, save_safetensors

TEMPERATURE = 10.0
DEPTH = "head.cls_z.weight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("variant", help="the variant that is written")
    parser.add_argument("out", type=Path)
    parser.add_argument("--table", type=Path, help="the quantization table of the weights that are read")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network = build(arguments.variant)
    state = read_state(arguments.weights)
    factor = (TEMPERATURE if DEPTH in state else 1.0) / (TEMPERATURE if "z" in network.variant.axes else 1.0)
    for name in ("head.cls_x.weight", "head.cls_y.weight"):
        state[name] = state[name].float() * factor
    if "z" not in network.variant.axes:
        state.pop(DEPTH, None)
    missing, unexpected = network.load_state_dict(state, strict=False)
    if set(missing) - {DEPTH} or unexpected:
        parser.error(f"{arguments.weights} is not another form of {arguments.variant}: {missing} {unexpected}")
    if missing:
        torch.nn.init.normal_(network.get_parameter(DEPTH), std=0.01)
    save_safetensors(network, arguments.out, metadata=read_metadata(arguments.weights) | {"variant": arguments.variant})
    if arguments.table:
        path = arguments.out.with_suffix(".table.json")
        replace(Table.load(arguments.table), variant=arguments.variant).save(path)


if __name__ == "__main__":
    main()

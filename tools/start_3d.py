"""Weights for a 3D variant to begin with, from a trained 2D one of the same size:

    python tools/start_3d.py rtmw_edge/models/weights/rtmw-n-256x192.safetensors rtmw3d-n-256x192 start.safetensors

Trunk and head are the same networks. RTMW's logits reach 10 and are trained at temperature 1, RTMW3D's reach 1 and are
trained at 10, so the classifiers of x and y are divided by 10: the loss of both is the same to the last digit. The depth
classifier starts as the official recipe has it, normal with a deviation of 0.01.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import read_state, save_safetensors

TEMPERATURE = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("variant")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network = build(arguments.variant)
    state = read_state(arguments.weights)
    for name in ("head.cls_x.weight", "head.cls_y.weight"):
        state[name] = state[name].float() / TEMPERATURE
    missing, unexpected = network.load_state_dict(state, strict=False)
    if missing != ["head.cls_z.weight"] or unexpected:
        parser.error(f"{arguments.weights} is not the 2D form of {arguments.variant}: {missing} {unexpected}")
    torch.nn.init.normal_(network.head.cls_z.weight, std=0.01)
    save_safetensors(network, arguments.out, metadata={"variant": arguments.variant})


if __name__ == "__main__":
    main()

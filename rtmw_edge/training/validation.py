"""How good a network is on the renderer's validation people: share of keypoints within 5 % of the crop's height."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..crops import box_to_crop, warp_matrix
from ..data.annotators import annotated
from ..data.synthetic import Renderer
from ..keypoints import PARTS
from ..models.variants import MEAN_RGB, STD_RGB, Variant
from ..simcc import decode


def normalized(crops: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) BGR to float32 (N, 3, H, W) RGB with RTMW's mean and standard deviation."""
    mean = torch.tensor(MEAN_RGB, device=crops.device).view(1, 3, 1, 1)
    std = torch.tensor(STD_RGB, device=crops.device).view(1, 3, 1, 1)
    return (crops.permute(0, 3, 1, 2).flip(1).float() - mean) / std


class Validation:
    """A fixed set of crops of `count` people of the split `val`, rendered once."""

    def __init__(self, variant: Variant, count: int) -> None:
        import cv2

        renderer = Renderer("val")
        crops, points, visible = [], [], []
        for index in range(count):
            sample = renderer.person(index)
            person = sample.people[0]
            centers, scales = box_to_crop(person.box[None], variant.input_size)
            matrix = warp_matrix(centers[0], scales[0], variant.input_size)
            crops.append(cv2.warpAffine(sample.image, matrix, variant.input_size, flags=cv2.INTER_LINEAR))
            points.append(person.keypoints @ matrix[:, :2].T + matrix[:, 2])
            visible.append(annotated(person.visible))
        self.crops = torch.from_numpy(np.stack(crops))
        self.points: NDArray[np.float32] = np.stack(points).astype(np.float32)
        self.visible = np.stack(visible)

    @torch.no_grad()
    def pck(self, network: nn.Module, batch: int = 50) -> dict[str, float]:
        """Share in 0..1 of labelled keypoints within 5 % of the crop's height, per part and for the whole."""
        network.eval()
        device = next(network.parameters()).device
        outputs = []
        for start in range(0, len(self.crops), batch):
            images = normalized(self.crops[start : start + batch].to(device))
            with torch.autocast(device.type, torch.bfloat16):
                outputs.append([axis.float().cpu().numpy() for axis in network(images)])
        points, _ = decode([np.concatenate(axis) for axis in zip(*outputs, strict=True)][:2])
        near = np.linalg.norm(points - self.points, axis=-1) < 0.05 * self.crops.shape[1]
        labelled = self.visible > 0
        parts = {**PARTS, "whole": slice(0, near.shape[1])}
        return {name: float(near[:, s][labelled[:, s]].mean()) for name, s in parts.items()}

"""Crops on the device: normalized, and of rendered people made there; a GPU would else wait for the cores that do it.

The loader's workers render and draw all chance (`augmentation.planned`), the pixels are made here. A person's picture
travels once and stays on the device for as long as it is in use. The crops are those that `augmented` makes of the same
chance, but for rounding: OpenCV places pixels of a warp on a grid of 1/32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..models.variants import MEAN_RGB, STD_RGB
from .augmentation import Change, Plan

HSV_SHIFT = 12
HSV_ONE = 1 << HSV_SHIFT


class Arrived(NamedTuple):
    """New people of one lane, and which samples of the batch show people of that lane.

    Attributes:
        lane: the lane's number.
        numbers: int64 (P,) of the new people within the lane.
        pictures: uint8 (P, h, w, 3) BGR of them.
        samples: int64 (S,) places in the batch.
        persons: int64 (S,) the person of each.
    """

    lane: int
    numbers: Tensor
    pictures: Tensor
    samples: Tensor
    persons: Tensor


class Round(NamedTuple):
    """The same kind of change to some samples of a batch: `shape` (S, *shape of the kind's values), see `Change`."""

    kind: str
    size: int
    shape: tuple[int, ...]


class PlannedCrops(NamedTuple):
    """A batch of crops without pixels yet.

    Attributes:
        arrived: whom the crops show, by lane.
        matrices: float32 (N, 2, 3) take a place in a crop into its picture.
        rounds: the changes, in order.
        samples: int64, the places in the batch of all rounds, one round after the other.
        values: int16, the values of all rounds, likewise.
    """

    arrived: list[Arrived]
    matrices: Tensor
    rounds: list[Round]
    samples: Tensor
    values: Tensor


def in_rounds(plans: Sequence[Sequence[Change]]) -> tuple[list[Round], Tensor, Tensor]:
    """The changes of a batch, so that each sample meets its own in their order and alike ones are made at once.

    Returns the rounds, their samples and their values, as `PlannedCrops` has them: a worker sends few large tensors.
    """
    rounds, places, values = [], [np.empty(0, np.int64)], [np.empty(0, np.int16)]
    for depth in range(max((len(changes) for changes in plans), default=0)):
        groups: dict[tuple[str, int], list[int]] = {}
        for sample, changes in enumerate(plans):
            if depth < len(changes):
                groups.setdefault((changes[depth].kind, changes[depth].size), []).append(sample)
        for (kind, size), samples in groups.items():
            stacked = np.stack([plans[sample][depth].values for sample in samples])
            rounds.append(Round(kind, size, stacked.shape))
            places.append(np.array(samples))
            values.append(stacked.ravel())
    return rounds, torch.from_numpy(np.concatenate(places)), torch.from_numpy(np.concatenate(values))


def change(crops: Tensor, rounds: Sequence[Round], samples: Tensor, values: Tensor) -> None:
    """Make all changes to `crops` (N, 3, H, W) float32 of whole levels, in place."""
    places = samples.split([shape[0] for _, _, shape in rounds])
    parts = values.split([math.prod(shape) for _, _, shape in rounds])
    for (kind, size, shape), place, part in zip(rounds, places, parts, strict=True):
        crops[place] = _KINDS[kind](crops[place], part.view(shape), size)


def from_crop(plans: Sequence[Plan]) -> Tensor:
    """float32 (N, 2, 3): the inverses of the plans' matrices."""
    matrices = np.stack([plan.matrix for plan in plans])
    inverse = np.linalg.inv(matrices[:, :, :2])
    return torch.from_numpy(np.concatenate([inverse, -inverse @ matrices[:, :, 2:]], axis=2).astype(np.float32))


class CropMaker:
    """Keeps the people of every lane on `device`, and cuts a batch's crops from their pictures.

    Args:
        input_size: (width, height) of a crop in pixels.
        capacity: people of a lane that are kept; the oldest make room.
    """

    def __init__(self, input_size: tuple[int, int], capacity: int, device: torch.device) -> None:
        self.input_size, self.capacity, self.device = input_size, capacity, device
        self._people: dict[int, Tensor] = {}

    @torch.no_grad()
    def __call__(self, planned: PlannedCrops) -> Tensor:
        """uint8 (N, height, width, 3) BGR on the device."""
        size = planned.arrived[0].pictures.shape[1:]
        pictures = torch.empty((len(planned.matrices), *size), dtype=torch.uint8, device=self.device)
        for lane, numbers, new, samples, persons in planned.arrived:
            if lane not in self._people:
                self._people[lane] = pictures.new_empty((self.capacity, *size))
            people = self._people[lane]
            people[self._moved(numbers) % self.capacity] = self._moved(new)
            pictures[self._moved(samples)] = people[self._moved(persons) % self.capacity]
        crops = warped(pictures, self._moved(planned.matrices), self.input_size)
        change(crops, planned.rounds, self._moved(planned.samples), self._moved(planned.values))
        return crops.to(torch.uint8).permute(0, 2, 3, 1)

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


def normalized(crops: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) BGR to float32 (N, 3, H, W) RGB with RTMW's mean and standard deviation."""
    mean, std = _statistics(crops.device)
    return (crops.permute(0, 3, 1, 2).flip(1).float() - mean) / std


@cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Kept on the device: copying them there in every step would wait for all that it has left to do."""
    with torch.inference_mode(False):
        mean, std = torch.tensor([MEAN_RGB, STD_RGB], device=device).view(2, 1, 3, 1, 1)
        return mean, std


def warped(pictures: Tensor, matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear crops (N, 3, height, width) float32 of whole levels, black beyond the picture.

    Args:
        pictures: uint8 (N, h, w, 3).
        matrices: float32 (N, 2, 3) from a pixel of the crop to one of the picture; pixels' centres are whole numbers.
        size: (width, height).
    """
    width, height = size
    rows, columns = pictures.shape[1:3]
    device = pictures.device  # no tensor is made of numbers here: copying one there would wait for all before it
    x = torch.arange(width, dtype=torch.float32, device=device)
    y = torch.arange(height, dtype=torch.float32, device=device)[:, None]
    weights = matrices[:, :, :, None, None]
    places = weights[:, :, 0] * x + weights[:, :, 1] * y + weights[:, :, 2]
    grid = torch.stack([places[:, 0] * (2 / (columns - 1)) - 1, places[:, 1] * (2 / (rows - 1)) - 1], -1)
    images = pictures.permute(0, 3, 1, 2).float()
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True).round_()


def _levels(crops: Tensor, values: Tensor, _: int) -> Tensor:
    table = values.float().transpose(1, 2)
    return table.gather(2, crops.flatten(2).long()).view_as(crops)


def _hsv(crops: Tensor, values: Tensor, _: int) -> Tensor:
    return hsv_to_bgr(_levels(bgr_to_hsv(crops), values, 0))


def bgr_to_hsv(crops: Tensor) -> Tensor:
    """Levels (N, 3, H, W) of B, G, R to those of hue (0..179), saturation and value, as OpenCV rounds them."""
    blue, green, red = crops.int().unbind(1)
    value = torch.maximum(torch.maximum(blue, green), red)
    spread = value - torch.minimum(torch.minimum(blue, green), red)
    sixth = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = _quotient(30 * HSV_ONE, sixth, spread)
    saturation = _quotient(255 * HSV_ONE, spread, value)
    return torch.stack([torch.where(hue < 0, hue + 180, hue), saturation, value], 1).float()


def _quotient(factor: int, numerator: Tensor, denominator: Tensor) -> Tensor:
    """factor * numerator / denominator in OpenCV's fixed point: a hue 1 off would be a colour 8 levels off."""
    reciprocal = torch.round(factor / denominator.clamp(min=1)).int()
    return (numerator * reciprocal + HSV_ONE // 2) >> HSV_SHIFT


def hsv_to_bgr(crops: Tensor) -> Tensor:
    """The way back; whole levels again."""
    hue, saturation, value = crops.unbind(1)
    sixths, spread = hue / 30, value * saturation / 255
    channels = []
    for offset in (1, 3, 5):
        place = (sixths + offset) % 6
        channels.append(value - spread * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, 1).round_()


def _order(crops: Tensor, values: Tensor, _: int) -> Tensor:
    return torch.take_along_dim(crops, values.long()[:, :, None, None], 1)


def _grey(crops: Tensor, values: Tensor, _: int) -> Tensor:
    blue, green, red = crops.split(1, 1)
    return (0.114 * blue + 0.587 * green + 0.299 * red).round_().expand_as(crops)


def _blur(crops: Tensor, values: Tensor, size: int) -> Tensor:
    padded = functional.pad(crops, [size // 2] * 4, mode="reflect")
    return functional.avg_pool2d(padded, size, stride=1).round_()


def _median(crops: Tensor, values: Tensor, size: int) -> Tensor:
    padded = functional.pad(crops, [size // 2] * 4, mode="replicate")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)
    return windows.sort(dim=-1).values[..., size * size // 2]


def _dropout(crops: Tensor, values: Tensor, _: int) -> Tensor:
    height, width = crops.shape[2:]
    x, y, w, h = values[:, :, None, None, None].unbind(1)
    column = torch.arange(width, device=crops.device)
    row = torch.arange(height, device=crops.device)[:, None]
    inside = (column >= x) & (column < x + w) & (row >= y) & (row < y + h)
    return crops.masked_fill(inside, 0)


_KINDS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "levels": _levels,
    "hsv": _hsv,
    "order": _order,
    "grey": _grey,
    "blur": _blur,
    "median": _median,
    "dropout": _dropout,
}

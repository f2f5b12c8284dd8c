"""The forms in which RTMDet and YOLOX come as ONNX, told apart by their graphs, and how boxes are read from each.

| form | outputs | sources |
|---|---|---|
| end to end | dets (1,N,5) x1 y1 x2 y2 score, labels (1,N) | mmdeploy, configs/mmdet/_base_/base_static.py |
| before NMS | boxes (1,A,4), scores (1,A,C) | mmdeploy, mmdet/models/dense_heads/{rtmdet,yolox}_head.py |
| levels | 3 x (1,C,h,w) logits, 3 x (1,4,h,w) distances | mmdeploy, the partition `rtmdet_head` of the same file |
| grid | (1,A,5+C) cx cy w h, objectness, classes | YOLOX, tools/export_onnx.py |

A is the number of cells of the grids of strides 8, 16 and 32. A box of the grid form is (x + column) * stride,
(y + row) * stride, exp(w) * stride, exp(h) * stride (YOLOX, yolox/utils/demo_utils.py: demo_postprocess), unless it was
exported with --decode_in_inference, which puts an Exp into the graph. The levels hold distances in pixels from
(column * stride, row * stride) to the four sides (mmdetection, MlvlPointGenerator with offset 0).

The families want other pixels: RTMDet (x - mean) / std in BGR (mmdetection, configs/rtmdet/rtmdet_l_8xb32-300e_coco.py:
data_preprocessor), YOLOX BGR as it is. A network is YOLOX when its first convolution takes 12 channels (its Focus stem
puts 2x2 pixels into channels), and RTMDet when that takes 3 and there are 5x5 depthwise ones (CSPNeXt's blocks).
YOLOX's models from before 0.1.1 were trained on normalized RGB; nothing in their graphs tells them from later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .graph import Graph

STRIDES = (8, 16, 32)
PERSON = 0
"""The class of people, in COCO's 80 and where it is the only one."""

Arrays = Mapping[str, NDArray]
Found = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Boxes (A,4) xyxy in pixels of the input, and scores (A,) in 0..1 of them being a person."""


@dataclass(frozen=True)
class Family:
    """A kind of network: its name, and what is subtracted from and divides each BGR channel of its input."""

    name: str
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


RTMDET = Family("RTMDet", mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395))
YOLOX = Family("YOLOX")


@dataclass(frozen=True)
class Head:
    """How boxes come out: `read` makes them of the outputs; `done` when the graph has suppressed the doubles itself."""

    family: Family
    form: str
    read: Callable[[Arrays], Found]
    done: bool = False


UNDERSTOOD = (
    "RTMDet and YOLOX as mmdeploy exports them (dets (1,N,5) and labels (1,N); boxes (1,A,4) and scores (1,A,C); "
    "RTMDet's levels) and YOLOX as its authors do ((1,A,5+C))"
)


def family_of(graph: Graph) -> Family | None:
    """Which network it is; None for any other."""
    first = graph.kernels[0][1] if graph.kernels else 0
    if first == 12:
        return YOLOX
    if first == 3 and any(kernel[1:] == (1, 5, 5) for kernel in graph.kernels):
        return RTMDET
    return None


def head_of(graph: Graph, outputs: Arrays, size: tuple[int, int]) -> Head | None:
    """The head of a network that gave `outputs` for an input of `size` (width, height); None for one not understood."""
    family = family_of(graph)
    shapes = [array.shape for array in outputs.values()]
    if family is None or any(shape[:1] != (1,) for shape in shapes):
        return None
    cells = len(_grid(size)[0])
    if set(outputs) == {"dets", "labels"}:
        dets, labels = outputs["dets"].shape, outputs["labels"].shape
        return Head(family, "end to end", _end_to_end, done=True) if len(dets) == 3 and dets == (*labels, 5) else None
    widths = [shape[2] for shape in shapes if len(shape) == 3 and shape[1] == cells]
    if len(shapes) == len(widths) == 1 and widths[0] > 5 and family is YOLOX:
        decoded = "Exp" in graph.operators
        return Head(family, "decoded grid" if decoded else "grid", _grid_reader(size, decoded))
    # With four classes, boxes and scores could not be told apart.
    if len(shapes) == len(widths) == 2 and widths.count(4) == 1:
        return Head(family, "before NMS", _before_nms)
    if family is RTMDET and sorted(shapes) == sorted(_level_shapes(shapes, size)):
        return Head(family, "levels", _level_reader(size))
    return None


def _end_to_end(outputs: Arrays) -> Found:
    # Some providers fill up to a fixed number of rows, with labels of -1 and whatever was in memory.
    dets = outputs["dets"][0][outputs["labels"][0] == PERSON]
    return dets[:, :4], dets[:, 4]


def _before_nms(outputs: Arrays) -> Found:
    boxes, scores = sorted((array[0] for array in outputs.values()), key=lambda array: array.shape[1] != 4)
    return boxes, scores[:, PERSON]


def _grid_reader(size: tuple[int, int], decoded: bool) -> Callable[[Arrays], Found]:
    corners, strides = _grid(size)

    def read(outputs: Arrays) -> Found:
        (rows,) = (array[0] for array in outputs.values())
        scores = rows[:, 4] * rows[:, 5 + PERSON]
        middles, extents = rows[:, :2], rows[:, 2:4]
        if not decoded:
            with np.errstate(over="ignore"):  # the widths of cells that see nothing may be anything
                middles, extents = middles * strides + corners, np.exp(extents) * strides
        return np.concatenate([middles - extents / 2, middles + extents / 2], axis=1), scores

    return read


def _level_shapes(shapes: list[tuple[int, ...]], size: tuple[int, int]) -> list[tuple[int, ...]]:
    """The six shapes of RTMDet's levels, with as many classes as there are channels beside the four of the boxes."""
    classes = next((shape[1] for shape in shapes if len(shape) == 4 and shape[1] != 4), 0)
    grids = [(size[1] // stride, size[0] // stride) for stride in STRIDES]
    return [(1, channels, *grid) for channels in (classes, 4) for grid in grids]


def _level_reader(size: tuple[int, int]) -> Callable[[Arrays], Found]:
    corners, _ = _grid(size)

    def read(outputs: Arrays) -> Found:
        levels = sorted(outputs.values(), key=lambda array: -array.shape[2])  # fine to coarse, as the grid is
        logits = np.concatenate([level[0, PERSON].ravel() for level in levels if level.shape[1] != 4])
        sides = np.concatenate([level[0].reshape(4, -1).T for level in levels if level.shape[1] == 4])
        with np.errstate(over="ignore"):
            scores = 1 / (1 + np.exp(-logits))
        return np.concatenate([corners - sides[:, :2], corners + sides[:, 2:]], axis=1), scores

    return read


def _grid(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Top left corners (A,2) in pixels and strides (A,1) of all cells, level by level, row by row."""
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = np.indices((size[1] // stride, size[0] // stride), np.float32)
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1) * stride)
        strides.append(np.full((rows.size, 1), stride, np.float32))
    return np.concatenate(corners), np.concatenate(strides)

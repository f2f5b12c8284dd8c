"""One pass of crops through the float network: the histogram of every tensor that a grid may quantize."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from rtmw_edge.quantization import Grid
from torch import Tensor, nn

from rtmw_edge.errors import BadInputError
from rtmw_edge.models.variants import MEAN_RGB, STD_RGB, Variant

from .counting import BinCounter
from .histogram import Histogram
from .kept import Kept

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import Deployable

SILU_FLOOR = -6.0
"""Values below it are counted as this one where SiLU comes next and integers have 8 bits: there SiLU is -0.015 and then
nearer to zero, an error below half a step of any range that reaches 6, so that no range need go further down."""


@dataclass(frozen=True)
class Observed:
    """What one pass saw; every method takes its ranges from it.

    Attributes:
        histograms: by point. Points that stand for one and the same tensor share one: some formats have a single scale
            for it.
        kept: crops uint8 (K,H,W,3) spread evenly over the pass, for what needs to run the network again.
        crops: how many went through.
    """

    histograms: Mapping[str, Histogram]
    kept: NDArray[np.uint8]
    crops: int


class Observer(nn.Module):
    """Identity that counts what passes through, once for each tensor however many observers it passes.

    What is below `floor` is counted as `floor`.
    """

    def __init__(self, point: str, counter: BinCounter, seen: Seen, floor: float | None = None) -> None:
        super().__init__()
        self.point, self.histogram, self.floor = point, Histogram(), floor
        self._counter, self._seen = counter, seen

    def forward(self, values: Tensor) -> Tensor:
        first = self._seen.first_observer(values, self)
        if first is not self:
            self.histogram = first.histogram
            return values
        rows = values.permute(0, 2, 3, 1) if values.is_contiguous(memory_format=torch.channels_last) else values
        rows = rows.reshape(len(values), -1)
        rows = rows if self.floor is None else rows.clamp(min=self.floor)
        minima, maxima = torch.amin(rows, 1).numpy(), torch.amax(rows, 1).numpy()  # aminmax is ten times slower
        absmax = float(max(-minima.min(), maxima.max()))
        if not np.isfinite(absmax):
            raise BadInputError(
                f"The network gives {absmax} at '{self.point}' on a calibration image; check the weights."
            )
        exponent = self.histogram.widen(absmax)
        self._counter.count(rows.reshape(-1).numpy(), exponent, self.histogram.counts)
        self.histogram.add_extremes(minima, maxima)
        return values


class Seen:
    """The tensors of one forward pass by identity, and who observed each first; none is kept alive for it."""

    def __init__(self) -> None:
        self._observers: dict[int, tuple[weakref.ref[Tensor], Observer]] = {}

    def first_observer(self, values: Tensor, observer: Observer) -> Observer:
        """The first observer of this very tensor, which is `observer` when there was none."""
        tensor, first = self._observers.get(id(values), (None, observer))
        if tensor is not None and tensor() is values:
            return first
        self._observers[id(values)] = weakref.ref(values), observer
        return observer


class Pass:
    """Crops going through a copy of `deployable`, every tensor that `grid` quantizes being counted, in constant memory.

    Convolution inputs are counted on every grid with activations, because weight scales depend on them.
    """

    def __init__(self, deployable: Deployable, grid: Grid) -> None:
        self._network, self._variant = copy.deepcopy(deployable), deployable.variant
        self._observers = _place_observers(self._network, grid, BinCounter(torch.get_num_threads()))
        self._kept, self._count = Kept(), 0

    def add(self, batch: NDArray[np.uint8]) -> None:
        """Count a uint8 BGR batch (N,H,W,3) of the network's input size; BadInputError for another."""
        with torch.inference_mode():
            self._network(normalized(batch, self._variant))
        self._kept.add(batch)
        self._count += len(batch)

    def observed(self) -> Observed:
        """What the crops so far showed; BadInputError when there was none."""
        if not self._count:
            raise BadInputError(
                "No image to calibrate on; give a folder with images or synthetic:N with N of at least 1."
            )
        histograms = {observer.point: observer.histogram for observer in self._observers}
        return Observed(histograms, self._kept.crops(), self._count)


def observe(deployable: Deployable, crops: Iterable[NDArray[np.uint8]], grid: Grid) -> Observed:
    """What one `Pass` of batches (N,H,W,3) shows."""
    through = Pass(deployable, grid)
    for batch in crops:
        through.add(batch)
    return through.observed()


def _place_observers(network: Deployable, grid: Grid, counter: BinCounter) -> list[Observer]:
    seen = Seen()
    observers = []

    def observer(point: str, floor: float | None = None) -> Observer:
        observers.append(Observer(point, counter, seen, floor))
        return observers[-1]

    if not grid.calibrated:
        return []
    for name, convolution in network.convolutions().items():
        convolution.quant_in = observer(f"{name}:input")
        if "output" in grid.points and convolution.activation != "relu6":
            is_dull = convolution.activation == "silu" and grid.bits == 8
            convolution.quant_out = observer(f"{name}:output", SILU_FLOOR if is_dull else None)
    if grid.between:
        for point, place in network.between().items():
            if not point.endswith(":sigmoid"):
                place.quant = observer(point)
    return observers


def normalized(batch: np.ndarray, variant: Variant) -> Tensor:
    """Normalized BGR (N,3,H,W) float32 of uint8 BGR crops (N,H,W,3); BadInputError for another type or shape."""
    width, height = variant.input_size
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != (height, width, 3):
        raise BadInputError(
            f"A calibration batch is {batch.dtype} {batch.shape}; {variant.name} takes uint8 (N, {height}, {width}, 3)."
        )
    mean, std = (np.array(values[::-1], np.float32) for values in (MEAN_RGB, STD_RGB))
    return torch.from_numpy((batch.astype(np.float32) - mean) / std).permute(0, 3, 1, 2)

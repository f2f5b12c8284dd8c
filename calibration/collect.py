"""One pass of images through the torch network, and the quantization table that follows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import torch
from rtmw_edge.quantization import COMMON, Entry, Grid, Table
from rtmw_edge.quantization.fake import Convolution, weight_arrays, weights_sha256
from rtmw_edge.quantization.grids import RELU6_SCALE
from torch import Tensor, nn

import rtmw_edge
from rtmw_edge.errors import BadInputError
from rtmw_edge.models.variants import MEAN_RGB, STD_RGB, Variant

from .histogram import BINS, Histogram
from .ranges import PERCENTILE, Method, range_of


class Deployable(Protocol):
    """A network that takes normalized BGR crops (N,3,H,W) and gives its convolutions by name."""

    variant: Variant

    def convolutions(self) -> Mapping[str, Convolution]: ...

    def __call__(self, normalized: Tensor) -> tuple[Tensor, ...]: ...


class Observer(nn.Module):
    """Identity that counts the magnitudes passing through."""

    def __init__(self, point: str) -> None:
        super().__init__()
        self.point, self.histogram = point, Histogram()

    def forward(self, values: Tensor) -> Tensor:
        magnitudes = values.abs()
        absmax = float(magnitudes.max())
        if not np.isfinite(absmax):
            raise BadInputError(
                f"The network gives {absmax} at '{self.point}' on a calibration image; check the weights."
            )
        exponent = self.histogram.range_for(absmax)
        # Scaling by a power of two is exact, so that a bin's edges are exact too.
        bins = magnitudes.mul_(BINS / 2.0**exponent).to(torch.int32).flatten()
        self.histogram.add_counts(torch.bincount(bins, minlength=BINS).numpy(), exponent, absmax)
        return values


def collect(
    deployable: Deployable,
    crops: Iterable[np.ndarray],
    method: Method | str = Method.PERCENTILE,
    *,
    grid: Grid = COMMON,
    percentile: float = PERCENTILE,
    manifest: Callable[[], Mapping[str, Any]] = dict,
) -> Table:
    """The table of `grid` for `deployable`, from one pass over `crops`.

    `crops` yields uint8 BGR batches (N,H,W,3) of the network's input size; memory does not grow with their number. The
    same network and crops give the same table on the same machine. When all have been seen, `manifest` is asked for
    what they were; the table's provenance holds the answer with the method and the versions. Raises BadInputError when
    there is no crop or one has another shape.
    """
    if not (grid.symmetric and grid.bits == 8 and not grid.between):
        raise BadInputError(f"Calibration for the grid {grid.name} is not here yet; use common.")
    method = Method.named(str(method))
    observed = copy.deepcopy(deployable)
    observers = _observe(observed.convolutions())
    count = 0
    with torch.inference_mode():
        for batch in crops:
            observed(_normalized(batch, deployable.variant))
            count += len(batch)
    if not count:
        raise BadInputError("No image to calibrate on; give a folder with images or synthetic:N with N of at least 1.")
    source = f"{method} {percentile:g}" if method is Method.PERCENTILE else str(method)
    entries: dict[str, Entry] = {}
    for name, convolution in deployable.convolutions().items():
        for kind in ("input", "output"):
            point = f"{name}:{kind}"
            if kind == "output" and convolution.activation == "relu6":
                entries[point] = Entry(np.array([RELU6_SCALE]), source="fixed")
                continue
            absmax = range_of(observers[point].histogram, method, percentile=percentile, high=COMMON.high)
            entries[point] = Entry(COMMON.scale_of_range(absmax), source=source)
        weight, bias = weight_arrays(convolution)
        scale = COMMON.weight_scale(weight, bias, float(entries[f"{name}:input"].scale[0]))
        entries[f"{name}:weight"] = Entry(scale, axis=0, source="weights")
    provenance = {**manifest(), "method": source, "crops": count, "versions": _versions()}
    return Table(deployable.variant.name, entries, COMMON.name, provenance, weights_sha256(deployable))


def _versions() -> dict[str, str]:
    return {"rtmw-edge": rtmw_edge.__version__, **{name: version(name) for name in ("torch", "numpy")}}


def _observe(convolutions: Mapping[str, Convolution]) -> dict[str, Observer]:
    observers = {}
    for name, convolution in convolutions.items():
        convolution.quant_in = observers[f"{name}:input"] = Observer(f"{name}:input")
        if convolution.activation != "relu6":
            convolution.quant_out = observers[f"{name}:output"] = Observer(f"{name}:output")
    return observers


def _normalized(batch: np.ndarray, variant: Variant) -> Tensor:
    """Normalized BGR (N,3,H,W) float32 of uint8 BGR crops (N,H,W,3)."""
    width, height = variant.input_size
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != (height, width, 3):
        raise BadInputError(
            f"A calibration batch is {batch.dtype} {batch.shape}; {variant.name} takes uint8 (N, {height}, {width}, 3)."
        )
    mean, std = (np.array(values[::-1], np.float32) for values in (MEAN_RGB, STD_RGB))
    return torch.from_numpy((batch.astype(np.float32) - mean) / std).permute(0, 3, 1, 2)

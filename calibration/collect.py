"""From what one pass saw to the quantization table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rtmw_edge.quantization import COMMON, SIGMOID, Entry, Grid, Table
from rtmw_edge.quantization.fake import points_of, weights_sha256

import rtmw_edge
from rtmw_edge.crops import PADDING
from rtmw_edge.errors import BadInputError
from rtmw_edge.models.variants import MEAN_RGB, STD_RGB, Variant

from .bias import bias_corrections
from .consumers import CROPS, activation_entry, errors_at_consumers, weight_entry
from .histogram import Histogram
from .observing import Observed, observe
from .ranges import SINGLE, Method, Range, default_percentile, range_of

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import Deployable

RELU6 = (0.0, 6.0)
"""The range of every ReLU6 output; a converter that folds the clamp in must cover all of it."""

Chosen = tuple[Range, str]
"""A range and the method that gave it."""


@dataclass(frozen=True)
class Settings:
    """How scales are chosen from what was seen.

    Attributes:
        percentile: of the method of that name, alone and among those that `best` tries, in percent; None for
            the grid's own (`ranges.default_percentile`).
        bias_correction: whether the mean shift of rounding is taken out of the biases.
    """

    method: Method = Method.PERCENTILE
    grid: Grid = COMMON
    percentile: float | None = None
    bias_correction: bool = False

    def __post_init__(self) -> None:
        if self.percentile is not None and not 50.0 < self.percentile <= 100.0:
            raise BadInputError(
                f"Percentile {self.percentile:g} is not above 50 and at most 100; "
                f"try {default_percentile(self.grid):g}."
            )

    @property
    def kept(self) -> float:
        """The share of values, in percent, that the method percentile keeps inside."""
        return default_percentile(self.grid) if self.percentile is None else self.percentile

    @property
    def described(self) -> str:
        """The method with its parameter: "percentile 99.999"."""
        return self.method.described(self.kept)


def collect(
    deployable: Deployable,
    crops: Iterable[NDArray[np.uint8]],
    settings: Settings | None = None,
    *,
    manifest: Callable[[], Mapping[str, Any]] = dict,
) -> Table:
    """The table for `deployable` from one pass over `crops`.

    `crops` yields uint8 BGR batches (N,H,W,3) of the network's input size; memory does not grow with their number. The
    same network and crops give the same table on the same machine. When all have been seen, `manifest` is asked for
    what they were; the table's provenance holds the answer with the settings and the versions. Raises BadInputError
    when there is no crop or one has another shape.
    """
    settings = settings or Settings()
    observed = observe(deployable, crops, settings.grid)
    return table_of(deployable, observed, settings, manifest())


def table_of(
    deployable: Deployable, observed: Observed, settings: Settings, manifest: Mapping[str, Any] | None = None
) -> Table:
    """The table from what one pass saw, which serves all settings whose grids have the same points."""
    grid, source = settings.grid, settings.described
    if settings.method is Method.BEST:
        chosen = _best(deployable, observed, settings)
    else:
        chosen = _by_histogram(observed, lambda seen: (_range(seen, settings.method, settings), source))
    provenance = {
        **(manifest or {}),
        "method": source,
        "bias_correction": settings.bias_correction,
        "crops": observed.crops,
        "preprocessing": _preprocessing(deployable.variant),
        "versions": _versions(),
        "threads": torch.get_num_threads(),
    }
    entries = _entries(deployable, chosen, grid)
    table = Table(deployable.variant.name, entries, grid.name, provenance, weights_sha256(deployable))
    if settings.bias_correction:
        table = replace(table, bias_corrections=bias_corrections(deployable, table, observed.kept))
    return table


def _range(seen: Histogram, method: Method, settings: Settings) -> Range:
    return range_of(seen, method, settings.grid, percentile=settings.kept)


def _entries(deployable: Deployable, chosen: Mapping[str, Chosen], grid: Grid) -> dict[str, Entry]:
    points = points_of(deployable, grid)
    entries: dict[str, Entry] = {}
    for name, convolution in deployable.convolutions().items():
        if f"{name}:output" in points and convolution.activation == "relu6":
            entries[f"{name}:output"] = activation_entry(grid, RELU6, "fixed")
        input_scale = None
        if grid.calibrated:
            input_scale = float(activation_entry(grid, chosen[f"{name}:input"][0]).scale[0])
        entries[f"{name}:weight"] = weight_entry(grid, convolution, input_scale)
    for point in points - entries.keys():
        if point.endswith(":sigmoid"):
            entries[point] = SIGMOID
        else:
            ends, source = chosen[point]
            entries[point] = activation_entry(grid, ends, source)
    return entries


def _best(deployable: Deployable, observed: Observed, settings: Settings) -> dict[str, Chosen]:
    """For every tensor the method of least error at its consumers, the first of equal ones in the order of `SINGLE`."""

    def tried(seen: Histogram) -> dict[Range, str]:
        found: dict[Range, str] = {}
        for method in SINGLE:
            found.setdefault(_range(seen, method, settings), method.described(settings.kept))
        return found

    candidates = _by_histogram(observed, tried)
    few = observed.kept[:: -(-len(observed.kept) // CROPS)]
    ranges = {point: list(found) for point, found in candidates.items()}
    errors = errors_at_consumers(deployable, few, ranges, settings.grid)
    groups: dict[int, list[str]] = {}
    for point, seen in observed.histograms.items():
        groups.setdefault(id(seen), []).append(point)
    chosen: dict[str, Chosen] = {}
    for points in groups.values():
        readers = [point for point in points if point.endswith(":input")] or points
        best = int(np.argmin(sum(errors[point] for point in readers)))
        ends, source = list(candidates[points[0]].items())[best]
        chosen.update(dict.fromkeys(points, (ends, f"best: {source}")))
    return chosen


def _by_histogram(observed: Observed, rule: Callable[[Histogram], Any]) -> dict[str, Any]:
    """The answer of `rule` for every point, asked once for points of one tensor."""
    answers = {id(seen): rule(seen) for seen in {id(seen): seen for seen in observed.histograms.values()}.values()}
    return {point: answers[id(seen)] for point, seen in observed.histograms.items()}


def _preprocessing(variant: Variant) -> dict[str, Any]:
    """How a box became the network's input."""
    return {
        "input_size": list(variant.input_size),
        "padding": PADDING,
        "interpolation": "bilinear",
        "color": "BGR",
        "mean_rgb": list(MEAN_RGB),
        "std_rgb": list(STD_RGB),
    }


def _versions() -> dict[str, str]:
    return {
        "rtmw-edge": rtmw_edge.__version__,
        "opencv": cv2.__version__,
        **{name: version(name) for name in ("torch", "numpy", "numba")},
    }

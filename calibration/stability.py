"""How much a table depends on which images were drawn: the same calibration on either half of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rtmw_edge.quantization import Entry, Grid, Table
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.quantization.inference import for_inference

from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation import Dataset
from rtmw_edge.evaluation.whole_body_ap import EVALUATED_PARTS

from .judging import Judge
from .observing import Observed, Pass

if TYPE_CHECKING:
    from rtmw_edge.targets.rewrites import Deployable

MOVED = 0.2
"""A range that moves by more than this share of the narrower one is reported."""


@dataclass(frozen=True)
class Moved:
    """A point whose range differs between the halves: (least, largest) in each, and by how much.

    `change` is the way that both ends moved, over the width of the narrower range: on a symmetric grid, how much larger
    the larger scale is.
    """

    point: str
    first: tuple[float, float]
    second: tuple[float, float]
    change: float


@dataclass(frozen=True)
class Stability:
    """What two halves of the images disagree about.

    Attributes:
        points: how many tensors were compared; `moved` those beyond `MOVED`, the most moved first.
        ap: by part, AP in points (0..100) with the table of the first half, and of the second.
        dataset: what AP was measured on.
    """

    points: int
    moved: tuple[Moved, ...]
    ap: Mapping[str, tuple[float, float]]
    dataset: str

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


class Halves:
    """The even and the odd crops of a stream, each in a pass of its own."""

    def __init__(self, deployable: Deployable, grid: Grid) -> None:
        self._passes = Pass(deployable, grid), Pass(deployable, grid)
        self._count = 0

    def add(self, batch: NDArray[np.uint8]) -> None:
        """Count a batch of crops (N,H,W,3)."""
        for half, through in enumerate(self._passes):
            crops = batch[(half + self._count) % 2 :: 2]
            if len(crops):
                through.add(crops)
        self._count += len(batch)

    def observed(self) -> tuple[Observed, Observed]:
        """What each half showed; BadInputError when there was but one crop."""
        if self._count == 1:
            raise BadInputError("One image cannot be split in two; give more images, or leave out --stability.")
        return self._passes[0].observed(), self._passes[1].observed()


def stability(
    deployable: Deployable,
    first: Table,
    second: Table,
    dataset: Dataset,
    on_judged: Callable[[int, int], None] = lambda done, total: None,
) -> Stability:
    """Compare the tables of two halves: their ranges, and the accuracy of `deployable` with each on `dataset`.

    `on_judged(done, total)` is called as people are judged.
    """
    points, moved = compare(first, second)
    judge = Judge(dataset, deployable.variant)
    found = [
        judge.evaluate(for_inference(fake_quantize(deployable, table)), on_judged=on_judged)
        for table in (first, second)
    ]
    ap = {
        part: (100 * found[0].parts[part].ap, 100 * found[1].parts[part].ap)
        for part in EVALUATED_PARTS
        if found[0].parts[part].ap >= 0
    }
    return Stability(points, moved, ap, found[0].dataset)


def compare(first: Table, second: Table) -> tuple[int, tuple[Moved, ...]]:
    """How many activation ranges two tables have in common, and those that moved, the most moved first."""
    shared = [point for point, entry in first.entries.items() if entry.axis is None and entry.source != "fixed"]
    changes = []
    for point in shared:
        one, other = _ends(first.entries[point]), _ends(second.entries[point])
        narrower = min(one[1] - one[0], other[1] - other[0])
        changes.append(Moved(point, one, other, (abs(one[0] - other[0]) + abs(one[1] - other[1])) / narrower))
    moved = [change for change in changes if change.change > MOVED]
    return len(shared), tuple(sorted(moved, key=lambda change: (-change.change, change.point)))


def _ends(entry: Entry) -> tuple[float, float]:
    scale = float(entry.scale[0])
    return scale * (entry.low - entry.zero_point), scale * (entry.high - entry.zero_point)

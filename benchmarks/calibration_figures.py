"""The figures of docs/calibration.md: `python benchmarks/calibration_figures.py [--weights FILE] [--threads 1]`

Calibrates rtmw-n (the shipped weights, or others) on rendered people in many ways and measures the accuracy of the
fake-quantized network in PyTorch. Settings are compared on validation people from number 10,000 on; what is reported is
on the 500 of `synthetic:val`. Every figure is kept in docs/calibration.json as soon as it is there, and is not measured
again for the same weights, so that the command can be stopped and goes on. Writes the tables into docs/calibration.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rtmw_edge.calibration import Method, Source
from rtmw_edge.calibration.collect import Settings, table_of
from rtmw_edge.calibration.judging import Judge
from rtmw_edge.calibration.observing import Observed, observe
from rtmw_edge.calibration.people import Person, Rendered
from rtmw_edge.calibration.sources import batches
from rtmw_edge.quantization import GRIDS
from rtmw_edge.quantization.fake import fake_quantize, weights_sha256
from rtmw_edge.quantization.inference import for_inference
from rtmw_edge.targets.export import load_deployable

from rtmw_edge.evaluation.datasets import SyntheticPeople
from rtmw_edge.files import atomic_write
from rtmw_edge.models import variant_named
from rtmw_edge.models.weights import find

VARIANT = "rtmw-n-256x192"
DOCS = Path(__file__).parents[1] / "docs"
STORE, PAGE = DOCS / "calibration.json", DOCS / "calibration.md"
POOL = 1000
"""Rendered people that counts are taken from."""

COUNT = 300
"""People that methods are compared with."""

CHOICE_COUNT, CHOICE_FIRST, CHOICE_PEOPLE = 200, 10_000, 200
COUNTS, COVERING = (50, 100, 300, 1000), (50, 100, 300)
PERCENTILES = {"common": (99.9, 99.95, 99.98, 99.99, 99.995, 99.999, 99.9999), "affine": (99.95, 99.98, 99.99, 99.999)}
OTHERS = {"common": ("minmax", "moving-average", "entropy", "mse", "best"), "affine": ("minmax", "mse", "best")}
PARTS = {"body": "body", "foot": "foot", "face": "face", "left hand": "left_hand", "right hand": "right_hand"}


@dataclass(frozen=True)
class Cell:
    """One calibration and where it is judged; `count` 0 is the float network, `covering` how people are taken."""

    judged: str
    count: int = 0
    covering: bool = False
    grid: str = "common"
    method: str = "percentile"
    percentile: float | None = None
    bias_correction: bool = False

    @property
    def settings(self) -> Settings:
        return Settings(Method(self.method), GRIDS[self.grid], self.percentile, self.bias_correction)

    @property
    def key(self) -> str:
        if not self.count:
            return f"{self.judged} float"
        taken = f"{self.count} {'covering' if self.covering else 'first'}"
        bias = " bias" if self.bias_correction else ""
        return f"{self.judged} {taken} {self.grid} {self.settings.described}{bias}"


CHOICE = [
    Cell("choice"),
    *(
        Cell("choice", CHOICE_COUNT, grid=grid, percentile=percentile)
        for grid, percentiles in PERCENTILES.items()
        for percentile in percentiles
    ),
    *(Cell("choice", CHOICE_COUNT, grid=grid, method=method) for grid, methods in OTHERS.items() for method in methods),
    Cell("choice", CHOICE_COUNT, bias_correction=True),
]
METHODS = [
    Cell("val"),
    *(Cell("val", COUNT, method=str(method)) for method in Method),
    Cell("val", COUNT, bias_correction=True),
    *(Cell("val", COUNT, grid="affine", method=method) for method in ("percentile", "mse", "best")),
    *(Cell("val", COUNT, grid=grid) for grid in ("full", "w8a16")),
]
CURVE = [*(Cell("val", count) for count in COUNTS), *(Cell("val", count, covering=True) for count in COVERING)]


class Held:
    """The people of a source's pool, each rendered once and kept in memory."""

    def __init__(self, count: int) -> None:
        self._people = Rendered(count, seed=0)
        self._held: dict[int, Person] = {}

    def __len__(self) -> int:
        return len(self._people)

    def person(self, index: int, input_size: tuple[int, int]) -> Person:
        if index not in self._held:
            self._held[index] = self._people.person(index, input_size)
        return self._held[index]

    def files(self) -> list[Path]:
        return []

    def manifest(self, indices: Sequence[int]) -> dict[str, Any]:
        return self._people.manifest(indices)


class First(Held):
    """The first `count` of a pool."""

    def __init__(self, pool: Held, count: int) -> None:
        self._pool, self._count = pool, count

    def __len__(self) -> int:
        return self._count

    def person(self, index: int, input_size: tuple[int, int]) -> Person:
        return self._pool.person(index, input_size)


class Bench:
    """Measures cells, keeping what they share: rendered people, passes, judges."""

    def __init__(self, store: Path, weights_file: Path | None = None) -> None:
        self._store = store
        self.variant = variant_named(VARIANT)
        self._network = load_deployable(self.variant, find(self.variant, weights_file))
        weights = weights_sha256(self._network)
        known = json.loads(store.read_text()) if store.is_file() else {}
        self.figures: dict[str, Any] = known["figures"] if known.get("weights_sha256") == weights else {}
        self._document = {"variant": VARIANT, "weights_sha256": weights, "figures": self.figures}
        self._pool = Held(POOL)
        self._passes: dict[tuple[int, bool, bool, int], Observed] = {}
        self._judges: dict[str, Judge] = {}

    def measure(self, cell: Cell) -> None:
        """Measure one cell, unless it is known, and write it down."""
        if cell.key in self.figures:
            return
        network = self._network
        if cell.count:
            table = table_of(network, self._observed(cell), cell.settings)
            network = for_inference(fake_quantize(network, table))
        found = self._judge(cell.judged).evaluate(network, intervals=True)
        self.figures[cell.key] = {
            "ap": {part: round(100 * scores.ap, 2) for part, scores in found.parts.items()},
            "interval": {part: [round(100 * end, 2) for end in ends] for part, ends in found.ap_interval.items()},
            "pck": round(100 * found.pck["whole"], 2),
        }
        with atomic_write(self._store) as temporary:
            temporary.write_text(json.dumps(self._document, indent=1) + "\n")
        print(cell.key, self.figures[cell.key]["ap"], self.figures[cell.key]["pck"], flush=True)

    def _observed(self, cell: Cell) -> Observed:
        grid = cell.settings.grid
        key = cell.count, cell.covering, grid.between, grid.bits
        if key not in self._passes:
            source = Source(self._pool, cell.count) if cell.covering else Source(First(self._pool, cell.count))
            crops = batches(source, self.variant.input_size)
            self._passes[key] = observe(self._network, crops, grid)
        return self._passes[key]

    def _judge(self, judged: str) -> Judge:
        if judged not in self._judges:
            people = SyntheticPeople() if judged == "val" else SyntheticPeople(CHOICE_PEOPLE, CHOICE_FIRST)
            self._judges = {judged: Judge(people, self.variant)}
        return self._judges[judged]


def rows(cells: Iterable[Cell], figures: dict[str, Any], name: Callable[[Cell], str]) -> Iterator[str]:
    """Lines of a Markdown table: one a cell that is measured, AP of every part."""
    yield "| | " + " | ".join((*PARTS, "whole", "95 %", "PCK")) + " |"
    yield "|---|" + "---|" * (len(PARTS) + 3)
    for cell in cells:
        if cell.key not in figures:
            continue
        found = figures[cell.key]
        aps = [f"{found['ap'][part]:.1f}" for part in (*PARTS.values(), "whole")]
        low, high = found["interval"]["whole"]
        yield f"| {name(cell)} | " + " | ".join((*aps, f"{low:.1f} to {high:.1f}", f"{found['pck']:.1f}")) + " |"


def described(cell: Cell) -> str:
    """A cell by its grid and method."""
    if not cell.count:
        return "float"
    bias = ", bias correction" if cell.bias_correction else ""
    return f"{cell.grid}, {cell.settings.described}{bias}"


def by_count(cell: Cell) -> str:
    """A cell by how many people, and which."""
    return f"{cell.count} {'chosen for cover' if cell.covering else 'the first'}"


def write_page(page: Path, figures: dict[str, Any]) -> None:
    """Put the tables between the marks of the page."""
    text = page.read_text()
    tables = {
        "choice": rows(CHOICE, figures, described),
        "methods": rows(METHODS, figures, described),
        "curve": rows(CURVE, figures, by_count),
    }
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + "\n".join(lines) + "\n" + end + after
    with atomic_write(page) as temporary:
        temporary.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--weights", type=Path, help="default: the shipped ones")
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(options.store, options.weights)
    for cell in (*METHODS, *CURVE, *CHOICE):
        bench.measure(cell)
    write_page(options.page, bench.figures)


if __name__ == "__main__":
    main()

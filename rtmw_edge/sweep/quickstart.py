"""The main job in front of the user: a small sweep of every installed target in float and int8, with pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rtmw_edge.targets import ON_CPUS, target_named
from rtmw_edge.targets.base import installed
from rtmw_edge.targets.export import NEEDED

from .. import __version__
from ..crops import read_image
from ..errors import NotAvailableError, VerificationError
from ..evaluation import open_dataset
from ..files import atomic_write, check_replaceable, claim_directory
from ..models.weights import shipped_table
from ..poses import Poses
from ..runtime import Runner, load
from ..runtime.detectors import open_detector
from ..runtime.drawing import draw
from ..runtime.timing import in_turns
from .config import TORCH, SweepConfig, TablePair
from .plan import plan_of
from .report import REPORT, write_report
from .rows import PART_ORDER, Row
from .start import Options, carry_out
from .store import FILE, OK
from .tables import lost
from .verdicts import fastest, verdicts

VARIANT = "rtmw-n-256x192"
PRECISIONS = ("fp32", "int8")
PICTURES = 3
THRESHOLD = 0.1
"""Pictures here are to compare targets, so they show keypoints that the small network is not sure of as well."""
SHORT_PARTS = ("body", "foot", "face", "left", "right", "whole")


class Quickstart:
    """One run; `run()` does it all. `out` is the store of a sweep: a second run reuses what is there.

    Args:
        out: folder of the store, `bundles/`, `pictures/`, `report.html`; must be new, empty or ours.
        image: a photograph to run as well; the builtin detector finds its people.
        count: validation people to evaluate on. calibration: rendered people to calibrate on, where the embedded model
            has no quantization table of its own.
    """

    def __init__(
        self, out: Path, image: Path | None, count: int, calibration: int, threads: int | None, console: Console
    ) -> None:
        self.out, self.count, self.calibration, self.threads, self.console = out, count, calibration, threads, console
        if not (out / FILE).exists():
            check_replaceable(out)
        self.image = None if image is None else read_image(image)
        self.image_name = "" if image is None else image.stem
        self._boxes: NDArray[np.float32] | None = None

    def run(self) -> None:
        """Raises VerificationError at the end when a bundle did not reproduce its golden outputs."""
        targets, missing = installed_targets()
        if not targets:
            self._ready_bundle(missing)
            return
        run, rows = carry_out(plan_of(self._config(targets)), Options(self.out), self.console)
        pictures = [path for row in rows if row.status == OK and row.cell.target != TORCH for path in self._drawn(row)]
        write_report(self.out / REPORT, rows, run.document, pictures=pictures, notes=self._notes())
        self._show(rows)
        for target, what in missing.items():
            self._say(f"{target}: {what}")
        failed = [f"{row.cell.target} {row.cell.precision}" for row in rows if row.status != OK]
        if failed:
            raise VerificationError(f"These did not work: {', '.join(failed)}; the report says why.")

    def _config(self, targets: list[str]) -> SweepConfig:
        """Int8 is what was trained, where such a table ships; calibrated otherwise."""
        trained = shipped_table(VARIANT, "common") is not None
        return SweepConfig(
            variants=(VARIANT,),
            targets=(TORCH, *targets),
            precisions=PRECISIONS,
            grids=("common",),
            data=f"synthetic:val:{self.count}",
            calibration=(f"synthetic:{self.calibration}",),
            tables=(TablePair("shipped", VARIANT),) if trained else (),
            exclude=({"precision": ("int8",), "table": ("",)},) if trained else (),
            threads=(self.threads or 0,),
        )

    def _say(self, line: str) -> None:
        """Print a line as it is: no wrapping of paths."""
        self.console.print(line, highlight=False, soft_wrap=True)

    def _ready_bundle(self, missing: dict[str, str]) -> None:
        """Without converters: the bundle that comes with the package, on the user's image."""
        self._say("The converters are not installed, so this runs the ready bundle of the package.")
        with load("builtin", threads=self.threads) as runner:
            size = runner.input_size
            crop = np.zeros((1, size[1], size[0], 3), np.uint8)
            pace = in_turns(lambda: runner.logits(crop), lambda: runner.logits(crop))
            ran = runner.describe()
            self._say(
                f"{runner.model.variant}, {runner.model.precision}, {ran.runtime} {ran.version}: {pace.ms_p50:.1f} ms "
                f"a crop (p90 {pace.ms_p90:.1f}), {ran.int8} of {ran.convolutions} convolutions in int8."
            )
            if self.image is not None:
                claim_directory(self.out, f"a quickstart of rtmw-edge {__version__}")
                path = self._draw(runner, self.image, self.image_name, self._poses(runner, self.image))
                self._say(f"Picture: {path}")
        reason = next(iter(missing.values()), "")
        self._say(f"To export to all targets and compare them: {reason}")

    def _drawn(self, row: Row) -> Iterator[Path]:
        """The first people and the user's image as an int8 bundle sees them."""
        bundle = self.out / "bundles" / row.accuracy["bundle"]
        if row.cell.precision != "int8":
            return
        if not bundle.exists():
            self._say(
                f"{row.label}: its bundle is gone, so there are no pictures of it; remove {self.out} to begin anew."
            )
            return
        with load(bundle, threads=self.threads) as runner:
            for item in open_dataset(row.cell.data, min(PICTURES, self.count)):
                poses = runner(item.image, item.people.boxes)
                yield self._draw(runner, item.image, f"rendered-{item.image_id}", poses)
            if self.image is not None:
                yield self._draw(runner, self.image, self.image_name, self._poses(runner, self.image))

    def _poses(self, runner: Runner, image: NDArray[np.uint8]) -> Poses:
        """The people in the user's image, the same for every runner; the whole image where nobody is found."""
        if self._boxes is None:
            self._boxes, _ = open_detector(threads=self.threads)(image)
            found = len(self._boxes)
            self._say(f"In {self.image_name}: {found or 'no'} {'person' if found == 1 else 'people'}.")
        return runner(image, self._boxes if len(self._boxes) else None)

    def _draw(self, runner: Runner, image: np.ndarray, name: str, poses: Poses) -> Path:
        sure = replace(poses, scores=runner.confidence(poses))
        path = self.out / "pictures" / f"{name}-{runner.model.target}-{runner.model.precision}.jpg"
        with atomic_write(path) as temporary:
            cv2.imwrite(str(temporary), draw(image, sure, threshold=THRESHOLD))
        return path

    def _notes(self) -> list[str]:
        return [
            f"{self.count} rendered people of the validation split, with their true boxes. Rendered people are not "
            "photographs: read these figures as int8 against float.",
            "Convolutions in int8 as the runtime itself reports them.",
        ]

    def _show(self, rows: list[Row]) -> None:
        table = Table(
            title=f"{VARIANT}: ms a crop; of each part AP in %, below it points lost\n"
            "against float, then px from torch (p99); left and right hand",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("target", no_wrap=True)
        for heading in ("MB", "p50", "p90", "int8", *SHORT_PARTS):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            name = f"{row.cell.target}\n{row.cell.precision}"
            if row.status != OK:
                table.add_row(name, Text("failed", "red"))
                continue
            runs, size = row.accuracy["runs"], row.accuracy.get("megabytes")
            cells: list[str | Text] = [f"{size:.1f}" if size else "-"]
            cells += [f"{row.speed['ms_p50']:.1f}", f"{row.speed['ms_p90']:.1f}"]
            cells.append(f"{runs['int8']}/{sum(runs['kernels'].values())}")
            for part in PART_ORDER:
                ap, drop, moved = row.ap(part), row.drop.get(part), row.px(part)
                below = lost(drop.value) if drop is not None else ""
                px = f"{moved.value:.1f}" if moved is not None and row.cell.target != TORCH else ""
                cells.append("-" if ap is None else Text.assemble(f"{ap.value:.1f}", (f"\n{below}\n{px}", "dim")))
            table.add_row(name, *cells)
        self.console.print(table)
        for row in rows:
            if row.reason:
                self._say(f"{row.label}: {row.reason}")
        for line in (*(verdict.sentence() for verdict in verdicts(rows)), *fastest(rows)):
            self._say(line)
        for what, name in (("Report", REPORT), ("Pictures", "pictures"), ("Bundles", "bundles")):
            self._say(f"{what}: {self.out / name}")


def installed_targets() -> tuple[list[str], dict[str, str]]:
    """Targets whose converter and engine are installed; for the others, what to install."""
    ready: list[str] = []
    missing: dict[str, str] = {}
    for name in ON_CPUS:
        try:
            installed([*NEEDED, *target_named(name).requirements()])
            ready.append(name)
        except NotAvailableError as error:
            missing[name] = str(error)
    return ready, missing

"""The main job in front of the user: export every installed target in float and int8, verify, evaluate, show."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from .. import __version__, bundle
from ..crops import read_image
from ..errors import NotAvailableError, RtmwEdgeError, VerificationError
from ..files import MARKER, atomic_write, check_replaceable
from ..runtime.environment import environment
from .measure import Reference, latency_ms
from .report import write_report
from .result import PART_ORDER, CellResult, load_results, save_results

if TYPE_CHECKING:
    from ..evaluation.datasets import Dataset
    from ..poses import Poses
    from ..runtime import Runner
    from ..targets.base import OnStep

VARIANT = "rtmw-n-256x192"
PRECISIONS = ("fp32", "int8")
REFERENCE_CROPS = 100
PICTURES = 3
THRESHOLD = 0.1
"""Pictures here are to compare targets, so they show keypoints that the small network is not sure of as well."""
SHORT_PARTS = ("body", "foot", "face", "left", "right", "whole")


class Quickstart:
    """One run; `run()` does it all. A second run over the same `out` reuses bundles and accuracy figures.

    Args:
        out: folder for `bundles/`, `pictures/`, `results.json`, `report.html`; must be new, empty or ours.
        image: a photograph to run as well, the whole image as one person.
        count: validation people to evaluate on. calibration: rendered people to calibrate on.
    """

    def __init__(
        self, out: Path, image: Path | None, count: int, calibration: int, threads: int | None, console: Console
    ) -> None:
        self.out, self.count, self.calibration, self.threads, self.console = out, count, calibration, threads, console
        check_replaceable(out)
        self.image = None if image is None else read_image(image)
        self.image_name = "" if image is None else image.stem

    def run(self) -> None:
        """Raises VerificationError at the end when a bundle did not reproduce its golden outputs."""
        targets, missing = installed_targets()
        self.out.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.out / MARKER) as marker:
            marker.write_text(f"written by rtmw-edge {__version__}\n", encoding="utf-8")
        if not targets:
            self._ready_bundle(missing)
            return
        results = self._cells(targets)
        self._show(results)
        for target, what in missing.items():
            self._say(f"{target}: {what}")
        failed = [result.label for result in results if result.failure]
        if failed:
            raise VerificationError(f"These did not work: {', '.join(failed)}; the report says why.")

    def _say(self, line: str) -> None:
        """Print a line as it is: no markup, so that "[export]" stays, and no wrapping of paths."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _ready_bundle(self, missing: dict[str, str]) -> None:
        """Without converters: the bundle that comes with the package, on the user's image."""
        from ..runtime import load

        self._say("The converters are not installed, so this runs the ready bundle of the package.")
        with load("builtin", threads=self.threads) as runner:
            size = runner.input_size
            crop = np.zeros((1, size[1], size[0], 3), np.uint8)
            p50, p90 = latency_ms(lambda: runner.logits(crop))
            ran = runner.describe()
            self._say(
                f"{runner.model.variant}, {runner.model.precision}, {ran.runtime} {ran.version}: {p50:.1f} ms a crop "
                f"(p90 {p90:.1f}), {ran.int8} of {ran.convolutions} convolutions in int8."
            )
            if self.image is not None:
                path = self._draw(runner, self.image, self.image_name, runner(self.image))
                self._say(f"Picture: {path}")
        reason = next(iter(missing.values()), "")
        self._say(f"To export to all targets and compare them: {reason}")

    def _cells(self, targets: list[str]) -> list[CellResult]:
        from ..evaluation.datasets import open_dataset
        from ..runtime import torch_runner

        earlier = {result.key: result for result in load_results(self.out / "results.json")}
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        results: list[CellResult] = []
        pictures: list[Path] = []
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task("rendering the validation people")

            def on_step(text: str) -> None:
                progress.update(task, description=text)

            def step_of(name: str) -> OnStep:
                return lambda text: on_step(f"{name}: {text}")

            dataset = open_dataset(f"synthetic:val:{self.count}")
            with torch_runner(VARIANT, threads=self.threads) as torch:
                for done, _ in enumerate(dataset, start=1):
                    on_step(f"rendering the validation people: {done} of {self.count}")
                reference = Reference.of(torch, dataset, REFERENCE_CROPS, torch.input_size)
                on_step("torch fp32: evaluating")
                row = CellResult(VARIANT, "torch", "fp32", key=self._key(weights_sha256()))
                results.append(self._measured(row, torch, reference, dataset, earlier))
                pictures += self._pictures(torch, dataset)
            table = self._table(on_step)
            for target in targets:
                for precision in PRECISIONS:
                    name = f"{target} {precision}"
                    row = CellResult(VARIANT, target, precision)
                    try:
                        path = self._bundle(target, precision, table, step_of(name))
                        on_step(f"{name}: verifying and evaluating")
                        row = replace(row, bundle=str(path), key=self._key(manifest_sha256(path)))
                        with self._load(path) as runner:
                            row = self._measured(row, runner, reference, dataset, earlier)
                            if precision == "int8":
                                pictures += self._pictures(runner, dataset)
                    except RtmwEdgeError as error:
                        row = replace(row, failure=str(error))
                    results.append(row)
                    self._say(f"✗ {name}: {row.failure}" if row.failure else f"✓ {name}")
                    save_results(results, environment(), self.out / "results.json")
        write_report(self.out / "report.html", results, pictures, environment(), self._notes())
        return results

    def _load(self, path: Path) -> Runner:
        from ..runtime import load

        return load(path, threads=self.threads)

    def _table(self, on_step: OnStep) -> Path:
        """One calibration for every target; the table of an earlier run of the same weights and count is used again."""
        from ..models.variants import variant_named
        from ..models.weights import find
        from ..targets.export import calibrate, load_deployable

        path = self.out / f"table-{self._key(f'{weights_sha256()} {self.calibration}')[:12]}.json"
        if not path.exists():
            variant = variant_named(VARIANT)
            network = load_deployable(variant, find(variant, None))
            calibrate(network, f"synthetic:{self.calibration}", on_step=on_step).save(path)
        return path

    def _bundle(self, target: str, precision: str, table: Path, on_step: OnStep) -> Path:
        """Export, unless the bundle of an earlier run was made of the same weights and table by this version."""
        from ..quantization import Table
        from ..targets.export import export

        path = self.out / "bundles" / f"{VARIANT}-{target}-{precision}"
        scales = Table.load(table) if precision == "int8" else None
        if path.exists():
            try:
                with bundle.read(path) as opened:
                    made_of = opened.manifest.weights_sha256, opened.manifest.table_sha256, opened.manifest.created_by
                if made_of == (weights_sha256(), scales and scales.sha256, f"rtmw-edge {__version__}"):
                    return path
            except RtmwEdgeError:
                pass  # a damaged bundle of ours is written again; anything else, export refuses
        return export(VARIANT, target, precision, path, table=scales, on_step=on_step)

    def _measured(
        self, row: CellResult, runner: Runner, reference: Reference, dataset: Dataset, earlier: dict[str, CellResult]
    ) -> CellResult:
        from ..evaluation import evaluate

        crop = reference.crops[:1]
        p50, p90 = latency_ms(lambda: runner.logits(crop))
        ran = runner.describe()
        row = replace(
            row,
            engine=f"{ran.runtime} {ran.version}",
            megabytes=model_bytes(Path(row.bundle)) / 1e6 if row.bundle else 0.0,
            ms_p50=p50,
            ms_p90=p90,
            convolutions={"int8": ran.int8, "total": ran.convolutions},
        )
        known = earlier.get(row.key)
        if known is not None and known.ap:
            return replace(row, ap=known.ap, difference_px=known.difference_px)
        figures = evaluate(runner, dataset)
        return replace(
            row,
            ap={part: figures.parts[part].ap for part in PART_ORDER},
            difference_px=reference.difference(runner),
        )

    def _pictures(self, runner: Runner, dataset: Dataset) -> Iterator[Path]:
        for item in dataset:
            if item.image_id >= PICTURES:
                break
            poses = runner(item.image, item.people.boxes)
            yield self._draw(runner, item.image, f"rendered-{item.image_id}", poses)
        if self.image is not None:
            yield self._draw(runner, self.image, self.image_name, runner(self.image))

    def _draw(self, runner: Runner, image: np.ndarray, name: str, poses: Poses) -> Path:
        import cv2

        from ..runtime.drawing import draw

        sure = replace(poses, scores=runner.confidence(poses))
        path = self.out / "pictures" / f"{name}-{runner.model.target}-{runner.model.precision}.jpg"
        with atomic_write(path) as temporary:
            cv2.imwrite(str(temporary), draw(image, sure, threshold=THRESHOLD))
        return path

    def _key(self, content: str) -> str:
        return hashlib.sha256(f"{content} synthetic:val:{self.count} {__version__}".encode()).hexdigest()

    def _notes(self) -> list[str]:
        return [
            f"AP by the COCO-WholeBody protocol on {self.count} rendered people of the validation split, with their "
            "true boxes. Rendered people are not photographs: read these figures as int8 against float.",
            f"Difference: 95th percentile over {REFERENCE_CROPS} crops of the distance to the torch network's "
            "keypoints, where that network is sure of them.",
            "Convolutions in int8 as the runtime itself reports them. Times: one crop, batch 1, this machine.",
            f"Calibrated once on {self.calibration} rendered people of the calibration split; one table for all.",
        ]

    def _show(self, results: list[CellResult]) -> None:
        table = RichTable(
            title=f"{VARIANT}: ms a crop; AP in %, below it px from torch (p95); left and right hand",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("target", no_wrap=True)
        for heading in ("MB", "p50", "p90", "int8", *SHORT_PARTS):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in results:
            if row.failure:
                table.add_row(row.label, "[red]failed[/]")
                continue
            count = row.convolutions
            size = f"{row.megabytes:.1f}" if row.megabytes else "-"
            cells = [size, f"{row.ms_p50:.1f}", f"{row.ms_p90:.1f}", f"{count['int8']}/{count['total']}"]
            cells += [f"{100 * row.ap[part]:.1f}\n[dim]{row.difference_px[part]:.1f}[/]" for part in PART_ORDER]
            table.add_row(row.label, *cells)
        self.console.print(table)
        for row in results:
            if row.failure:
                self._say(f"{row.label}: {row.failure}")
        for what, name in (("Report", "report.html"), ("Pictures", "pictures"), ("Bundles", "bundles")):
            self._say(f"{what}: {self.out / name}")


def installed_targets() -> tuple[list[str], dict[str, str]]:
    """Targets whose converter and engine are installed; for the others, what to install."""
    ready: list[str] = []
    missing: dict[str, str] = {}
    from ..targets import TARGETS

    for name in TARGETS:
        try:
            from ..targets import target_named
            from ..targets.base import installed
            from ..targets.export import NEEDED

            installed([*NEEDED, *target_named(name).requirements()])
            ready.append(name)
        except NotAvailableError as error:
            missing[name] = str(error)
    return ready, missing


def weights_sha256() -> str:
    """Hash of the embedded weights' file."""
    from ..models.variants import variant_named
    from ..models.weights import find

    return hashlib.sha256(find(variant_named(VARIANT), None).read_bytes()).hexdigest()


def manifest_sha256(path: Path) -> str:
    """Hash of a bundle's manifest, which holds the hashes of everything else in it."""
    return hashlib.sha256((path / bundle.MANIFEST_NAME).read_bytes()).hexdigest()


def model_bytes(path: Path) -> int:
    """Size of a bundle's model files, without manifest and golden vectors."""
    with bundle.read(path) as opened:
        return sum(entry.size for entry in opened.manifest.files if entry.role in bundle.ROLES[opened.manifest.target])

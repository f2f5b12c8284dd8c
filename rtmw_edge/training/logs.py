"""A run's logs: CSV files that a resumed run continues without a gap or a double row, and TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from ..files import atomic_write


class Logs:
    """`train.csv`, `validation.csv` and `tensorboard/` in the folder of a run; what is behind `step` is dropped."""

    def __init__(self, out: Path, step: int) -> None:
        self.out = out
        for name in ("train", "validation"):
            _cut(out / f"{name}.csv", step)
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, name: str, figures: dict[str, float]) -> None:
        """Append `figures`, which hold a "step", to NAME.csv and to TensorBoard under NAME/."""
        path = self.out / f"{name}.csv"
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, figures)
            if new:
                writer.writeheader()
            writer.writerow({key: f"{value:.7g}" for key, value in figures.items()})
        for key, value in figures.items():
            if key != "step":
                self._board.add_scalar(f"{name}/{key}", value, int(figures["step"]))

    def begin_anew(self, name: str, step: int) -> None:
        """Leave the rows of NAME.csv so far, until `step`, in a file of their own."""
        path = self.out / f"{name}.csv"
        if path.exists():
            path.rename(self.out / f"{name}-until-{step}.csv")

    def close(self) -> None:
        self._board.close()


def _cut(path: Path, step: int) -> None:
    """Drop the rows after `step`, which a killed run wrote behind its last checkpoint, and what it wrote by half."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        rows = [row for row in reader if None not in row.values() and int(row["step"] or step + 1) <= step]
    if not rows:
        path.unlink()
        return
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)

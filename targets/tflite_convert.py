"""The float conversion torch -> TFLite by litert-torch, run as a process: `python -m ... PROGRAM.pt2 OUT.tflite`."""

from __future__ import annotations

import sys
from pathlib import Path


def main(program: Path, out: Path) -> None:
    """Convert an exported program, as `torch.export.save` writes it, with the example inputs that it carries."""
    import litert_torch
    import torch

    exported = torch.export.load(program)
    args, _ = exported.example_inputs
    litert_torch.convert(exported.module(), args).export(str(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

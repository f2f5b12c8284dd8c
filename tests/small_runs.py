"""A network and data small enough that a test can train for a few steps, also from a process of its own.

    python small_runs.py OUT STEPS [KEY=VALUE ...]   trains to the end; run it under torchrun for several ranks.

Prints "step N loss" after every step, in full precision.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtmw_edge.data.instances import Instance
from rtmw_edge.keypoints import PARTS
from rtmw_edge.models import variants
from rtmw_edge.models.variants import Variant
from rtmw_edge.training.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtmw_edge.quantization.qat import QatTrainer

    from rtmw_edge.training.loop import Trainer

TINY = Variant("rtmw-tiny-64x96", (64, 96), 0.167, 0.125, 0, 0.0)
TINY_3D = Variant("rtmw3d-tiny-64x96", (64, 96), 0.167, 0.125, 0, 0.0, ("x", "y", "z"))
SETTINGS = [
    "variant=rtmw-tiny-64x96",
    "batch=4",
    "warmup=1",
    "lr=1e-3",
    "reuse=2",
    "precision=fp32",
    "checkpoint_every=2",
    "validate_every=1000",
    "optimizer=adamw",
]


def register() -> None:
    """Make the tiny variants known in this process."""
    variants.VARIANTS[TINY.name] = TINY
    variants.VARIANTS[TINY_3D.name] = TINY_3D


def forget() -> None:
    """Take them back, for the tests of the zoo."""
    for variant in (TINY, TINY_3D):
        variants.VARIANTS.pop(variant.name, None)


def small_recipe(*overrides: str) -> Recipe:
    """The embedded model's recipe for the tiny variant and very few samples."""
    register()
    return read_recipe("rtmw-n-256x192", [*SETTINGS, *overrides])


def small_qat(out: Path, *overrides: str, **arguments: Any) -> QatTrainer:
    """Fine-tuning of a calm tiny network, which is written beside `out`, from the largest magnitudes on clouds."""
    from calm_network import calm_network
    from rtmw_edge.quantization.qat import QatTrainer
    from small_deployable import absmax_table, smooth_crops

    from rtmw_edge.models.checkpoints import save_safetensors

    register()
    weights = out.parent / "float.safetensors"
    if not weights.exists():
        save_safetensors(calm_network(TINY.name), weights)
    recipe = read_recipe("rtmw-n-256x192-qat", [*SETTINGS, *overrides])
    crops = smooth_crops(4, TINY.input_size)
    given = {"weights": weights, "start_table": lambda network: absmax_table(network, crops), "data": Noise()}
    return QatTrainer(recipe, out, **{"workers": 0, **given, **arguments})


class Noise:
    """Forty pictures of noise with a person's keypoints anywhere; every fifth has no face and no depth."""

    name = "noise"

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Instance:
        rng = np.random.default_rng(index)
        points = rng.uniform(10, 90, (133, 2)).astype(np.float32)
        visible = rng.integers(1, 3, 133).astype(np.uint8)
        if index % 5 == 0:
            visible[PARTS["face"]] = 0
        metres = np.concatenate([points / 100, rng.uniform(2, 3, (133, 1))], axis=1).astype(np.float32)
        return Instance(
            image=rng.integers(0, 256, (100, 80, 3), np.uint8),
            box=np.array([5, 5, 75, 95], np.float32),
            keypoints=points,
            visible=visible,
            metres=None if index % 5 == 0 else metres,
            camera=None,
            source="noise",
            whole=True,
        )


class NoValidation:
    """Stands in for rendered people, which take long to draw: a network that gets better by every look."""

    def __init__(self, text: str, is_stopped: Callable[[], bool]) -> None:
        self.looks = 0

    def figures(self, network: object, device: str) -> dict[str, float]:
        self.looks += 1
        return {"ap_whole": self.looks / 100}


def in_double_precision() -> None:
    """Train in float64 from here on: only then do rounding and ReLU's kink leave gradients alone to 1e-5."""
    import torch

    from rtmw_edge.training import loop, ranks

    torch.set_default_dtype(torch.float64)
    ranks.PRECISIONS["fp32"] = "64-true"
    single = loop.normalized
    loop.normalized = lambda crops: single(crops).double()


def die_after(trainer: Trainer, step: int) -> None:
    """Let every rank end by SIGKILL once the checkpoint of `step` is written."""
    save = trainer.save

    def save_and_die() -> None:
        save()
        if trainer.step == step:
            trainer.fabric.barrier()
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.save = save_and_die  # type: ignore[method-assign]


def main(out: str, steps: str, *overrides: str) -> None:
    import torch

    from rtmw_edge.training import loop

    torch.set_num_threads(1)
    if "DOUBLE" in os.environ:
        in_double_precision()
    loop.LOG_EVERY = int(os.environ.get("LOG_EVERY", "1"))
    loop.Validation = NoValidation  # type: ignore[assignment, misc]
    workers = int(os.environ.get("WORKERS", "0"))
    if "QAT" in os.environ:
        trainer: loop.Trainer = small_qat(Path(out), f"steps={steps}", *overrides, workers=workers)
    else:
        recipe = small_recipe(f"steps={steps}", *overrides)
        teacher = Path(os.environ["TEACHER"]) if "TEACHER" in os.environ else None
        trainer = loop.Trainer(recipe, Path(out), data=Noise(), workers=workers, teacher=teacher)
    if "DIE_AFTER" in os.environ:
        die_after(trainer, int(os.environ["DIE_AFTER"]))
    trainer.label_loss.float()
    for record in trainer.run():
        sys.stdout.write(f"step {record['step']} {record.get('loss')!r}\n")
        sys.stdout.flush()
    if "DUMP" in os.environ and trainer.is_first:
        gradients = {name: p.grad for name, p in trainer.network.named_parameters()}
        torch.save({"gradients": gradients, "state": trainer.network.state_dict()}, os.environ["DUMP"])


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The training loop: pictures composed in this process, Muon, an average of the weights, and a state to go on from.

A step's chance follows from the seed and the step; its pictures also from the scenes in the pool, which moves on, so a
run that was killed goes on with others.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import BadInputError
from ...evaluation.detection import best_score, evaluate_detector
from ...files import atomic_write
from ...models import build
from ...models.checkpoints import load_weights
from ...models.person_detector import TEACHER, LevelHead, PersonDetector
from ...models.weights import embedded
from ...runtime.detection import Detections
from ...runtime.detectors import SCORE
from ...runtime.detectors.detector import MOST_IOU
from ...runtime.detectors.heads import RTMDET
from ...runtime.detectors.letterbox import letterbox, suppress, to_picture
from ...runtime.frames import UInt8
from ...signals import StopSignals
from ..checkpoint import save_state
from ..ema import Ema
from ..norms import revive
from ..optimizer import Optimizer
from .augmentation import Picture, compose
from .judging import SETTING, scenes
from .loss import Truth, losses
from .scenes import Pool

log = logging.getLogger(__name__)

INPUT = (256, 256)
"""(width, height) that the detector runs at, and that the end of a training is at."""
SIZES = ((192, 192), (224, 192), (192, 224), (256, 192), (224, 224), (256, 256))
"""Those on the way there: cheaper ones, and other shapes."""
STATE = "last.pt"
LOWEST_SCORE = 0.02
"""Detections below this add nothing to an average precision."""


@dataclass(frozen=True)
class Options:
    """A training of `steps` steps; `lr` holds until `falls_from` of them are done, and then falls to nothing."""

    steps: int = 1500
    batch: int = 16
    lr: float = 2e-3
    weight_decay: float = 0.02
    warmup: int = 60
    falls_from: float = 0.5
    ema_decay: float = 0.995
    seed: int = 0
    log_every: int = 20
    save_every: int = 100
    validate_every: int = 300

    def learning_rate(self, step: int) -> float:
        """The rate of step 0, 1, ..."""
        rise = min(1.0, (step + 1) / self.warmup)
        left = (self.steps - step) / max(1.0, self.steps * (1 - self.falls_from))
        return self.lr * rise * min(1.0, max(left, 0.01))


def train(out: Path, pool: Pool, options: Options) -> PersonDetector:
    """Train in the folder `out`, from its `last.pt` where there is one; the averaged network, in evaluation mode.

    The first Ctrl-C or SIGTERM ends it after the step and saves.
    """
    if not len(pool):
        raise BadInputError("There are no scenes to learn from: draw some first, with --scenes 1000.")
    torch.manual_seed(options.seed)
    network = fresh(pool, options)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    freeze(network.train())
    ema = Ema(network, options.ema_decay, ramp=200)
    optimizer = Optimizer(network, "muon", options.lr, options.weight_decay)
    step = _resume(out, network, ema, optimizer)
    validation = list(scenes(60, mixed=True))
    signals = StopSignals()
    with signals:
        meters, seen, spent_s = np.zeros(2), 0, 0.0
        while step < options.steps and not signals.asked:
            start = time.process_time()
            pool.refresh()
            images, truth = batch_of(pool, options, step)
            optimizer.set_lr(options.learning_rate(step))
            height, width = images.shape[2:]
            loss = losses(network(images), truth, (height, width))
            network.zero_grad(set_to_none=True)
            loss.total().backward()
            optimizer.step()
            ema.update(network, step)
            step += 1
            meters += [loss.score.item(), loss.box.item()]
            seen += 1
            spent_s += time.process_time() - start
            if step % options.log_every == 0:
                score, box = meters / seen
                log.info("step %d/%d: score %.3f, box %.3f, %.1f images a processor second, %d scenes",
                         step, options.steps, score, box, seen * options.batch / spent_s, len(pool))  # fmt: skip
                meters, seen, spent_s = np.zeros(2), 0, 0.0
            if step % options.save_every == 0:
                _save(out, step, network, ema, optimizer)
            if step % options.validate_every == 0 or step == options.steps:
                log.info("step %d: %s", step, evaluate_detector(TorchDetector(ema.network), validation, SCORE))
        _save(out, step, network, ema, optimizer)
    return ema.network


def fresh(pool: Pool, options: Options) -> PersonDetector:
    """A detector that begins with the backbone of the embedded pose network, which knows rendered people."""
    weights = embedded(TEACHER)
    assert weights is not None
    pose = build(TEACHER)
    load_weights(pose, weights)
    network = PersonDetector()
    network.begin_with(pose)
    # They come from quantization-aware training, which leaves batch norms without statistics.
    revive(network.backbone, (batch_of(pool, options, step)[0] for step in range(4)))
    return network


def freeze(network: PersonDetector) -> None:
    """Leave the first layers as they are: half of a step's work, and edges and colours are what they were."""
    for part in (network.backbone.stem, network.backbone.stage1):
        part.eval().requires_grad_(False)


def trained(out: Path) -> PersonDetector:
    """The averaged network of the run in the folder `out`. Raises BadInputError where there is none."""
    if not (out / STATE).is_file():
        raise BadInputError(f"There is no run in '{out}': train one first, with the same --out.")
    network = PersonDetector()
    network.load_state_dict(torch.load(out / STATE, weights_only=True)["ema"])
    return network.eval()


@torch.no_grad()
def shift_scores(network: PersonDetector, size: tuple[int, int]) -> float:
    """Shift the scores so that F2 is highest at the runtime's threshold, and return the one of before.

    A detector that learnt for a short time is right long before it is sure.
    """
    unsure = best_score(TorchDetector(network, size), scenes(SETTING, mixed=True, split="calibration"))
    for head in network.heads:
        assert isinstance(head, LevelHead) and head.score.bias is not None
        head.score.bias += math.log(SCORE / (1 - SCORE)) - math.log(unsure / (1 - unsure))
    return unsure


def batch_of(pool: Pool, options: Options, step: int) -> tuple[Tensor, Truth]:
    """The pictures (N,3,H,W) float32 of a step, and their people."""
    rng = np.random.default_rng([options.seed, step])
    late = step >= 0.9 * options.steps
    size = INPUT if late else SIZES[int(rng.integers(len(SIZES)))]
    return stacked([compose(pool, rng, size) for _ in range(options.batch)])


def stacked(pictures: list[Picture]) -> tuple[Tensor, Truth]:
    """Pictures of one size as tensors."""
    pixels = np.stack([picture.image for picture in pictures])
    images = normalized(pixels)
    most = max(len(picture.boxes) for picture in pictures)
    boxes = torch.zeros(len(pictures), most, 4)
    real, ignored = torch.zeros(2, len(pictures), most, dtype=torch.bool)
    for row, picture in enumerate(pictures):
        count = len(picture.boxes)
        boxes[row, :count] = torch.from_numpy(picture.boxes)
        real[row, :count] = True
        ignored[row, :count] = torch.from_numpy(picture.ignored)
    return images, Truth(boxes, real, ignored)


def normalized(pixels: UInt8) -> Tensor:
    """Pictures (N,H,W,3) BGR as the network takes them, (N,3,H,W) in channels-last memory."""
    mean, std = (torch.tensor(values) for values in (RTMDET.mean, RTMDET.std))
    return ((torch.from_numpy(pixels) - mean) / std).permute(0, 3, 1, 2)


class TorchDetector:
    """A network in training as a detector, decoded as the runtime decodes its exported file."""

    def __init__(self, network: PersonDetector, size: tuple[int, int] = INPUT) -> None:
        self._network = network.eval()
        self._canvas = np.empty((size[1], size[0], 3), np.uint8)

    @torch.no_grad()
    def __call__(self, image: UInt8) -> Detections:
        factors = letterbox(image, self._canvas)
        found = self._network(normalized(self._canvas[None]))
        scores = found.logits[0].sigmoid().numpy()
        likely = scores >= LOWEST_SCORE
        boxes, scores = to_picture(found.boxes[0].numpy()[likely], factors, image.shape), scores[likely]
        order = suppress(boxes, scores, MOST_IOU)
        return Detections(boxes[order], scores[order])


def _save(out: Path, step: int, network: PersonDetector, ema: Ema[PersonDetector], optimizer: Optimizer) -> None:
    state = {
        "step": step,
        "network": network.state_dict(),
        "ema": ema.network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with atomic_write(out / STATE) as path:
        save_state(state, path)


def _resume(out: Path, network: PersonDetector, ema: Ema[PersonDetector], optimizer: Optimizer) -> int:
    """Load what `_save` wrote; the step to go on from, 0 where there is nothing."""
    path = out / STATE
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        ema.network.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
    except Exception as error:  # a damaged file raises nearly anything
        raise BadInputError(f"The state '{path}' cannot be read; choose another --out, or delete it.") from error
    log.info("going on after step %d", state["step"])
    return int(state["step"])

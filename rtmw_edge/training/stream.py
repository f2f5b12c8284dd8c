"""Training samples by position: the sample at a position is the same whoever makes it, and whenever.

The samples of a run are numbered from 0; a step takes the next `recipe.batch` of them, dealt out to ranks and passes.
A resumed run therefore goes on exactly where the checkpoint stands, and two ranks see what one process would.
"""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
import signal
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ..data.annotators import annotated
from ..data.instances import Instance, InstanceSet, read_instance
from ..data.synthetic import Renderer, Sample
from ..data.synthetic.background import Photographs
from ..errors import BadInputError, RtmwEdgeError
from ..signals import ENDING, held_back
from .augmentation import Augmentation, Plan, augmented, planned
from .device_crops import Arrived, CropMaker, PlannedCrops, from_crop, in_rounds
from .recipe import Recipe

FIRST = 64
"""People that a lane has before the first sample."""
BLOCK = 256
"""Consecutive people that one lane renders: the renderer pools bodies and backgrounds over neighbouring indices."""

STOPPING = (signal.SIGINT, *ENDING)

Batch = tuple["Tensor | PlannedCrops", Tensor, Tensor, Tensor]
"""Crops uint8 (N, H, W, 3) BGR, or as they are planned; points and weights float32 (N, 133, 2 or 3); and (N,) how many
images could not be read."""


class Source(Protocol):
    """Where samples come from: a picture (H, W, 3) uint8 BGR and its labels by position.

    `given` describes it, by the names of the options that choose it.
    """

    @property
    def given(self) -> dict[str, str | None]: ...

    def __call__(self, position: int, skipped: Counter[str]) -> tuple[NDArray[np.uint8], Instance]: ...


class Rendered:
    """Rendered people, endless, each used about `reuse` times, because rendering costs more than augmenting.

    Positions are dealt out in runs of `span` to `lanes`. Every lane has people of its own and draws from the latest
    `window` of them, whom one more joins every `reuse` samples. A loader's worker that always serves the same lanes
    therefore renders every person once, in order; another one gets the same samples with more work.

    Args:
        size: (width, height) of the pictures in pixels.
        backgrounds: folder of photographs behind the people.
    """

    def __init__(
        self,
        seed: int,
        reuse: float,
        size: tuple[int, int],
        *,
        window: int,
        lanes: int,
        span: int,
        backgrounds: Path | None = None,
    ) -> None:
        self.seed, self.reuse, self.size, self.window = seed, reuse, size, window
        self.lanes, self.span, self.backgrounds = lanes, span, backgrounds
        self._renderer: Renderer | None = None
        self._kept: dict[int, dict[int, Sample]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without renderer and people: a worker that is spawned would wait for megabytes, and the next one for it."""
        return {**self.__dict__, "_renderer": None, "_kept": {}}

    @property
    def given(self) -> dict[str, str | None]:
        behind = f"of {len(Photographs(self.backgrounds))} photographs" if self.backgrounds else None
        return {"data": None, "backgrounds": behind}

    def __call__(self, position: int, skipped: Counter[str]) -> tuple[NDArray[np.uint8], Instance]:
        return self.person(*self.draw(position))

    def draw(self, position: int) -> tuple[int, int]:
        """The lane of a position, and the person of that lane that it shows."""
        run, place = divmod(position, self.span)
        turn, lane = divmod(run, self.lanes)
        count = turn * self.span + place
        newest = (FIRST if self.reuse > 1 else 0) + int(count / self.reuse)
        self._forget(lane, newest)
        self._sample(lane, newest)  # in order, as the renderer likes it
        if self.reuse <= 1:
            return lane, newest
        age = np.random.default_rng([self.seed, position, 1]).integers(min(self.window, newest + 1))
        return lane, newest - int(age)

    def person(self, lane: int, person: int) -> tuple[NDArray[np.uint8], Instance]:
        """The picture and the labels of one person of a lane."""
        sample = self._sample(lane, person)
        shown = sample.people[0]
        instance = Instance(
            image=sample.image,
            box=shown.box,
            keypoints=shown.keypoints,
            visible=annotated(shown.visible),
            metres=shown.metres,
            camera=sample.camera,
            source="synthetic",
            whole=True,
        )
        return sample.image, instance

    def in_use(self, samples: int) -> int:
        """People of a lane among whom so many consecutive samples choose, those who join meanwhile included."""
        return self.window + math.ceil(samples / self.reuse) + 1

    def _sample(self, lane: int, person: int) -> Sample:
        kept = self._kept.setdefault(lane, {})
        if person not in kept:
            if self._renderer is None:
                self._renderer = Renderer("train", self.seed, backgrounds=self.backgrounds)
            block, place = divmod(person, BLOCK)
            kept[person] = self._renderer.person((block * self.lanes + lane) * BLOCK + place, self.size)
        return kept[person]

    def _forget(self, lane: int, newest: int) -> None:
        kept = self._kept.get(lane, {})
        window = self.window if self.reuse > 1 else 1  # used once, nobody is looked at again
        if len(kept) > window + FIRST:
            for person in [person for person in kept if person <= newest - window]:
                del kept[person]


class Annotated:
    """Annotated instances, all of them once an epoch in a new order. A broken image is passed over and counted."""

    def __init__(self, instances: InstanceSet, seed: int) -> None:
        self.instances, self.seed = instances, seed
        self._orders: dict[int, NDArray[np.int64]] = {}

    @property
    def given(self) -> dict[str, str | None]:
        return {"data": f"{self.instances.name} of {len(self.instances)} instances", "backgrounds": None}

    def __call__(self, position: int, skipped: Counter[str]) -> tuple[NDArray[np.uint8], Instance]:
        epoch, place = divmod(position, len(self.instances))
        if epoch not in self._orders:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.instances))
            self._orders = {**{key: value for key, value in self._orders.items() if key == epoch - 1}, epoch: order}
        return read_instance(self.instances, int(self._orders[epoch][place]), skipped)


class Crops(Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Augmented crops by position; from the position `late_from` on with the recipe's late augmentation.

    Args:
        input_size: (width, height) of the crop in pixels, with a depth for three axes.
    """

    def __init__(self, source: Source, recipe: Recipe, input_size: tuple[int, ...], late_from: int) -> None:
        self.source, self.recipe, self.input_size, self.late_from = source, recipe, input_size, late_from

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Crop uint8 (H, W, 3), points and weights float32 (133, axes), and how many images could not be read."""
        skipped: Counter[str] = Counter()
        image, instance = self.source(position, skipped)
        crop, points, weights = augmented(
            image, instance, self.input_size, *self._chance(position), hidden_weight=self.recipe.occluded_weight
        )
        unread = torch.tensor(skipped.total())
        return torch.from_numpy(crop), torch.from_numpy(points), torch.from_numpy(weights), unread

    def __getitems__(self, positions: list[int]) -> Batch:
        """What `__getitem__` gives for all `positions`, as a batch."""
        batch: Batch = tuple(default_collate([self[position] for position in positions]))
        return batch

    def plan(self, position: int, instance: Instance) -> Plan:
        """The crop of `instance` that stands at a position, without its pixels."""
        return planned(instance, self.input_size, *self._chance(position), hidden_weight=self.recipe.occluded_weight)

    def _chance(self, position: int) -> tuple[Augmentation, np.random.Generator]:
        recipe = self.recipe
        late = recipe.late_augmentation if position >= self.late_from else None
        return late or recipe.augmentation, np.random.default_rng([recipe.seed, position])


def crop_maker(crops: Crops, batch: int, device: torch.device) -> CropMaker | None:
    """What makes the `crops` on the device, at most `batch` at a time; None where the loader's workers do."""
    where, source = crops.recipe.crops, crops.source
    if isinstance(source, Rendered) and (where == "device" or (where == "auto" and device.type == "cuda")):
        width, height, *_ = crops.input_size
        return CropMaker((width, height), source.in_use(batch), device)
    return None


class PlannedSamples(Dataset[Batch]):
    """The samples of `Crops` over rendered people, a whole batch at a time and without pixels: see `device_crops`.

    It takes the device to hold what it has sent and what has not made room since, so it serves one pass over the run.

    Args:
        capacity: that of the `CropMaker`.
    """

    def __init__(self, crops: Crops, capacity: int) -> None:
        assert isinstance(crops.source, Rendered)
        self.crops, self.source, self.capacity = crops, crops.source, capacity
        self._held: dict[int, dict[int, int]] = {}

    def __getitems__(self, positions: list[int]) -> Batch:
        """What `Crops` gives for all `positions`, crops planned."""
        drawn, plans = [], []
        pictures: dict[int, dict[int, NDArray[np.uint8]]] = {}
        for position in positions:  # the source forgets people on the way: what is needed of them is taken at once
            lane, person = self.source.draw(position)
            picture, instance = self.source.person(lane, person)
            drawn.append((lane, person))
            plans.append(self.crops.plan(position, instance))
            pictures.setdefault(lane, {})[person] = picture
        arrived = []
        for lane, shown in pictures.items():
            samples = [place for place, (of, _) in enumerate(drawn) if of == lane]
            persons = torch.tensor([drawn[place][1] for place in samples])
            new = self._new(lane, shown)
            sent = np.stack([shown[person] for person in new]) if new else np.empty((0, *picture.shape), np.uint8)
            arrived.append(
                Arrived(
                    lane, torch.tensor(new, dtype=torch.int64), torch.from_numpy(sent), torch.tensor(samples), persons
                )
            )
        crops = PlannedCrops(arrived, from_crop(plans), *in_rounds([plan.changes for plan in plans]))
        points, weights = (np.stack([getattr(plan, name) for plan in plans]) for name in ("points", "weights"))
        return crops, torch.from_numpy(points), torch.from_numpy(weights), torch.zeros(len(positions), dtype=torch.long)

    def _new(self, lane: int, persons: Iterable[int]) -> list[int]:
        """Those of the people whom the device does not hold."""
        held = self._held.setdefault(lane, {})  # who lies in which place of the device's ring
        new = sorted(person for person in persons if held.get(person % self.capacity) != person)
        held.update({person % self.capacity: person for person in new})
        return new


def positions(first: int, last: int, micro: int, rank: int, ranks: int) -> Iterator[list[int]]:
    """The positions of every pass of one rank from the sample `first` on, until the sample `last`."""
    for start in range(first + rank * micro, last, ranks * micro):
        yield list(range(start, start + micro))


def _set_up_worker(worker: int) -> None:
    """One thread; Ctrl-C and what else is sent to all processes are for the main process, which ends them."""
    cv2.setNumThreads(1)
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


class _Carried(Dataset["Batch | RtmwEdgeError"]):
    """Batches, or the error raised on purpose as a value: torch would hand it on with a worker's traceback in it."""

    def __init__(self, samples: Crops | PlannedSamples) -> None:
        self.samples = samples

    def __getitems__(self, positions: list[int]) -> Batch | RtmwEdgeError:
        try:
            return self.samples.__getitems__(positions)
        except RtmwEdgeError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch


BLAS_THREADS = "OPENBLAS_NUM_THREADS"
"""numpy reads it when it is loaded."""


@contextmanager
def _starting_workers() -> Iterator[None]:
    """What workers inherit: no Ctrl-C comes before they are set up, and OpenCV has no threads that a fork would lose.

    A forked worker would wait for those threads for ever. numpy in a spawned one has one thread, or workers on 16 cores
    would start 16 each; processes that this one starts later have theirs again.
    """
    blas = os.environ.get(BLAS_THREADS)
    os.environ.setdefault(BLAS_THREADS, "1")
    threads = cv2.getNumThreads()
    others = set(multiprocessing.active_children())
    cv2.setNumThreads(1)
    try:
        with held_back(*STOPPING):
            yield
    finally:
        _WORKERS.update(set(multiprocessing.active_children()) - others)
        cv2.setNumThreads(threads)
        if blas is None:
            del os.environ[BLAS_THREADS]


def batches(
    samples: Crops | PlannedSamples, passes: Iterable[list[int]], *, workers: int, pin: bool
) -> Iterator[Batch]:
    """Batches of the positions of `passes` in order, made by `workers` processes; 0 makes them in this one.

    Rendering workers are spawned. The others are forked where that is the platform's way: labels of a million people
    are then held once. Raises what making a batch raises on purpose.
    """
    spawned = workers > 0 and isinstance(samples.source, Rendered)
    loader: DataLoader[Batch | RtmwEdgeError] = DataLoader(
        _Carried(samples),
        batch_sampler=passes,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pin,
        collate_fn=_as_it_is,
        worker_init_fn=_set_up_worker,
        multiprocessing_context="spawn" if spawned else None,
    )
    with _starting_workers():
        stream = iter(loader)
    for batch in stream:
        if isinstance(batch, RtmwEdgeError):
            raise batch
        yield batch


_WORKERS: weakref.WeakSet[BaseProcess] = weakref.WeakSet()


@atexit.register
def _end_workers() -> None:
    """End the workers that an error left behind: Python would send SIGTERM, which they ignore, and wait for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises for each that is killed
    for worker in list(_WORKERS):
        if worker.is_alive():
            worker.kill()


@contextmanager
def worker_deaths_in_words() -> Iterator[None]:
    """Turn what torch raises, wherever the main process is, when a loader's worker was killed into one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise BadInputError(
            "A process that makes samples was killed, as the system does when memory runs out; run the command again, "
            "with fewer --workers or a smaller window."
        ) from error

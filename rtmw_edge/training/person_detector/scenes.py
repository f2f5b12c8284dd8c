"""Rendered scenes on disk: drawn once, used many times over with other augmentation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...files import atomic_write

log = logging.getLogger(__name__)

SIZE = (448, 336)
"""(width, height) of a scene in the pool: a little more than the network sees of it."""
SHARD = 256
"""Scenes in a file."""
SEED = 5
"""Of the renderer: other people and places than those that the embedded pose model learnt from."""

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A picture (H,W,3) uint8 BGR, the `boxes` (P,4) of its people, xyxy in edge coordinates (the left edge of the
    first pixel is 0), and how much of each box they cover, `seen` (P,) in 0..1.
    """

    image: NDArray[np.uint8]
    boxes: Float
    seen: Float


def render(
    split: str, indices: range, size: tuple[int, int] = SIZE, *, seed: int = SEED, mixed: bool = True
) -> Iterator[Scene]:
    """Scenes of a split with one to four people; of ten `mixed` ones two have five to eight, and one is empty."""
    from ...data.synthetic import Renderer

    renderer = Renderer(split, seed)
    for index in indices:
        if mixed and index % 10 == 9:
            nobody = np.zeros((0, 4), np.float32)
            yield Scene(renderer.empty(index, size), nobody, nobody[:, 0])
            continue
        crowd = mixed and index % 10 >= 7
        sample = renderer.scene(index, size, people=5 + index // 10 % 4 if crowd else None)
        # A person's coordinates are those of pixel centres.
        boxes = np.stack([person.box for person in sample.people]) + np.float32(0.5)
        extents = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        areas = np.array([person.area for person in sample.people], np.float32)
        yield Scene(sample.image, boxes, areas / np.maximum(extents, 1))


class Pool:
    """The scenes of the split `train` in `folder`; `grow` draws more. Images stay on disk until they are looked at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: list[NDArray[np.uint8]] = []
        self._people: list[tuple[NDArray[np.int64], Float]] = []
        self.refresh()

    def __len__(self) -> int:
        return SHARD * len(self._images)

    def __getitem__(self, index: int) -> Scene:
        shard, row = divmod(index, SHARD)
        starts, people = self._people[shard]
        mine = people[starts[row] : starts[row + 1]]
        return Scene(self._images[shard][row], mine[:, :4], mine[:, 4])

    def refresh(self) -> None:
        """Take in what another process has drawn since."""
        while (path := self._path(len(self._images))).is_file():
            with np.load(path.with_suffix(".npz")) as labels:
                self._people.append((labels["starts"], labels["people"]))
            self._images.append(np.load(path, mmap_mode="r"))

    def grow(self, scenes: int) -> None:
        """Draw until there are at least this many `scenes`; goes on where it was stopped."""
        while len(self) < scenes:
            shard = len(self._images)
            drawn = list(render("train", range(SHARD * shard, SHARD * (shard + 1))))
            people = [np.concatenate([scene.boxes, scene.seen[:, None]], axis=1) for scene in drawn]
            starts = np.cumsum([0, *map(len, people)])
            # The labels first: an image file tells that a shard is whole.
            with atomic_write(self._path(shard).with_suffix(".npz")) as path:
                np.savez(path, starts=starts, people=np.concatenate(people))
            with atomic_write(self._path(shard)) as path:
                np.save(path, np.stack([scene.image for scene in drawn]))
            self.refresh()
            log.info("%d scenes, %d people in the last %d", len(self), starts[-1], SHARD)

    def _path(self, shard: int) -> Path:
        return self._folder / f"{shard:04d}.npy"

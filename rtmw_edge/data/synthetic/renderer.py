"""Renderer: people with their 133 keypoints, drawn without network, torch or photographs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...crops import PADDING
from .backdrop import Backdrops
from .camera import draw_camera, draw_distance
from .degrade import degrade
from .framing import ASPECT, draw_view, jittered, padded
from .layout import load_figure
from .mesh import bounds
from .person import Actor, Character, draw_actor, draw_characters
from .picture import Picture, draw_picture
from .rotations import about_z
from .sample import Sample
from .seeds import Pool, Streams

PERSON_SIZE, CROP_SIZE, SCENE_SIZE = (240, 320), (192, 256), (640, 480)
_NO_FRAME = np.array([-np.inf, -np.inf, np.inf, np.inf])


class Renderer:
    """Draws people of one split; the same (split, seed, index) gives the same picture and labels, in any order.

    To the bit on one machine with one number of BLAS threads; with another number one pixel in a million differs by one
    level, and keypoints by 1e-4 pixels.

    >>> sample = Renderer("val").crop(0)
    >>> sample.image.shape, sample.people[0].keypoints.shape
    ((256, 192, 3), (133, 2))

    Neighbouring indices share backgrounds, bodies and bystanders, which are made when first needed: walking through the
    indices is several times faster than jumping. `backgrounds`: a folder of photographs to stand people before, in turn
    with the drawn backgrounds. Raises BadInputError for an unknown split or a folder without photographs.
    """

    def __init__(self, split: str, seed: int = 0, backgrounds: Path | None = None) -> None:
        self._streams = Streams(split, seed)
        self._figure = load_figure()
        self._backdrops = Backdrops(self._streams, backgrounds)
        self._characters: Pool[list[Character]] = Pool(self._make_characters, width=1, pace=256, kept=7)
        self._bystanders: Pool[Actor] = Pool(self._make_bystander, width=24, pace=64, kept=40)

    def person(self, index: int, size: tuple[int, int] = PERSON_SIZE) -> Sample:
        """One person as a detector's box shows it, with more of the picture around for augmentation.

        The 1.25 times padded 3:4 box fills the central 0.8 of `size` (width, height). The sample has one person; others
        in the picture are not labelled.
        """
        return self._one(index, size, 1 / PADDING)

    def crop(self, index: int, size: tuple[int, int] = CROP_SIZE) -> Sample:
        """The person of the same index as the network sees it: the padded 3:4 box fills `size` (width, height)."""
        return self._one(index, size, 1.0)

    def scene(self, index: int, size: tuple[int, int] = SCENE_SIZE, people: int | None = None) -> Sample:
        """A whole picture of `size` (width, height) with one to four people, or `people` of them, all labelled."""
        rng = self._streams.generator("scene", index)
        count = people if people is not None else int(rng.integers(1, 5))
        actors = []
        for k in range(count):
            across = (k - (count - 1) / 2) * rng.uniform(0.5, 1.2) + rng.normal(0, 0.15)
            place = np.array([across, rng.uniform(-0.6, 2.0) if k else 0.0, 0.0])
            actors.append(self._draw_actor(index, rng, facing=0.5).moved(np.eye(3), place))
        outline = np.concatenate([actor.outline for actor in actors])
        camera = draw_camera(rng, (outline.max(0) + outline.min(0)) / 2, draw_distance(rng, 3.5 + 0.3 * count, 10))
        seen = camera.project(outline)[:, :2]
        box = np.concatenate([seen.min(0), seen.max(0)])
        extent = box[2:] - box[:2]
        around = rng.uniform(0.0, 0.4) * extent.max()
        box = box + np.concatenate([-extent, extent]) * rng.uniform(-0.06, 0.1, 4) + np.array([-1, -1, 1, 1]) * around
        camera = camera.framed(box, np.array([0, 0, size[0] - 1, size[1] - 1], np.float64))
        picture = draw_picture(rng, camera, size, actors, partial(self._backdrops.draw, index), _NO_FRAME)
        return self._finish(rng, picture, actors)

    def empty(self, index: int, size: tuple[int, int] = SCENE_SIZE) -> NDArray[np.uint8]:
        """A picture of nobody, uint8 BGR of `size` (width, height): what stands behind people, and as spoiled."""
        rng = self._streams.generator("empty", index)
        return degrade(self._backdrops.draw(index, rng, size).astype(np.float32), rng)

    def _one(self, index: int, size: tuple[int, int], share: float) -> Sample:
        rng = self._streams.generator("person", index)
        actor = self._draw_actor(index, rng, facing=0.75)
        low, high = bounds(actor.outline)
        camera = draw_camera(rng, (high + low) / 2, draw_distance(rng))
        view = draw_view(rng, camera.project(actor.outline)[:, :2], camera.project(actor.keypoints)[:, :2])
        window = np.array([min(size[0], size[1] * ASPECT), min(size[1], size[0] / ASPECT)]) * share
        centre = (np.array(size) - 1) / 2
        target = np.concatenate([centre - window / 2, centre + window / 2])
        camera = camera.framed(padded(jittered(rng, view.box)), target)
        frame = view.frame * camera.focal + np.tile(camera.centre, 2)
        others = self._draw_bystanders(index, rng) if rng.random() < 0.3 else []
        picture = draw_picture(rng, camera, size, [actor, *others], partial(self._backdrops.draw, index), frame)
        return self._finish(rng, picture, [actor])

    def _finish(self, rng: np.random.Generator, picture: Picture, actors: list[Actor]) -> Sample:
        """Label the people and spoil the picture."""
        seen_within = self._figure.keypoints.seen_within
        people = tuple(picture.label(actor, which, seen_within) for which, actor in enumerate(actors))
        image = degrade(picture.image, rng)
        if picture.inside is not None:  # black around it, as where a crop reaches over the edge of its photograph
            photograph, image = image, np.zeros_like(image)
            image[picture.inside] = photograph[picture.inside]
        return Sample(image, people, picture.camera.matrix)

    def _draw_actor(self, index: int, rng: np.random.Generator, facing: float) -> Actor:
        """A new person at the origin; a share of `facing` looks roughly towards the camera."""
        characters = self._characters.draw(index, rng)
        actor = draw_actor(self._figure, characters[rng.integers(len(characters))], rng)
        yaw = rng.normal(0, 0.6) if rng.random() < facing else rng.uniform(-np.pi, np.pi)
        return actor.moved(about_z(yaw), np.zeros(3))

    def _draw_bystanders(self, index: int, rng: np.random.Generator) -> list[Actor]:
        """One to three others, mostly behind and beside the main person."""
        actors = []
        for _ in range(int(rng.integers(1, 4))):
            behind = rng.uniform(-0.5, 0.2) if rng.random() < 0.2 else rng.uniform(0.3, 5)
            beside = rng.uniform(0.4, 0.8) + 0.35 * abs(rng.normal()) * max(0.3, behind)
            place = np.array([beside * rng.choice([-1.0, 1.0]), behind, 0.0])
            actors.append(self._bystanders.draw(index, rng).moved(about_z(rng.uniform(-np.pi, np.pi)), place))
        return actors

    def _make_characters(self, entry: int) -> list[Character]:
        return draw_characters(self._figure, self._streams.generator("identity", entry))

    def _make_bystander(self, entry: int) -> Actor:
        rng = self._streams.generator("bystander", entry)
        return self._draw_actor(entry * 64, rng, facing=0.5)

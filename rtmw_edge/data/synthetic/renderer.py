"""Renderer: people with their 133 keypoints, drawn without network, torch or photographs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .background import draw_background
from .body import FloatArray
from .camera import Camera, draw_camera, draw_distance
from .degrade import degrade
from .framing import ASPECT, BOX_PADDING, draw_view, jittered, padded
from .identity import Identity, draw_identities
from .labels import OCCLUDER, OUTSIDE, label_person
from .layout import load_figure
from .light import draw_light
from .person import Actor, draw_actor
from .raster import rasterize
from .rotations import about_z
from .sample import Person, Sample
from .seeds import Pool, Streams
from .shade import shade

PERSON_SIZE, CROP_SIZE, SCENE_SIZE = (240, 320), (192, 256), (640, 480)
_SAMPLES = 2  # samples per pixel in each direction
_NEAR = np.float32(50.0)  # inverse depth of what lies before everybody


@dataclass(frozen=True)
class _Canvas:
    """The z-buffer of one picture, `_SAMPLES` samples per pixel in each direction."""

    inverse_depth: FloatArray
    ids: NDArray[np.int32]

    @classmethod
    def of(cls, size: tuple[int, int]) -> _Canvas:
        shape = (size[1] * _SAMPLES, size[0] * _SAMPLES)
        return cls(np.zeros(shape, np.float32), np.full(shape, -1, np.int32))


class Renderer:
    """Draws people of one split; the same (split, seed, index) gives the same picture and labels, in any order.

    >>> sample = Renderer("val").crop(0)
    >>> sample.image.shape, sample.people[0].keypoints.shape
    ((256, 192, 3), (133, 2))

    Neighbouring indices share backgrounds and bodies, which are made when first needed: walking through the indices is
    several times faster than jumping. Raises BadInputError for an unknown split.
    """

    def __init__(self, split: str, seed: int = 0, backgrounds: Path | None = None) -> None:
        self._streams = Streams(split, seed)
        self._figure = load_figure()
        self._identities: Pool[list[Identity]] = Pool(
            lambda i: draw_identities(self._figure.body, self._streams.generator("identity", i)), 1, 256, 4
        )
        self._backgrounds: Pool[NDArray[np.uint8]] = Pool(
            lambda i: draw_background(self._streams.generator("background", i)), 40, 24, 64
        )

    def person(self, index: int, size: tuple[int, int] = PERSON_SIZE) -> Sample:
        """One person as a detector's box shows it, with a quarter more of the picture around for augmentation.

        The 1.25 times padded 3:4 box fills the central 0.8 of `size` (width, height).
        """
        return self._one(index, size, 1 / 1.25)

    def crop(self, index: int, size: tuple[int, int] = CROP_SIZE) -> Sample:
        """The person of the same index as the network sees it: the padded 3:4 box fills `size` (width, height)."""
        return self._one(index, size, 1.0)

    def _one(self, index: int, size: tuple[int, int], share: float) -> Sample:
        rng = self._streams.generator("person", index)
        actor = self._actor(index, rng, facing=True)
        middle = (actor.outline.max(0) + actor.outline.min(0)) / 2
        camera = draw_camera(rng, middle, draw_distance(rng))
        view = draw_view(rng, camera.project(actor.outline)[:, :2], camera.project(actor.keypoints)[:, :2])
        window = np.array(size) * share
        window[0] = min(window[0], window[1] * ASPECT)
        window[1] = window[0] / ASPECT
        centre = (np.array(size) - 1) / 2
        camera = camera.framed(padded(jittered(rng, view.box)), np.concatenate([centre - window / 2, centre + window / 2]))
        frame = view.frame * camera.focal + np.tile(camera.centre, 2)
        return self._render(index, rng, camera, size, [actor], frame)

    def scene(self, index: int, size: tuple[int, int] = SCENE_SIZE, people: int | None = None) -> Sample:
        """A whole picture of `size` (width, height) with one to four people, or `people` of them."""
        rng = self._streams.generator("scene", index)
        count = people if people is not None else int(rng.integers(1, 5))
        actors = []
        for k in range(count):
            actor = self._actor(index, rng, facing=False)
            across = (k - (count - 1) / 2) * rng.uniform(0.5, 1.2) + rng.normal(0, 0.15)
            actors.append(actor.moved(np.eye(3), np.array([across, rng.uniform(-0.6, 2.0) if k else 0.0, 0.0])))
        outline = np.concatenate([actor.outline for actor in actors])
        camera = draw_camera(rng, (outline.max(0) + outline.min(0)) / 2, draw_distance(rng, 3.5 + 0.3 * count, 10))
        seen = camera.project(outline)[:, :2]
        box = np.concatenate([seen.min(0), seen.max(0)])
        extent = box[2:] - box[:2]
        grow = rng.uniform(0.0, 0.8) * extent.max() / 2
        box = box + np.concatenate([-extent, extent]) * rng.uniform(-0.06, 0.1, 4) + np.array([-grow, -grow, grow, grow])
        camera = camera.framed(box, np.array([0, 0, size[0] - 1, size[1] - 1], np.float64))
        return self._render(index, rng, camera, size, actors, np.array([-np.inf, -np.inf, np.inf, np.inf]))

    def _actor(self, index: int, rng: np.random.Generator, facing: bool) -> Actor:
        identities = self._identities.draw(index, rng)
        actor = draw_actor(self._figure, identities[rng.integers(len(identities))], rng)
        yaw = rng.uniform(-np.pi, np.pi) if rng.random() < (0.4 if facing else 0.6) else rng.normal(0, 0.6)
        return actor.moved(about_z(yaw), np.zeros(3))

    def _render(
        self,
        index: int,
        rng: np.random.Generator,
        camera: Camera,
        size: tuple[int, int],
        actors: list[Actor],
        frame: FloatArray,
    ) -> Sample:
        width, height = size
        canvas = _Canvas.of(size)
        dense = camera.zoomed(_SAMPLES)
        first, owned, screens = 0, [], []
        for actor in actors:
            screen = np.ascontiguousarray(dense.project(actor.surface.vertices))
            rasterize(screen, actor.surface, canvas.inverse_depth, canvas.ids, first)
            owned.append((first, first + len(actor.surface.triangles)))
            screens.append(screen)
            first = owned[-1][1]

        image = self._background(index, rng, size).astype(np.float32)
        light = draw_light(rng, -camera.forward)
        painted = np.zeros((height, width, 4), np.float32)
        for actor, screen, own in zip(actors, screens, owned, strict=True):
            shade(screen, actor.surface, light, canvas.ids, own[0], _SAMPLES, painted)
        image = image * (1 - painted[..., 3:]) + painted[..., :3]

        self._occlude(index, rng, image, canvas)
        outside = _outside(size, frame)
        if outside is not None:
            dense_outside = outside.repeat(_SAMPLES, 0).repeat(_SAMPLES, 1)
            canvas.ids[dense_outside], canvas.inverse_depth[dense_outside] = OUTSIDE, _NEAR
        labels = tuple(
            self._label(camera, actor, canvas, own) for actor, own in zip(actors, owned, strict=True)
        )
        finished = degrade(image, rng)
        if outside is not None:
            finished[outside] = 0  # as where a crop reaches over the edge of its picture
        return Sample(finished, labels, camera.matrix)

    def _label(self, camera: Camera, actor: Actor, canvas: _Canvas, own: tuple[int, int]) -> Person:
        seen_within = self._figure.keypoints.seen_within * np.float32(max(0.75, actor.scale))
        return label_person(
            camera, actor.keypoints, actor.outline, seen_within, canvas.inverse_depth, canvas.ids, own, _SAMPLES
        )

    def _background(self, index: int, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
        """A piece of a background, flipped, enlarged and tinted at random."""
        source = self._backgrounds.draw(index, rng)
        height, width = source.shape[:2]
        aspect = size[0] / size[1]
        largest = min(width, height * aspect)
        cut_width = int(largest * rng.uniform(0.35, 1))
        cut_height = min(height, max(8, int(cut_width / aspect)))
        x, y = int(rng.integers(width - cut_width + 1)), int(rng.integers(height - cut_height + 1))
        cut = source[y : y + cut_height, x : x + cut_width]
        if rng.random() < 0.5:
            cut = cut[:, ::-1]
        return cv2.resize(np.ascontiguousarray(cut), size, interpolation=cv2.INTER_LINEAR)

    def _occlude(self, index: int, rng: np.random.Generator, image: FloatArray, canvas: _Canvas) -> None:
        """Sometimes, things before the people: pieces of another background in rough shapes."""
        if rng.random() > 0.25:
            return
        height, width = image.shape[:2]
        for _ in range(int(rng.integers(1, 3))):
            mask = np.zeros((height, width), np.uint8)
            at = (int(rng.integers(width)), int(rng.integers(height)))
            reach = int(min(height, width) * rng.uniform(0.08, 0.32))
            if rng.random() < 0.5:
                axes = (reach, max(3, int(reach * rng.uniform(0.2, 1))))
                cv2.ellipse(mask, at, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
            else:
                corners = np.array(at) + rng.integers(-reach, reach + 1, (int(rng.integers(3, 6)), 2))
                cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
            cover = mask > 0
            image[cover] = self._background(index, rng, (width, height))[cover] * np.float32(rng.uniform(0.5, 1.1))
            dense = cover.repeat(_SAMPLES, 0).repeat(_SAMPLES, 1)
            canvas.ids[dense] = OCCLUDER
            canvas.inverse_depth[dense] = _NEAR


def _outside(size: tuple[int, int], frame: FloatArray) -> NDArray[np.bool_] | None:
    """The pixels (H,W) beyond the end of the photograph, or None where it ends nowhere in the picture."""
    width, height = size
    x0, y0, x1, y1 = np.clip(np.rint(frame), -1, max(size)).astype(int)
    if x0 <= 0 and y0 <= 0 and x1 >= width - 1 and y1 >= height - 1:
        return None
    outside = np.ones((height, width), bool)
    outside[max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)] = False
    return outside

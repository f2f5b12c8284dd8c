"""Labels against rendered pixels: the half pixel, visibility, the camera, the frame."""

from __future__ import annotations

import numpy as np
import pytest

from rtmw_edge.data.synthetic import ABSENT, OCCLUDED, VISIBLE
from rtmw_edge.data.synthetic.camera import Camera
from rtmw_edge.data.synthetic.framing import padded
from rtmw_edge.data.synthetic.layout import load_figure
from rtmw_edge.data.synthetic.person import Actor, draw_actor, draw_characters
from rtmw_edge.data.synthetic.picture import draw_picture
from rtmw_edge.data.synthetic.rotations import about_z
from rtmw_edge.data.synthetic.solids import box, ellipsoid

SIZE = (192, 256)
NO_FRAME = np.array([-np.inf, -np.inf, np.inf, np.inf])
FIGURE = load_figure()


def person(seed: int = 0) -> Actor:
    rng = np.random.default_rng(seed)
    return draw_actor(FIGURE, draw_characters(FIGURE, rng, 1)[0], rng)


def looking_at(actor: Actor, distance: float = 4.0) -> Camera:
    """A level camera in front of a person who fills the picture."""
    middle = (actor.outline.min(0) + actor.outline.max(0)) / 2
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    camera = Camera(rotation, middle - np.array([0, distance, 0]))
    seen = camera.project(actor.outline)[:, :2]
    region = padded(np.concatenate([seen.min(0), seen.max(0)]))
    return camera.framed(region, np.array([0, 0, SIZE[0] - 1, SIZE[1] - 1], np.float64))


def black(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return np.zeros((size[1], size[0], 3), np.uint8)


class NoOccluders(np.random.Generator):
    """A generator whose plain draws never fall below 0.9, so that nothing rare happens."""

    def random(self, *arguments, **options):
        value = super().random(*arguments, **options)
        return 0.9 + 0.1 * value


def quiet(seed: int = 0) -> np.random.Generator:
    return NoOccluders(np.random.PCG64(seed))


def marked(actor: Actor, keypoint: int, radius: float = 0.012) -> Actor:
    """The same person, of whom only a white ball around one keypoint is drawn."""
    ball = ellipsoid(
        actor.keypoints[keypoint].astype(np.float64), np.full(3, radius), np.eye(3), np.full(3, 255, np.float32)
    )
    nothing = actor.surface._replace(
        triangles=np.zeros((0, 3), np.int32), kinds=np.zeros(0, np.uint8), gloss=np.float32(0)
    )
    return Actor(nothing.with_solids([ball]), actor.keypoints, actor.outline, actor.scale, actor.pose)


@pytest.mark.parametrize("keypoint", [0, 9, 16, 50, 103, 132])
@pytest.mark.parametrize("distance", [1.5, 6.0])
def test_integer_coordinates_are_pixel_centres(keypoint, distance):
    """A ball around a keypoint is drawn where its label says, to a tenth of a pixel."""
    actor = person(1)
    camera = looking_at(actor, distance)
    picture = draw_picture(quiet(), camera, SIZE, [marked(actor, keypoint, 0.02)], black, NO_FRAME)
    label = picture.label(marked(actor, keypoint), 0, FIGURE.keypoints.seen_within).keypoints[keypoint]
    hit = picture.samples.ids >= 0
    covered = hit.reshape(SIZE[1], 2, SIZE[0], 2).mean((1, 3))
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    centroid = np.array([(covered * x).sum(), (covered * y).sum()]) / covered.sum()
    assert np.abs(centroid - label).max() < 0.1
    bright = picture.image.sum(2) > 0
    assert bright[round(float(label[1])), round(float(label[0]))]


def test_the_average_error_of_many_balls_is_no_half_pixel():
    errors = []
    for seed in range(12):
        actor = person(seed)
        camera = looking_at(actor, 3.0)
        for keypoint in (0, 5, 10, 13, 99, 124):
            picture = draw_picture(quiet(), camera, SIZE, [marked(actor, keypoint, 0.02)], black, NO_FRAME)
            rows, columns = np.nonzero(picture.samples.ids >= 0)
            label = camera.project(actor.keypoints)[keypoint, :2]
            errors.append([(columns.mean() + 0.5) / 2 - 0.5 - label[0], (rows.mean() + 0.5) / 2 - 0.5 - label[1]])
    assert np.abs(np.mean(errors, 0)).max() < 0.03


def test_pixels_are_the_camera_times_metres():
    actor = person(2)
    camera = looking_at(actor)
    label = draw_picture(quiet(), camera, SIZE, [actor], black, NO_FRAME).label(actor, 0, FIGURE.keypoints.seen_within)
    projected = (label.metres / label.metres[:, 2:]) @ camera.matrix.T
    assert np.allclose(projected[:, :2], label.keypoints, atol=0.01)
    assert (label.metres[:, 2] > 3).all()


def test_a_board_before_the_person_hides_what_is_behind_it():
    actor = person(3)
    camera = looking_at(actor)
    low, high = actor.outline.min(0), actor.outline.max(0)
    waist = (low[2] + high[2]) / 2
    half = np.array([2.0, 0.01, (high[2] - waist) / 2 + 0.2])
    board = box(np.array([0, low[1] - 0.5, waist + half[2]]), half, np.eye(3), np.zeros(3, np.float32))
    other = marked(actor, 0)
    blocker = Actor(
        other.surface._replace(triangles=np.zeros((0, 3), np.int32), kinds=np.zeros(0, np.uint8)).with_solids([board]),
        actor.keypoints,
        actor.outline,
        actor.scale,
        actor.pose,
    )
    picture = draw_picture(quiet(), camera, SIZE, [actor, blocker], black, NO_FRAME)
    label = picture.label(actor, 0, FIGURE.keypoints.seen_within)
    depth = actor.keypoints[:, 2]
    assert (label.visible[depth > waist + 0.1] == OCCLUDED).all()
    assert (label.visible[depth < waist - 0.1] == VISIBLE).any()


def test_beyond_the_end_of_the_photograph_there_are_no_keypoints():
    actor = person(4)
    camera = looking_at(actor)
    frame = np.array([-np.inf, -np.inf, np.inf, 128.0])
    picture = draw_picture(quiet(), camera, SIZE, [actor], black, frame)
    label = picture.label(actor, 0, FIGURE.keypoints.seen_within)
    outside = np.ones(picture.image.shape[:2], bool)
    outside[picture.inside] = False
    assert picture.inside is not None and outside[129:].all() and not outside[:129].any()
    assert (label.visible[label.keypoints[:, 1] > 129] == ABSENT).all()
    assert (label.visible[label.keypoints[:, 1] < 127] != ABSENT).all()
    assert label.box[3] <= 128


def test_the_back_of_the_head_hides_the_face():
    seen = {"front": 0, "back": 0}
    for seed in range(6):
        actor = person(seed)
        ahead = actor.keypoints[0] - actor.keypoints[[3, 4]].mean(0)
        towards_camera = -np.pi / 2 - np.arctan2(ahead[1], ahead[0])
        for side, turn in (("front", 0.0), ("back", np.pi)):
            turned = actor.moved(about_z(towards_camera + turn), np.zeros(3))
            picture = draw_picture(quiet(), looking_at(turned), SIZE, [turned], black, NO_FRAME)
            visible = picture.label(turned, 0, FIGURE.keypoints.seen_within).visible
            seen[side] += np.count_nonzero(visible[50:91] == VISIBLE)
    assert seen["front"] > 6 * 41 * 0.5
    assert seen["back"] < 6 * 41 * 0.1

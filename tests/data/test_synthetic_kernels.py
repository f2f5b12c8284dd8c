"""The renderer's compiled kernels, each against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from rtmw_edge.data.synthetic.background import _dim, _fill_below, _mix
from rtmw_edge.data.synthetic.garment import ANKLE_HEIGHT, cut_garment, hide_skin, stand_off
from rtmw_edge.data.synthetic.hand_pose import bent_fingers
from rtmw_edge.data.synthetic.labels import OUTSIDE, _look
from rtmw_edge.data.synthetic.layout import load_figure
from rtmw_edge.data.synthetic.light import Light
from rtmw_edge.data.synthetic.limbs import bent_arm
from rtmw_edge.data.synthetic.mesh import add_at, bounds, push_out, shown_triangles
from rtmw_edge.data.synthetic.raster import ZOOM, rasterize
from rtmw_edge.data.synthetic.rotations import axis_angle, dot, frame, product, rotated
from rtmw_edge.data.synthetic.seeds import choose
from rtmw_edge.data.synthetic.shade import shade
from rtmw_edge.data.synthetic.shadow import NO_SHADOW
from rtmw_edge.data.synthetic.surface import PAINTED, Surface

LAYOUT = load_figure().layout


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_choose_draws_what_choice_draws():
    shares = (0.11, 0.38, 0.1, 0.41)
    ours, theirs = np.random.default_rng(5), np.random.default_rng(5)
    assert [choose(ours, shares) for _ in range(500)] == [theirs.choice(4, p=shares) for _ in range(500)]


def test_small_matrices(rng):
    a, b, v = rng.normal(size=(3, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)
    assert np.allclose(product(a, b), a @ b) and np.allclose(rotated(a, v), a @ v)
    assert dot(a[0], v) == pytest.approx(a[0] @ v)


@pytest.mark.parametrize("outward", [1.0, -1.0])
def test_an_arm_is_bent_as_numpy_bends_it(rng, outward):
    joints = np.cumsum(rng.normal(0, 0.2, (6, 3)), 0)
    target, swivel, turns = joints[0] + rng.normal(0, 0.1, 3), 0.4, (0.7, -0.3, 0.2)
    found = bent_arm(joints, target, outward, swivel, *turns)

    upper, fore = joints[1] - joints[0], joints[2] - joints[1]
    a, b = np.linalg.norm(upper), np.linalg.norm(fore)
    reach = np.clip(np.linalg.norm(target - joints[0]), abs(a - b) + 0.05 * a, (a + b) * 0.995)
    direction = unit(target - joints[0])
    pole = np.array([outward * 0.35, 0.35, -1])
    pole = axis_angle(direction, outward * swivel) @ unit(pole - direction * (pole @ direction))
    at_shoulder = np.arccos((a * a + reach * reach - b * b) / (2 * a * reach))
    at_elbow = np.pi - np.arccos((a * a + b * b - reach * reach) / (2 * a * b))
    along = direction * np.cos(at_shoulder) + pole * np.sin(at_shoulder)
    rest = np.cross(upper, fore)
    half = axis_angle(fore, turns[0] / 2)
    across = joints[3] - joints[5]
    expected = [
        frame(along, np.cross(along, direction)) @ frame(upper, rest).T,
        axis_angle(rest, at_elbow - np.arccos(unit(upper) @ unit(fore))),
        half,
        half @ axis_angle(across, turns[1]) @ axis_angle(np.cross(joints[4] - joints[2], across), turns[2]),
    ]
    assert np.allclose(found, expected, atol=1e-9)


def test_fingers_are_bent_as_numpy_bends_them(rng):
    joints, wrist = rng.normal(size=(5, 4, 3)), rng.normal(size=3)
    flexion, fans = rng.normal(size=(5, 3)), rng.normal(size=4)
    found = bent_fingers(joints, wrist, flexion, fans)

    steps = np.diff(joints, axis=1)
    palm = np.cross(joints[1, 0] - wrist, joints[4, 0] - wrist)
    palm = unit(palm) * np.sign(palm @ (steps[1:, 2] - steps[1:, 0]).sum(0))
    for finger in range(5):
        for k in range(3):
            against = palm if finger else unit(joints[3, 0] + palm * 0.04 - joints[0, k])
            expected = axis_angle(np.cross(unit(steps[finger, k]), against), flexion[finger, k])
            if finger and k == 0:
                expected = axis_angle(palm, fans[finger - 1]) @ expected
            assert np.allclose(found[finger, k], expected, atol=1e-9)


@pytest.mark.parametrize(("shod", "bare"), [(True, np.inf), (False, 0.2)])
def test_a_garment_is_cut_as_numpy_cuts_it(shod, bare):
    sleeve, trousers, neck, depth = (np.float32(v) for v in (0.3, 0.6, LAYOUT.neck_height, 0.4))
    keep = np.ones(len(LAYOUT.canonical), np.float32)
    shape = (LAYOUT.garment, LAYOUT.canonical, LAYOUT.arm, LAYOUT.along_arm, LAYOUT.along_leg)
    cut_garment(*shape, sleeve, trousers, neck, depth, np.float32(bare), shod, keep)

    x, y, z = LAYOUT.canonical[LAYOUT.garment].T
    arms, along_leg = LAYOUT.arm[LAYOUT.garment] > 0.5, LAYOUT.along_leg[LAYOUT.garment]
    opening = depth * np.clip(0.06 - np.abs(x), 0, 0.06) * (y < -0.02)
    field = np.clip(neck - z + 0.35 * np.clip(y + 0.02, 0, 0.1) - opening, -1, 1)
    field = np.where(~arms & (along_leg > 0.1), (trousers - along_leg) * 0.75, field)
    field = np.where(arms, (sleeve - LAYOUT.along_arm[LAYOUT.garment]) * 0.45, field)
    field = np.where(z > bare, -0.5, field)
    feet = z < ANKLE_HEIGHT
    field[feet] = 1 if shod else np.minimum(field, (trousers - along_leg) * 0.75)[feet]
    assert np.allclose(keep[LAYOUT.garment], field, atol=1e-6)

    hidden = (LAYOUT.covered_by >= 0) & (keep[LAYOUT.covered_by] > 0.025)
    hide_skin(LAYOUT.skin, LAYOUT.covered_by, keep)
    assert hidden.any() and np.array_equal(keep[LAYOUT.skin] == -1, hidden)


def test_cloth_stands_off_as_numpy_has_it(rng):
    v = len(LAYOUT.canonical)
    upper, keep = rng.normal(size=v).astype(np.float32), rng.normal(0, 0.05, v).astype(np.float32)
    frequency, phase, hem, offset = rng.uniform(12, 30, 3), rng.uniform(0, 6, 3), 0.4, np.zeros(v, np.float32)
    stand_off(LAYOUT.garment, LAYOUT.canonical, upper, keep, (0.01, 0.03), hem, frequency, phase, offset)

    x, y, z = LAYOUT.canonical[LAYOUT.garment].T.astype(np.float64)
    loose = np.where(upper[LAYOUT.garment] > 0, 0.01, 0.03)
    loose = loose * (hem + (1 - hem) * np.clip(keep[LAYOUT.garment] / 0.05, 0, 1))
    waves = np.sin(z * frequency[0] + x * 18 + phase[0]) + np.sin(x * frequency[1] - y * 22 + z * 9 + phase[1])
    expected = np.where(z < ANKLE_HEIGHT, 0.002, np.maximum(loose * (1 + 0.25 * waves), 0.001))
    assert np.allclose(offset[LAYOUT.garment], expected, atol=1e-7)
    assert not offset[LAYOUT.skin].any()


def test_kernels_on_points(rng):
    points, moves = rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    for some in (points, points[::7], points[:, :2]):
        low, high = bounds(some)
        assert np.array_equal(low, some.min(0)) and np.array_equal(high, some.max(0))
    moved, ids = points.copy(), np.array([3, 1, 40, 22])
    add_at(moved, ids, moves)
    assert np.array_equal(moved[ids], points[ids] + moves)
    distance = rng.normal(size=50).astype(np.float32)
    pushed = points.copy()
    push_out(pushed, points[::-1].copy(), distance)
    assert np.array_equal(pushed, points + points[::-1] * distance[:, None])
    triangles, kinds = rng.integers(0, 50, (80, 3)).astype(np.int32), np.arange(80, dtype=np.uint8)
    shown = (distance[triangles] >= 0).any(1)
    found, found_kinds = shown_triangles(triangles, kinds, distance)
    assert np.array_equal(found, triangles[shown]) and np.array_equal(found_kinds, kinds[shown])


def test_kernels_on_backgrounds(rng):
    image, share = rng.uniform(0, 255, (9, 7, 3)).astype(np.float32), rng.random((9, 7), dtype=np.float32)
    colour, top = np.array([10, 90, 200], np.float32), rng.integers(0, 9, 7)
    dimmed, mixed, filled = image.copy(), image.copy(), image.copy()
    _dim(dimmed, share)
    _mix(mixed, colour, share)
    _fill_below(filled, top, colour, share)
    assert np.array_equal(dimmed, image * share[..., None])
    assert np.array_equal(mixed, image + share[..., None] * (colour - image))
    below = np.arange(9)[:, None] >= top
    assert np.array_equal(filled, np.where(below[..., None], colour * share[..., None], image))


def scene(rng: np.random.Generator) -> tuple[np.ndarray, Surface]:
    """Forty two-sided triangles before a camera: screen (V,3) in samples, and the surface, partly cut away."""
    v = 60
    screen = np.column_stack([rng.uniform(-10, 60, v), rng.uniform(-10, 80, v), rng.uniform(1, 4, v)])
    fields = {name: np.zeros((1, 1), np.float32) for name in Surface._fields}
    fields |= {
        "vertices": rng.normal(size=(v, 3)).astype(np.float32),
        "normals": np.stack([unit(n) for n in rng.normal(size=(v, 3))]).astype(np.float32),
        "canonical": np.zeros((v, 3), np.float32),
        "colours": rng.uniform(0, 255, (v, 3)).astype(np.float32),
        "upper": np.zeros(v, np.float32),
        "keep": rng.uniform(-0.4, 1, v).astype(np.float32),
        "triangles": rng.integers(0, v, (40, 3)).astype(np.int32),
        "kinds": np.full(40, PAINTED, np.uint8),
        "materials": np.zeros((4, 2, 3), np.float32),
        "wrinkles": np.zeros((2, 2, 2), np.float32),
        **dict.fromkeys(("brow_colour", "iris"), np.zeros(3, np.float32)),
        **dict.fromkeys(("brow_width", "gloss", "fold", "cloth_lead"), np.float32(0.1)),
    }
    return screen.astype(np.float32), Surface(**fields)


def weights(screen: np.ndarray, triangle: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Barycentric weights (3,...) of the places x, y."""
    corners = np.vstack([screen[triangle, :2].T.astype(np.float64), np.ones(3)])
    return np.einsum("ij,j...->i...", np.linalg.inv(corners), np.stack([x, y, np.ones_like(x)]))


def test_the_nearest_triangle_is_seen(rng):
    screen, surface = scene(rng)
    height, width = 64, 48
    inverse_depth, ids = np.zeros((height, width), np.float32), np.full((height, width), -1, np.int32)
    left, top, right, bottom = rasterize(screen, surface, inverse_depth, ids, 100)

    y, x = np.mgrid[:height, :width].astype(np.float64)
    depth, seen = np.zeros((height, width)), np.full((height, width), -1)
    for t, triangle in enumerate(surface.triangles):
        if len(set(triangle)) < 3:
            continue
        w = weights(screen, triangle, x, y)
        near = np.einsum("i,i...->...", 1 / screen[triangle, 2].astype(np.float64), w)
        keep = np.einsum("i,i...->...", surface.keep[triangle].astype(np.float64), w)
        better = (w >= 0).all(0) & (keep >= 0) & (near > depth)
        depth, seen = np.where(better, near, depth), np.where(better, 100 + t, seen)
    assert (seen >= 0).mean() > 0.5 and (ids == seen).mean() > 0.998
    assert np.abs(inverse_depth - depth)[ids == seen].max() < 1e-4
    rows, columns = np.nonzero(ids >= 0)
    assert left <= columns.min() and columns.max() <= right and top <= rows.min() and rows.max() <= bottom


def test_light_on_what_is_seen(rng):
    screen, surface = scene(rng)
    inverse_depth, ids = np.zeros((64, 48), np.float32), np.full((64, 48), -1, np.int32)
    box = rasterize(screen, surface, inverse_depth, ids, 7)
    towards, eye = unit(np.array([1.0, -2, 2])), unit(np.array([0.1, -1, 0.2]))
    strengths = np.array([[1, 0.9, 0.8], [0.5, 0.4, 0.6], [0.2, 0.3, 0.1]])
    light = Light(*(v.astype(np.float32) for v in (towards, *strengths, eye)))
    out = np.zeros((32, 24, 4), np.float32)
    shade(screen, surface, light, NO_SHADOW, ids, 7, box, out)

    owned = (ids >= 7).reshape(32, ZOOM, 24, ZOOM).sum((1, 3))
    assert np.allclose(out[..., 3], owned / ZOOM**2, atol=1e-6)
    expected = np.zeros((32, 24, 3))
    for y, x in np.argwhere(ids >= 7):
        whole = owned[y // ZOOM, x // ZOOM] == ZOOM**2
        if whole and (y % ZOOM or x % ZOOM):
            continue
        triangle = surface.triangles[ids[y, x] - 7]
        at = np.array([x, y]) + (0.5 if whole else 0)
        w = weights(screen, triangle, at[0], at[1]) / screen[triangle, 2]
        w = np.maximum(w / w.sum(), 0) if whole else w / w.sum()
        w = w / w.sum()
        normal = unit(w @ surface.normals[triangle].astype(np.float64))
        (xa, ya), (xb, yb), (xc, yc) = screen[triangle, :2]
        back = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa) > 0
        normal = -normal if back else normal
        up = 0.5 + 0.5 * normal[2]
        sun, sky, ground = strengths
        received = max(0, normal @ towards) * sun + up * sky + (1 - up) * ground
        highlight = 0.1 * max(0, normal @ unit(towards + eye)) ** 24 * 255 * sun
        share = (1 if whole else 1 / ZOOM**2) * (0.8 if back else 1)
        expected[y // ZOOM, x // ZOOM] += (w @ surface.colours[triangle] * received + highlight) * share
    error = np.abs(out[..., :3] - expected).max(2)
    assert np.quantile(error, 0.99) < 0.05  # the middle of a sliver is ill-conditioned in float32


def test_a_keypoint_is_seen_hidden_or_absent():
    ids, inverse_depth = np.full((20, 20), 5, np.int32), np.full((20, 20), 0.5, np.float32)
    ids[:, 14:] = OUTSIDE
    pixels = np.array([[3, 3], [3, 3], [3, 3], [-0.6, 3], [9.6, 3], [8, 3]], np.float32)
    metres = np.column_stack([(pixels * 2 + 0.5 - 9.5) / 20 * 2, np.full(6, 2.0)]).astype(np.float32)
    metres[1, 2] += 0.3  # behind what is seen there
    metres[2, 2] = 0  # behind the camera
    within = np.full(6, 0.1, np.float32)
    found = _look(ids, inverse_depth, 2, pixels, metres, (20.0, 9.5, 9.5), within, (5, 6))
    assert found.tolist() == [2, 1, 0, 0, 0, 0]
    assert _look(ids, inverse_depth, 2, pixels, metres, (20.0, 9.5, 9.5), within, (6, 9))[0] == 1

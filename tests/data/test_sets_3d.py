"""H3WB and UBody-3D written from known bodies and cameras; pickles that want more than to be read."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from set_files import HEIGHT, WIDTH, document, opened

from rtmw_edge.data.sets import SetConfig, open_set
from rtmw_edge.data.sets.mapping import mapping_of
from rtmw_edge.data.sets.object_arrays import load_objects
from rtmw_edge.errors import BadInputError

CAMERA = "54138969"
INTRINSICS = np.array([[1145.0, 0, 512.5], [0, 1143.8, 515.4], [0, 0, 1]])


def body(frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Millimetres (frames, 133, 3) about 5 m before the camera, and their pixels (frames, 133, 2)."""
    millimetres = np.random.default_rng(seed).normal(0, 300, (frames, 133, 3)) + np.array([0, 0, 5000])
    pixels = millimetres @ INTRINSICS.T
    return millimetres, pixels[..., :2] / pixels[..., 2:]


def h3wb(path: Path, frames: int = 3, **changes: Any) -> Path:
    """A file in the layout of h3wb_train_bbox.npz, with subject S1 in one action and one camera."""
    millimetres, pixels = body(frames)
    numbers = np.arange(frames) * 10 + 1
    view = {"pose_2d": pixels, "camera_3d": millimetres, "sample_id": 0}
    action = {"frame_id": numbers, "global_3d": millimetres, CAMERA: view}
    matrix = (INTRINSICS / [[1000], [1000], [1]])[None].astype(np.float32)
    sides = ("x_min", "y_min", "x_max", "y_max")
    # Keys with NumPy's integers, as the published file may have them.
    boxes = {("S1", "Walking 1", CAMERA, number): dict(zip(sides, (1, 2, 300, 400), strict=True)) for number in numbers}
    parts = {"train_data": {"S1": {"Walking 1": action}}, "metadata": {"S1": {CAMERA: {"K": matrix}}}, "bbox": boxes}
    np.savez(path, **{name: np.array(value, object) for name, value in {**parts, **changes}.items()})
    return path


def opened_h3wb(path: Path, **options: Any) -> Any:
    return open_set(SetConfig("h3wb", path.parent, annotations=path.name, subjects=("S1",), **options))


def test_h3wb_is_metres_before_its_camera(tmp_path: Path) -> None:
    table = opened_h3wb(h3wb(tmp_path / "h3wb.npz"))
    millimetres, pixels = body(3)
    assert len(table) == 3 and not table.skipped
    instance = table[2]
    assert instance.image == tmp_path / f"original/S1/Images/Walking 1.{CAMERA}/frame_21.jpg"
    assert instance.whole and instance.box.tolist() == [1, 2, 300, 400] and instance.visible.tolist() == [2] * 133
    np.testing.assert_allclose(instance.metres, millimetres[2] / 1000, rtol=1e-6)
    np.testing.assert_allclose(instance.camera, INTRINSICS, rtol=1e-6)
    np.testing.assert_allclose(instance.keypoints, pixels[2], rtol=1e-5)


@pytest.mark.parametrize("name", ["metres", "cameras"])
def test_a_cache_that_lost_its_depth_is_written_anew(tmp_path: Path, name: str) -> None:
    config = SetConfig("h3wb", tmp_path, annotations=h3wb(tmp_path / "h3wb.npz").name, subjects=("S1",))
    plain = open_set(config, tmp_path / "cache")[2]
    (lost,) = (tmp_path / "cache").glob(f"*/{name}.npy")
    lost.unlink()
    found = open_set(config, tmp_path / "cache")[2]
    assert np.array_equal(found.metres, plain.metres) and np.array_equal(found.camera, plain.camera) and lost.exists()


def test_h3wbs_frames_may_lie_elsewhere(tmp_path: Path) -> None:
    path = h3wb(tmp_path / "h3wb.npz")
    table = opened_h3wb(path, images="S/{subject}_{action}/{camera}_{frame:05d}.png", every=2)
    assert [table.path(i).name for i in range(table.images)] == [f"{CAMERA}_00001.png", f"{CAMERA}_00021.png"]
    for pattern in ("frames", "{subject}/{place}/{frame}.png", "{subject}/{action}/{frame}.png", "{frame"):
        with pytest.raises(BadInputError, match="is no pattern of H3WB's frames: write the file of a frame with"):
            opened_h3wb(path, images=pattern)


def test_h3wb_counts_what_it_lacks(tmp_path: Path) -> None:
    table = opened_h3wb(
        h3wb(tmp_path / "a.npz", bbox={("S1", "Walking 1", CAMERA, 1): dict(x_min=1, y_min=2, x_max=9, y_max=9)})
    )
    assert len(table) == 1 and table.skipped == {"bad box": 2}
    with pytest.raises(BadInputError, match=r"\(1 malformed; annotation S1 Walking 1 54138969: it has no '54138969'\)"):
        opened_h3wb(h3wb(tmp_path / "b.npz", metadata={"S1": {}}))
    damaged = h3wb(tmp_path / "d.npz", bbox={("S1", "Walking 1", CAMERA, n): {"x_min": "?"} for n in (1, 11, 21)})
    with pytest.raises(BadInputError, match=r"no usable annotation \(1 malformed; .*could not convert string to float"):
        opened_h3wb(damaged)
    with pytest.raises(BadInputError, match=r"a\.npz has no subject S7; it has S1\."):
        open_set(SetConfig("h3wb", tmp_path, annotations="a.npz", subjects=("S7",)))
    with pytest.raises(BadInputError, match=r"c\.npz is not H3WB's .*: its parts must be dictionaries"):
        opened_h3wb(h3wb(tmp_path / "c.npz", bbox=[1, 2]))


class Payload:
    """What a hostile pickle would do."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_object_arrays_are_read_at_every_protocol(tmp_path: Path, protocol: int) -> None:
    value = {
        ("key", np.int64(3)): [np.arange(6, dtype=">f4").reshape(2, 3), np.float64(1.5), None, True, "text"],
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
    }
    (read,) = load_objects(archive(tmp_path / "x.npz", pickle.dumps(np.array(value, object), protocol)), ("x",))
    found = read["key", 3]
    assert found[0].tolist() == [[0, 1, 2], [3, 4, 5]] and found[1:] == [1.5, None, True, "text"]
    assert read["f"].tolist() == [[0, 1, 2], [3, 4, 5]]


def archive(path: Path, pickled: bytes) -> Path:
    """An .npz whose array x is an object array with that pickle."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", header.getvalue() + pickled)
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "posix.system"), (eval, "builtins.eval"), (np.load, "numpy.load"), (open, "io.open")],
)
def test_a_pickle_that_calls_anything_is_refused(tmp_path: Path, function: Any, name: str, protocol: int) -> None:
    victim = tmp_path / "victim"
    hostile = {"S1": Payload(function, f"touch {victim}")}
    path = archive(tmp_path / "x.npz", pickle.dumps(hostile, protocol))
    with pytest.raises(
        BadInputError, match=r"was not loaded: its pickle asks for .*, which is more than data"
    ) as caught:
        load_objects(path, ("x",))
    assert name.rpartition(".")[2] in str(caught.value)
    assert not victim.exists()


def test_a_pickle_cannot_change_later_readings(tmp_path: Path) -> None:
    """BUILD sets attributes on what a name resolves to; the stand-ins of one file are gone with it."""
    vandal = b"cnumpy\nndarray\n(N}S'__setstate__'\nNstb."
    good = pickle.dumps(np.array({"a": np.arange(3)}, object), 2)
    with contextlib.suppress(BadInputError):
        load_objects(archive(tmp_path / "bad.npz", vandal), ("x",))
    assert load_objects(archive(tmp_path / "good.npz", good), ("x",))[0]["a"].tolist() == [0, 1, 2]


def test_lists_of_one_another_neither_grow_nor_run_in_circles(tmp_path: Path) -> None:
    doubled: list[Any] = [1]
    for _ in range(60):
        doubled = [doubled, doubled]
    (read,) = load_objects(archive(tmp_path / "x.npz", pickle.dumps(doubled)), ("x",))
    assert read[0] is read[1]
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(BadInputError, match=r"y\.npz is damaged \(RecursionError"):
        load_objects(archive(tmp_path / "y.npz", pickle.dumps(circle)), ("x",))


def test_a_damaged_compressed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "z.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 9, 5000))
    content = bytearray(path.read_bytes())
    content[300:340] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"z\.npz is damaged \((error|BadZipFile): .*download it again"):
        load_objects(path, ("x",))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"There are no annotations at .*none\.npz"):
        load_objects(tmp_path / "none.npz", ("x",))
    good = archive(tmp_path / "x.npz", pickle.dumps(np.array({"a": np.arange(300)}, object), 2))
    with pytest.raises(BadInputError, match=r"x\.npz holds no 'bbox': it is not the file that this kind of set needs"):
        load_objects(good, ("bbox",))
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:200])
    with pytest.raises(BadInputError, match=r"cut\.npz is damaged \(BadZipFile: .*download it again"):
        load_objects(tmp_path / "cut.npz", ("x",))
    with pytest.raises(BadInputError, match=r"short\.npz .*(is damaged|was not loaded)"):
        load_objects(archive(tmp_path / "short.npz", pickle.dumps({"a": 1})[:-4]), ("x",))
    # An array that claims more numbers than it has bytes.
    claim = pickle.dumps(np.arange(8.0), 2).replace(b"K\x08\x85", b"K\x09\x85")
    with pytest.raises(BadInputError, match=r"claim\.npz is damaged \(ValueError: cannot reshape"):
        load_objects(archive(tmp_path / "claim.npz", claim), ("x",))


FOCAL, CENTRE, DISTANCE = 9000.0, (200.0, 220.0), 30.0


def smplx() -> np.ndarray:
    """137 joints in metres from the pelvis: upright, facing the camera, arms hanging, hands and face where they are."""
    joints = np.zeros((137, 3))
    places = {
        1: (0.09, 0, 0), 2: (-0.09, 0, 0), 3: (0.09, 0.4, 0.0), 4: (-0.09, 0.4, 0.0),
        5: (0.09, 0.8, 0.05), 6: (-0.09, 0.8, 0.05), 7: (0, -0.5, 0.05),
        8: (0.17, -0.45, 0), 9: (-0.17, -0.45, 0), 10: (0.17, -0.18, 0), 11: (-0.17, -0.18, 0),
        12: (0.17, 0.06, -0.07), 13: (-0.17, 0.06, -0.07), 24: (0, -0.6, -0.1),
    }  # fmt: skip
    for joint, place in places.items():
        joints[joint] = place
    joints[25:45] = joints[12] + np.linspace([0, 0.02, 0], [0.02, 0.1, -0.05], 20)
    joints[45:65] = joints[13] + np.linspace([0, 0.02, 0], [-0.02, 0.1, -0.05], 20)
    joints[65:137] = joints[7] + np.linspace([0.05, -0.2, -0.1], [-0.05, 0, -0.15], 72)
    return joints


def ubody(valid: Any = 1, **changes: Any) -> dict[str, Any]:
    """An annotation as mmpose's ubody_smplx_to_coco.py writes it, in camera pixels and sixteenths of 2 m of depth."""
    joints = smplx()
    camera = joints + np.array([0, 0, DISTANCE])
    pixels = camera[:, :2] / camera[:, 2:] * FOCAL + CENTRE
    relative = joints[:, 2].copy()
    relative[25:45] -= joints[12, 2]
    relative[45:65] -= joints[13, 2]
    relative[65:] -= joints[7, 2]
    values = np.column_stack([pixels, (relative + 1) * 8, np.broadcast_to(valid, 137)])
    found = {
        "image_id": 1,
        "bbox": [1, 1, WIDTH - 2, HEIGHT - 2],
        "keypoints_3d": values.tolist(),
        "camera_param": {"focal": [FOCAL, FOCAL], "princpt": list(CENTRE)},
    }
    return {**found, **changes}


def test_ubody_3d_gives_back_the_body(tmp_path: Path) -> None:
    instance = opened(tmp_path, "ubody3d", document([ubody()]))[0]
    source = mapping_of("ubody3d").source
    expected = smplx()[source]
    assert instance.metres is not None
    depth = instance.metres[:, 2] - instance.metres[[11, 12], 2].mean()
    seen = instance.visible > 0
    assert np.flatnonzero(~seen).tolist() == [13, 14, 15, 16], "knees and ankles lie below the picture"
    np.testing.assert_allclose(depth[seen], expected[seen, 2], atol=1e-5)
    # The distance comes from the bones of an average adult, which this body has to a centimetre.
    assert abs(instance.metres[11, 2] - DISTANCE) < 0.04 * DISTANCE
    np.testing.assert_allclose(instance.metres[seen, :2], expected[seen, :2], atol=0.03)


def test_ubody_3d_without_its_first_four_joints(tmp_path: Path) -> None:
    """The other layout: 133 joints of three numbers, and keypoints_valid. Depth still counts from the hips."""
    full = np.array(ubody()["keypoints_3d"])
    labels = ubody(keypoints_3d=full[4:, :3].tolist(), keypoints_valid=[1] * 133)
    instance = opened(tmp_path, "ubody3d", document([labels]))[0]
    whole = opened(tmp_path / "whole", "ubody3d", document([ubody()]))[0]
    assert instance.visible[[11, 12]].tolist() == [0, 0] and instance.metres is not None and whole.metres is not None
    assert np.array_equal(np.delete(instance.keypoints, [11, 12], 0), np.delete(whole.keypoints, [11, 12], 0))
    hips = instance.metres[[11, 12]]
    assert (hips[:, :2] == 0).all() and hips[0, 2] == hips[1, 2] > 0
    depth = instance.metres[:, 2] - hips[0, 2]
    np.testing.assert_allclose(depth[91:], smplx()[mapping_of("ubody3d").source][91:, 2], atol=1e-5)


def test_ubody_3d_knows_which_hand_is_good(tmp_path: Path) -> None:
    table = opened(tmp_path, "ubody3d", document([ubody(lefthand_valid=False, face_valid=False)]))
    visible = table[0].visible
    assert visible[92:112].max() == 0 and visible[91] == 2 and visible[112:].min() == 2
    assert visible[23:91].max() == 0 and visible[:7].min() == 2


def test_ubody_3d_with_flags_of_another_length_is_malformed(tmp_path: Path) -> None:
    values = np.zeros((133, 3)).tolist()
    labels = [ubody(), ubody(keypoints_3d=values, keypoints_valid=[1] * 140)]
    table = opened(tmp_path, "ubody3d", document(labels))
    assert len(table) == 1 and table.skipped == {"malformed": 1}


def test_ubody_3d_guesses_no_distance_without_bones(tmp_path: Path) -> None:
    """Only a face and the hands: RTMW3D's mean distance, and never a joint behind the camera."""
    valid = np.ones(137)
    valid[:24] = 0
    instance = opened(tmp_path, "ubody3d", document([ubody(valid)]))[0]
    assert instance.metres is not None
    assert instance.metres[11, 2] == pytest.approx(5.14388, abs=1e-5)
    assert instance.metres[instance.visible > 0, 2].min() > 0


def test_ubody_3d_without_a_camera_is_2d(tmp_path: Path) -> None:
    labels = ubody()
    del labels["camera_param"]
    instance = opened(tmp_path, "ubody3d", document([labels]))[0]
    assert instance.metres is None and instance.camera is None and instance.visible[0] == 2
    table = opened(tmp_path, "ubody3d", document([labels, ubody(), ubody(keypoints_3d=[[1, 2, 3]] * 17)]))
    assert len(table) == 2 and table.skipped == {"malformed": 1}
    assert table[0].metres is None and table[0].camera is None, "one without a camera among others"
    assert table[1].metres is not None and table[1].camera is not None

"""The readers on real annotations with their photographs: counts, and joints where people have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtmw_edge.crops import read_image
from rtmw_edge.data.sets import AnnotatedSet, SetConfig, open_set
from rtmw_edge.data.sets.mapping import mapping_of
from rtmw_edge.keypoints import FINGERS, LIMBS, NAMES

SAMPLES = {
    "coco-wholebody": ("coco", "test_coco_wholebody.json", ".", 12),
    "halpe": ("halpe", "test_halpe.json", "../coco", 12),
    "aic": ("aic", "test_aic.json", ".", 9),
    "crowdpose": ("crowdpose", "test_crowdpose.json", ".", 4),
    "mpii": ("mpii", "test_mpii.json", ".", 5),
    "jhmdb": ("jhmdb", "test_jhmdb_sub1.json", ".", 3),
    "posetrack18": ("posetrack18", "annotations/val", ".", 14),
    "wflw": ("wflw", "test_wflw.json", ".", 4),
    "300w": ("300w", "test_300w.json", ".", 2),
    "cofw": ("cofw", "test_cofw.json", ".", 2),
    "lapa": ("lapa", "test_lapa.json", ".", 2),
    "interhand26m": ("interhand2.6m", "test_interhand2.6m_data.json", ".", 4),
}
"""Folder, annotations, images, and the instances that mmpose's own tests find in the file (InterHand: all images)."""
FACES = ("wflw", "300w", "cofw", "lapa")


def sample(samples_dir: Path, kind: str) -> AnnotatedSet:
    folder, annotations, images, _ = SAMPLES[kind]
    return open_set(SetConfig(kind, samples_dir / folder, annotations=annotations, images=images, every=1))


@pytest.mark.parametrize("kind", SAMPLES)
def test_instances_lie_in_their_pictures(samples_dir: Path, kind: str) -> None:
    table = sample(samples_dir, kind)
    assert len(table) == SAMPLES[kind][3]
    for index in range(len(table)):
        instance = table[index]
        assert isinstance(instance.image, Path)
        height, width = read_image(instance.image).shape[:2]
        points = instance.keypoints[instance.visible > 0]
        assert len(points) and set(instance.visible) <= {0, 1, 2}
        # Annotators overshoot by a pixel or two; MPII, 300W and WFLW guess some joints beyond the edge.
        inside = ((points > -3) & (points < [width + 3, height + 3])).all(axis=1)
        assert inside.mean() > 0.9
        x0, y0, x1, y1 = instance.box
        near = ((points > [x0 - 30, y0 - 30]) & (points < [x1 + 30, y1 + 30])).all(axis=1)
        # AI Challenger and CrowdPose guess hidden joints too, and box what is seen.
        assert near.mean() > (0.7 if kind in ("aic", "crowdpose") else 0.9), "keypoints lie in their box"


@pytest.mark.parametrize("kind", ["aic", "crowdpose", "jhmdb", "posetrack18", "humanart"])
def test_joints_have_the_names_that_the_files_give(samples_dir: Path, kind: str) -> None:
    places = {
        "humanart": "humanart/test_humanart.json",
        "posetrack18": "posetrack18/annotations/test_posetrack18_val.json",
    }
    path = places.get(kind) or "/".join(SAMPLES[kind][:2])
    names = json.loads((samples_dir / path).read_text())["categories"][0]["keypoints"]
    mapping = mapping_of(kind)
    assert len(names) == mapping.joints
    renamed = {f"{side}_{part}": f"{side}_{ours}" for side in ("left", "right")
               for part, ours in (("finger", "forefinger4"), ("toe", "big_toe"))}  # fmt: skip
    for source, target in zip(mapping.source, mapping.target, strict=True):
        name = names[source].lower().replace(" ", "_")
        assert renamed.get(name, name) == NAMES[target]


def test_halpe_and_coco_agree_on_the_same_people(samples_dir: Path) -> None:
    """The two label the same four photographs; bodies are COCO's own, feet and faces were labelled twice."""
    coco, halpe = (sample(samples_dir, kind) for kind in ("coco-wholebody", "halpe"))
    distances = []
    for index in range(len(coco)):
        one, other = coco[index], halpe[index]
        assert np.array_equal(one.box, other.box)
        both = (one.visible > 0) & (other.visible > 0)
        assert np.array_equal(one.keypoints[:17][both[:17]], other.keypoints[:17][both[:17]])
        scale = float(np.sqrt(np.prod(one.box[2:] - one.box[:2])))
        distances.append(np.linalg.norm(one.keypoints - other.keypoints, axis=1)[both] / scale)
    assert np.percentile(np.concatenate(distances), 95) < 0.06


@pytest.mark.parametrize("kind", FACES)
def test_faces_are_the_right_way_round(samples_dir: Path, kind: str) -> None:
    """In these photographs people face the camera: their right is on the left of the picture."""
    table = sample(samples_dir, kind)
    for index in range(len(table)):
        instance = table[index]
        x, y = instance.keypoints.T
        assert instance.visible[:23].max() == instance.visible[91:].max() == 0
        assert x[59] < x[62] < x[65] < x[68], "corners of the eyes"
        assert x[40] < x[44] < x[45] < x[49], "ends of the eyebrows"
        assert x[71] < x[74] < x[77], "corners of the mouth and the middle of the lip"
        assert x[54] < x[56] < x[58], "wings of the nose"
        down = np.diff(y[[53, 74, 85, 89, 80, 31]])
        assert (down > [0, 0, -1, -1, 0]).all(), "nose, lips from above, chin; closed lips touch"
        if instance.visible[23]:
            assert x[23] < x[31] < x[39] and y[23] < y[31] > y[39], "jaw"
            assert x[60] < x[61] and y[60] < y[64] and y[61] < y[63], "upper and lower lid"
            assert y[50] < y[51] < y[52] < y[53], "bridge of the nose"


def test_both_hands_are_chains_of_short_bones(samples_dir: Path) -> None:
    table = sample(samples_dir, "interhand26m")
    assert [[int(table[i].visible[part].max()) for part in (slice(91, 112), slice(112, 133))] for i in range(4)] == [
        [2, 2],
        [2, 2],
        [2, 0],
        [0, 2],
    ]
    for index in range(4):
        instance = table[index]
        assert not instance.whole and instance.visible[:91].max() == 0
        size = float((instance.box[2:] - instance.box[:2]).max())
        for start, end in LIMBS:
            if min(start, end) >= 91 and instance.visible[start] and instance.visible[end]:
                length = float(np.linalg.norm(instance.keypoints[start] - instance.keypoints[end]))
                to_root = start in (91, 112) or end in (91, 112)
                assert length < (0.7 if to_root else 0.4) * size, f"{NAMES[start]} to {NAMES[end]}"
    assert len(FINGERS) * 4 + 1 == 21


def test_human_art(samples_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(samples_dir / "humanart")
    config = SetConfig("humanart", tmp_path, annotations=str(samples_dir / "humanart/test_humanart.json"))
    table = open_set(config)
    assert len(table) == 4 and all(table.path(image).is_file() for image in range(table.images))
    acrobat = table[3]
    assert acrobat.visible[[99, 120, 17, 20]].tolist() == [2, 2, 2, 2]
    # The fingertip lies beyond the wrist and the toe beyond the ankle, as seen from elbow and knee.
    for inner, outer, tip in ((7, 9, 99), (8, 10, 120), (13, 15, 17), (14, 16, 20)):
        near, far = (np.linalg.norm(acrobat.keypoints[inner] - acrobat.keypoints[k]) for k in (outer, tip))
        assert far > near


def test_ubody_3d_sorts_the_joints_of_smplx(samples_dir: Path) -> None:
    """A man with both hands before his chest, close to the camera: hands in front of his shoulders, palms up."""
    config = SetConfig("ubody3d", samples_dir / "ubody3d", annotations="ubody3d_train.json", every=1)
    instance = open_set(config)[0]
    assert instance.metres is not None and instance.camera is not None and instance.whole
    x, y = instance.keypoints.T
    depth = instance.metres[:, 2] - instance.metres[[11, 12], 2].mean()
    assert x[6] < x[5] and x[2] < x[1] and x[4] < x[3] and y[0] < y[5], "his right is on the left of the picture"
    assert np.abs(instance.keypoints[0] - instance.keypoints[53]).max() < 20, "the body's nose is the face's"
    assert abs(depth[0] - depth[53]) < 0.05
    for root, wrist, tip in ((91, 9, 103), (112, 10, 124)):
        assert np.array_equal(instance.keypoints[root], instance.keypoints[wrist])
        assert y[tip] < y[root] and depth[tip] < depth[5], "fingers up, hands before the shoulders"
        assert 0.1 < np.linalg.norm(instance.metres[tip] - instance.metres[root]) < 0.3, "a hand of 10 to 30 cm"
    # What lies out of the picture is not labelled: hips, knees, elbows and feet here.
    assert instance.visible[[7, 8, 13, 14, 17, 20]].max() == 0 and instance.visible[[9, 10]].min() == 2
    seen = instance.visible > 0
    projected = instance.metres[seen] @ instance.camera.T
    assert np.abs(projected[:, :2] / projected[:, 2:] - instance.keypoints[seen]).max() < 0.1


def test_h3wbs_layout(samples_dir: Path) -> None:
    """The sample holds one frame of noise in the official file's layout."""
    config = SetConfig("h3wb", samples_dir / "h3wb", annotations="h3wb_train_bbox_subset.npz", subjects=("S5",))
    table = open_set(config)
    instance = table[0]
    assert len(table) == 1 and instance.box.tolist() == [346, 180, 523, 581]
    assert instance.image == samples_dir / "h3wb/original/S5/Images/Directions 1.60457274/frame_2190.jpg"
    assert instance.camera is not None and instance.camera[0, 0] == pytest.approx(1145.5, abs=1)
    with np.load(samples_dir / "h3wb/h3wb_train_bbox_subset.npz", allow_pickle=True) as archive:
        view = archive["train_data"].item()["S5"]["Directions 1"]["60457274"]
    assert instance.metres is not None
    np.testing.assert_allclose(instance.metres, view["camera_3d"][0] / 1000, rtol=1e-6)
    np.testing.assert_allclose(instance.keypoints, view["pose_2d"][0], rtol=1e-6)

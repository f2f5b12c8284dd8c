"""The kinds of set that can be read: where their files lie, how they are read, which part of training they serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...errors import unknown
from .coco_files import CocoStyle
from .h3wb import TRAIN_SUBJECTS, read_h3wb
from .interhand import companions, read_interhand
from .mpii import read_mpii
from .table import Collector
from .ubody3d import read_ubody3d

Reader = Callable[[Path, Collector], None]

UBODY_SCENES = (
    "ConductMusic",
    "Entertainment",
    "Fitness",
    "Interview",
    "LiveVlog",
    "Magic_show",
    "Movie",
    "Olympic",
    "Online_class",
    "SignLanguage",
    "Singing",
    "Speech",
    "TVShow",
    "TalkShow",
    "VideoConference",
)
BODY = 17


@dataclass(frozen=True)
class Kind:
    """One kind of set, with the paths below its root that its official files have.

    Attributes:
        annotations: the annotation file; {scene} stands for each of `scenes` in turn.
        images: the folder that file names count from; for H3WB the pattern of a frame.
        whole: False for faces and hands.
        every: every n-th image is used (spec 5: 10 for UBody and InterHand2.6M).
        reader: None for H3WB's, which wants `images` and `subjects`.
        subjects: of H3WB.
        companions: what is read beside an annotation file.
    """

    annotations: str
    images: str
    reader: Reader | None = None
    whole: bool = True
    every: int = 1
    scenes: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    companions: Callable[[Path], list[Path]] = lambda path: []

    def read(self, path: Path, collector: Collector, images: str, subjects: tuple[str, ...]) -> None:
        """Read one annotation file into the collector."""
        if self.reader is None:
            read_h3wb(path, collector, images, subjects)
        else:
            self.reader(path, collector)


KINDS: dict[str, Kind] = {
    "coco-wholebody": Kind("annotations/coco_wholebody_train_v1.0.json", "train2017", CocoStyle(None, hidden=BODY)),
    "halpe": Kind("annotations/halpe_train_v1.json", "hico_20160224_det/images/train2015", CocoStyle(hidden=BODY)),
    "ubody": Kind(
        "annotations/{scene}/train_annotations.json",
        "images",
        CocoStyle(None, by_id=True),
        every=10,
        scenes=UBODY_SCENES,
    ),
    "aic": Kind(
        "annotations/aic_train.json",
        "ai_challenger_keypoint_train_20170902/keypoint_train_images_20170902",
        CocoStyle(hidden=14),
    ),
    "crowdpose": Kind("annotations/mmpose_crowdpose_trainval.json", "images", CocoStyle(hidden=14)),
    "mpii": Kind("annotations/mpii_train.json", "images", read_mpii),
    "jhmdb": Kind("annotations/Sub1_train.json", ".", CocoStyle(origin=1.0)),
    "posetrack18": Kind("annotations/posetrack18_train.json", ".", CocoStyle()),
    "humanart": Kind(
        "annotations/training_humanart.json",
        ".",
        CocoStyle("keypoints_21", hidden=21, prefix="HumanArt/"),
    ),
    "wflw": Kind("annotations/face_landmarks_wflw_train.json", "images", CocoStyle(centred=True), whole=False),
    "300w": Kind("annotations/face_landmarks_300w_train.json", "images", CocoStyle(centred=True), whole=False),
    "cofw": Kind("annotations/cofw_train.json", "images", CocoStyle(hidden=29), whole=False),
    "lapa": Kind("annotations/lapa_trainval.json", ".", CocoStyle(), whole=False),
    "interhand26m": Kind(
        "annotations/all/InterHand2.6M_train_data.json",
        "images/train",
        read_interhand,
        whole=False,
        every=10,
        companions=companions,
    ),
    "h3wb": Kind(
        "annotation_body3d/h3wb_train_bbox.npz",
        "original/{subject}/Images/{action}.{camera}/frame_{frame}.jpg",
        subjects=TRAIN_SUBJECTS,
    ),
    "ubody3d": Kind(
        "annotations/{scene}/train_3dkeypoint_annotation.json",
        "images",
        read_ubody3d,
        every=10,
        scenes=UBODY_SCENES,
    ),
}
"""The fourteen sets of cocktail14 and the two of RTMW3D; the paths are those of mmpose's preparation (docs/data.md)."""


def kind_named(name: str) -> Kind:
    """The kind of that name; BadInputError with the nearest name when there is none."""
    if name not in KINDS:
        raise unknown("kind of set", name, KINDS)
    return KINDS[name]

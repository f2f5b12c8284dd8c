"""What to evaluate on: rendered people, a COCO-WholeBody annotation file with its images, or H3WB in 3D.

A dataset is named by a text: "synthetic:val", "synthetic:val:100", "coco:ANNOTATIONS:IMAGES", "h3wb:FILE",
"h3wb:FILE:ROOT", "h3wb:FILE:ROOT:S5,S6", "h3wb:FILE:ROOT:S7:{subject}/{action}.{camera}/{frame:06d}.jpg".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.instances import Instance, InstanceSet, read_annotated
from ..data.sets.coco_files import BAD_VALUES, listed_size, read_document, read_json, whole_body, whole_number
from ..errors import BadInputError, unknown
from ..keypoints import NUM_KEYPOINTS
from ..runtime.detection import Detections
from .whole_body_ap import People

DEFAULT_SYNTHETIC = 500
MAX_SYNTHETIC = 20_000
"""Rendered people stay in memory, 150 kB each."""
LARGEST = float(np.finfo(np.float32).max)
"""What is not finite in float32, in which boxes and keypoints are kept, is not taken for finite."""
H3WB_SUBJECT = "S7"
"""The subject of H3WB's public file that RTMW3D validates on."""


@dataclass(frozen=True, eq=False)
class Labels3D:
    """Where the people of an image are: metres (G,133,3) in the camera's frame, not finite where unknown, and the
    intrinsic matrix (3,3) of that camera in pixels of the image."""

    metres: NDArray[np.floating]
    camera: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Item:
    """One image (H,W,3) BGR with its labelled people, and their places in a 3D data set."""

    image_id: int
    image: NDArray[np.uint8]
    people: People
    labels_3d: Labels3D | None = None


class Dataset(ABC):
    """Images in a fixed order; `name` is the text that opens it again."""

    name: str

    @property
    def image_ids(self) -> Collection[int]:
        """The `image_id` of every image, without reading any."""
        return range(len(self))

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Item]: ...

    @property
    def image_files(self) -> Iterable[Path]:
        """The files that it reads; none of people who are rendered."""
        return ()

    def check_images(self) -> None:
        """Raise BadInputError where an image file is missing, without reading any."""
        missing = [path for path in self.image_files if not path.is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise BadInputError(f"There is no image {missing[0]}{more}, of {len(self)} in {self.name}: check the path.")


def open_dataset(text: str, limit: int | None = None) -> Dataset:
    """The dataset that `text` names, its first `limit` images if given.

    Raises BadInputError where there is none such, or an image file of it is missing: now, not an hour later.
    """
    dataset = dataset_named(text, limit)
    dataset.check_images()
    return dataset


def dataset_named(text: str, limit: int | None = None) -> Dataset:
    """The same, where image files may be missing: for who asks for labels and names alone."""
    kind, _, rest = text.partition(":")
    if limit is not None and limit < 1:
        raise BadInputError(f"A limit of {limit} images leaves nothing to evaluate: pass at least 1.")
    if kind == "synthetic":
        return _open_synthetic(text, rest, limit)
    if kind == "coco":
        annotations, _, images = rest.partition(":")
        if not annotations or not images:
            raise BadInputError(f"Cannot read the data set '{text}': write coco:ANNOTATIONS.json:IMAGE_FOLDER.")
        return CocoWholeBody(Path(annotations), Path(images), limit)
    if kind == "h3wb":
        return _open_h3wb(text, rest, limit)
    raise unknown("data set", kind, ["synthetic", "coco", "h3wb"])


def _open_synthetic(text: str, rest: str, limit: int | None) -> Dataset:
    split, _, count = rest.partition(":")
    if split != "val":
        raise unknown("split of rendered people", split, ["val"])
    if count and not (count.isascii() and count.isdigit() and len(count) < 10 and 1 <= int(count) <= MAX_SYNTHETIC):
        raise BadInputError(
            f"Cannot read the data set '{text}': write synthetic:val or synthetic:val:N with N of 1 to {MAX_SYNTHETIC}."
        )
    people = int(count) if count else DEFAULT_SYNTHETIC
    return SyntheticPeople(min(people, limit) if limit else people)


def _open_h3wb(text: str, rest: str, limit: int | None) -> Dataset:
    from ..data.sets import SetConfig, open_set

    file, root, subjects, images = [*rest.split(":", 3), "", "", "", ""][:4]
    if not file:
        raise BadInputError(f"Cannot read the data set '{text}': write h3wb:h3wb_train_bbox.npz:HUMAN36M_FOLDER.")
    path = Path(file).absolute()
    if not path.is_file():
        raise BadInputError(f"There is no H3WB file at {file}: check the path.")
    chosen = tuple((subjects or H3WB_SUBJECT).split(","))
    folder = Path(root) if root else path.parent.parent
    config = SetConfig("h3wb", folder, annotations=str(path), images=images, subjects=chosen)
    return InstancePeople(open_set(config), text, limit)


@dataclass
class SyntheticPeople(Dataset):
    """`count` people of the renderer's validation split, one an image, rendered once and kept in memory.

    `first` is for choosing settings on people whom no figure is reported on.
    """

    count: int = DEFAULT_SYNTHETIC
    first: int = 0
    _items: list[Item] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.name = f"synthetic:val:{self.count}" + (f" from {self.first}" if self.first else "")

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Item]:
        from ..data.annotators import annotated
        from ..data.synthetic import Renderer

        renderer = Renderer("val") if len(self._items) < self.count else None
        for index in range(self.count):
            if index == len(self._items) and renderer is not None:
                sample = renderer.person(self.first + index)
                person = sample.people[0]
                people = People(
                    person.keypoints[None],
                    annotated(person.visible)[None],
                    person.box[None],
                    np.array([person.area], np.float64),
                    np.zeros(1, bool),
                )
                labels_3d = Labels3D(person.metres[None], sample.camera)
                self._items.append(Item(index, sample.image, people, labels_3d))
            yield self._items[index]


class CocoWholeBody(Dataset):
    """A COCO-WholeBody annotation file (version 1.0) and the folder of its images, read as they are needed.

    An image of another size than annotated is BadInputError when its turn comes: nobody would be found in it.
    """

    def __init__(self, annotations: Path, images: Path, limit: int | None = None) -> None:
        self.name = f"coco:{annotations}:{images}"
        self.folder = images
        document = read_document(annotations, "the path")
        if not document["images"]:
            raise BadInputError(f"{annotations} lists no image: there is nothing to evaluate on. Check the file.")
        if not images.is_dir():
            raise BadInputError(
                f"There is no image folder {images}: it is the last part of coco:ANNOTATIONS:IMAGES; check the path."
            )
        labels: dict[int, list[dict[str, Any]]] = {}
        try:
            for annotation in document["annotations"]:
                labels.setdefault(whole_number(annotation["image_id"]), []).append(annotation)
            numbers = [whole_number(image["id"]) for image in document["images"]]
            self._images = [
                (number, str(image["file_name"]), listed_size(image), _people(labels.get(number, [])))
                for number, image in zip(numbers, document["images"][:limit], strict=False)
            ]
        except BAD_VALUES as error:
            raise BadInputError(
                f"{annotations} holds no COCO-WholeBody labels ({type(error).__name__}: {error}): use the whole-body "
                "annotation file, with foot_kpts, face_kpts, lefthand_kpts and righthand_kpts."
            ) from None
        number, times = Counter(numbers).most_common(1)[0]
        if times > 1:
            raise BadInputError(
                f"{annotations} lists {times} images of the id {number}, so that nobody can tell who is on which: give "
                "every image an id of its own, and list it once."
            )
        if not labels.keys() & set(numbers):
            raise BadInputError(
                f"{annotations} labels nobody on any of the {len(numbers)} images that it lists: there is nothing to "
                "evaluate on. Check that the `image_id` of its annotations are the `id` of its images."
            )
        for number, _, _, people in self._images:
            if (people.areas[(people.visible > 0).any(axis=1) & ~people.crowd] <= 0).any():
                raise BadInputError(
                    f"{annotations} gives a person of image {number} an `area` that is not above 0, so that OKS could "
                    "never find it: write that of its mask, or of its box, in square pixels."
                )

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Item]:
        for image_id, name, size, people in self._images:
            yield Item(image_id, read_annotated(self.folder / name, size), people)

    @property
    def image_files(self) -> Iterable[Path]:
        return (self.folder / name for _, name, _, _ in self._images)

    @property
    def image_ids(self) -> Collection[int]:
        return [image_id for image_id, _, _, _ in self._images]


class InstancePeople(Dataset):
    """The instances of a set, one an image. A person's area is that of the box: such sets have no masks."""

    def __init__(self, instances: InstanceSet, name: str, limit: int | None = None) -> None:
        self.name = name
        self._instances = instances
        self._count = min(len(instances), limit or len(instances))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        for index in range(self._count):
            instance = self._instances[index]
            path = instance.image
            image = read_annotated(path, instance.size) if isinstance(path, Path) else path
            yield Item(index, image, _one_person(instance), _labels_3d(instance))

    @property
    def image_files(self) -> Iterable[Path]:
        images = (self._instances[index].image for index in range(self._count))
        return (image for image in images if isinstance(image, Path))


def _one_person(instance: Instance) -> People:
    area = float(np.prod(instance.box[2:] - instance.box[:2]))
    arrays = instance.keypoints[None], instance.visible[None], instance.box[None]
    return People(*arrays, np.array([area], np.float64), np.zeros(1, bool))


def _labels_3d(instance: Instance) -> Labels3D | None:
    if instance.metres is None or instance.camera is None:
        return None
    return Labels3D(instance.metres[None], instance.camera)


def _people(annotations: list[dict[str, Any]]) -> People:
    triples = np.array([whole_body(annotation) for annotation in annotations]).reshape(-1, NUM_KEYPOINTS, 3)
    boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    areas = np.array([annotation["area"] for annotation in annotations], np.float64)
    points, visible = triples[..., :2], triples[..., 2]
    for what, values in (
        ("a keypoint", points[visible != 0]),
        ("a flag", visible),
        ("a bbox", boxes),
        ("an area", areas),
    ):
        if not (np.abs(values) <= LARGEST).all():
            raise ValueError(f"{what} of image {annotations[0]['image_id']} is no finite number")
    crowd = np.array([bool(annotation.get("iscrowd", 0)) for annotation in annotations], bool)
    return People(points, visible, boxes, areas, crowd)


Detected = Mapping[int, Detections]
"""Who was detected, by image_id; nobody in an image that it does not speak of."""


def read_detections(path: Path, dataset: Dataset) -> Detected:
    """A COCO result file of boxes: a list of {image_id, category_id, bbox [x, y, w, h], score}; category 1 is a person.

    Other categories are left out, as mmpose does, and so is what scores 0 or less. Raises BadInputError for a file that
    holds something else, or no person on any image of `dataset`.
    """
    document = read_json(path, "detections", "the path")
    rows: dict[int, list[list[float]]] = {}
    try:
        if not isinstance(document, list):
            raise TypeError(f"a {type(document).__name__} is no list")
        for entry in document:
            x, y, width, height = (float(value) for value in entry["bbox"])
            row = [x, y, x + width, y + height, float(entry["score"])]
            if not all(abs(value) <= LARGEST for value in row):
                raise ValueError(f"a value of image {entry['image_id']} is not finite")
            if int(entry["category_id"]) == 1 and row[4] > 0:
                rows.setdefault(whole_number(entry["image_id"]), []).append(row)
    except BAD_VALUES as error:
        raise BadInputError(
            f"{path} holds no detections ({type(error).__name__}: {error}): it must be a list of "
            '{"image_id", "category_id", "bbox": [x, y, w, h], "score"}.'
        ) from None
    if not rows.keys() & set(dataset.image_ids):
        raise BadInputError(
            f"None of the detections in {path} is on one of the {len(dataset)} images of {dataset.name}: give those of "
            "this data set, which have its image_id."
        )
    arrays = {image: np.array(values, np.float32) for image, values in rows.items()}
    return {image: Detections(array[:, :4], array[:, 4]) for image, array in arrays.items()}

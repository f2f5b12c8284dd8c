"""Follow people from frame to frame: boxes from a detector now and then, from the last pose in between, and ids.

A frame goes in two steps: `begin` gives the boxes to run, `finish` takes their poses and says who is who.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import BadInputError
from ..keypoints import PARTS, SIGMAS
from ..poses import Poses
from .detection import NOBODY, Detections

Float = NDArray[np.float32]

BOX_MARGIN = 0.05
"""What lies around a person's keypoints, on each side, over the longer side of their extent: median .01 to .05, 75th
percentile .03 to .09 on rendered people."""

SURE_KEYPOINT = 0.3
"""Keypoints of at least this confidence make the box of the next frame; without this many of them it stays."""
FEWEST_KEYPOINTS = 8

COLLAPSED = 0.2
"""A pose of less than this share of its box is a network that gave up, not a person who shrank."""

USUAL_EVERY = 10
"""Frames from one look to the next, unless something else is asked for."""

BODY = PARTS["body"]


@dataclass(frozen=True)
class TrackingOptions:
    """How people are followed.

    detect_every: look for people in every so-many-th frame; 0: only when nobody is followed or somebody was lost, and
        every tenth frame while a pose of somebody who was found has never been sure.
    lost_below: somebody is lost when the median confidence of the 17 body keypoints falls below this.
    match_iou: a detection is the person whose box has at least this IoU with it; so are people who come back.
    same_oks: two poses with more than this OKS (body keypoints) are one person; with 1 nobody is another.
    remember: frames for which the id of a lost person is kept.
    misses: looks in a row that may miss somebody who is still followed.
    shrinks: share of its size by which a person's box shrinks from one frame to the next at most, whatever pose and
        detector say. What is unsure for a moment, as legs in a fast step, would else be cut off, could not be sure
        again, and the box would shrink further. With 1 boxes are as they are given.
    """

    detect_every: int = USUAL_EVERY
    lost_below: float = 0.2
    match_iou: float = 0.3
    same_oks: float = 0.7
    remember: int = 30
    misses: int = 1
    shrinks: float = 0.03

    def __post_init__(self) -> None:
        shares = (self.lost_below, self.match_iou, self.same_oks, self.shrinks)
        if min(self.detect_every, self.remember, self.misses) < 0 or not all(0 <= share <= 1 for share in shares):
            chosen = (f"{name} {value}" for name, value in vars(self).items() if value != getattr(type(self), name))
            raise BadInputError(
                f"People cannot be followed with {', '.join(chosen)}: frames are 0 or more, the others in 0..1."
            )


@dataclass(eq=False)
class _Person:
    """Somebody who is followed: `place` (4,) is where they were seen last, `box` (4,) the one to run next.

    `sure` once a pose was, `known` who was sure before they were lost; `missed` counts the looks that did not see them,
    `gone` the frames since they were lost.
    """

    id: int
    place: Float
    box: Float
    score: float
    sure: bool = False
    known: bool = False
    missed: int = 0
    gone: int = 0


class Tracker:
    """The people of one moving source. Not for several sources: `reset` between them.

    >>> tracker = Tracker()
    >>> wanted = tracker.begin(looking_at(image) if tracker.wants_detections else None)     # doctest: +SKIP
    >>> poses = runner(image, wanted.boxes, wanted.scores)                                  # doctest: +SKIP
    >>> kept, ids = tracker.finish(poses, runner.confidence(poses), image.shape)            # doctest: +SKIP
    """

    def __init__(self, options: TrackingOptions | None = None) -> None:
        self.options = options or TrackingOptions()
        self.reset()

    def reset(self) -> None:
        """Forget everybody; ids begin at 1 again."""
        self._next_id = 1
        self.forget()

    def forget(self) -> None:
        """Follow and remember nobody, as after a cut; no id is given twice."""
        self._people: list[_Person] = []
        self._lost: list[_Person] = []
        self._since_look = 0
        self._look = True

    @property
    def wants_detections(self) -> bool:
        """Whether the next frame should be looked at by the detector."""
        every = self.options.detect_every
        if not all(person.sure for person in self._people):
            every = every or USUAL_EVERY
        return self._look or not self._people or (every > 0 and self._since_look >= every)

    def begin(self, found: Detections | None) -> Detections:
        """The boxes to run in this frame: the people who are followed, then those of `found` who are new.

        `found` is what the detector saw; None where it was not asked. Who is missed more than `misses` times is lost.
        """
        self._since_look += 1
        new = NOBODY
        if found is not None:
            self._look, self._since_look = False, 1
            pairs = greedy_pairs(iou(_places(self._people), found.boxes), self.options.match_iou)
            for row, person in enumerate(self._people):
                person.missed += 1
                if row in pairs:
                    person.missed, person.place = 0, found.boxes[pairs[row]]
                    person.box = _held(person.place, person.box, self.options.shrinks if person.sure else 1)
                    person.score = float(found.scores[pairs[row]])
            self._lose([person for person in self._people if person.missed > self.options.misses])
            rest = sorted(set(range(len(found.boxes))) - set(pairs.values()))
            new = Detections(found.boxes[rest], found.scores[rest])
        scores = np.array([person.score for person in self._people], np.float32)
        return Detections(np.concatenate([_boxes(self._people), new.boxes]), np.concatenate([scores, new.scores]))

    def finish(
        self, poses: Poses, confidence: Float, image_shape: tuple[int, ...]
    ) -> tuple[list[int], tuple[int, ...]]:
        """Who is who: the rows of `poses` (those of `begin`'s boxes) to keep, and the id of each.

        Rows that turn out to be the same person are merged: the older id stays, with the surer pose.
        """
        strength = strengths(confidence)
        kept, twins = distinct(poses, confidence, self.options.same_oks)
        merged: list[list[_Person]] = [[] for _ in kept]
        for row, person in enumerate(self._people):
            merged[twins[row]].append(person)
        new = [row for row, persons in zip(kept, merged, strict=True) if not persons]
        arrived = iter(self._arrive(poses[new], confidence[new], image_shape))
        people = [min(persons, key=lambda one: one.id) if persons else next(arrived) for persons in merged]
        left = [person for persons in merged for person in persons if person not in people]
        for row, person in zip(kept, people, strict=True):
            if strength[row] >= self.options.lost_below:
                person.sure = True
                place = _around(poses.keypoints[row], confidence[row], person.box, image_shape)
                if place is not None:
                    held = _held(place, person.box, self.options.shrinks)
                    person.place, person.box = place, _within(held, image_shape)
            elif person.sure:
                left.append(person)
        for person in self._lost:
            person.gone += 1
        self._lost = [person for person in self._lost if person.gone <= self.options.remember]
        self._people = people
        self._lose(left)
        return kept, tuple(person.id for person in people)

    def _arrive(self, poses: Poses, confidence: Float, image_shape: tuple[int, ...]) -> list[_Person]:
        """The people of detections that nobody has: those who come back, best match first, and new ones."""
        places = []
        for row, box in enumerate(poses.boxes):
            place = _around(poses.keypoints[row], confidence[row], box, image_shape)
            places.append(box if place is None else place)
        pairs = greedy_pairs(iou(np.reshape(places, (-1, 4)), _places(self._lost)), self.options.match_iou)
        people = []
        for row in range(len(poses)):
            known = row in pairs
            number = self._lost[pairs[row]].id if known else self._next_id
            self._next_id += not known
            people.append(_Person(number, places[row], poses.boxes[row], float(poses.box_scores[row]), known=known))
        self._lost = [person for place, person in enumerate(self._lost) if place not in pairs.values()]
        return people

    def _lose(self, people: list[_Person]) -> None:
        """Follow these no longer, remember them, and look for them in the next frame."""
        self._look |= bool(people)
        self._people = [person for person in self._people if person not in people]
        self._lost += [person for person in people if person.sure or person.known]


def _boxes(people: list[_Person]) -> Float:
    return np.array([person.box for person in people], np.float32).reshape(-1, 4)


def _places(people: list[_Person]) -> Float:
    return np.array([person.place for person in people], np.float32).reshape(-1, 4)


def _around(keypoints: Float, confidence: Float, box: Float, image_shape: tuple[int, ...]) -> Float | None:
    """The box (4,) around the sure keypoints, cut to the image; None where too few are sure or the pose collapsed."""
    sure = confidence >= SURE_KEYPOINT
    if sure.sum() < FEWEST_KEYPOINTS:
        return None
    points = keypoints[sure, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    if extent < COLLAPSED * float((box[2:] - box[:2]).max()):
        return None
    margin = BOX_MARGIN * extent
    place = _within(np.concatenate([low - margin, high + margin]), image_shape)
    return place if (place[2:] - place[:2] >= 1).all() else None


def _within(box: Float, image_shape: tuple[int, ...]) -> Float:
    limits = np.array(image_shape[1::-1])
    return np.concatenate([np.clip(box[:2], 0, limits - 1), np.clip(box[2:], 1, limits)]).astype(np.float32)


def _held(new: Float, box: Float, shrinks: float) -> Float:
    """The box `new` (4,) with so much of the `box` before it, where that lies nearest, that no side shrinks faster."""
    low, high = new[:2], new[2:]
    lacks = np.maximum((1 - shrinks) * (box[2:] - box[:2]) - (high - low), 0)
    below = np.clip(low - box[:2], 0, lacks)
    return np.concatenate([low - below, high + lacks - below]).astype(np.float32)


def iou(first: Float, second: Float) -> Float:
    """Intersection over union (N,M) of boxes (N,4) and (M,4) xyxy."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)


def oks(poses: Poses, confidence: Float) -> Float:
    """COCO's object keypoint similarity (N,N) of the people to each other, over the 17 body keypoints.

    exp(-d^2 / (2 area (2 sigma)^2)), averaged over the keypoints that are sure in both; the area is the smaller of the
    two boxes around those keypoints, for the crops' own sizes say nothing. 0 where fewer than 3 are sure in both.
    """
    people = len(poses)
    similar = np.eye(people, dtype=np.float32)
    variance = (2 * SIGMAS[BODY]) ** 2
    points, sure = poses.keypoints[:, BODY, :2].astype(np.float64), confidence[:, BODY] >= SURE_KEYPOINT
    for first in range(people):
        for second in range(first + 1, people):
            both = sure[first] & sure[second]
            if both.sum() >= 3:
                pair = points[[first, second]][:, both]
                area = max(np.ptp(pair, axis=1).prod(axis=1).min(), 1.0)
                squares = ((pair[0] - pair[1]) ** 2).sum(axis=1)
                similar[first, second] = similar[second, first] = np.exp(-squares / (2 * area * variance[both])).mean()
    return similar


def strengths(confidence: Float) -> Float:
    """How sure the bodies of people are (N,): the median of `confidence` (N,133) over the 17 keypoints."""
    return np.median(confidence[:, BODY], axis=1) if len(confidence) else np.zeros(0, np.float32)


def distinct(poses: Poses, confidence: Float, same_oks: float) -> tuple[list[int], list[int]]:
    """The rows to keep, one a person and the surest of each, and which of them every row is.

    Two poses with more than `same_oks` are one person.
    """
    same = oks(poses, confidence)
    kept: list[int] = []
    twins: list[int] = []
    for row in range(len(poses)):
        twin = next((k for k, other in enumerate(kept) if same[row, other] > same_oks), len(kept))
        if twin == len(kept):
            kept.append(row)
        else:
            kept[twin] = (kept[twin], row)[int(np.argmax(strengths(confidence[[kept[twin], row]])))]
        twins.append(twin)
    return kept, twins


def greedy_pairs(similarity: Float, least: float) -> dict[int, int]:
    """Row -> column of the most similar pairs (N,M), best first, each row and column once, none below `least`."""
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for flat in np.argsort(-similarity, axis=None, kind="stable"):
        row, column = divmod(int(flat), similarity.shape[1])
        if similarity[row, column] < least:
            break
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return pairs

"""Who is who from frame to frame, on people whose true places are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError
from rtmw_edge.keypoints import SIGMAS
from rtmw_edge.poses import Poses
from rtmw_edge.runtime.detection import Detections
from rtmw_edge.runtime.tracking import Tracker, TrackingOptions, _around, _within, distinct, greedy_pairs, iou, oks

SHAPE = (400, 600, 3)
FIGURE = np.random.default_rng(1).uniform(0, 1, (133, 2)) * (60, 200)
"""Somebody of 60x200 pixels."""


def detections(*corners: tuple[float, float]) -> Detections:
    """Boxes around figures that stand at these upper left corners."""
    boxes = [[x - 3, y - 3, x + 63, y + 203] for x, y in corners]
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(corners), 0.9, np.float32))


class Scene:
    """Figures at places, seen perfectly within a box that covers them; `unsure` ones with low confidence."""

    def __init__(self, options: TrackingOptions | None = None) -> None:
        self.tracker = Tracker(options)
        self.looks = 0

    def step(
        self, *places: tuple[float, float], found: Detections | None = None, unsure: tuple[int, ...] = ()
    ) -> dict[int, tuple[float, float]]:
        """One frame: ids and where their figures stand. The detector sees everybody unless `found` says otherwise."""
        seen = None
        if self.tracker.wants_detections:
            self.looks += 1
            seen = detections(*places) if found is None else found
        wanted = self.tracker.begin(seen)
        keypoints, confidence = np.zeros((len(wanted.boxes), 133, 2)), np.zeros((len(wanted.boxes), 133))
        for row, box in enumerate(wanted.boxes):
            middles = [np.hypot(x + 30 - (box[0] + box[2]) / 2, y + 100 - (box[1] + box[3]) / 2) for x, y in places]
            nearest = int(np.argmin(middles)) if middles else -1
            if middles and middles[nearest] < 80:
                keypoints[row] = FIGURE + places[nearest]
                confidence[row] = 0.05 if nearest in unsure else 0.9
        poses = Poses(keypoints, confidence, wanted.boxes, wanted.scores)
        rows, ids = self.tracker.finish(poses, confidence.astype(np.float32), SHAPE)
        self.boxes = wanted.boxes
        return {
            number: tuple(np.round(keypoints[row][0] - FIGURE[0]).tolist())
            for row, number in zip(rows, ids, strict=True)
        }


def test_two_walk_past_each_other_and_keep_their_numbers() -> None:
    scene = Scene(TrackingOptions(detect_every=10))
    for step in range(25):
        people = scene.step((50 + 8 * step, 20), (500 - 8 * step, 150))
        assert people == {1: (50 + 8 * step, 20), 2: (500 - 8 * step, 150)}
    assert scene.looks == 3, "frames 0, 10 and 20"


def test_the_box_follows_the_pose() -> None:
    scene = Scene(TrackingOptions(detect_every=0))
    for step in range(8):
        scene.step((50 + 10 * step, 20))
    (box,) = scene.boxes
    place = np.array([110, 20])
    low, high = FIGURE.min(axis=0) + place, FIGURE.max(axis=0) + place
    margin = 0.05 * (high - low).max()
    assert box == pytest.approx([*(low - margin), *(high + margin)], abs=0.01), "from the pose of the frame before"
    assert scene.looks == 1


def test_a_newcomer_is_found_at_the_next_look() -> None:
    scene = Scene(TrackingOptions(detect_every=5))
    seen = [sorted(scene.step(*([(50, 20)] if step < 2 else [(50, 20), (300, 20)]))) for step in range(6)]
    assert seen == [[1], [1], [1], [1], [1], [1, 2]]


def test_nobody_there_is_looked_for_in_every_frame() -> None:
    scene = Scene()
    assert [scene.step() for _ in range(4)] == [{}] * 4 and scene.looks == 4
    assert list(scene.step((50, 20))) == [1]


def test_when_scores_fall_the_detector_is_asked_and_the_number_comes_back() -> None:
    scene = Scene(TrackingOptions(detect_every=100))
    scene.step((50, 20))
    scene.step((55, 20), unsure=(0,))
    assert scene.tracker.wants_detections
    assert scene.step((60, 20)) == {1: (60, 20)} and scene.looks == 2


def test_somebody_whose_scores_stay_low_does_not_cost_a_look_each_frame() -> None:
    scene = Scene(TrackingOptions(detect_every=10))
    scene.step((50, 20))
    for _ in range(20):
        scene.step((50, 20), unsure=(0,))
    assert scene.looks <= 4


def test_who_left_is_forgotten_after_a_while() -> None:
    scene = Scene(TrackingOptions(detect_every=1, remember=3))
    scene.step((50, 20))
    for _ in range(2):
        scene.step()
    assert scene.step((50, 20)) == {1: (50, 20)}, "back in time"
    for _ in range(8):
        scene.step()
    assert scene.step((50, 20)) == {2: (50, 20)}


def test_a_weak_sight_of_somebody_does_not_cost_the_number() -> None:
    scene = Scene(TrackingOptions(detect_every=1, remember=8))
    scene.step((50, 20))
    for _ in range(4):
        scene.step()
    assert list(scene.step((50, 20), unsure=(0,))) == [1]
    for _ in range(5):
        scene.step()
    assert scene.step((50, 20)) == {1: (50, 20)}, "remembered from when they were last seen"


def test_who_comes_back_is_the_nearest_not_the_first() -> None:
    scene = Scene(TrackingOptions(detect_every=1))
    scene.step((50, 20))
    for _ in range(3):
        scene.step()
    stranger, same = (75, 20), (52, 20)
    assert iou(detections(stranger).boxes, detections((50, 20)).boxes)[0, 0] > 0.3, "either might be number 1"
    assert scene.step(stranger, same) == {1: same, 2: stranger}


def test_of_two_who_turn_out_to_be_one_the_older_number_stays() -> None:
    """Also where the older one came back and so stands behind the younger."""
    scene = Scene(TrackingOptions(detect_every=1))
    scene.step((50, 20), (300, 20))
    for _ in range(3):
        scene.step((300, 20))
    assert list(scene.step((300, 20), (80, 20))) == [2, 1]
    for person in scene.tracker._people:
        person.box = detections((150, 20)).boxes[0]
    assert scene.step((150, 20), found=detections()) == {1: (150, 20)}


def test_a_detection_that_is_nobody_does_not_stop_the_search() -> None:
    """With looks only when they are needed, somebody whom no pose confirms is not enough to need none."""
    ghost = detections((300, 150))
    scene = Scene(TrackingOptions(detect_every=0))
    assert list(scene.step(found=ghost)) == [1]
    seen = [sorted(scene.step((50, 20))) for _ in range(25)]
    assert seen[10] == [1, 2] and seen[-1] == [2], "found beside it, and it is missed twice"
    assert scene.looks <= 4


def test_a_detector_may_miss_somebody_once() -> None:
    scene = Scene(TrackingOptions(detect_every=1))
    scene.step((50, 20), (300, 20))
    assert sorted(scene.step((50, 20), (300, 20), found=detections((50, 20)))) == [1, 2]
    assert sorted(scene.step((50, 20), (300, 20), found=detections((50, 20)))) == [1]


def test_two_boxes_of_one_person_are_one() -> None:
    """A second detection of the same person, too large to match by its box, has the same pose."""
    scene = Scene(TrackingOptions(detect_every=1))
    scene.step((50, 20))
    shifted = Detections(np.array([[0, 0, 190, 300]], np.float32), np.ones(1, np.float32))
    assert iou(detections((50, 20)).boxes, shifted.boxes)[0, 0] < 0.3
    assert scene.step((50, 20), found=shifted) == {1: (50, 20)}


def test_the_people_of_a_list_are_never_one() -> None:
    scene = Scene(TrackingOptions(detect_every=1, same_oks=1))
    twice = detections((50, 20), (50, 20))
    assert sorted(scene.step((50, 20), (50, 20), found=twice)) == [1, 2]


def test_boxes_stay_within_the_picture() -> None:
    scene = Scene(TrackingOptions(detect_every=0))
    for step in range(6):
        scene.step((50 - 12 * step, 250))
    x1, y1, x2, y2 = scene.boxes[0]
    assert x1 == 0 and y2 == 400 and x2 > x1 and y2 > y1


def test_a_pose_that_collapses_keeps_its_box() -> None:
    tracker = Tracker(TrackingOptions(detect_every=0))
    first = tracker.begin(detections((50, 20)))
    confidence = np.ones((1, 133), np.float32)
    tracker.finish(Poses(np.full((1, 133, 2), 80.0), confidence, first.boxes, first.scores), confidence, SHAPE)
    assert tracker.begin(None).boxes.tolist() == first.boxes.tolist()


def test_legs_that_are_unsure_for_a_moment_are_not_cut_off() -> None:
    """A box around the sure half alone would leave the legs out for good, until the next look."""
    tracker = Tracker(TrackingOptions(detect_every=0))
    wanted = tracker.begin(detections((50, 20)))
    legs = FIGURE[:, 1] > 100
    for _ in range(5):
        keypoints, confidence = FIGURE[None] + (50, 20), np.where(legs, 0.1, 0.9)[None].astype(np.float32)
        tracker.finish(Poses(keypoints, confidence, wanted.boxes, wanted.scores), confidence, SHAPE)
        wanted = tracker.begin(None)
    x1, y1, x2, y2 = wanted.boxes[0]
    assert y1 == pytest.approx(17, abs=2) and y2 - y1 == pytest.approx(0.97**5 * 206, rel=0.001) and x2 - x1 > 60


def test_a_box_that_shrinks_slowly_follows_who_walks() -> None:
    tracker = Tracker(TrackingOptions(detect_every=0))
    wanted = tracker.begin(Detections(np.array([[0, 0, 300, 300]], np.float32), np.ones(1, np.float32)))
    for step in range(12):
        keypoints, confidence = FIGURE[None] + (100 + 15 * step, 20), np.full((1, 133), 0.9, np.float32)
        tracker.finish(Poses(keypoints, confidence, wanted.boxes, wanted.scores), confidence, SHAPE)
        wanted = tracker.begin(None)
        x1, y1, x2, y2 = wanted.boxes[0]
        assert x1 <= keypoints[0, :, 0].min() and keypoints[0, :, 0].max() <= x2 and y1 <= 20 and y2 >= 219
        assert x2 - x1 == pytest.approx(300 * 0.97 ** (step + 1), rel=0.01)


def test_boxes_of_a_list_are_run_as_they_are() -> None:
    tracker = Tracker(TrackingOptions(detect_every=1, misses=0, same_oks=1, shrinks=1))
    confidence = np.full((1, 133), 0.9, np.float32)
    for side in (300, 100, 20, 200):
        listed = Detections(np.array([[10, 10, 10 + side, 10 + side]], np.float32), np.ones(1, np.float32))
        wanted = tracker.begin(listed)
        assert wanted.boxes.tolist()[-1] == listed.boxes.tolist()[0]
        tracker.finish(
            Poses(FIGURE[None] * side / 200 + 10, confidence, wanted.boxes[-1:], wanted.scores[-1:]), confidence, SHAPE
        )


def test_who_shrinks_faster_than_the_box_keeps_the_number() -> None:
    """The box that is run lags behind; who is who goes by where people were seen."""
    tracker = Tracker(TrackingOptions(detect_every=1))
    seen = set()
    for step in range(12):
        size = 0.85**step
        place = np.array([50 + 7 * step, 20])
        low, high = place, place + size * np.array([60, 200])
        wanted = tracker.begin(Detections(np.concatenate([low, high])[None].astype(np.float32), np.ones(1, np.float32)))
        confidence = np.full((len(wanted.boxes), 133), 0.9, np.float32)
        keypoints = np.repeat((FIGURE * size + place)[None], len(wanted.boxes), axis=0)
        seen |= {*tracker.finish(Poses(keypoints, confidence, wanted.boxes, wanted.scores), confidence, SHAPE)[1]}
    assert seen == {1}


def test_reset_begins_at_one() -> None:
    scene = Scene()
    scene.step((50, 20))
    scene.tracker.reset()
    assert list(scene.step((300, 20))) == [1]


def test_iou_by_hand() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    assert iou(boxes, boxes) == pytest.approx(np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]]))


def test_oks_is_coco_s() -> None:
    """Against pycocotools' formula, for a pose and its copy moved by 6 pixels."""
    poses = Poses(np.stack([FIGURE, FIGURE + np.array([6, 0])]), np.ones((2, 133)), [[0, 0, 60, 200]] * 2, [1, 1])
    area = np.ptp(FIGURE[:17], axis=0).prod()
    wanted = np.mean(np.exp(-(6**2) / (2 * SIGMAS[:17]) ** 2 / (area + np.spacing(1)) / 2))
    confidence = np.ones((2, 133), np.float32)
    assert oks(poses, confidence)[0, 1] == pytest.approx(wanted, rel=1e-5)
    confidence[1, :15] = 0
    assert oks(poses, confidence)[0, 1] == 0, "two keypoints in common say nothing"


def test_oks_goes_by_the_smaller_of_two() -> None:
    """A child within its parent is not the parent, however large that one is."""
    small = FIGURE.mean(axis=0) + 0.5 * (FIGURE - FIGURE.mean(axis=0))
    poses = Poses(np.stack([FIGURE, small]), np.ones((2, 133)), [[0, 0, 60, 200]] * 2, [1, 1])
    squares = ((FIGURE - small)[:17] ** 2).sum(axis=1)
    wanted = np.exp(-squares / (2 * np.ptp(small[:17], axis=0).prod() * (2 * SIGMAS[:17]) ** 2)).mean()
    assert oks(poses, np.ones((2, 133), np.float32))[0, 1] == pytest.approx(wanted, rel=1e-4)


def test_of_two_poses_of_one_person_the_surer_is_kept() -> None:
    poses = Poses(np.repeat(FIGURE[None], 3, axis=0), np.ones((3, 133)), [[0, 0, 60, 200]] * 3, [1, 1, 1])
    confidence = np.repeat(np.float32([[0.5], [0.9], [0.7]]), 133, axis=1)
    assert distinct(poses, confidence, 0.7) == ([1], [0, 0, 0])


def finished(tracker: Tracker, wanted: Detections, *places: tuple[float, float]) -> tuple[int, ...]:
    """The numbers of people who are seen perfectly at these places, one a wanted box."""
    confidence = np.full((len(places), 133), 0.9, np.float32)
    keypoints = np.stack([FIGURE + place for place in places])
    return tracker.finish(Poses(keypoints, confidence, wanted.boxes, wanted.scores), confidence, SHAPE)[1]


def test_a_look_gives_people_the_score_that_it_has_for_them() -> None:
    tracker = Tracker()
    finished(tracker, tracker.begin(detections((50, 20))), (50, 20))
    again = tracker.begin(Detections(detections((50, 20)).boxes, np.float32([0.4])))
    assert again.scores.tolist() == [np.float32(0.4)]


def test_the_box_of_who_was_never_sure_is_the_detector_s() -> None:
    """Its first box may have been much too large, and holds back nothing."""
    tracker = Tracker(TrackingOptions(detect_every=1))
    first = tracker.begin(Detections(np.float32([[0, 0, 200, 300]]), np.ones(1, np.float32)))
    unsure = np.full((1, 133), 0.05, np.float32)
    tracker.finish(Poses(FIGURE[None], unsure, first.boxes, first.scores), unsure, SHAPE)
    again = Detections(np.float32([[0, 0, 120, 250]]), np.ones(1, np.float32))
    assert tracker.begin(again).boxes.tolist() == again.boxes.tolist()


def test_who_comes_back_in_a_loose_box_is_told_by_the_pose() -> None:
    scene = Scene(TrackingOptions(detect_every=1, misses=0))
    scene.step((50, 20))
    scene.step()
    loose = Detections(np.float32([[0, 0, 190, 300]]), np.ones(1, np.float32))
    assert iou(loose.boxes, detections((50, 20)).boxes)[0, 0] < 0.3
    assert list(scene.step((50, 20), found=loose)) == [1]


def test_a_number_comes_back_once() -> None:
    scene = Scene(TrackingOptions(detect_every=1, misses=0))
    scene.step((50, 20))
    scene.step()
    assert list(scene.step((50, 20))) == [1]
    assert iou(detections((85, 20)).boxes, detections((50, 20)).boxes)[0, 0] > 0.3
    assert sorted(scene.step((50, 20), (85, 20))) == [1, 2], "where number 1 was lost, which is there again"


@pytest.mark.parametrize(("size", "taken"), [(35, False), (45, True)])
def test_collapsed_is_by_the_longer_side_of_the_box(size: int, taken: bool) -> None:
    box = np.float32([40, 10, 106, 216])
    place = _around(FIGURE / 200 * size + (60, 60), np.ones(133, np.float32), box, SHAPE)
    assert (place is not None) is taken


@pytest.mark.parametrize(("sure", "taken"), [(7, False), (8, True)])
def test_eight_sure_keypoints_make_a_box(sure: int, taken: bool) -> None:
    confidence = np.where(np.arange(133) < sure, 0.3, 0.29).astype(np.float32)
    assert (_around(FIGURE, confidence, np.float32([0, 0, 60, 200]), SHAPE) is not None) is taken


def test_a_box_beyond_the_picture_keeps_a_pixel_of_it() -> None:
    assert _within(np.float32([700, 500, 800, 600]), SHAPE).tolist() == [599, 399, 600, 400]
    assert _within(np.float32([-50, -60, -10, -10]), SHAPE).tolist() == [0, 0, 1, 1]


def test_who_a_look_missed_is_looked_for_in_the_next_frame() -> None:
    """Though all others are seen well, and looks are rare."""
    tracker = Tracker(TrackingOptions(detect_every=100, misses=0))
    finished(tracker, tracker.begin(detections((50, 20), (300, 20))), (50, 20), (300, 20))
    assert not tracker.wants_detections
    assert finished(tracker, tracker.begin(detections((50, 20))), (50, 20)) == (1,)
    assert tracker.wants_detections


def test_a_number_is_kept_for_as_many_frames_as_it_is_remembered() -> None:
    for away, number in ((2, 1), (3, 1), (4, 2)):
        scene = Scene(TrackingOptions(detect_every=1, misses=0, remember=3))
        scene.step((50, 20))
        for _ in range(away):
            scene.step()
        assert list(scene.step((50, 20))) == [number], away


@pytest.mark.parametrize(
    ("similarity", "pairs"),
    [
        ([[0.9, 0.8], [0.85, 0.1]], {0: 0}),
        ([[0.5, 0.8], [0.85, 0.9]], {1: 1, 0: 0}),
        (np.zeros((0, 3)), {}),
        (np.zeros((2, 0)), {}),
    ],
)
def test_greedy_pairs(similarity: NDArray, pairs: dict[int, int]) -> None:
    assert greedy_pairs(np.array(similarity, np.float32).reshape(np.shape(similarity)), 0.3) == pairs


@pytest.mark.parametrize("options", [{"detect_every": -1}, {"lost_below": 2}, {"match_iou": float("nan")}])
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(
        BadInputError, match=r"People cannot be followed with (detect_every -1|lost_below 2|match_iou nan): frames"
    ):
        TrackingOptions(**options)  # type: ignore[arg-type]

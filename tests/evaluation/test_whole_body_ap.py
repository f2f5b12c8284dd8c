"""AP and AR per part against xtcocotools' stored figures and against faster-coco-eval run here."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_files import document, write_images
from numpy.typing import NDArray

from rtmw_edge.crops import PADDING
from rtmw_edge.evaluation.datasets import CocoWholeBody
from rtmw_edge.evaluation.matching import oks_nms
from rtmw_edge.evaluation.whole_body_ap import EVALUATED_PARTS, People, Ranked, rank, whole_body_ap
from rtmw_edge.keypoints import SIGMAS
from rtmw_edge.poses import COCO_FIELDS, Poses


def _labels(annotations: Path, images: Path) -> dict[int, People]:
    return {item.image_id: item.people for item in CocoWholeBody(annotations, images)}


def _boxes(areas: list[float]) -> NDArray[np.float64]:
    """Boxes (N,4) whose padded crops of 3:4 have these areas."""
    width = np.sqrt(np.array(areas) * 3 / 4) / PADDING
    return np.column_stack([np.zeros((len(areas), 2)), width, width * 4 / 3])


@pytest.mark.parametrize("mode", ["bbox_keypoint+oks_nms", "bbox+none"])
def test_equal_to_the_official_figures(mode: str, reference_dir: Path, samples_dir: Path) -> None:
    reference = json.loads((reference_dir / "wholebody_ap.json").read_text())
    truth = _labels(samples_dir / "coco" / "test_coco_wholebody.json", samples_dir / "coco")
    found = {}
    for image in truth:
        rows = [row for row in reference["predictions"] if row["image_id"] == image]
        keypoints, scores, box_scores = ([row[k] for row in rows] for k in ("keypoints", "scores", "bbox_score"))
        poses = Poses(
            np.array(keypoints), np.array(scores), _boxes([row["area"] for row in rows]), np.array(box_scores)
        )
        by_box = Ranked(np.array(keypoints)[..., :2], np.array(scores), np.array(box_scores))
        found[image] = by_box if mode == "bbox+none" else rank(poses)
    report = whole_body_ap(found, truth)

    expected = reference["expected"][mode]
    assert astuple(report["whole"]) == pytest.approx(list(expected["whole"].values()), abs=1e-6)
    printed = np.array([float(line.rsplit("=", 1)[1]) for line in expected["printed"]]).reshape(6, 10)
    for figures, part in zip(printed, ("body", "foot", "face", "left_hand", "right_hand", "whole"), strict=True):
        assert np.round(astuple(report[part]), 3) == pytest.approx(figures, abs=1e-9), part


def _noisy(truth: dict[int, People], seed: int = 0) -> dict[int, Ranked]:
    """Two copies of each labelled person, moved a little or a lot, and a false alarm in every image."""
    rng = np.random.default_rng(seed)
    found = {}
    for image, people in truth.items():
        points = np.concatenate([people.keypoints, people.keypoints, rng.uniform(0, 300, (1, 133, 2))])
        points += rng.normal(0, 1, points.shape) * rng.uniform(0, 8, (len(points), 1, 1))
        found[image] = Ranked(points, np.ones(points.shape[:2]), rng.uniform(0.1, 1, len(points)))
    return found


def _peer(truth: dict[str, Any], found: dict[int, Ranked], rows: slice) -> NDArray[np.float64]:
    """The same evaluation by faster-coco-eval: one part's keypoints under COCO's name for the body's."""
    peer = pytest.importorskip("faster_coco_eval")
    people = []
    for annotation in truth["annotations"]:
        triples = np.array([value for name in COCO_FIELDS.values() for value in annotation[name]]).reshape(133, 3)[rows]
        labelled = int((triples[:, 2] > 0).sum())
        people.append({**annotation, "keypoints": triples.ravel().tolist(), "num_keypoints": labelled})
    results = [
        {"image_id": image, "category_id": 1, "keypoints": _triples(points[rows]), "score": float(score)}
        for image, ranked in found.items()
        for points, score in zip(ranked.keypoints, ranked.scores, strict=True)
    ]
    labels = peer.COCO({**truth, "annotations": people})
    evaluation = peer.COCOeval_faster(
        labels, labels.loadRes(results), iouType="keypoints", kpt_oks_sigmas=SIGMAS[rows].tolist()
    )
    evaluation.run()
    return np.array(evaluation.stats[:10])


def _triples(points: NDArray[np.float64]) -> list[float]:
    return np.column_stack([points, np.ones(len(points))]).ravel().tolist()


@pytest.mark.parametrize("part", EVALUATED_PARTS)
def test_equal_to_faster_coco_eval(part: str, tmp_path: Path) -> None:
    """All ten figures for the body; else those of all sizes, since it takes areas from the part's own keypoints."""
    labels = document(images=30)
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    write_images(tmp_path, 30)
    truth = _labels(tmp_path / "labels.json", tmp_path)
    found = _noisy(truth)
    ours = np.array(astuple(whole_body_ap(found, truth)[part]))
    theirs = _peer(labels, found, EVALUATED_PARTS[part])
    compared = range(10) if part == "body" else [0, 1, 2, 5, 6, 7]
    assert 0.02 < ours[0] < 0.9, "the noise leaves something to measure"
    assert ours[compared] == pytest.approx(theirs[compared], abs=1e-9)


def _one_person(offset: float = 0.0) -> tuple[People, Ranked]:
    points = np.random.default_rng(0).uniform(0, 100, (1, 133, 2))
    people = People(points, np.full((1, 133), 2), np.array([[0.0, 0, 100, 100]]), np.array([5000.0]), np.zeros(1, bool))
    return people, Ranked(points + offset, np.ones((1, 133)), np.ones(1))


def test_perfect_missed_and_absent() -> None:
    people, found = _one_person()
    perfect = whole_body_ap({7: found}, {7: people})
    assert all((scores.ap, scores.ar) == pytest.approx((1, 1)) for scores in perfect.values())
    assert perfect["whole"].ap_large == -1, "nobody is that large"
    missed = whole_body_ap({}, {7: people})
    assert all((scores.ap, scores.ar) == (0, 0) for scores in missed.values())
    absent = whole_body_ap({}, {})
    assert all(scores.ap == -1 for scores in absent.values())


def test_one_threshold_at_a_time() -> None:
    """One body keypoint labelled, so that OKS is a single exponential: between 0.70 and 0.75 five thresholds pass."""
    people, found = _one_person()
    visible = np.zeros((1, 133))
    visible[0, 0] = 1
    distance = np.sqrt(-np.log(0.72) * 2 * 5000) * 2 * SIGMAS[0]
    moved = Ranked(found.keypoints + np.array([distance, 0]), found.keypoint_scores, found.scores)
    labelled = People(people.keypoints, visible, people.boxes, people.areas, people.crowd)
    scores = whole_body_ap({7: moved}, {7: labelled})["body"]
    assert (scores.ap, scores.ap50, scores.ap75) == pytest.approx((0.5, 1, 0))


def test_twenty_people_of_an_image_count() -> None:
    """The twenty-first by score is not looked at, though it is the only one that is right."""
    people, found = _one_person()
    scores = np.linspace(1, 0.5, 21)
    points = np.repeat(found.keypoints + 900, 21, axis=0)
    for right, ap in ((19, 1 / 20), (20, 0)):
        points[-2:] = found.keypoints + 900
        points[right] = found.keypoints[0]
        report = whole_body_ap({7: Ranked(points, np.ones((21, 133)), scores)}, {7: people})
        assert report["whole"].ap == pytest.approx(ap)


def test_doubles_are_told_by_the_mean_of_their_areas() -> None:
    """At this distance two people are one where the mean area counts, and two where the smaller does."""
    points = np.zeros((2, 133, 2))
    areas, scores = np.array([1000.0, 3000.0]), np.array([0.9, 0.8])
    for similarity, kept in ((0.91, [0]), (0.89, [0, 1])):
        points[1, :, 0] = 2 * SIGMAS * np.sqrt(-np.log(similarity) * 2 * areas.mean())
        assert oks_nms(points, scores, areas, SIGMAS, 0.9) == kept


def test_unlabelled_parts_and_crowds_count_neither_way() -> None:
    people, found = _one_person()
    visible = people.visible.copy()
    visible[:, 91:112] = 0
    report = whole_body_ap({7: found}, {7: People(people.keypoints, visible, people.boxes, people.areas, people.crowd)})
    assert report["left_hand"].ap == -1 and report["right_hand"].ap == pytest.approx(1)
    crowd = People(people.keypoints, people.visible, people.boxes, people.areas, np.ones(1, bool))
    assert whole_body_ap({7: found}, {7: crowd})["body"].ap == -1


def test_detections_without_a_scored_part_are_left_out() -> None:
    people, found = _one_person()
    scores = found.keypoint_scores.copy()
    scores[:, 17:23] = 0
    report = whole_body_ap({7: Ranked(found.keypoints, scores, found.scores)}, {7: people})
    assert report["foot"].ap == 0 and report["body"].ap == pytest.approx(1)


def test_rank_drops_doubles_and_keeps_the_better() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (1, 133, 2))
    keypoints = np.concatenate([points, points + 0.1, points + 90])
    boxes = np.array([[0.0, 0, 100, 100]] * 3)
    poses = Poses(keypoints, np.ones((3, 133)), boxes, np.array([0.5, 0.9, 0.2]))
    assert rank(poses).scores == pytest.approx([0.9, 0.2])
    assert rank(poses, nms=None).scores == pytest.approx([0.5, 0.9, 0.2])
    assert rank(Poses.empty()).scores.shape == (0,)

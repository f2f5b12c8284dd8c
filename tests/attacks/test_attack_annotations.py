"""Annotation files with wrong values in every place: counted, or refused in one sentence, never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from set_files import annotation, document, grid, whole_body

from rtmw_edge.data.sets import SetConfig, open_set
from rtmw_edge.errors import BadInputError

WRONG = (None, "x", [], {}, -1, 1e308, float("nan"), 10**400, ["a"])


def good(kind: str) -> Any:
    """A document of two good instances of that kind."""
    if kind == "mpii":
        person = {"image": "a.jpg", "center": [100, 120], "scale": 0.5, "joints": grid(16).tolist()}
        return [{**person, "joints_vis": [1] * 16} for _ in range(2)]
    if kind == "coco-wholebody":
        return document([whole_body(), whole_body()])
    if kind == "ubody3d":
        joints = np.column_stack([grid(137), np.full(137, 8.0), np.ones(137)]).tolist()
        camera = {"focal": [5000, 5000], "princpt": [200, 150]}
        return document([annotation(1, keypoints_3d=joints, camera_param=camera) for _ in range(2)])
    if kind == "interhand26m":
        hands = {"joint_valid": [[1]] * 42, "bbox": [1, 1, 90, 90], "image_id": 1}
        found = document([dict(hands), dict(hands)])
        found["images"][0].update(capture=0, camera="c", frame_idx=7)
        return found
    return document([annotation(98, center=[100, 120], scale=0.5) for _ in range(2)])


def changed(content: Any) -> Iterator[Any]:
    """The document with one value at a time made wrong or left out; of a list only the first entry."""
    places: list[list[Any]] = [[]]
    while places:
        place = places.pop()
        value = content
        for key in place:
            value = value[key]
        if isinstance(value, dict):
            places += [[*place, key] for key in value]
        elif isinstance(value, list) and value:
            places.append([*place, 0])
        if place:
            for wrong in WRONG:
                copied = copy.deepcopy(content)
                holder = copied
                for key in place[:-1]:
                    holder = holder[key]
                holder[place[-1]] = wrong
                yield copied
            if isinstance(place[-1], str):
                del holder[place[-1]]
                yield copied


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wflw", "mpii", "coco-wholebody", "ubody3d", "interhand26m"])
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_no_wrong_value_is_a_traceback(tmp_path: Path, kind: str) -> None:
    companions = {
        "camera": {"0": {"campos": {"c": [0, 0, -900]}, "camrot": {"c": np.eye(3).tolist()}, "focal": {"c": [9, 9]},
                         "princpt": {"c": [20, 20]}}},
        "joint_3d": {"0": {"7": {"world_coord": np.random.default_rng(0).normal(0, 50, (42, 3)).tolist()}}},
    }  # fmt: skip
    for name, content in companions.items():
        (tmp_path / f"set_{name}.json").write_text(json.dumps(content))
    config = SetConfig(kind, tmp_path, annotations="set_data.json", images=".", every=1)
    path = tmp_path / "set_data.json"
    path.write_text(json.dumps(good(kind)))
    assert len(open_set(config)) == 2
    tried = 0
    for content in changed(good(kind)):
        path.write_text(json.dumps(content))
        try:
            table = open_set(config)
        except BadInputError as error:
            assert str(path) in str(error) or f"'{kind}'" in str(error)
        else:
            for index in range(len(table)):
                instance = table[index]
                assert np.isfinite(instance.box).all() and np.isfinite(instance.keypoints).all()
                assert instance.metres is None or np.isfinite(instance.metres).all()
        tried += 1
    assert tried > 50
    for name, content in companions.items() if kind == "interhand26m" else ():
        path.write_text(json.dumps(good(kind)))
        for wrong in changed(content):
            (tmp_path / f"set_{name}.json").write_text(json.dumps(wrong))
            try:
                open_set(config)
            except BadInputError as error:
                assert "no usable annotation" in str(error)
        (tmp_path / f"set_{name}.json").write_text(json.dumps(content))

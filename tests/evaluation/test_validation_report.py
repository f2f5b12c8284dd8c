"""The page of a validation: whole, self-contained, and readable as HTML."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from label_runners import contender

from rtmw_edge.errors import BadInputError
from rtmw_edge.evaluation.datasets import SyntheticPeople
from rtmw_edge.evaluation.gates import read_gate
from rtmw_edge.evaluation.validate import validate
from rtmw_edge.evaluation.validation import Validation, WorstCrop
from rtmw_edge.evaluation.validation_pictures import MOVED_COLOUR, side_by_side
from rtmw_edge.evaluation.validation_report import check_ours, write_json, write_report

VOID = {"meta", "img", "circle", "path", "br"}


class Balanced(HTMLParser):
    """Counts tags; fails on one that is closed and was not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def result() -> Validation:
    people = SyntheticPeople(3)
    return validate(
        contender(people, "torch:cpu"),
        contender(people, "<b>bundle</b>", moved={"face": 4.0, "left_hand": 12.0}),
        people,
        read_gate(),
    )


def test_page(result: Validation, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_report(page, result, ["A note & more."], {"processor": "a <slow> one"})
    text = page.read_text()
    parser = Balanced()
    parser.feed(text)
    assert parser.open == [] and "script" not in parser.seen and "link" not in parser.seen
    assert not re.search(r"https?:|url\(|@import", text), "nothing is loaded from elsewhere"
    assert parser.seen["h2"] >= 5 and parser.seen["img"] == len(result.worst) > 0 and parser.seen["svg"] == 6
    assert "Failed" in parser.words and result.gate.sentence() in parser.words
    assert "<b>bundle</b> against torch:cpu" in parser.words and "A note & more." in parser.words
    assert "a <slow> one" in parser.words and "3 of 4" in parser.words and "within noise" not in text.split("<h2>")[0]
    data = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data[0]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (512, 776, 3)


def test_a_page_and_its_figures_are_replaced_and_nothing_else_is(result: Validation, tmp_path: Path) -> None:
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    for _ in range(2):
        check_ours(page, figures)
        write_report(page, result, [], {})
        write_json(figures, result, [], {})
    page.write_text("<!doctype html><p>My thesis.")
    with pytest.raises(BadInputError, match=r"Refusing to overwrite '.*page.html': this command did not write it"):
        check_ours(page, figures)
    with pytest.raises(BadInputError, match=r"it is a folder\. Name a file"):
        check_ours(None, tmp_path)
    assert "My thesis" in page.read_text()


def test_two_names_of_one_file_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "page.html")
    for other in (tmp_path / "page.html", tmp_path / "sub/../page.html", tmp_path / "link"):
        with pytest.raises(BadInputError, match=r"--report and --json both name .*page\.html: give one"):
            check_ours(tmp_path / "page.html", other)


def test_a_moved_keypoint_is_drawn_from_where_it_was() -> None:
    points = np.full((133, 2), 20, np.float32)
    other = points.copy()
    other[120] = (60, 20)
    other[121] = (21, 20)  # too near for a line
    sure = np.ones(133, bool)
    crop = WorstCrop(0, 1.0, np.zeros((64, 80, 3), np.uint8), points, other, sure)
    picture = side_by_side(crop)
    assert picture.shape == (128, 328, 3)
    right = picture[:, 168:]

    def lined(picture: np.ndarray) -> np.ndarray:
        return np.abs(picture.astype(int) - MOVED_COLOUR).max(axis=-1) < 40

    assert lined(right)[38:44, 60:110].any(axis=0).mean() > 0.9
    assert not lined(picture[:, :160]).any() and not lined(right[60:]).any()

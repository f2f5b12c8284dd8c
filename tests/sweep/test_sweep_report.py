"""The report page and the results file: what goes in comes out, escaped and self-contained."""

import re

import numpy as np

from rtmw_edge.sweep.measure import Reference, latency_ms
from rtmw_edge.sweep.report import write_report
from rtmw_edge.sweep.result import PART_ORDER, CellResult, load_results, save_results

GOOD = CellResult(
    "rtmw-n-256x192",
    "onnx",
    "int8",
    engine="ONNX Runtime 1",
    megabytes=6.04,
    ms_p50=3.21,
    ms_p90=4.5,
    difference_px=dict.fromkeys(PART_ORDER, 0.75),
    ap={part: 0.1 * i for i, part in enumerate(PART_ORDER)},
    convolutions={"int8": 70, "total": 72},
    key="k",
)
BAD = CellResult("rtmw-n-256x192", "ncnn", "fp32", failure="it said <no> & stopped")


def test_the_page_holds_every_figure_and_needs_no_network(tmp_path):
    import cv2

    picture = tmp_path / "someone.png"
    cv2.imwrite(str(picture), np.full((8, 8, 3), 99, np.uint8))
    write_report(tmp_path / "report.html", [GOOD, BAD], [picture], {"cores": "2 <really>"}, ["A note."])
    page = (tmp_path / "report.html").read_text()
    for figure in ("6.0", "3.2", "4.5", "70 / 72", "50.0", "0.75", "A note."):
        assert figure in page
    assert "it said &lt;no&gt; &amp; stopped" in page and "2 &lt;really&gt;" in page
    assert 'src="data:image/png;base64,' in page
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "<script" not in page


def test_results_survive_a_round_trip_and_a_broken_file_counts_as_none(tmp_path):
    path = tmp_path / "results.json"
    save_results([GOOD, BAD], {"cores": "2"}, path)
    assert load_results(path) == [GOOD, BAD]
    path.write_text('{"cells": [{"nonsense": 1}]}')
    assert load_results(path) == []
    assert load_results(tmp_path / "missing.json") == []


class _Shifted:
    """Answers logits whose peaks are `shift` bins beside bin 100 in x."""

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def logits(self, crops):
        x, y = np.zeros((len(crops), 133, 384), np.float32), np.zeros((len(crops), 133, 512), np.float32)
        x[..., 100 + self.shift] = 9.0
        y[..., 200] = 9.0
        return x, y


def test_difference_is_in_crop_pixels_over_sure_keypoints():
    scores = np.full((4, 133), 9.0, np.float32)
    scores[:, 5] = 0.1
    keypoints = np.full((4, 133, 2), (50.0, 100.0), np.float32)
    keypoints[:, 5] = 999.0  # far away, but nobody was sure of it
    reference = Reference(np.zeros((4, 256, 192, 3), np.uint8), keypoints, scores)
    assert reference.difference(_Shifted(0)) == dict.fromkeys((*PART_ORDER,), 0.0)
    assert reference.difference(_Shifted(3))["left_hand"] == 1.5


def test_latency_is_ordered_and_positive():
    p50, p90 = latency_ms(lambda: sum(range(1000)))
    assert 0 < p50 <= p90

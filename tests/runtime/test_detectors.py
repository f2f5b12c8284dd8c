"""Detectors that other people trained: told apart by their graphs, fed what they want, read by every form they have."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from detector_files import KERNELS, end_to_end, write_detector, write_mirror
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError, NotAvailableError
from rtmw_edge.runtime.detectors import OnnxDetector, open_detector
from rtmw_edge.runtime.detectors.graph import read_graph
from rtmw_edge.runtime.detectors.heads import YOLOX, Head
from rtmw_edge.runtime.detectors.letterbox import letterbox, suppress, to_picture

SIZE = (96, 64)
PEOPLE = [((40, 30, 260, 290), 0.9), ((300, 12.5, 391, 200), 0.6)]
"""Two people in a picture of 420 x 300 pixels: box and score."""
PICTURE = np.zeros((300, 420, 3), np.uint8)

REAL = "RTMW_EDGE_DETECTOR_FILE"


def in_input(box: tuple[float, ...]) -> list[float]:
    """The box of PICTURE in an input of SIZE: 300 pixels become 64, and 420 become round(89.6) = 90."""
    return [box[0] * 90 / 420, box[1] * 64 / 300, box[2] * 90 / 420, box[3] * 64 / 300]


# Encoders, each cell by cell in plain Python: (level, row in the level, row in all) of the cell under a point.


def cell_at(x: float, y: float, stride: int) -> tuple[int, int, int]:
    """Column and row of the cell of a level under a point of the input, and its number among all cells."""
    before = sum((SIZE[0] // s) * (SIZE[1] // s) for s in (8, 16, 32) if s < stride)
    column, row = int(x // stride), int(y // stride)
    return column, row, before + row * (SIZE[0] // stride) + column


def cells() -> int:
    return 12 * 8 + 6 * 4 + 3 * 2


def grid(*, decoded: bool, classes: int = 3) -> dict[str, NDArray]:
    """YOLOX's one output: PEOPLE at stride 16, a worse double of the first at 8, a dog at 8, nothing elsewhere."""
    rows = np.zeros((1, cells(), 5 + classes), np.float32)
    rows[..., 2:4] = 90.0  # exp of which is far beyond float32: nobody may look at it
    seen = [(box, score, 0, 16) for box, score in PEOPLE]
    double = tuple(side + 3 for side in PEOPLE[0][0])
    dog = [((10, 200, 90, 280), 0.95, 1, 8)] if classes > 1 else []
    for box, score, label, stride in [*seen, (double, 0.5, 0, 8), *dog]:
        x1, y1, x2, y2 = in_input(box)
        x, y, wide, high = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        column, row, number = cell_at(x, y, stride)
        inside = (x / stride - column, y / stride - row, math.log(wide / stride), math.log(high / stride))
        rows[0, number, :4] = (x, y, wide, high) if decoded else inside
        rows[0, number, 4], rows[0, number, 5 + label] = 0.95, score / 0.95
    return {"output": rows}


def before_nms() -> dict[str, NDArray]:
    """Corners and scores of all cells, as mmdeploy gives them to its own suppression; people are class 0 of two."""
    boxes, scores = np.zeros((1, cells(), 4), np.float32), np.zeros((1, cells(), 2), np.float32)
    double = tuple(side + 3 for side in PEOPLE[0][0])
    for number, (box, score, label) in enumerate([*((b, s, 0) for b, s in PEOPLE), (double, 0.5, 0), (double, 0.8, 1)]):
        boxes[0, 7 * number], scores[0, 7 * number, label] = in_input(box), score
    return {"scores": scores, "boxes": boxes}


def levels() -> dict[str, NDArray]:
    """RTMDet's six maps: logits of one class, and distances from each cell's corner to the four sides."""
    found = {}
    for stride in (8, 16, 32):
        shape = SIZE[1] // stride, SIZE[0] // stride
        found[f"cls{stride}"] = np.full((1, 1, *shape), -12.0, np.float32)
        found[f"box{stride}"] = np.full((1, 4, *shape), 5.0, np.float32)
    for (box, score), stride in zip(PEOPLE, (32, 8), strict=True):
        x1, y1, x2, y2 = in_input(box)
        column, row, _ = cell_at((x1 + x2) / 2, (y1 + y2) / 2, stride)
        x, y = column * stride, row * stride
        found[f"cls{stride}"][0, 0, row, column] = math.log(score / (1 - score))
        found[f"box{stride}"][0, :, row, column] = (x - x1, y - y1, x2 - x, y2 - y)
    return found


def both() -> dict[str, NDArray]:
    """mmdeploy's end-to-end answer: PEOPLE, a dog, somebody doubtful, and a row that a provider filled up."""
    rows = [[*in_input(box), score] for box, score in reversed(PEOPLE)]
    extra = [[5, 5, 20, 20, 0.99], [1, 1, 30, 30, 0.29], [-0.15, 1e30, np.nan, 9, 1.02]]
    return end_to_end([*rows, *extra], [0, 0, 16, 0, -1])


@pytest.mark.parametrize(
    ("family", "outputs", "exp", "about"),
    [
        ("yolox", grid(decoded=False), False, "YOLOX (grid)"),
        ("yolox", grid(decoded=False, classes=1), False, "YOLOX (grid)"),
        ("yolox", grid(decoded=True), True, "YOLOX (decoded grid)"),
        ("yolox", before_nms(), False, "YOLOX (before NMS)"),
        ("yolox", both(), True, "YOLOX (end to end)"),
        ("rtmdet", both(), False, "RTMDet (end to end)"),
        ("rtmdet", before_nms(), True, "RTMDet (before NMS)"),
        ("rtmdet", levels(), False, "RTMDet (levels)"),
    ],
)
def test_every_form_finds_the_people(
    family: str, outputs: dict[str, NDArray], exp: bool, about: str, tmp_path: Path
) -> None:
    detector = open_detector(write_detector(tmp_path / "d.onnx", family, outputs, exp=exp), threads=1)
    assert detector.about == f"{about}, 96x64, ONNX Runtime, cpu"
    boxes, scores = detector(PICTURE)
    assert boxes.dtype == scores.dtype == np.float32
    assert np.abs(boxes - [box for box, _ in PEOPLE]).max() < 0.1
    assert scores == pytest.approx([score for _, score in PEOPLE], abs=1e-5)


def test_rtmdet_gets_normalized_bgr_and_yolox_plain_bgr(tmp_path: Path) -> None:
    image = np.full((64, 96, 3), (160, 140, 240), np.uint8)
    for family, channels in (
        ("yolox", (160, 140, 240)),
        ("rtmdet", ((160 - 103.53) / 57.375, (140 - 116.28) / 57.12, (240 - 123.675) / 58.395)),
    ):
        boxes, scores = open_detector(write_mirror(tmp_path / "m.onnx", family), threads=1)(image)
        assert boxes[0] == pytest.approx([0, 0, min(8 + channels[0], 96), min(8 + channels[1], 64)], abs=1e-3)
        assert scores[0] == pytest.approx(0.5 + channels[2] / 1000, abs=1e-5)


def test_boxes_are_cut_at_the_picture_and_empty_ones_dropped(tmp_path: Path) -> None:
    rows = [[-20, -9, 200, 300, 0.9], [91, 2, 95, 60, 0.8], [3, 3, 3.1, 40, 0.7], [np.inf, 0, np.nan, 9, 0.6]]
    file = write_detector(tmp_path / "d.onnx", "yolox", end_to_end(rows, [0] * 4))
    boxes, scores = open_detector(file)(PICTURE)
    assert boxes.tolist() == [[0, 0, 420, 300]] and scores == pytest.approx([0.9])  # the second lies in the padding
    nobody = open_detector(write_detector(tmp_path / "n.onnx", "yolox", end_to_end([], [])))(PICTURE)
    assert nobody.boxes.shape == (0, 4) and nobody.scores.shape == (0,)


def test_the_threshold_is_the_user_s(tmp_path: Path) -> None:
    file = write_detector(tmp_path / "d.onnx", "rtmdet", both())
    assert len(open_detector(file, score=0.7)(PICTURE).boxes) == 1
    assert len(open_detector(file, score=0.2)(PICTURE).boxes) == 3
    with pytest.raises(BadInputError, match=r"The detector's score 1\.5 is not between 0 and 1: pass 0\.3, say\."):
        open_detector(file, score=1.5)


@pytest.mark.parametrize("shape", [(480, 1000), (1000, 333), (61, 997), (640, 640), (30, 17), (719, 1283)])
@pytest.mark.parametrize("size", [(640, 640), (416, 416), (320, 192)])
def test_the_letterbox_inverts_to_a_tenth_of_a_pixel(shape: tuple[int, int], size: tuple[int, int]) -> None:
    """Blobs whose middles are known in the picture; their centres of mass in the canvas must lead back there."""
    height, width = shape
    canvas = np.empty((size[1], size[0], 3), np.uint8)
    spread = max(2.5, 3 * max(width / size[0], height / size[1]))
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    for middle in ((0.3 * width, 0.7 * height), (0.62 * width, 0.31 * height)):
        reach = min(spread, middle[0] / 4, middle[1] / 4, (width - middle[0]) / 4, (height - middle[1]) / 4)
        blob = np.exp(-((x - middle[0]) ** 2) / (2 * reach**2)) * np.exp(
            -((y[:, None] - middle[1]) ** 2) / (2 * reach**2)
        )
        image = np.repeat((blob * 255).round().astype(np.uint8)[..., None], 3, axis=2)
        factors = letterbox(image, canvas)
        seen = canvas[: round(height * factors[1]), : round(width * factors[0]), 0].astype(np.float64)
        centre = [
            (seen.sum(axis=0) * (np.arange(seen.shape[1]) + 0.5)).sum() / seen.sum(),
            (seen.sum(axis=1) * (np.arange(seen.shape[0]) + 0.5)).sum() / seen.sum(),
        ]
        back = to_picture(np.array([[0, 0, *centre]], np.float32), factors, shape)[0, 2:]
        assert back == pytest.approx(middle, abs=0.1)


def test_the_picture_lies_top_left_on_grey_114() -> None:
    canvas = np.empty((64, 96, 3), np.uint8)
    letterbox(np.full((40, 20, 3), 7, np.uint8), canvas)
    assert (canvas[:, :32] == 7).all() and (canvas[:, 32:] == 114).all()
    letterbox(np.full((2, 900, 3), 9, np.uint8), canvas)
    assert (canvas[:1] == 9).all() and (canvas[1:] == 114).all()


@pytest.mark.parametrize("seed", range(5))
def test_suppression_is_the_textbook_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (80, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(80).astype(np.float32)

    def overlap(a: list[float], b: list[float]) -> float:
        wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        shared = max(wide, 0) * max(high, 0)
        return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)

    kept: list[int] = []
    for row in sorted(range(80), key=lambda one: -scores[one]):
        if all(overlap(boxes[row].tolist(), boxes[other].tolist()) <= 0.45 for other in kept):
            kept.append(row)
    assert suppress(boxes, scores, 0.45).tolist() == kept and 5 < len(kept) < 70
    assert suppress(boxes[:0], scores[:0], 0.45).tolist() == []


def test_the_graph_is_read_as_the_onnx_package_reads_it(tmp_path: Path, tiny_bundle: Path) -> None:
    files = [write_detector(tmp_path / f"{family}.onnx", family, both(), exp=True) for family in KERNELS]
    for file in [*files, *tiny_bundle.glob("*.onnx")]:
        model = onnx.load(file)
        dims = {one.name: tuple(one.dims) for one in model.graph.initializer}
        wanted = [dims[one.input[1]] for one in model.graph.node if one.op_type == "Conv" and one.input[1] in dims]
        graph = read_graph(file.read_bytes())
        assert graph.operators == {one.op_type for one in model.graph.node} and list(graph.kernels) == wanted
    with pytest.raises(ValueError, match="longer than its message"):
        read_graph(files[0].read_bytes()[:-9])


YOLO_V8 = {"output0": np.zeros((1, 84, 126), np.float32)}
UNDERSTOOD = r"understood are RTMDet and YOLOX as mmdeploy exports them \(dets \(1,N,5\) and labels \(1,N\);"


@pytest.mark.parametrize(
    ("family", "outputs", "text"),
    [
        ("yolox", YOLO_V8, r"takes image \(1,3,64,96\) float, gives output0 \(1,84,126\) and begins"),
        ("resnet", both(), r"labels \(1,5\) and begins with a convolution \(4,3,7,7\)"),
        ("rtmdet", grid(decoded=True), r"gives output \(1,126,8\) and begins with a convolution \(4,3,3,3\)"),
        ("rtmdet", {**both(), "masks": np.zeros((1, 5, 9, 9), np.float32)}, r"masks \(1,5,9,9\)"),
        ("yolox", levels(), r"cls8 \(1,1,8,12\), box8 \(1,4,8,12\)"),
        ("yolox", {"p": np.zeros((1, 126, 4), np.float32), "q": np.zeros((1, 126, 4), np.float32)}, r"q \(1,126,4\)"),
        ("yolox", {"output": np.zeros((1, 127, 85), np.float32)}, r"output \(1,127,85\)"),
    ],
)
def test_what_is_not_understood_is_refused(family: str, outputs: dict[str, NDArray], text: str, tmp_path: Path) -> None:
    file = write_detector(tmp_path / "d.onnx", family, outputs)
    with pytest.raises(
        BadInputError, match=rf"d\.onnx is no detector that is understood: it .*{text}.*{UNDERSTOOD}"
    ) as e:
        open_detector(file)
    assert str(e.value).count(". ") == 0 and str(e.value).endswith(".")


def test_inputs_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    odd = write_detector(tmp_path / "odd.onnx", "yolox", both(), (100, 64))
    with pytest.raises(BadInputError, match=r"it takes image \(1,3,64,100\) float and begins"):
        open_detector(odd)
    whole = write_detector(tmp_path / "u8.onnx", "yolox", both(), kind=onnx.TensorProto.UINT8)
    with pytest.raises(BadInputError, match=r"it takes image \(1,3,64,96\) uint8 and begins"):
        open_detector(whole)


def test_a_network_of_any_size_runs_at_the_size_asked_for(tmp_path: Path) -> None:
    file = write_detector(tmp_path / "d.onnx", "yolox", both(), ("width", "height"))
    assert open_detector(file).size == (640, 640)
    assert open_detector(file, size=(416, 384)).size == (416, 384)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        BadInputError, match=r"There is no detector '.*none\.onnx': pass an ONNX file of RTMDet or YOLOX"
    ):
        open_detector(tmp_path / "none.onnx")
    (tmp_path / "page.onnx").write_text("<html>please log in</html>")
    with pytest.raises(
        BadInputError, match=r"ONNX Runtime cannot run the detector .*page\.onnx \(.*\); pass an ONNX file"
    ):
        open_detector(tmp_path / "page.onnx")
    with pytest.raises(BadInputError, match="not uint8 BGR"):
        open_detector(write_detector(tmp_path / "d.onnx", "yolox", both()))(np.zeros((9, 9), np.uint8))


def test_a_device_is_that_device_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    file = write_detector(tmp_path / "d.onnx", "yolox", both())
    with pytest.raises(
        NotAvailableError, match=r"has no device 'npu' \(it has cpu, cuda, tensorrt\): pass --detector-d"
    ):
        open_detector(file, "npu")
    with pytest.raises(BadInputError, match="Unknown device 'cudo'; did you mean 'cuda'"):
        open_detector(file, "cudo")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(NotAvailableError, match=r"There is no device 'cuda' for ONNX Runtime here \(it has cpu\)") as e:
        open_detector(file, "cuda")
    assert e.value.exit_code == 3


# The command.


@pytest.fixture()
def photo(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    return tmp_path / "a.png"


def test_run_with_a_file(cli: Callable[..., Any], tiny_bundle: Path, photo: Path, tmp_path: Path) -> None:
    file = write_detector(tmp_path / "d.onnx", "yolox", grid(decoded=False))
    out = tmp_path / "p.json"
    done = cli("run", tiny_bundle, photo, "--detector-file", file, "--detector-score", "0.5", "--json", out)
    assert done.code == 0 and "detector: YOLOX (grid), 96x64, ONNX Runtime, cpu" in done.out
    people = json.loads(out.read_text())["images"][0]["people"]
    assert [person["box_score"] for person in people] == pytest.approx([0.9, 0.6], abs=1e-3)
    assert np.abs(np.array([person["box"] for person in people]) - [box for box, _ in PEOPLE]).max() < 0.1
    lines = cli("run", tiny_bundle, photo, "--detector-file", file, "--json", "-")
    assert "detector: YOLOX" in lines.err and "detector" not in lines.out


def test_run_with_a_name(
    cli: Callable[..., Any], tiny_bundle: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTMW_EDGE_CACHE", str(tmp_path / "cache"))
    missing = cli("run", tiny_bundle, photo, "--detector", "yolox-nano")
    assert (missing.code, missing.err) == (
        2,
        "error: The detector yolox-nano is not here: run 'rtmw-edge fetch yolox-nano', or pass --detector-file FILE.\n",
    )
    (tmp_path / "cache").mkdir()
    write_detector(tmp_path / "cache" / "yolox_nano.onnx", "yolox", both(), ("w", "h"))
    done = cli("run", tiny_bundle, photo, "--detector", "yolox-nano")
    assert done.code == 0 and "detector: YOLOX (end to end), 416x416" in done.out and "a.png  3 people" not in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--detector", "yolox-tin"), 2, "Unknown detector 'yolox-tin'; did you mean 'yolox-tiny'?"),
        (
            ("--detector", "yolox-s", "--detector-file", "x.onnx"),
            2,
            "--detector yolox-s and --detector-file x.onnx contradict: leave one of them out.",
        ),
        (("--detector-file", "x.onnx", "--boxes", "b.json"), 2, "from --boxes or from a detector, not from both"),
        (("--detector", "none", "--detector-score", "0.4"), 2, "to set up: leave out --detector none"),
        (("--boxes", "b.json", "--detector-device", "cpu"), 2, "to set up: leave out --boxes"),
        (("--detector-file", "x.onnx"), 2, "There is no detector 'x.onnx'"),
    ],
)
def test_run_refuses(
    cli: Callable[..., Any], tiny_bundle: Path, photo: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    done = cli("run", tiny_bundle, photo, *arguments)
    assert done.code == code and text in done.err and done.err.count("\n") == 1


def test_run_on_a_device_that_detectors_lack(
    cli: Callable[..., Any], tiny_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    file = write_detector(tmp_path / "d.onnx", "yolox", both())
    done = cli("run", tiny_bundle, photo, "--detector-file", file, "--detector-device", "gpu")
    assert done.code == 3 and "Detectors run in ONNX Runtime, which has no device 'gpu'" in done.err


def test_videos_are_looked_at_now_and_then(
    cli: Callable[..., Any], tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "c.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 30, (300, 400))
    for index in range(9):
        image = np.full((400, 300, 3), 20, np.uint8)
        image[188:193] = image[:, 108 + index : 113 + index] = 200
        writer.write(image)
    writer.release()
    looks = []
    real = OnnxDetector.__call__
    monkeypatch.setattr(OnnxDetector, "__call__", lambda self, image: (looks.append(1), real(self, image))[1])
    file = write_detector(tmp_path / "d.onnx", "rtmdet", end_to_end([[0, 0, 48, 64, 0.75]], [0]))
    out = tmp_path / "p.jsonl"
    done = cli("run", tiny_bundle, tmp_path / "c.mp4", "--detector-file", file, "--detect-every", 4, "--save", out)
    assert done.code == 0 and len(looks) == 3  # frames 0, 4 and 8
    frames = [json.loads(line) for line in out.read_text().splitlines()[1:]]
    assert [person["id"] for frame in frames for person in frame["people"]] == [1] * 9
    assert frames[0]["people"][0]["box_score"] == 0.75


# A real file.


@pytest.mark.skipif(not os.environ.get(REAL), reason=f"{REAL} names no detector's ONNX file")
def test_a_real_detector() -> None:
    """Opens the file of the environment; with RTMW_EDGE_DETECTOR_PHOTO, it must find somebody in that picture."""
    detector = open_detector(Path(os.environ[REAL]))
    photo = os.environ.get("RTMW_EDGE_DETECTOR_PHOTO")
    image = cv2.imread(photo) if photo else np.random.default_rng(0).integers(0, 256, (300, 420, 3), np.uint8)
    assert image is not None, f"cannot read {photo}"
    boxes, scores = detector(image)
    assert len(boxes) == len(scores) and (len(boxes) > 0 or not photo)
    assert (boxes >= 0).all() and (boxes <= [*image.shape[1::-1]] * 2).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all() and ((scores >= 0.3) & (scores <= 1)).all()


def test_what_a_network_gives_beyond_all_sense_is_nobody() -> None:
    """A box without an end is not cut to the picture, and no score is above 1."""
    boxes = np.float32([[0, 0, 30, 40], [0, 0, np.inf, 40], [np.nan, 0, 30, 40], [0, 0, 0.5, 40]])
    session = SimpleNamespace(
        get_modelmeta=lambda: SimpleNamespace(custom_metadata_map={}),
        get_outputs=list,
        get_inputs=lambda: [SimpleNamespace(name="image")],
        run=lambda names, given: [],
    )
    head = Head(YOLOX, "grid", lambda outputs: (boxes, np.float32([1.25, 0.9, 0.9, 0.9])), done=True)
    found = OnnxDetector(session, head, (64, 64), "cpu", 0.3)(np.zeros((64, 64, 3), np.uint8))
    assert found.boxes.tolist() == [[0, 0, 30, 40]] and found.scores.tolist() == [1.0]

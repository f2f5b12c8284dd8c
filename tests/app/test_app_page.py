"""docs/app.md and docs/app/: the C++ that users copy does what the runner does, with the constants of the bundles."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge import bundle
from rtmw_edge.cli.run import DRAWN_FROM
from rtmw_edge.crops import box_to_crop, crop, to_image
from rtmw_edge.keypoints import NUM_KEYPOINTS
from rtmw_edge.runtime.loading import builtin_path
from rtmw_edge.runtime.onnx_session import EXACT_ON_OLD_X86
from rtmw_edge.runtime.openvino_engine import FLOAT_KERNELS, configuration
from rtmw_edge.runtime.runner import PEAK_2D, PEAK_3D
from rtmw_edge.simcc import Z_RANGE, calibrated, decode, decode_3d

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
APP = DOCS / "app"
WIDTH, HEIGHT = 192, 256


def built(source: Path, folder: Path) -> Path:
    """The program of a C++ source, in a folder; warnings are errors, and what C++ does not define ends it."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    program = folder / "program"
    words = ["-std=c++11", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Werror"]
    words += ["-fsanitize=undefined,float-cast-overflow", "-fsanitize-undefined-trap-on-error"]
    words += [f"-I{APP}", f"-isystem{HERE}"]
    subprocess.run([compiler, *words, str(source), "-o", str(program)], check=True)
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(HERE / "header.cpp", tmp_path_factory.mktemp("app"))


def picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A smooth one (150,120,3), so that OpenCV's steps of 1/32 pixel change few grey levels."""
    rough = rng.integers(0, 255, (150, 120, 3), dtype=np.uint8)
    return np.ascontiguousarray(cv2.GaussianBlur(rough, (0, 0), 6) * 4)


def logits(rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Of x, y and z, (1,133,bins)."""
    return [rng.normal(size=(1, NUM_KEYPOINTS, bins)).astype(np.float32) for bins in (384, 512, 384)]


@pytest.mark.parametrize(
    "box", [(20, 10, 90, 140), (-30, 40.5, 60, 77.25), (100, 100, 119.5, 149), (0, 0, 120, 150), (50, 60, 53, 61)]
)
def test_header_is_the_runner_s_crop_and_decode(
    program: Path, tmp_path: Path, box: tuple[float, float, float, float]
) -> None:
    rng = np.random.default_rng(4)
    image, lines = picture(rng), logits(rng)
    image.tofile(tmp_path / "image.bgr")
    for axis, line in zip("xyz", lines, strict=True):
        line.tofile(tmp_path / f"{axis}.f32")
    words = [program, "120", "150", *map(str, box)]
    told = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True)  # type: ignore[arg-type]
    found = np.array([line.split() for line in told.stdout.splitlines()], np.float64)

    centers, scales = box_to_crop([box], (WIDTH, HEIGHT))
    cut = np.fromfile(tmp_path / "crop.bgr", np.uint8).reshape(HEIGHT, WIDTH, 3)
    apart = np.abs(cut.astype(int) - crop(image, centers[0], scales[0], (WIDTH, HEIGHT)))
    assert apart.max() <= 8 and apart.mean() < 0.4, "not the runner's crop"

    keypoints, scores = decode_3d(lines, Z_RANGE)
    assert (scores > 0).all()
    truth = to_image(keypoints, centers, scales, (WIDTH, HEIGHT))[0]
    np.testing.assert_allclose(found[:, :3], truth, atol=1e-4)
    np.testing.assert_allclose(found[:, 3], scores[0], rtol=1e-6)
    np.testing.assert_allclose(found[:, 4], calibrated(scores[0], 0.7, -4), rtol=1e-5)


@pytest.mark.parametrize("box", [(1e12, 0, 2e12, 1e12), (-3e9, -3e9, -2e9, -2e9), ("nan", 0, 9, 9)])
def test_a_box_from_nowhere_shows_black(program: Path, tmp_path: Path, box: tuple[object, ...]) -> None:
    """A place that fits no int has no row and no column."""
    picture(np.random.default_rng(4)).tofile(tmp_path / "image.bgr")
    for axis, line in zip("xyz", logits(np.random.default_rng(4)), strict=True):
        line.tofile(tmp_path / f"{axis}.f32")
    subprocess.run([str(program), "120", "150", *map(str, box)], cwd=tmp_path, check=True, capture_output=True)
    assert not np.fromfile(tmp_path / "crop.bgr", np.uint8).any()


def test_ncnn_program_prints_the_pose(tmp_path: Path) -> None:
    program = built(APP / "ncnn_pose.cpp", tmp_path)
    rng = np.random.default_rng(5)
    image, lines = picture(rng), logits(rng)[:2]
    cv2.imwrite(str(tmp_path / "picture.ppm"), image)
    for axis, line in zip("xy", lines, strict=True):
        line.tofile(tmp_path / f"{axis}.f32")
    for name in ("model.param", "model.bin"):
        (tmp_path / name).touch()
    words = [str(program), ".", "picture.ppm", "20", "10", "90", "140"]
    told = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    found = np.array([line.split() for line in told.splitlines()], np.float64)

    centers, scales = box_to_crop([(20, 10, 90, 140)], (WIDTH, HEIGHT))
    keypoints, scores = decode(lines)
    np.testing.assert_allclose(found[:, :2], to_image(keypoints, centers, scales, (WIDTH, HEIGHT))[0], atol=1e-3)
    np.testing.assert_allclose(found[:, 2], scores[0], atol=1e-4)
    seen = np.fromfile(tmp_path / "seen.bgr", np.uint8).reshape(HEIGHT, WIDTH, 3)
    assert np.abs(seen.astype(int) - crop(image, centers[0], scales[0], (WIDTH, HEIGHT))).mean() < 0.4, (
        "RGB, or shifted"
    )

    lines[0][..., :288].tofile(tmp_path / "x.f32")  # of another variant
    (tmp_path / "deep.ppm").write_bytes(b"P6 9 9 65535\n" + bytes(2 * 9 * 9 * 3))
    usual = ["0", "0", "9", "9"]
    for wrong, message in (
        ([".", "nobody.ppm", *usual], "nobody.ppm is not a binary PPM with 8 bits."),
        ([".", "deep.ppm", *usual], "deep.ppm is not a binary PPM with 8 bits."),
        ([".", "picture.ppm", "9", "0", "0", "9"], "The box is empty: give x1 < x2 and y1 < y2."),
        (["nowhere", "picture.ppm", *usual], "ncnn cannot open the model in nowhere."),
        ([".", "picture.ppm", *usual], "The constants in this program are not those of ./manifest.json."),
    ):
        ended = subprocess.run([str(program), *wrong], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr.strip()) == (2, message)


def test_constants_are_those_of_the_embedded_model() -> None:
    text = (APP / "ncnn_pose.cpp").read_text()
    with bundle.read(builtin_path()) as builtin:
        model = builtin.manifest
    assert f"WIDTH = {model.input.width}, HEIGHT = {model.input.height}, KEYPOINTS = {NUM_KEYPOINTS};" in text
    assert model.score is not None and f"A = {model.score.a}, B = {model.score.b};" in text
    page = (DOCS / "app.md").read_text(encoding="utf-8")
    assert (1 / PEAK_2D, PEAK_3D) == (0.1, 1) and "takes a tenth of the score, in 3D the score itself" in page
    assert f"keypoints of {DRAWN_FROM} and more" in page and f"z.w, {Z_RANGE});" in page
    for name in re.findall(r"^inline .* (\w+)\(", (APP / "rtmw.hpp").read_text(), re.MULTILINE):
        assert f"`{name}`" in page


def test_page_says_what_the_runner_tells_a_runtime_lest_it_computes_wrong() -> None:
    page = (DOCS / "app.md").read_text(encoding="utf-8")
    assert f"`{EXACT_ON_OLD_X86}` is `1`" in page
    ((name, value),) = FLOAT_KERNELS.items()
    assert f"`{name}` is `{value}`" in page
    assert f"`INFERENCE_PRECISION_HINT` to `{configuration('cpu', None)['INFERENCE_PRECISION_HINT']}`" in page

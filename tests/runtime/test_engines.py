"""Every engine on the tiny network: numpy says what is right, and the runtime itself says what it ran."""

from __future__ import annotations

import importlib.util
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_formats
import tiny_models

from rtmw_edge import bundle
from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.runtime import Engine, open_engine
from rtmw_edge.runtime.engine import SideBySide
from rtmw_edge.runtime.ncnn_engine import NcnnEngine
from rtmw_edge.runtime.onnx_session import EXACT_ON_OLD_X86, SPINNING, session_options
from rtmw_edge.runtime.openvino_engine import why_in_float
from rtmw_edge.runtime.processor import cores

MODULES = {"onnx": "onnx", "openvino": "openvino", "tflite": "ai_edge_litert", "ncnn": "ncnn"}


@dataclass(frozen=True)
class Case:
    target: str
    batch: int
    int8: bool

    def write(self, folder: Path) -> Path:
        """A bundle of the tiny network."""
        if importlib.util.find_spec(MODULES[self.target]) is None:
            pytest.skip(f"{MODULES[self.target]} is not installed")
        options: dict[str, Any] = {"int8": self.int8} | ({"batch": self.batch} if self.target != "ncnn" else {})
        make: Callable[..., dict[str, Path]] = getattr(tiny_formats, self.target)
        return tiny_models.write_bundle(
            folder / "bundle",
            make(folder, **options),
            target=self.target,
            batch=self.batch,
            precision="int8" if self.int8 else "fp32",
        )


CASES = [
    Case(target, batch, int8)
    for target in MODULES
    for batch, int8 in ((1, False), (1, True), (2, False))
    if target != "ncnn" or batch == 1
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case.target}-batch{case.batch}-{'int8' if case.int8 else 'fp32'}")
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture()
def engine(case: Case, tmp_path: Path) -> Iterator[Engine]:
    with bundle.read(case.write(tmp_path)) as opened, open_engine(opened, "cpu", threads=1) as engine:
        yield engine


def test_logits_are_the_networks(engine: Engine, case: Case) -> None:
    for count in (1, 3, 4):
        images = tiny_models.crops(count)
        for answer, right in zip(engine.infer(images), tiny_models.logits(images), strict=True):
            assert answer.dtype == np.float32 and answer.shape == right.shape
            assert np.linalg.norm(answer - right) / np.linalg.norm(right) < (0.03 if case.int8 else 1e-5)


@pytest.mark.parametrize("count", [2, 6])
def test_a_batch_that_is_filled_up_answers_with_its_first(tmp_path: Path, count: int) -> None:
    images = tiny_models.crops(count)
    path = Case("onnx", 4, False).write(tmp_path)
    with bundle.read(path) as opened, open_engine(opened, "cpu", threads=1) as engine:
        for answer, right in zip(engine.infer(images), tiny_models.logits(images), strict=True):
            np.testing.assert_allclose(answer, right, rtol=1e-4, atol=1e-4)


def test_answers_outlive_the_next_call(engine: Engine, case: Case) -> None:
    """A full batch's answers are the runtime's own arrays, which it must not write over."""
    for count in {1, case.batch}:
        first = engine.infer(tiny_models.crops(count))
        kept = [line.copy() for line in first]
        second = engine.infer(255 - tiny_models.crops(count))
        assert not np.array_equal(first[0], second[0])
        assert all(np.array_equal(line, copy) for line, copy in zip(first, kept, strict=True))


def test_closing_twice_is_closing(engine: Engine) -> None:
    engine.close()
    engine.close()


def test_without_spinning_the_answers_are_the_same(case: Case, engine: Engine, tmp_path: Path) -> None:
    images = tiny_models.crops(3)
    with bundle.read(tmp_path / "bundle") as opened, open_engine(opened, "cpu", threads=2, spin=False) as calm:
        answers = calm.infer(images)
    assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(answers, engine.infer(images), strict=True))


@pytest.mark.parametrize(("spin", "told"), [(True, False), (False, True)])
def test_onnx_runtime_is_told_not_to_spin(spin: bool, told: bool) -> None:
    assert (_told(session_options(2, spin=spin), SPINNING) == "0") == told


def _told(options: Any, key: str) -> str:
    """An entry of a session's options; "" where there is none."""
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:
        return ""


def test_onnx_runtime_s_events_of_fences_are_no_convolutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 1.17, as on a Jetson, each operator has three events, two of which tell its name alone."""

    def old(text: str) -> list[dict[str, Any]]:
        events = json.loads(text)
        fences = [{**one, "args": {"op_name": one["args"]["op_name"]}} for one in events if one.get("cat") == "Node"]
        return [*fences, *events]

    with bundle.read(Case("onnx", 1, False).write(tmp_path)) as opened, open_engine(opened, "cpu", threads=1) as engine:
        ran = engine.describe()
        monkeypatch.setattr("rtmw_edge.runtime.onnx_engine.json", SimpleNamespace(loads=old))
        assert engine.describe() == ran and ran.convolutions


@pytest.mark.parametrize("left", ['[{"cat" : "Sess', "", None])
def test_a_profile_that_the_disk_had_no_room_for_is_told(
    left: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime says nothing of it."""
    profile = tmp_path / "profile.json"
    if left is not None:
        profile.write_text(left)
    with bundle.read(Case("onnx", 1, False).write(tmp_path)) as opened, open_engine(opened, "cpu", threads=1) as engine:
        monkeypatch.setattr("onnxruntime.InferenceSession.end_profiling", lambda _: str(profile))
        with pytest.raises(
            BadInputError, match=rf"^ONNX Runtime's profile .* was cut off in {tmp_path}: free some space"
        ):
            engine.describe()


@pytest.mark.parametrize("overflow", [True, False])
def test_onnx_runtime_takes_the_slow_exact_way_only_where_the_fast_one_is_wrong(
    overflow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one takes twice as long on a processor with VNNI, for the same answers."""
    monkeypatch.setattr("rtmw_edge.runtime.onnx_session.int8_sums_overflow", lambda: overflow)
    assert _told(session_options(2), EXACT_ON_OLD_X86) == ("1" if overflow else "")


@pytest.mark.parametrize(("int8", "vnni", "winograd"), [(True, True, False), (True, False, True), (False, True, True)])
def test_ncnn_multiplies_bytes_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8: bool, vnni: bool, winograd: bool
) -> None:
    pytest.importorskip("ncnn")
    monkeypatch.setattr("rtmw_edge.runtime.ncnn_engine.has_vnni", lambda: vnni)
    with bundle.read(Case("ncnn", 1, int8).write(tmp_path)) as opened, open_engine(opened, "cpu", threads=1) as engine:
        assert isinstance(engine, NcnnEngine) and engine._net.opt.use_winograd_convolution == winograd


def test_side_by_side_the_answers_are_the_same(case: Case, engine: Engine, tmp_path: Path) -> None:
    with bundle.read(tmp_path / "bundle") as opened, open_engine(opened, "cpu", threads=2, streams=2) as beside:
        assert beside.streams == 2
        for images in map(tiny_models.crops, (2, 3, 5, 8)):
            alone = engine.infer(images)
            for _ in range(3):
                assert all(map(np.array_equal, beside.infer(images), alone))


def test_batches_run_in_threads_of_their_own(tmp_path: Path) -> None:
    path, images, seen = Case("onnx", 1, False).write(tmp_path), tiny_models.crops(5), []
    with bundle.read(path) as opened, open_engine(opened, "cpu", threads=2) as engine:
        run, meet = engine.run, threading.Barrier(2, timeout=20)

        def noted(crops: np.ndarray) -> Sequence[np.ndarray]:
            seen.append(threading.current_thread().name)
            if seen[-1] != "MainThread":
                meet.wait()  # passes when two are here at once
            return run(crops)

        engine.run = noted
        engine._runs = lambda: [noted, noted]
        engine.infer(images[:1])
        engine.infer(images)  # once is not worth to open anything for
        assert seen == ["MainThread"] * 6
        seen[1:] = []
        engine.infer(images)
        checked, seen[1:] = seen[1:], []
        assert sorted({*checked[:4]}) == ["rtmw-edge stream_0", "rtmw-edge stream_1"]
        assert checked[4:] == ["MainThread"] * 3  # the first round again, and who was left
        engine.infer(images)
    assert "MainThread" not in seen[1:5] and seen[5:] == ["MainThread"]
    assert not any("stream" in thread.name for thread in threading.enumerate())


def test_whoever_breaks_off_a_round_waits_for_its_end() -> None:
    """As Ctrl-C or an alarm: LiteRT refuses a model that still runs, and what is cut next would lie in its buffer."""

    def alarm(number: int, frame: object) -> None:
        rung.set()
        raise TimeoutError

    def answer(run: object, share: Sequence[int]) -> None:
        if both.wait(20) == 0:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert rung.wait(20)
        time.sleep(0.1)
        ended.extend(share)

    both, rung, ended = threading.Barrier(2), threading.Event(), []
    beside = SideBySide([lambda crops: [], lambda crops: []])
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with pytest.raises(TimeoutError):
            beside.share([0, 1, 2], answer)
        assert sorted(ended) == [0, 1, 2]
    finally:
        signal.signal(signal.SIGALRM, before)
        rung.set()
        beside.close()


def test_a_runtime_that_mixes_up_its_threads_is_found_out(tmp_path: Path) -> None:
    with bundle.read(Case("onnx", 1, False).write(tmp_path)) as opened, open_engine(opened, "cpu", threads=2) as engine:
        engine._runs = lambda: [engine.run, lambda crops: [line[:, ::-1] for line in engine.run(crops)]]
        text = (
            r"^ONNX Runtime computes another answer when 2 people run side by side \([0-9.]+ off, relative rms\): let "
        )
        engine.infer(tiny_models.crops(2))
        for _ in range(2):
            with pytest.raises(VerificationError, match=text + "them run one by one, with --streams 1"):
                engine.infer(tiny_models.crops(2))
        assert engine.infer(tiny_models.crops(1))[0].shape == (1, 133, 96)


@pytest.mark.parametrize(
    ("threads", "streams", "text"),
    [
        (2, 3, "3 people cannot run side by side on 2 threads: pass 1 to 2."),
        (1, 2, "2 people cannot run side by side on 1 thread: pass 1 to 1."),
        (2, 0, "0 people cannot run side by side on 2 threads: pass 1 to 2."),
    ],
)
def test_streams_that_cannot_be_are_refused(tmp_path: Path, threads: int, streams: int, text: str) -> None:
    with bundle.read(Case("onnx", 1, False).write(tmp_path)) as opened, pytest.raises(BadInputError, match=text):
        open_engine(opened, "cpu", threads, streams=streams)


def test_streams_are_for_the_cpu(tmp_path: Path) -> None:
    text = "2 people cannot run side by side on 'cuda': only a CPU is divided; export the bundle with --batch instead."
    with bundle.read(Case("onnx", 1, False).write(tmp_path)) as opened, pytest.raises(BadInputError, match=text):
        open_engine(opened, "cuda", 4, streams=2)


def test_large_models_are_not_opened_twice_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bundle.read(Case("onnx", 1, False).write(tmp_path)) as opened:
        streams = lambda **options: open_engine(opened, **options).streams  # noqa: E731
        assert (streams(threads=1), streams(threads=2), streams(threads=8)) == (1, 2, 2)
        monkeypatch.setattr("rtmw_edge.runtime.engine.SMALL", 10)
        assert (streams(threads=8), streams(threads=8, streams=4)) == (1, 4)


def test_no_crops_give_no_logits(engine: Engine) -> None:
    x, y = engine.infer(np.zeros((0, 64, 48, 3), np.uint8))
    assert x.shape == (0, 133, 96) and y.shape == (0, 133, 128)


def test_crops_need_not_be_contiguous(engine: Engine) -> None:
    images = tiny_models.crops(2)
    mirrored = images[:, :, ::-1]
    assert np.array_equal(engine.infer(mirrored)[0], engine.infer(mirrored.copy())[0])


@pytest.mark.parametrize("target", MODULES)
def test_without_a_number_of_threads_all_cores_are_used_and_told_of(tmp_path: Path, target: str) -> None:
    with bundle.read(Case(target, 1, False).write(tmp_path)) as opened, open_engine(opened, "cpu", None) as engine:
        engine.infer(tiny_models.crops(1))
        told = engine.describe().threads
    if target == "onnx":
        assert told is None  # it does not tell
    elif target == "tflite":
        assert told == cores()
    else:
        assert told is not None and told >= 1
        assert target != "ncnn" or told <= cores()


def test_the_runtime_says_what_it_ran(engine: Engine, case: Case) -> None:
    ran = engine.describe()
    in_float = case.target == "openvino" and case.int8 and why_in_float()
    if in_float:  # as a matrix product, as one position is all that this convolution looks at
        assert ran.note == in_float and ran.int8 == ran.int8_macs == 0
        return
    assert (ran.device, ran.threads, ran.convolutions, ran.int8, ran.note) == ("cpu", 1, 1, int(case.int8), "")
    # 64 x 48 positions, 133 keypoints, 3 colours; of a float convolution ONNX Runtime pads the keypoints to 136 or 144.
    widths = (133, 136, 144) if case.target == "onnx" and not case.int8 else (133,)
    assert ran.macs in [case.batch * 64 * 48 * width * 3 for width in widths]
    assert ran.int8_macs == (ran.macs if case.int8 else 0)
    names = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tflite": "LiteRT", "ncnn": "ncnn"}
    assert ran.runtime == names[case.target] and ran.version[0].isdigit()


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros((1, 48, 64, 3), np.uint8), r"of shape \(1, 48, 64, 3\); tiny takes uint8 BGR \(N, 64, 48, 3\)"),
        (np.zeros((64, 48, 3), np.uint8), r"of shape \(64, 48, 3\)"),
        (np.zeros((1, 64, 48, 3), np.float32), "The crops are float32"),
    ],
)
def test_crops_of_another_shape_or_type_are_refused(tmp_path: Path, images: np.ndarray, text: str) -> None:
    engine = open_engine(bundle.read(Case("onnx", 1, False).write(tmp_path)))
    with pytest.raises(BadInputError, match=text):
        engine.infer(images)


@pytest.mark.parametrize("target", MODULES)
def test_a_file_that_the_runtime_refuses_is_one_sentence(tmp_path: Path, target: str) -> None:
    files = {role: tmp_path / f"model.{role}" for role in bundle.ROLES[target]}
    for path in files.values():
        path.write_bytes(b"not a model at all " * 20)
    written = tiny_models.write_bundle(tmp_path / "bundle", files, target=target)
    with (
        bundle.read(written) as opened,
        pytest.raises(BadInputError, match=r"cannot run the model in .*bundle") as caught,
    ):
        open_engine(opened)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", MODULES)
def test_a_name_that_the_graph_does_not_have(tmp_path: Path, target: str) -> None:
    case = Case(target, 1, False)
    files = bundle.read(case.write(tmp_path))
    outputs = {"x": {"name": "heatmap", "bins": 96}, "y": {"name": "y", "bins": 128}}
    paths = {role: files.path(role) for role in bundle.ROLES[target]}
    written = tiny_models.write_bundle(tmp_path / "renamed", paths, target=target, outputs=outputs)
    with (
        bundle.read(written) as opened,
        pytest.raises(BadInputError, match=r"cannot run the model in .*\(it has no tensor 'heatmap'\)"),
    ):
        open_engine(opened).infer(tiny_models.crops(1))


def test_an_answer_of_another_shape_than_the_manifest_says(tmp_path: Path) -> None:
    files = tiny_formats.onnx(tmp_path)
    swapped = {"x": {"name": "y", "bins": 96}, "y": {"name": "x", "bins": 128}}
    engine = open_engine(bundle.read(tiny_models.write_bundle(tmp_path / "bundle", files, outputs=swapped)))
    with pytest.raises(VerificationError, match=r"\(1, 133, 128\), \(1, 133, 96\) where the manifest of tiny says"):
        engine.infer(tiny_models.crops(1))

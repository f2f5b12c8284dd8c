"""Opening a bundle: never another device, never a runtime that computes wrong, and a sentence for everything else."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny_formats
import tiny_models

import rtmw_edge
from rtmw_edge import bundle
from rtmw_edge.errors import BadInputError, NotAvailableError, VerificationError
from rtmw_edge.runtime import builtin_path, load, open_engine, torch_runner, verify


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("cdua", r"Unknown device 'cdua'; did you mean 'cuda'\? Choose one of: cpu, cuda, tensorrt, gpu, npu\."),
        ("CPU:1", "Unknown device 'CPU:1'.* Choose one of: cpu, cuda"),
    ],
)
def test_an_unknown_device(tiny_bundle: Path, device: str, text: str) -> None:
    with pytest.raises(BadInputError, match=text) as caught:
        load(tiny_bundle, device=device)
    assert caught.value.exit_code == 2


def test_a_device_of_another_engine(tiny_bundle: Path) -> None:
    text = "ONNX Runtime has no device 'npu': onnx bundles run on cpu, cuda, tensorrt. For 'npu', export for openvino."
    with pytest.raises(NotAvailableError, match=text) as caught:
        load(tiny_bundle, device="npu")
    assert caught.value.exit_code == 3


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_is_not_there(tiny_bundle: Path, device: str) -> None:
    text = rf"There is no device '{device}' for ONNX Runtime here \(it has cpu\); .*\"onnxruntime-gpu\[cuda,cudnn\]\""
    with pytest.raises(NotAvailableError, match=text):
        load(tiny_bundle, device=device)


def test_a_provider_that_gives_way_to_the_cpu(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA build without a driver lists CUDA, warns, and runs on the CPU; the engine must not."""
    real = onnxruntime.InferenceSession

    def giving_way(model: bytes, options: object, **_: object) -> onnxruntime.InferenceSession:
        return real(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", giving_way)
    with pytest.raises(NotAvailableError, match=r"There is no device 'cuda' for ONNX Runtime here \(it has cpu\)"):
        load(tiny_bundle, device="cuda")


def test_a_provider_that_fails(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **options: object) -> None:
        assert options["enable_fallback"] == 0
        raise RuntimeError("CUDA failure 35:\n driver version is insufficient")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", failing)
    text = r"cannot run the model in .* on 'cuda' \(CUDA failure 35: driver version is insufficient\)"
    with pytest.raises(NotAvailableError, match=text):
        load(tiny_bundle, device="cuda")


@pytest.mark.parametrize(
    ("library", "advice"),
    [
        ("libcuda.so.1", "install the NVIDIA driver"),
        ("libcublasLt.so.13", 'run: pip install "onnxruntime-gpu[cuda,cudnn]"'),
        ("libcudart.so.12", 'run: pip install "onnxruntime-gpu[cuda,cudnn]"'),
        ("libnvinfer.so.10", 'install TensorRT: pip install "tensorrt==10.*"'),
        ("libnvonnxparser.so.10", 'install TensorRT: pip install "tensorrt==10.*"'),
    ],
)
@pytest.mark.parametrize("gives_way", [True, False])
def test_the_library_that_a_gpu_build_lacks_is_named(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, library: str, advice: str, gives_way: bool
) -> None:
    """ONNX Runtime for CUDA gives way to the CPU, that for TensorRT raises a text that names no library."""
    real = onnxruntime.InferenceSession
    asked: list[str] = []

    def opened(model: bytes, options: object, **_: object) -> onnxruntime.InferenceSession:
        if not gives_way:
            raise RuntimeError("Please install TensorRT libraries")
        return real(model, options, providers=["CPUExecutionProvider"])

    def missing(path: str) -> None:
        asked.append(path)
        raise OSError(f"{library}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    monkeypatch.setattr("ctypes.CDLL", missing)
    with pytest.raises(NotAvailableError) as caught:
        load(tiny_bundle, device="cuda")
    assert str(caught.value) == f"There is no device 'cuda' for ONNX Runtime here, for want of {library}; {advice}."
    assert asked[-1].endswith("onnxruntime/capi/libonnxruntime_providers_cuda.so")


def test_the_libraries_that_pip_brought_are_loaded_first(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip puts NVIDIA's libraries where the system's loader does not look."""
    order: list[str] = []

    def preload() -> None:
        order.append("libraries")
        sys.stdout.write("Failed to load libcublas.so.13")

    def opened(*_: object, **__: object) -> None:
        order.append("session")
        raise RuntimeError("no GPU")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    with pytest.raises(NotAvailableError, match=r"on 'cuda' \(no GPU\)"):
        load(tiny_bundle, device="cuda")
    assert order == ["libraries", "session"] and capsys.readouterr().out == ""


@pytest.mark.parametrize(("int8", "enabled"), [(1, "1"), (0, None)])
def test_tensorrt_is_told_of_integers_and_keeps_its_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8: int, enabled: str | None
) -> None:
    seen: list[list[tuple[str, dict[str, str]]]] = []

    def recording(*_: object, providers: list[tuple[str, dict[str, str]]], **__: object) -> None:
        seen.append(providers)
        raise RuntimeError("no GPU")

    there = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setenv("RTMW_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(onnxruntime, "InferenceSession", recording)
    (tmp_path / "tensorrt_libs.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt_libs", raising=False)
    files = tiny_formats.onnx(tmp_path, int8=bool(int8))
    precision = "int8" if int8 else "fp32"
    written = tiny_models.write_bundle(tmp_path / "bundle", files, target="tensorrt", precision=precision)
    with pytest.raises(NotAvailableError, match=r"cannot run the model in .* on 'tensorrt' \(no GPU\)"):
        load(written, device="tensorrt")
    assert "tensorrt_libs" in sys.modules, "pip's TensorRT loads its libraries when it is imported"
    (tensorrt, options), (cuda, cuda_options) = seen[0]
    assert (tensorrt, cuda) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options.get("trt_int8_enable") == enabled and cuda_options == {"use_tf32": "0"}
    assert options["trt_engine_cache_enable"] == "1"
    folder = Path(options["trt_engine_cache_path"])
    assert folder.is_dir() and folder.parent == tmp_path / "cache" / "tensorrt", "TensorRT makes no parents"
    assert folder.name == hashlib.sha256(files["model"].read_bytes()).hexdigest()[:16], "other weights, other engine"


@pytest.mark.parametrize("precision", ["int8", "int8-mixed", "w8a16"])
def test_integers_of_the_onnx_target_are_not_for_tensorrt(tmp_path: Path, precision: str) -> None:
    fields = {"precision": precision}
    written = tiny_models.write_bundle(tmp_path / "bundle", tiny_formats.onnx(tmp_path, int8=True), **fields)
    text = rf"is an onnx bundle in {precision}, spelled for ONNX Runtime's own kernels, .*: export it for tensorrt\."
    with pytest.raises(NotAvailableError, match=text):
        load(written, device="tensorrt")


@pytest.mark.parametrize("device", ["gpu", "npu"])
def test_an_intel_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    openvino = pytest.importorskip("openvino")
    if any(name.lower().startswith(device) for name in openvino.Core().available_devices):
        pytest.skip(f"{device} is there")
    written = tiny_models.write_bundle(tmp_path / "bundle", tiny_formats.openvino(tmp_path), target="openvino")
    with pytest.raises(
        NotAvailableError, match=rf"There is no device '{device}' for OpenVINO here \(it has cpu\); instal"
    ):
        load(written, device=device)


@pytest.mark.parametrize(
    ("target", "modules", "text"),
    [
        ("onnx", ["onnxruntime"], r'This needs ONNX Runtime, .* Run: pip install "onnxruntime"\.'),
        (
            "openvino",
            ["openvino"],
            r'needs OpenVINO, which is not installed\. Run: pip install "rtmw-edge\[openvino\]"',
        ),
        (
            "tflite",
            ["ai_edge_litert.interpreter", "tflite_runtime.interpreter"],
            r'needs LiteRT, .*"rtmw-edge\[tflite\]"',
        ),
        ("ncnn", ["ncnn"], r'needs ncnn, which is not installed\. Run: pip install "rtmw-edge\[ncnn\]"'),
    ],
)
def test_a_runtime_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, modules: list[str], text: str
) -> None:
    files = {role: tmp_path / f"model.{role}" for role in bundle.ROLES[target]}
    for path in files.values():
        path.write_bytes(b"7767517\n0 0\n")
    written = tiny_models.write_bundle(tmp_path / "bundle", files, target=target)
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(NotAvailableError, match=text) as caught:
        load(written)
    assert caught.value.exit_code == 3


def test_a_runtime_that_does_not_load_says_why(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(NotAvailableError, match=r"ONNX Runtime, which is installed and does not load: libgomp\.so\.1"):
        load(tiny_bundle)


def test_the_reference_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rtmw_edge.runtime.torch_engine", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        NotAvailableError, match=r'needs torch, which is not installed\. Run: pip install "rtmw-edge\[torch'
    ):
        torch_runner("rtmw-n-256x192")


@pytest.mark.parametrize("threads", [0, -1, 5000])
def test_threads_that_no_machine_has(tiny_bundle: Path, threads: int) -> None:
    with pytest.raises(BadInputError, match=f"Cannot run on {threads} threads: pass 1 to 1024"):
        load(tiny_bundle, threads=threads)


def test_a_runtime_that_computes_wrong_is_caught_at_load(tmp_path: Path) -> None:
    """As tflite-runtime 2.14 does with some files: no error, wrong numbers."""
    wrong = tiny_models.write_bundle(tmp_path / "wrong", tiny_formats.onnx(tmp_path, gain=1.5))
    text = (
        rf"ONNX Runtime {onnxruntime.__version__} on 'cpu' computes .*wrong wrong: on golden crop 0 "
        r"the logits are 0\.5 off \(relative rms, at most 0\.002\)\. Use another runtime or version;"
    )
    with pytest.raises(VerificationError, match=text) as caught:
        load(wrong)
    assert caught.value.exit_code == 1
    load(wrong, verify=False).close()


def test_both_figures_are_named_when_both_are_off(tmp_path: Path) -> None:
    images, (x, y) = tiny_models.golden()
    answers = (np.roll(x, 20, axis=2), y)
    wrong = bundle.write(tmp_path / "rolled", tiny_models.fields(), tiny_formats.onnx(tmp_path), images, answers)
    text = (
        r"the logits are 0\.\d+ off .* and the keypoints are 10 px off \(99th percentile, at most 0\.5\)\. Use another"
    )
    with pytest.raises(VerificationError, match=text):
        load(wrong)


def test_golden_crops_of_the_right_network_agree(tiny_bundle: Path) -> None:
    with bundle.read(tiny_bundle) as opened, open_engine(opened) as engine:
        found = verify(engine, opened)
        assert len(found) == 3 and all(crop.relative_rms < 5e-4 and crop.keypoint_px_p99 == 0 for crop in found)
        assert len(verify(engine, opened, crops=1)) == 1


def test_a_zip_is_unpacked_and_removed_also_when_it_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "unpacked"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    files = tiny_formats.onnx(tmp_path)
    good = tiny_models.write_bundle(tmp_path / "good.zip", files)
    with load(good, threads=1) as runner:
        assert len(runner.crops(tiny_models.crops(2))) == 2
    wrong = tiny_models.write_bundle(tmp_path / "wrong.zip", tiny_formats.onnx(tmp_path, gain=1.5))
    with pytest.raises(VerificationError):
        load(wrong)
    with pytest.raises(NotAvailableError):
        load(good, device="gpu")
    assert list(place.iterdir()) == []


def test_builtin(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtmw_edge.runtime.loading.BUILTIN_DIRECTORY", tmp_path / "builtin")
    with pytest.raises(
        BadInputError, match="This installation has no builtin bundle; install rtmw-edge from a release"
    ):
        load()
    shutil.copytree(tiny_bundle, tmp_path / "builtin" / "rtmw-tiny")
    assert builtin_path().name == "rtmw-tiny"
    with rtmw_edge.load() as runner:
        assert runner.model.variant == "tiny"

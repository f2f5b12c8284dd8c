"""The reference runner: the official network on crops normalized as its authors do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rtmw_edge.errors import BadInputError, NotAvailableError  # noqa: E402
from rtmw_edge.models import build  # noqa: E402
from rtmw_edge.models.checkpoints import save_safetensors  # noqa: E402
from rtmw_edge.models.weights import embedded  # noqa: E402
from rtmw_edge.runtime import Runner, torch_runner  # noqa: E402
from rtmw_edge.runtime.torch_engine import TorchEngine  # noqa: E402

VARIANT = "rtmw-n-256x192"


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(VARIANT).eval()


def test_crops_are_normalized_rgb(network: torch.nn.Module) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (3, 256, 192, 3), np.uint8)
    rgb = (crops[..., ::-1] - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])
    with torch.no_grad():
        right = network(torch.tensor(rgb.transpose(0, 3, 1, 2), dtype=torch.float32))
    for answer, line in zip(TorchEngine(network).infer(crops), right, strict=True):
        assert np.linalg.norm(answer - line.numpy()) / np.linalg.norm(line.numpy()) < 1e-4


def test_more_crops_than_one_run_takes(network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtmw_edge.runtime.torch_engine.MAX_BATCH", 2)
    crops = np.random.default_rng(0).integers(0, 256, (5, 256, 192, 3), np.uint8)
    engine = TorchEngine(network)
    whole, single = engine.infer(crops), engine.infer(crops[4:])
    assert np.allclose(whole[0][4], single[0][0], atol=1e-5)


def test_a_runner_from_a_file(network: torch.nn.Module, tmp_path: Path) -> None:
    save_safetensors(network, tmp_path / "w.safetensors")
    with torch_runner(VARIANT, tmp_path / "w.safetensors", threads=1) as runner:
        assert (runner.model.variant, runner.model.target, runner.input_size) == (VARIANT, "torch", (192, 256))
        assert runner(np.zeros((300, 200, 3), np.uint8)).keypoints.shape == (1, 133, 2)
        assert runner.model.score is None, "nobody calibrated these"
        ran = runner.describe()
    assert (ran.runtime, ran.device, ran.convolutions, ran.int8) == ("PyTorch", "cpu", 80, 0)


def test_embedded_weights_have_their_score_by_whatever_path() -> None:
    with torch_runner(VARIANT, threads=1) as plain, torch_runner(VARIANT, embedded(VARIANT), threads=1) as named:
        assert plain.model.score == named.model.score and plain.model.score is not None


def test_float32_is_float32_whatever_the_process_asked_for(network: torch.nn.Module) -> None:
    seen = []
    watch = network.register_forward_pre_hook(
        lambda *_: seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
    )
    torch.set_float32_matmul_precision("high")
    try:
        assert torch.backends.cuda.matmul.allow_tf32
        TorchEngine(network).infer(np.zeros((1, 256, 192, 3), np.uint8))
        assert torch.get_float32_matmul_precision() == "high", "the process has its own wish back"
    finally:
        torch.set_float32_matmul_precision("highest")
        watch.remove()
    assert seen == [(False, False)]


def test_three_dimensions() -> None:
    runner = Runner(TorchEngine(build("rtmw3d-n-256x192")))
    assert runner.crops(np.zeros((1, 256, 192, 3), np.uint8)).keypoints.shape == (1, 133, 3)


def test_an_unknown_variant_and_device() -> None:
    with pytest.raises(BadInputError, match=r"Unknown variant 'rtmw-n'; did you mean 'rtmw-n-256x192'\?"):
        torch_runner("rtmw-n")
    with pytest.raises(BadInputError, match="Unknown device 'cuad'; did you mean 'cuda'"):
        torch_runner(VARIANT, device="cuad")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_no_cuda(network: torch.nn.Module) -> None:
    with pytest.raises(NotAvailableError, match=r"There is no device 'cuda' for PyTorch here \(it has cpu\); install"):
        TorchEngine(network, "cuda")

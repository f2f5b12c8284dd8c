"""Reading official, distilled, averaged and hostile checkpoints; writing weights."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_weights import fill
from torch import Tensor

from rtmw_edge.errors import BadInputError
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import load_weights, read_metadata, read_state, save_safetensors, unwrap

NAME = "rtmw-n-256x192"
META = {
    "epoch": 270,
    "cfg": "model = dict()",
    "dataset_meta": {
        "sigmas": np.full(133, 0.05, np.float32),
        "colors": np.zeros((133, 3), np.uint8),
        "scale": np.float64(2),
    },
}


@pytest.fixture(scope="module")
def network() -> Any:
    return fill(build(NAME))


@pytest.fixture(scope="module")
def state(network: Any) -> dict[str, Tensor]:
    return network.state_dict()


def loads(path: Path, state: dict[str, Tensor]) -> None:
    """The file loads strictly, and gives exactly `state`."""
    other = build(NAME)
    load_weights(other, path)
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("zipped", [True, False])
def test_official_file_with_numpy_in_meta(state: dict[str, Tensor], tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "official.pth"
    torch.save({"meta": META, "state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    loads(path, state)


def test_official_file_pickled_by_numpy_1(state: dict[str, Tensor], tmp_path: Path) -> None:
    new, old = tmp_path / "numpy2.pth", tmp_path / "numpy1.pth"
    torch.save({"meta": META, "state_dict": state}, new)
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"cnumpy._core.", b"cnumpy.core."))
    assert b"numpy.core.multiarray" in old.read_bytes() and b"numpy._core" not in old.read_bytes()
    loads(old, state)


def test_half_precision_is_loaded_as_float32(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save({name: value.half() if value.is_floating_point() else value for name, value in state.items()}, path)
    assert {value.dtype for value in read_state(path).values()} == {torch.float32, torch.int64}


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def test_wrappers_and_prefixes(state: dict[str, Tensor]) -> None:
    other = {name: value + 1 for name, value in state.items()}
    below = Path("x.pth")
    head = {name: value for name, value in state.items() if name.startswith("head.")}
    cases = {
        "bare": state,
        "module": {"state_dict": prefixed(state, "module.")},
        "own average": {"state_dict": other, "ema": state},
        "MMEngine average": {"state_dict": state, "ema_state_dict": prefixed(other, "module.")},
        "average alone": {"ema_state_dict": {"steps": torch.tensor(3), **prefixed(state, "module.")}},
        "first distillation": {"state_dict": {**prefixed(other, "teacher."), **prefixed(state, "student.")}},
        "second distillation": {
            "state_dict": {
                **prefixed({name: value + name.startswith("head.") for name, value in state.items()}, "teacher."),
                **prefixed(head, "student."),
            }
        },
        "teacher alone": {"state_dict": prefixed(state, "teacher.")},
    }
    for case, content in cases.items():
        found = unwrap(content, below)
        assert found.keys() == state.keys(), case
        assert all(torch.equal(found[name], state[name]) for name in state), case


def test_safetensors_round_trip(network: Any, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_safetensors(network, path, metadata={"steps": "326"})
    assert path.stat().st_size < 12_000_000
    assert read_metadata(path) == {"format": "pt", "variant": NAME, "steps": "326"}
    loaded = read_state(path)
    weights = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    assert loaded.keys() == weights.keys()
    for name, value in weights.items():
        exact = value.ndim < 2
        assert torch.equal(loaded[name], value if exact else value.half().float()), name
    network.load_state_dict(loaded, strict=True)  # without our loader too: batch norms add their counts themselves
    save_safetensors(state, tmp_path / "full.safetensors", dtype=torch.float32)
    loads(tmp_path / "full.safetensors", state)


def test_equal_weights_are_equal_files(network: Any, tmp_path: Path) -> None:
    notes = {f"note {number}": str(number) for number in range(20)}
    for name in ("one", "two"):
        save_safetensors(network, tmp_path / name, metadata=notes)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_metadata(tmp_path / "one").items() >= notes.items()


def test_value_beyond_float16_is_not_stored(state: dict[str, Tensor], tmp_path: Path) -> None:
    big = dict(state)
    big["head.cls_x.weight"] = state["head.cls_x.weight"] * 1e6
    with pytest.raises(
        BadInputError, match=r"Cannot store head\.cls_x\.weight as torch\.float16: it reaches .*float32"
    ):
        save_safetensors(big, tmp_path / "big.safetensors")
    assert not any(tmp_path.iterdir())


def test_wrong_variant_is_told_by_name(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    save_safetensors(network, path)
    with pytest.raises(BadInputError) as error:
        load_weights(build("rtmw-t-256x192"), path)
    text = str(error.value)
    assert "does not fit rtmw-t-256x192: 380 misshaped (backbone.stage1.0.bn.bias (32,) instead of (48,), " in text
    assert text.endswith("The file says that it is rtmw-n-256x192. Choose a checkpoint of rtmw-t-256x192.")


def test_missing_and_unexpected_are_sorted_and_ten(state: dict[str, Tensor], tmp_path: Path) -> None:
    changed = {name: value for name, value in state.items() if not name.startswith("head.cls_")}
    changed.update({f"extra.{index:02d}": torch.zeros(1) for index in reversed(range(12))})
    path = tmp_path / "changed.pth"
    torch.save({"state_dict": changed}, path)
    with pytest.raises(BadInputError) as error:
        load_weights(build(NAME), path)
    shown = ", ".join(f"extra.{index:02d}" for index in range(10))
    assert f"2 missing (head.cls_x.weight, head.cls_y.weight); 12 unexpected ({shown}, ...)." in str(error.value)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "evil.pth", tmp_path / "ran"
    content = {"state_dict": {"a": torch.zeros(1)}, "hook": Evil(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        BadInputError, match=r"holds Python objects \(posix\.system\) beside its weights and is not opened"
    ):
        read_state(path)
    assert not mark.exists()


def test_damaged_and_foreign_files(state: dict[str, Tensor], tmp_path: Path) -> None:
    zipped, legacy, safe = tmp_path / "z.pth", tmp_path / "l.pth", tmp_path / "s.safetensors"
    torch.save(state, zipped)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    save_safetensors(state, safe)
    for path, text in (
        (zipped, "is damaged and cannot be read. Copy or download it again."),
        (legacy, "is damaged and cannot be read. Copy or download it again."),
        (safe, "is a damaged safetensors file"),
    ):
        path.write_bytes(path.read_bytes()[:100_000])
        with pytest.raises(BadInputError, match=text):
            read_state(path)
    (tmp_path / "text").write_text("<html>log in</html>")
    with pytest.raises(BadInputError, match="is neither a PyTorch checkpoint nor a safetensors file"):
        read_state(tmp_path / "text")
    with pytest.raises(BadInputError, match="it is a directory"):
        read_state(tmp_path)
    with pytest.raises(BadInputError, match="there is no such file"):
        read_state(tmp_path / "absent.pth")
    torch.save({"optimizer": {"lr": 1.0}}, tmp_path / "other.pth")
    with pytest.raises(BadInputError, match="holds no weights: found no dictionary of tensors"):
        read_state(tmp_path / "other.pth")


def test_nan_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    broken = dict(state)
    broken["head.mlp.0.g"] = torch.tensor([float("nan")])
    torch.save(broken, tmp_path / "nan.pth")
    with pytest.raises(BadInputError, match=r"has NaN or infinity in head\.mlp\.0\.g\."):
        read_state(tmp_path / "nan.pth")

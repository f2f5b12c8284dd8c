"""Fine-tuning with quantization in the loop: what it writes, that it resumes, what it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rtmw_edge.quantization import AFFINE, Table
from rtmw_edge.quantization.fake import check_table, fake_quantize
from rtmw_edge.quantization.learned import LearnedTensor, round_biases
from rtmw_edge.quantization.qat import TrainableScaleNorm
from rtmw_edge.targets.export import load_deployable
from rtmw_edge.targets.rewrites import Deployable, HalfSafeScaleNorm
from small_deployable import absmax_table, smooth_crops
from small_processes import another_process_in
from small_runs import TINY, Noise, forget, small_qat, small_recipe

from rtmw_edge.errors import BadInputError
from rtmw_edge.files import check_replaceable
from rtmw_edge.models import build
from rtmw_edge.models.attention import ScaleNorm
from rtmw_edge.models.checkpoints import load_weights, read_metadata, read_state, save_safetensors
from rtmw_edge.training import checkpoint, loop
from rtmw_edge.training.recipe import read_recipe, shipped_recipes


class Look:
    """Stands in for rendered people: remembers what it was shown, and scores it by its logits."""

    shown: ClassVar[list[np.ndarray]] = []

    def __init__(self, text: str, is_stopped: object) -> None:
        pass

    def figures(self, network: Any, device: str) -> dict[str, float]:
        images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = network.eval()(images)[0]
        Look.shown.append(logits.numpy())
        count = len(Look.shown)
        return {"ap_whole": count / 100, "ap_face": float(logits.abs().mean()), "mpjpe_whole": 100 / count}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(loop, "Validation", Look)
    Look.shown = []
    yield
    forget()


def test_a_run_writes_official_weights_and_the_table_for_exactly_them(tmp_path: Path) -> None:
    run = small_qat(tmp_path / "run", "steps=3", "validate_every=2")
    records = list(run.run())
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    start = Table.load(tmp_path / "run" / "start.json")
    for weights, name in (("weights.safetensors", "table.json"), ("best.safetensors", "best.json")):
        path, table = tmp_path / "run" / weights, Table.load(tmp_path / "run" / name)
        load_weights(build(TINY.name), path)  # official names and shapes, nothing missing and nothing over
        network = load_deployable(TINY, path)
        check_table(network, table)
        assert read_metadata(path)["table_sha256"] == table.sha256
        assert table.entries.keys() == start.entries.keys()
    # The last validation was of what the files hold.
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = fake_quantize(network, table)(images.flip(1))[0]
    assert np.linalg.norm(Look.shown[-1] - expected.numpy()) < 1e-5 * np.linalg.norm(expected)
    biases = {name: unit.conv.bias.detach().clone() for name, unit in network.convolutions().items()}
    round_biases(network, table)  # they were written as targets store them
    assert all(torch.equal(unit.conv.bias, biases[name]) for name, unit in network.convolutions().items())
    provenance = table.provenance
    assert provenance["method"] == "qat" and provenance["steps"] == 3 and provenance["samples"] == 12
    assert provenance["start"] == {"table_sha256": start.sha256, "weights_sha256": start.weights_sha256}
    assert provenance["recipe"]["quantization"]["grid"] == "common" and provenance["data"] == {"source": "noise"}
    learned = [point for point, entry in table.entries.items() if entry.source == "qat step 3"]
    moved = [point for point in learned if table.entries[point].scale[0] != start.entries[point].scale[0]]
    assert len(moved) > 0.9 * len(learned) > 50
    fixed = [point for point, entry in table.entries.items() if point.endswith("fc:output")]
    assert fixed and all(table.entries[point].scale[0] == np.float32(np.float32(6) / 127) for point in fixed)


def test_validation_is_against_the_float_network(tmp_path: Path) -> None:
    records = list(small_qat(tmp_path / "run", "steps=2", "validate_every=1").run())
    with (tmp_path / "run" / "validation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    network = load_deployable(TINY, tmp_path / "float.safetensors")
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images.flip(1))[0].numpy()
    assert np.linalg.norm(Look.shown[0] - expected) < 1e-5 * np.linalg.norm(expected)
    for look, (row, record) in enumerate(zip(rows, records, strict=True), start=2):
        drop = float(np.abs(Look.shown[0]).mean()) - float(row["ap_face"])
        assert float(row["drop_face"]) == pytest.approx(drop, rel=1e-4)  # the CSV has seven digits
        assert record["drop_face"] == pytest.approx(drop, rel=1e-4)  # the CSV has seven digits
        assert record["rise_whole"] == pytest.approx(100 / look - 100)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_very_same_weights_and_tables(tmp_path: Path) -> None:
    settings = ("steps=4", "quantization.grid=affine")

    def begin(network: Deployable) -> Table:
        return absmax_table(network, smooth_crops(4, TINY.input_size), AFFINE)

    whole = small_qat(tmp_path / "whole", *settings, start_table=begin)
    losses = [record["loss"] for record in whole.run() if record["step"]]
    records = small_qat(tmp_path / "parts", *settings, start_table=begin).run()
    begun = [next(records) for _ in range(3)]
    records.close()

    def never(network: object) -> Table:
        raise AssertionError("the run has a table already")

    again = small_qat(tmp_path / "parts", *settings, start_table=never)
    assert again.step == 2
    assert [record["loss"] for record in begun[1:]] + [record["loss"] for record in again.run()] == losses
    weights, tables = (
        [reader(tmp_path / run / name) for run in ("whole", "parts")]
        for reader, name in ((read_state, "weights.safetensors"), (Table.load, "table.json"))
    )
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert tables[0].to_bytes() == tables[1].to_bytes() and tables[0].grid == "affine"


def test_student_and_teacher_see_the_colours_that_they_are_exported_with(tmp_path: Path) -> None:
    """Both networks take BGR, and training has RGB."""
    run = small_qat(tmp_path / "run", "steps=1")
    exact = load_deployable(TINY, tmp_path / "float.safetensors")
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (ours, *_), *_ = run.student.eval()(images)
        expected = fake_quantize(exact, run.start)(images.flip(1))[0]
        theirs, features = run.lesson.answers(images.flip(1))
        nothing = run.lesson(images, (theirs, features, features[1]), 1.0)
    assert torch.linalg.norm(ours - expected) < 0.01 * torch.linalg.norm(expected)
    torch.testing.assert_close(theirs[0], exact(images.flip(1))[0], rtol=1e-4, atol=0.01)
    assert float(nothing) == pytest.approx(0, abs=1e-6)


def test_the_weights_of_the_lesson_are_those_of_the_recipe(tmp_path: Path) -> None:
    run = small_qat(tmp_path / "run", "steps=1")
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))

    def lesson(logits: float, features: float) -> float:
        run.lesson.weights = replace(run.settings, logits=logits, features=features)
        with torch.no_grad():
            return float(run.lesson(images, run.student(images.flip(1)), 1.0))

    assert lesson(0, 0) == 0
    of_logits, of_features = lesson(1, 0), lesson(0, 1)
    assert min(of_logits, of_features) > 0
    assert (lesson(2, 0), lesson(0, 2)) == pytest.approx((2 * of_logits, 2 * of_features))
    assert lesson(1, 1) == pytest.approx(of_logits + of_features)


def test_a_token_of_zeros_has_no_gradient_and_others_have_the_norm_s() -> None:
    x = torch.randn(2, 3, 48, generator=torch.Generator().manual_seed(0))
    x[1, 2] = 0
    exported = HalfSafeScaleNorm(ScaleNorm(48))
    mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    outer = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    norm = TrainableScaleNorm(exported)
    torch.testing.assert_close(norm(mine), exported(theirs))
    (norm(mine) * outer).sum().backward()
    (ScaleNorm(48)(theirs) * outer).sum().backward()
    assert not mine.grad[1, 2].any() and float(theirs.grad[1, 2].abs().max()) > 1e4
    theirs.grad[1, 2] = 0
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_run_begins_with_the_corrected_biases_that_its_table_is_for(tmp_path: Path) -> None:
    def begin(network: Deployable) -> Table:
        table = absmax_table(network, smooth_crops(2, TINY.input_size))
        biases = {name: unit.conv.bias for name, unit in network.convolutions().items()}
        return replace(table, bias_corrections={n: np.full(len(b), 0.25, np.float32) for n, b in biases.items()})

    run = small_qat(tmp_path / "run", "steps=1", start_table=begin)
    taught, exact = run.network.convolutions(), run.lesson.teacher.convolutions()
    for name, unit in exact.items():
        assert torch.equal(taught[name].conv.bias, unit.conv.bias + 0.25), name


def test_scales_have_a_rate_of_their_own_and_nothing_that_pulls_them_to_zero(tmp_path: Path) -> None:
    run = small_qat(tmp_path / "run", "steps=8", "weight_decay=0.5", "lr=1e-4", "quantization.scale_lr=3e-3")
    (batches,) = [next(run.batches())]
    scales = {id(parameter) for parameter in run.student.scales}
    assert len(scales) == sum(isinstance(module, LearnedTensor) for module in run.student.modules())
    adam = run.optimizer._parts[0]
    groups = {id(parameter): group for group in adam.param_groups for parameter in group["params"]}
    run.train_step(batches)
    for parameter in run.student.parameters():
        group = groups[id(parameter)]
        if id(parameter) in scales:
            assert (group["weight_decay"], group["lr"]) == (0.0, pytest.approx(3e-3))
        else:
            assert group["lr"] == pytest.approx(1e-4) and group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize("what", ["labels", "logits", "features"])
def test_every_part_of_the_loss_teaches(tmp_path: Path, what: str) -> None:
    alone = [f"quantization.{name}={1.0 if name == what else 0.0}" for name in ("labels", "logits", "features")]
    run = small_qat(tmp_path / "run", "steps=2", *alone)
    assert float(run.train_step(next(run.batches()))) > 0
    gradient = run.network.backbone.stem[0].conv.weight.grad
    assert gradient is not None and float(gradient.abs().sum()) > 0
    assert all(p.grad is None for p in run.lesson.parameters())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    list(small_qat(out, "steps=1").run())
    with pytest.raises(BadInputError, match=r"holds a run that began with other weights or on another grid"):
        small_qat(out, "steps=1", "quantization.grid=affine")
    torch.manual_seed(9)
    save_safetensors(build(TINY.name), tmp_path / "other.safetensors")
    with pytest.raises(BadInputError, match=r"began with other weights or on another grid; choose another --out"):
        small_qat(out, "steps=1", weights=tmp_path / "other.safetensors")
    start = Table.load(out / "start.json")
    with pytest.raises(BadInputError, match=r"was made for other weights .* calibrate again with these weights"):
        small_qat(tmp_path / "new", weights=tmp_path / "other.safetensors", start_table=lambda _: start)
    with pytest.raises(
        BadInputError, match=r"is on the grid common, and the recipe trains on affine; pass --grid common"
    ):
        small_qat(tmp_path / "new", "quantization.grid=affine", start_table=lambda _: start)
    assert not (tmp_path / "new").exists()
    with pytest.raises(BadInputError, match="run it with rtmw-edge qat --recipe"):
        loop.Trainer(small_recipe("steps=1", "quantization.grid=common"), tmp_path / "new", data=Noise(), workers=0)
    with pytest.raises(BadInputError, match="has both \\[distillation\\] and \\[quantization\\]; distil first"):
        small_qat(tmp_path / "new", f"distillation.teacher={TINY.name}")
    with pytest.raises(BadInputError, match="Unknown grid to train on 'afine'; did you mean 'affine'"):
        read_recipe("rtmw-n-256x192-qat", ["quantization.grid=afine"])
    with pytest.raises(BadInputError, match=r"quantization\.logits is -1\.0; it must lie in 0\.\.1000000"):
        read_recipe("rtmw-n-256x192-qat", ["quantization.logits=-1"])
    assert json.loads((out / "recipe.json").read_text())["quantization"]["grid"] == "common"


def test_a_run_goes_on_only_from_the_table_that_it_is_told_of(tmp_path: Path) -> None:
    out = tmp_path / "run"
    list(small_qat(out, "steps=1", origin={"table": "of SHA-256 12", "calibration": None}).run())
    assert small_qat(out, "steps=1", origin={"table": None, "calibration": None}).step == 1
    with pytest.raises(BadInputError, match="with --table of SHA-256 12, not of SHA-256 34; choose another --out"):
        small_qat(out, "steps=1", origin={"table": "of SHA-256 34", "calibration": None})
    with pytest.raises(BadInputError, match="with --calibration left out, not synthetic:9; choose another --out"):
        small_qat(out, "steps=1", origin={"table": None, "calibration": "synthetic:9"})


def test_a_start_that_fails_leaves_a_folder_that_the_same_command_may_use(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="counts 3 epochs, and rendered people have none"):
        small_qat(tmp_path / "run", "epochs=3", "late=0", data=None)
    assert (tmp_path / "run" / "start.json").is_file()
    check_replaceable(tmp_path / "run")
    kept = Table.load(tmp_path / "run" / "start.json")
    asked_for = replace(kept, provenance={"of": "another table"})
    again = small_qat(tmp_path / "run", "steps=1", start_table=lambda _: asked_for)
    assert again.start.provenance == asked_for.provenance and list(again.run())
    list(loop.Trainer(small_recipe("steps=1"), tmp_path / "trained", data=Noise(), workers=0).run())
    with pytest.raises(BadInputError, match="trained' holds a run of train, not of qat; choose another --out"):
        small_qat(tmp_path / "trained", "steps=1")
    assert not (tmp_path / "trained" / "start.json").exists()
    plain = {**asdict(again.recipe), "quantization": None}
    with pytest.raises(BadInputError, match="run' holds a run of qat, not of train; choose another --out"):
        checkpoint.read(tmp_path / "run", plain, torch.device("cpu"))


def test_the_table_that_a_run_began_with_stays_while_that_has_no_checkpoint_yet(tmp_path: Path) -> None:
    other = replace(small_qat(tmp_path / "run", "steps=1").start, provenance={"of": "another table"})
    kept = (tmp_path / "run" / "start.json").read_bytes()
    with (
        another_process_in(tmp_path / "run"),
        pytest.raises(BadInputError, match=r"Another process trains in '.*run'; wait for it"),
    ):
        small_qat(tmp_path / "run", "steps=1", start_table=lambda _: other)
    assert (tmp_path / "run" / "start.json").read_bytes() == kept


def test_every_variant_that_can_be_trained_has_a_recipe() -> None:
    recipes = shipped_recipes()
    for name in [name for name in recipes if name.endswith("-qat")]:
        recipe = read_recipe(name)
        assert f"{recipe.variant}-qat" == name
        assert recipe.quantization is not None and recipe.steps
        assert recipe.weight_decay == recipe.official_batch == 0
    plain = {name for name in recipes if not name.endswith(("-qat", "-distill", "-distill-2"))}
    assert {f"{name}-qat" for name in plain} <= recipes.keys()

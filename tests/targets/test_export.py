"""Export: from weights to a bundle that runs and proves itself; refusals before any work; nothing kept on failure."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch
from calm_network import calm_network
from rtmw_edge.calibration import Source
from rtmw_edge.quantization import AFFINE, COMMON, GRIDS, Entry, Table
from rtmw_edge.quantization.fake import fake_quantize, weights_sha256, weights_table
from rtmw_edge.quantization.table import KINDS
from rtmw_edge.targets import TARGETS, target_named
from rtmw_edge.targets.base import Precision, Stored, precisions
from rtmw_edge.targets.export import _converted, _scales, _score, export, int8_share, load_deployable
from rtmw_edge.targets.golden import CANDIDATES, FIRST, golden_vectors, relative_change, tolerance
from rtmw_edge.targets.rewrites import FromUint8
from rtmw_edge.targets.scales import (
    METHOD,
    ScaleSource,
    calibrate,
    counted_crops,
    fitting_table,
    trained_table,
)
from small_deployable import SmallDeployable, absmax_table, small_deployable, smooth_crops

from rtmw_edge import bundle, runtime
from rtmw_edge.bundle.manifest import Convolutions
from rtmw_edge.data.synthetic import Renderer
from rtmw_edge.errors import BadInputError, NotAvailableError, RtmwEdgeError, VerificationError
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.models.variants import variant_named
from rtmw_edge.models.weights import embedded
from rtmw_edge.runtime.processor import int8_sums_overflow

pytest.importorskip("onnxscript")

NAME = "rtmw-n-256x192"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "calm.safetensors"
    save_safetensors(calm_network(NAME), path, torch.float32)
    return path


@pytest.fixture(scope="module")
def table(weights: Path) -> Table:
    return calibrate(load_deployable(NAME, weights), "synthetic:4")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("rtmw-q-256x192", "onnx", "int8"), "Unknown variant 'rtmw-q-256x192'; did you mean 'rtmw-"),
        (
            (NAME, "onxn", "int8"),
            "Unknown target 'onxn'; did you mean 'onnx'? Choose one of: onnx, openvino, tflite, ncnn,",
        ),
        ((NAME, "onnx", "int4"), "Unknown precision 'int4'; did you mean 'int8'? Choose one of: fp32, fp16, w8,"),
    ],
)
def test_an_unknown_name_gets_the_nearest(arguments: tuple[str, str, str], text: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        export(*arguments, tmp_path / "out")
    assert str(caught.value).startswith(text)


def test_an_unsupported_pair_is_told_what_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_named("onnx"), "grids", ("common",))
    with pytest.raises(BadInputError) as caught:
        export(NAME, "onnx", "w8a16", tmp_path / "out")
    assert str(caught.value).startswith(
        "onnx has no w8a16. The pairs that exist are onnx: fp32, fp16, int8, int8-mixed; openvino: fp32, fp16,"
    )
    with pytest.raises(BadInputError, match=r"ncnn cannot honour the grid affine in int8: it has common\."):
        export(NAME, "ncnn", "int8", tmp_path / "out", grid="affine")


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_float_and_int8(name: str) -> None:
    assert target_named(name).name == name
    assert {"fp32", "fp16", "int8", "int8-mixed"} <= set(precisions(target_named(name)))


@pytest.mark.parametrize(
    ("precision", "options", "text"),
    [
        ("int8", {"batch": 0}, "Batch 0 is not between 1 and 64"),
        ("int8", {"batch": 65}, "Batch 65 is not between 1 and 64"),
        ("fp32", {"calibration": "synthetic:4"}, "fp32 needs no calibration and no table; leave them out"),
        ("fp16", {"table": Path("table.json")}, "fp16 needs no calibration and no table; leave them out"),
        ("int8", {"weights": Path("absent.pth")}, "There are no weights at 'absent.pth'"),
    ],
)
def test_a_bad_option_is_refused_before_any_work(
    precision: str, options: dict[str, object], text: str, tmp_path: Path
) -> None:
    steps: list[str] = []
    with pytest.raises(BadInputError) as caught:
        export(NAME, "onnx", precision, tmp_path / "out", on_step=steps.append, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(text) and steps == []


def test_a_runtime_of_one_crop_is_told_before_any_work(weights: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    with pytest.raises(BadInputError, match="ncnn runs one crop at a time, so a batch of 4 cannot be exported; use"):
        export(NAME, "ncnn", "fp32", tmp_path / "out", weights=weights, batch=4, on_step=steps.append)
    assert steps == []


def test_a_weight_beyond_float16_is_refused_by_its_name(tmp_path: Path) -> None:
    network = calm_network(NAME)
    with torch.no_grad():
        network.head.cls_x.weight[3, 5] = -7e4
    path = tmp_path / "large.safetensors"
    save_safetensors(network, path, torch.float32)
    with pytest.raises(BadInputError, match=r"Weight 'head\.cls_x\.weight' reaches 7e\+04, more than float16 holds"):
        export(NAME, "openvino", "fp16", tmp_path / "out", weights=path)


def test_weights_alone_leave_nothing_in_float(weights: Path, tmp_path: Path) -> None:
    kept = ["backbone.stem.0.conv"]
    with pytest.raises(BadInputError, match=r"the first 'backbone\.stem\.0\.conv', which only int8-mixed may have"):
        export(NAME, "onnx", "w8", tmp_path / "out", weights=weights, floats=kept)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"calibration": "synthetic:4", "table": Path("table.json")}, "Scales come from a table or from calibration"),
        ({"table": Path("absent.json")}, "Cannot read the quantization table absent.json: No such file or directory."),
        ({"calibration": ""}, "What to calibrate on is empty: name a folder of images, or synthetic:200."),
        ({"calibration": "photos"}, "There is no folder 'photos' to calibrate on"),
        ({"method": "median"}, "Unknown calibration method 'median'"),
    ],
)
def test_a_bad_source_of_scales_is_refused(
    options: dict[str, object], text: str, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError) as caught:
        export(NAME, "onnx", "int8", tmp_path / "out", weights=weights, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(text)
    assert not (tmp_path / "out").exists()


def test_a_table_for_another_variant_or_other_weights_is_refused(weights: Path, table: Table, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is for rtmw-m-256x192, not for rtmw-n-256x192; calibrate again"):
        other = replace(table, variant="rtmw-m-256x192")
        export(NAME, "onnx", "int8", tmp_path / "out", weights=weights, table=other)
    save_safetensors(calm_network(NAME, seed=1), tmp_path / "other.safetensors", torch.float32)
    with pytest.raises(BadInputError, match=r"made for other weights \(sha256"):
        export(NAME, "onnx", "int8", tmp_path / "out", weights=tmp_path / "other.safetensors", table=table)


def test_a_table_on_a_grid_of_another_precision_is_refused(weights: Path, tmp_path: Path) -> None:
    other = weights_table(load_deployable(NAME, weights), GRIDS["w8"])
    with pytest.raises(BadInputError, match="onnx cannot honour the grid w8 in int8: it has common"):
        export(NAME, "onnx", "int8", tmp_path / "out", weights=weights, table=other, save_table=tmp_path / "t.json")
    with pytest.raises(BadInputError, match="The quantization table is on the grid w8, not on common; leave out --g"):
        export(NAME, "onnx", "int8", tmp_path / "out", weights=weights, table=other, grid="common")
    assert list(tmp_path.iterdir()) == []


def test_a_table_s_bias_corrections_go_into_the_file() -> None:
    network, seen = small_deployable(), []

    class Watching:
        name = "watching"

        def convert(self, given: SmallDeployable, *_: object) -> SimpleNamespace:
            seen.append(given.head.conv.bias.detach().numpy().copy())
            return SimpleNamespace(files={})

        def read_scales(self, files: object, given: SmallDeployable) -> dict[str, Stored]:
            return {point: Stored(entry.scale, entry.zero_point) for point, entry in plain.entries.items()}

        def carried(self, grid: str) -> tuple[str, ...]:
            return KINDS

        def spell(self, entry: Entry) -> np.ndarray:
            return entry.scale

    plain = absmax_table(network, smooth_crops(2))
    step = np.linspace(0.25, 1.25, 5, dtype=np.float32)
    for corrections in ({}, {"head": step}):
        scales = replace(plain, bias_corrections=corrections)
        _converted(Watching(), network, scales, Precision.INT8, Path(), 1, lambda _: None)  # type: ignore[arg-type]
    np.testing.assert_array_equal(seen[0], network.head.conv.bias.detach().numpy())
    np.testing.assert_array_equal(seen[1], seen[0] + step)


def test_the_calibrated_score_belongs_to_the_embedded_weights_alone(weights: Path) -> None:
    variant, path = variant_named(NAME), embedded(NAME)
    assert path is not None and set(_score(variant, path) or {}) == {"a", "b"}
    assert _score(variant, weights) is None


def test_weights_alone_need_no_images(weights: Path, tmp_path: Path) -> None:
    for option in ({"calibration": "synthetic:4"}, {"boxes": tmp_path}, {"method": "entropy"}):
        with pytest.raises(BadInputError, match="w8 quantizes weights alone, which needs no images; leave out --cal"):
            export(NAME, "onnx", "w8", tmp_path / "out", weights=weights, **option)  # type: ignore[arg-type]


def test_scales_are_chosen_as_asked_and_leave_in_float_what_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked, said = small_deployable(), [], []
    table = absmax_table(network, smooth_crops(2))

    def calibrated(given: object, source: Source, *, method: str, **_: object) -> Table:
        asked.append((source.manifest()["source"], method))
        return table

    def scales(calibration: str | None, method: str | None, floats: list[str], given: Table | None = None) -> Table:
        kind = Precision.INT8_MIXED if floats else Precision.INT8
        source = ScaleSource(None, calibration, None, method)
        return _scales(network, kind, COMMON, source, given, floats, said.append)  # type: ignore[arg-type]

    monkeypatch.setattr("rtmw_edge.targets.scales.calibrate", calibrated)
    assert scales("synthetic:2", "entropy", []).sha256 == table.sha256 and said == []
    assert scales(None, "entropy", []).floats == () and said == []
    for mixed in (scales(None, None, ["head"]), scales(None, None, ["head"], table)):
        assert mixed.floats == ("head",) and {"head:input", "head:weight", "head:output"}.isdisjoint(mixed.entries)
    assert asked == [("synthetic:2", "entropy"), ("synthetic:200", "entropy"), ("synthetic:200", METHOD)]
    assert said == ["nothing to calibrate on was given: taking synthetic:200, rendered people"]
    for floats in (["heat"], ["head", "heat"]):
        with pytest.raises(BadInputError, match="Unknown quantized convolution 'heat'"):
            scales("synthetic:2", None, floats)
    assert len(asked) == 3, "what cannot be left in float is told before the images are looked at"


def test_crops_are_counted_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [np.zeros((count, 64, 48, 3), np.uint8) for count in (3, 3, 1)]
    monkeypatch.setattr("rtmw_edge.calibration.sources.batches", lambda source, size: iter(parts))
    said: list[str] = []
    assert len(list(counted_crops(small_deployable(), None, said.append))) == 3  # type: ignore[arg-type]
    assert said == [f"calibrating, {count} crops seen" for count in (0, 3, 6)]


def test_weights_that_were_trained_with_a_table_take_it(weights: Path, table: Table, tmp_path: Path) -> None:
    """Scales that were calibrated anew are not the ones that the training chose."""
    trained = tmp_path / "weights.safetensors"
    learnt = replace(table, provenance={"method": "qat"})
    save_safetensors(calm_network(NAME), trained, torch.float32, {"table_sha256": learnt.sha256})
    network = load_deployable(NAME, trained)
    with pytest.raises(BadInputError) as caught:
        trained_table(network, trained)
    assert str(caught.value) == (
        f"'{trained}' was trained together with a quantization table, and beside it is no table.json or best.json for "
        "these weights: pass it with --table, or calibrate anew with --calibration synthetic:200."
    )
    nothing = r"beside it is no table\.json or best\.json for these weights"
    for other in (table, replace(learnt, weights_sha256="0" * 64)):  # calibrated, and of other weights
        other.save(tmp_path / "table.json")
        with pytest.raises(BadInputError, match=nothing):
            trained_table(network, trained)
    (tmp_path / "table.json").write_text("{}")
    learnt.save(tmp_path / "best.json")
    found = trained_table(network, trained)
    assert found is not None and found.sha256 == learnt.sha256
    replace(learnt, provenance={"method": "qat", "steps": 2}).save(tmp_path / "table.json")
    found = trained_table(network, trained)
    assert found is not None and found.sha256 == learnt.sha256, "the one that the weights name comes first"
    (tmp_path / "best.json").unlink()
    found = trained_table(network, trained)
    assert found is not None and found.provenance["steps"] == 2
    assert trained_table(network, weights) is None, "float weights have none"


def test_a_trained_table_brings_its_grid_unless_another_was_asked_for(weights: Path, tmp_path: Path) -> None:
    trained, said, onnx = tmp_path / "weights.safetensors", [], target_named("onnx")
    save_safetensors(calm_network(NAME), trained, torch.float32, {"table_sha256": "0" * 64})
    network = load_deployable(NAME, trained)
    learnt = replace(calibrate(network, "synthetic:2", grid=AFFINE), provenance={"method": "qat"})
    learnt.save(tmp_path / "table.json")
    for arithmetic, free in ((COMMON, onnx), (AFFINE, None)):
        found = fitting_table(network, trained, arithmetic, free, said.append)
        assert found is not None and found.sha256 == learnt.sha256
    assert said == ["taking the scales that weights.safetensors was trained with"] * 2
    for arithmetic, free in ((COMMON, None), (COMMON, target_named("ncnn")), (GRIDS["w8a16"], onnx)):
        with pytest.raises(BadInputError, match=rf"on the grid affine, not on {arithmetic.name}: take that grid, or"):
            fitting_table(network, trained, arithmetic, free, said.append)


def test_the_embedded_weights_take_the_table_that_ships_with_them(tmp_path: Path) -> None:
    path = embedded(NAME)
    assert path is not None
    network = load_deployable(NAME, path)
    copied = Path(shutil.copy(path, tmp_path / "copied.safetensors"))
    for file in (path, copied):
        found = fitting_table(network, file, COMMON, None, lambda _: None)
        assert found is not None and found.weights_sha256 == weights_sha256(network)
    assert fitting_table(network, path, AFFINE, None, lambda _: None) is None
    with pytest.raises(BadInputError, match="on the grid common, not on affine: take that grid, or calibrate anew"):
        fitting_table(network, copied, AFFINE, None, lambda _: None)


def test_rendered_people_are_taken_aloud(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtmw_edge.targets.scales.CALIBRATION", "synthetic:2")
    monkeypatch.setattr(target_named("onnx"), "convert", lambda *_: [][0])
    steps: list[str] = []
    with pytest.raises(RtmwEdgeError, match="converter failed"):
        export(NAME, "onnx", "int8", tmp_path / "out", weights=weights, on_step=steps.append)
    assert steps[1] == "nothing to calibrate on was given: taking synthetic:2, rendered people"


def test_a_table_is_not_saved_into_the_bundle(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInputError, match=r"A bundle holds nothing else: keep the table '.*t\.json' out of '.*out'"):
        export(NAME, "onnx", "int8", out, weights=weights, save_table=out / "t.json")
    assert not out.exists()
    tiny_models.opaque_bundle(tmp_path / "good")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("good/../good/t.json", "link/good/t.json", "good"):
        with pytest.raises(BadInputError, match="A bundle holds nothing else: keep the table"):
            export(NAME, "onnx", "int8", tmp_path / "good", weights=weights, save_table=tmp_path / name)


def test_weights_that_change_are_refused(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Path(shutil.copy(weights, tmp_path / "mine.safetensors"))

    def training_goes_on(*arguments: object) -> None:
        save_safetensors(calm_network(NAME, seed=1), mine, torch.float32)

    monkeypatch.setattr("rtmw_edge.targets.export.load_deployable", training_goes_on)
    with pytest.raises(BadInputError, match=r"'.*mine\.safetensors' changed while it was read, as by a training that"):
        export(NAME, "onnx", "fp32", tmp_path / "out", weights=mine)


@pytest.mark.parametrize(
    ("precision", "grid", "floats", "text"),
    [
        ("int8-mixed", None, [], "int8-mixed needs convolutions to leave in float; name them, or export int8."),
        ("int8-mixed", None, ["backbone.stem.0.con"], "Unknown quantized convolution 'backbone.stem.0.con'; did you"),
        ("int8-mixed", "full", ["backbone.stem.0.conv"], "On the grid full integers pass from one convolution to the"),
        ("int8", None, ["backbone.stem.0.conv"], "1 convolution(s) stay in float, the first 'backbone.stem.0.conv'"),
    ],
)
def test_what_cannot_be_left_in_float_is_told_before_calibrating(
    precision: str, grid: str | None, floats: list[str], text: str, weights: Path, tmp_path: Path
) -> None:
    steps: list[str] = []
    options = {"grid": grid, "floats": floats, "calibration": "synthetic:4", "on_step": steps.append}
    with pytest.raises(BadInputError) as caught:
        export(NAME, "openvino", precision, tmp_path / "out", weights=weights, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(text) and steps == ["loading calm.safetensors"]


def test_a_folder_of_something_else_is_left_alone(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInputError, match="Refusing to overwrite"):
        export(NAME, "onnx", "fp32", tmp_path, weights=weights)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_missing_converter_exits_with_three(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_named("onnx"), "requirements", lambda: ["torch", "a-converter-of-tomorrow"])
    with pytest.raises(NotAvailableError, match="needs a-converter-of-tomorrow, which is not installed") as caught:
        export(NAME, "onnx", "fp32", tmp_path / "out", weights=weights)
    assert caught.value.exit_code == 3


def test_a_converter_that_breaks_is_one_sentence(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no kernel for aten::foo\nand 40 lines more")

    monkeypatch.setattr(target_named("onnx"), "convert", broken)
    with pytest.raises(RtmwEdgeError) as caught:
        export(NAME, "onnx", "fp32", tmp_path / "out", weights=weights)
    assert str(caught.value) == (
        "The onnx converter failed with ValueError (no kernel for aten::foo); nothing was written. Use the versions "
        "that rtmw-edge[export] was tested with."
    )


def test_scales_that_changed_on_the_way_fail_and_nothing_is_kept(
    weights: Path, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_named("onnx")
    honest = target.read_scales

    def off_by_one_bit(*arguments: object) -> dict[str, Stored]:
        scales = honest(*arguments)  # type: ignore[arg-type]
        point = "neck.reduce_layers.0.conv:output"
        scales[point] = Stored(np.nextafter(scales[point].numbers, np.float32(9)))
        return scales

    monkeypatch.setattr(target, "read_scales", off_by_one_bit)
    with pytest.raises(
        VerificationError, match=r"another scale for 'neck\.reduce_layers\.0\.conv:output' than the table"
    ):
        export(NAME, "onnx", "int8", tmp_path / "out", weights=weights, table=table, save_table=tmp_path / "t.json")
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]
    assert Table.load(tmp_path / "t.json").sha256 == table.sha256
    assert table.provenance["source"] == "synthetic:4" and len(table.provenance["crops_sha256"]) == 64


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision"), [("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp16")])
def test_a_bundle_is_what_torch_computes(
    target: str, precision: str, weights: Path, table: Table, tmp_path: Path
) -> None:
    steps: list[str] = []
    scales = table if precision == "int8" else None
    out = export(NAME, target, precision, tmp_path / "out.zip", weights=weights, table=scales, on_step=steps.append)
    assert out == tmp_path / "out.zip" and [path.name for path in tmp_path.iterdir()] == ["out.zip"]
    assert steps[0] == "loading calm.safetensors" and steps[-1] == "packing the bundle"
    with bundle.read(out) as opened:
        manifest = opened.manifest
        assert (manifest.variant, manifest.target, manifest.precision) == (NAME, target, precision)
        assert manifest.grid == ("common" if scales else None)
        assert manifest.table_sha256 == (table.sha256 if scales else None)
        assert manifest.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
        integer = 80 if scales else 0
        assert manifest.convolutions == Convolutions(80, integer, integer / 80)
        assert manifest.scales == (scales and "percentile 99.999, 4 crops of synthetic:4")
        converter = {"onnx": {"onnx", "onnxscript"}, "openvino": {"onnx", "onnxscript", "openvino"}}[target]
        assert manifest.tools.keys() == {"torch", "safetensors", "numba"} | converter
        assert manifest.score is None, "the calibrated score belongs to the shipped weights"
        megabytes = sum(file.size for file in manifest.files if file.role != "golden") / 1e6
        assert megabytes == pytest.approx({"fp32": 23.5, "fp16": 11.9, "int8": 7.1}[precision], abs=0.4)
        assert len(opened.golden()) == 2
    crops = smooth_crops(4, seed=8, size=(192, 256))
    with runtime.load(out, threads=1, verify=False) as runner, runtime.torch_runner(NAME, weights, threads=1) as torch_:
        in_float = target == "openvino" and int8_sums_overflow()
        assert runner.describe().int8 == (0 if in_float else integer)
        limit = {"fp32": 1e-4, "fp16": 5e-3, "int8": 0.25}[precision]
        for found, wanted in zip(runner.logits(crops), torch_.logits(crops), strict=True):
            assert np.abs(found - wanted).max() <= limit * np.abs(wanted).max()
        if precision == "fp32":
            distance = np.linalg.norm(runner.crops(crops).keypoints - torch_.crops(crops).keypoints, axis=-1)
            assert np.percentile(distance, 99) == 0.0


def test_the_share_of_multiply_accumulates_that_is_int8(weights: Path) -> None:
    """Against the sizes by hand: positions times weights of each convolution, the stem's first on 128 x 96."""
    network = load_deployable(NAME, weights)
    kept = ["backbone.stem.0.conv", "head.final_layer.conv"]
    stored = {f"{name}:weight": Stored(np.ones(1, np.float32)) for name in network.convolutions() if name not in kept}
    share = int8_share(network, {"total": 80, "int8": 78}, stored)
    left = 128 * 96 * 8 * 3 * 9 + 8 * 6 * 133 * network.convolutions()[kept[1]].conv.in_channels * 49
    assert share == pytest.approx(1 - left / 620_686_336, rel=1e-12)
    assert int8_share(network, {"total": 80, "int8": 80}, {}) == 1.0
    assert int8_share(network, {"total": 80, "int8": 0}, stored) == 0.0


def test_golden_crops_of_int8_are_the_calmest(weights: Path, table: Table) -> None:
    """Twelve candidates, of which the two are taken that another spelling of the same arithmetic moves least."""
    network = load_deployable(NAME, weights)
    crops, logits, movement = golden_vectors(network, table, ("input", "weight", "output"))
    assert crops.shape == (2, 256, 192, 3) and [axis.shape for axis in logits] == [(2, 133, 384), (2, 133, 512)]
    quantized = fake_quantize(network, table)
    everyone = np.stack([Renderer("val").crop(FIRST + index).image for index in range(CANDIDATES)])
    chosen = [index for index in range(CANDIDATES) if any(np.array_equal(everyone[index], crop) for crop in crops)]
    assert len(chosen) == 2 and FIRST >= 500
    with torch.inference_mode():
        answers = FromUint8(quantized)(torch.from_numpy(everyone))
        darker = FromUint8(quantized)(torch.from_numpy(np.maximum(everyone, 1) - 1))
    for axis, wanted in zip(answers, logits, strict=True):
        np.testing.assert_array_equal(axis[chosen].numpy(), wanted)
    moved = relative_change(answers, darker)
    assert moved[chosen].mean() < moved.mean()
    assert 0.0 < movement < 2 * moved.max()


@pytest.mark.parametrize(("movement", "allowed"), [(0.0, 0.06), (0.02, 0.06), (0.04, 0.1), (0.06, 0.15), (0.5, 0.5)])
def test_the_tolerance_follows_the_nerves_of_the_network(movement: float, allowed: float) -> None:
    usual = bundle.TOLERANCES["int8"]
    assert tolerance(usual, movement) == bundle.Tolerance(allowed, usual.keypoint_px_p99)


@pytest.mark.slow
def test_another_network_in_the_bundle_fails_by_far(weights: Path, tmp_path: Path) -> None:
    save_safetensors(calm_network(NAME, seed=1), tmp_path / "other.safetensors", torch.float32)
    right = export(NAME, "onnx", "fp32", tmp_path / "right", weights=weights)
    wrong = export(NAME, "onnx", "fp32", tmp_path / "wrong", weights=tmp_path / "other.safetensors")
    with bundle.read(right) as opened:
        golden, allowed = opened.golden(), opened.manifest.tolerance
    with runtime.load(wrong, threads=1) as runner:
        found = bundle.agreement(golden, runner.logits(golden.crops), allowed)
    assert min(crop.relative_rms for crop in found) > 10 * bundle.TOLERANCES["int8"].relative_rms
    assert not any(crop.within(allowed) for crop in found)
    shutil.copy(wrong / "model.onnx", right / "model.onnx")
    with pytest.raises(RtmwEdgeError):
        runtime.load(right, threads=1)

"""From a TOML file to cells: the product, its rules, what is not possible, wrong keys and names in one sentence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_files import document, write_images
from rtmw_edge.quantization import Entry, Table
from rtmw_edge.quantization.fake import weights_sha256
from rtmw_edge.targets import target_named
from rtmw_edge.targets.export import load_deployable
from typer.testing import CliRunner

from rtmw_edge.cli import app
from rtmw_edge.errors import BadInputError, RtmwEdgeError
from rtmw_edge.models.weights import embedded
from rtmw_edge.runtime.machine import EngineState
from rtmw_edge.sweep import cells as cells_module
from rtmw_edge.sweep import plan as plan_module
from rtmw_edge.sweep.cells import Cell, Inputs, identified
from rtmw_edge.sweep.config import SweepConfig, TablePair, data_in, parse_config, read_config
from rtmw_edge.sweep.estimate import IMAGE_SECONDS, Expected, expected_of
from rtmw_edge.sweep.plan import Plan, plan_of
from rtmw_edge.sweep.run import jobs_of

VARIANT = "rtmw-n-256x192"


def planned(**axes: object) -> Plan:
    return plan_of(parse_config({"variants": [VARIANT], **axes}, Path()))


def labels(found: Plan) -> list[str]:
    return [item.cell.label for item in found.cells]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    entries = {"stem:weight": Entry(np.ones(3), axis=0)}
    Table(VARIANT, entries, "common", floats=()).save(tmp_path / "trained.json")
    return tmp_path / "trained.json"


def test_the_product_leaves_out_what_does_not_apply() -> None:
    found = planned(
        targets=["onnx", "ncnn"], precisions=["fp32", "int8", "w8"], calibration=["synthetic:8", "synthetic:9"],
        methods=["minmax", "mse"], grids=["common"], threads=[1, 2],
    )  # fmt: skip
    assert labels(found)[:2] == ["onnx fp32 1 thread", "onnx fp32 2 threads"]
    int8 = [label for label in labels(found) if label.startswith("onnx int8")]
    assert len(int8) == 2 * 2 * 2 and "onnx int8 PTQ common mse synthetic:9 2 threads" in int8
    w8 = [label for label in labels(found) if label.startswith("onnx w8")]
    assert w8 == ["onnx w8 1 thread", "onnx w8 2 threads"]
    assert len(labels(found)) == len(set(labels(found)))


def test_what_a_target_cannot_do_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_named("ncnn")
    monkeypatch.setattr(type(target), "grids", ("common",))
    found = planned(targets=["ncnn"], precisions=["fp32", "w8a16", "int8", "int8-mixed"], grids=["common", "full"])
    assert labels(found) == ["ncnn fp32", "ncnn int8 PTQ common percentile synthetic:200"]
    reasons = found.not_possible
    assert reasons["ncnn w8a16"] == "ncnn has fp32, fp16, int8, int8-mixed"
    assert reasons["ncnn int8 full"].startswith("ncnn cannot honour the grid full in int8: it has common")
    assert reasons["ncnn int8-mixed"] == "it takes the convolutions to leave in float from [[tables]]"
    found = planned(targets=["tflite"], precisions=["fp32"], devices=["cpu", "cuda"])
    assert labels(found) == ["tflite fp32"] and list(found.not_possible) == ["tflite on cuda"]
    state = EngineState("OpenVINO", "openvino", "2026.1", "", ("cpu", "gpu.0"), {"npu": "its driver is too old"})
    monkeypatch.setattr(plan_module, "engine_state", lambda runs: state)
    plan_module._not_opened.cache_clear()
    found = planned(targets=["openvino"], precisions=["fp32"], devices=["cpu", "gpu", "npu"])
    assert labels(found) == ["openvino fp32 gpu", "openvino fp32"] or labels(found) == [
        "openvino fp32",
        "openvino fp32 gpu",
    ]
    assert list(found.not_possible.items()) == [("openvino on npu", "its driver is too old")]
    monkeypatch.setattr(plan_module, "engine_state", lambda runs: replace(state, devices=("cpu",), failed={}))
    plan_module._not_opened.cache_clear()
    found = planned(targets=["openvino"], precisions=["fp32"], devices=["cpu", "gpu"])
    assert found.not_possible["openvino on gpu"] == "OpenVINO has no gpu here, as rtmw-edge doctor shows"
    plan_module._not_opened.cache_clear()

    def missing(self: object) -> list[str]:
        return ["a-converter-that-nobody-has"]

    monkeypatch.setattr(type(target), "requirements", missing)
    found = planned(targets=["ncnn", "onnx"], precisions=["fp32"])
    assert labels(found) == ["onnx fp32"] and "needs a-converter-that-nobody-has" in found.not_possible["ncnn"]


def test_rules_thin_the_product_out() -> None:
    axes = {"targets": ["onnx", "openvino"], "precisions": ["fp32", "int8"], "threads": [1, 2], "grids": ["common"]}
    found = planned(**axes, exclude=[{"target": "openvino", "threads": 2}, {"precision": ["int8"], "threads": [1]}])
    assert labels(found) == [
        "onnx fp32 1 thread",
        "onnx fp32 2 threads",
        "onnx int8 PTQ common percentile synthetic:200 2 threads",
        "openvino fp32 1 thread",
    ]
    found = planned(**axes, include=[{"precision": "fp32"}, {"target": "onnx"}])
    assert [label.split()[:2] for label in labels(found)] == [["onnx", "fp32"]] * 2 + [["onnx", "int8"]] * 2 + [
        ["openvino", "fp32"]
    ] * 2
    with pytest.raises(BadInputError, match="No cell of the sweep is left"):
        planned(**axes, include=[{"target": "ncnn"}])


def test_counts_weights_and_trained_tables(tmp_path: Path, table: Path) -> None:
    weights = tmp_path / "other.safetensors"
    weights.write_bytes(b"x")
    (tmp_path / "sweep.toml").write_text(
        f"""
        variants = "{VARIANT}"
        targets = "onnx"
        precisions = ["fp32", "int8"]
        grids = "common"
        calibration = "synthetic"
        counts = [50, 100]
        weights."{VARIANT}" = ["other.safetensors"]
        [[tables]]
        name = "qat"
        variant = "{VARIANT}"
        weights = "other.safetensors"
        table = "trained.json"
        """
    )
    found = plan_of(read_config(tmp_path / "sweep.toml"))
    assert labels(found) == [
        "onnx fp32 other",
        "onnx int8 PTQ common percentile synthetic:50 other",
        "onnx int8 PTQ common percentile synthetic:100 other",
        "onnx int8 QAT common qat",
    ]
    trained = found.cells[-1]
    assert trained.inputs.weights == weights and trained.inputs.table == table
    assert trained.inputs.base == found.cells[0].cell == trained.inputs.paced_by
    assert found.cells[0].inputs.base is None and found.cells[0].inputs.paced_by is None


@pytest.mark.parametrize("known", ["made for", "began with"])
def test_a_trained_pair_is_compared_with_the_weights_that_it_began_with(tmp_path: Path, known: str) -> None:
    """Of two weights the first are not those: what int8 loses would be the difference of two trainings."""
    begun = embedded(VARIANT)
    assert begun is not None
    digest = weights_sha256(load_deployable(VARIANT, begun))
    made = {"weights_sha256": digest} if known == "made for" else {"provenance": {"start": {"weights_sha256": digest}}}
    Table(VARIANT, {"stem:weight": Entry(np.ones(3), axis=0)}, **made).save(tmp_path / "table.json")
    (tmp_path / "first.safetensors").write_bytes(b"x")
    weights = {VARIANT: {"first": "first.safetensors", "second": str(begun)}}
    pair = {"name": "qat", "variant": VARIANT, "weights": str(begun), "table": "table.json"}
    axes = {"targets": "onnx", "precisions": ["fp32", "int8"], "grids": "common", "weights": weights, "tables": [pair]}
    found = plan_of(parse_config({"variants": [VARIANT], **axes}, tmp_path)).cells[-1]
    assert found.cell.table == "qat" and found.inputs.base is not None
    assert (found.inputs.base.weights, found.inputs.base_weights) == ("second", begun)


def test_other_tools_stand_beside_ours() -> None:
    found = planned(
        targets=["onnx", "ncnn"], precisions=["fp32", "int8"], grids=["common"], calibrators=["ours", "ort"],
        bias_correction=[False, True],
    )  # fmt: skip
    assert labels(found) == [
        "onnx fp32",
        "onnx int8 PTQ ort synthetic:200",
        "onnx int8 PTQ common percentile synthetic:200",
        "onnx int8 PTQ common percentile synthetic:200 bias-corrected",
        "ncnn fp32",
        "ncnn int8 PTQ common percentile synthetic:200",
        "ncnn int8 PTQ common percentile synthetic:200 bias-corrected",
    ]


def test_people_of_a_folder_are_counted(tmp_path: Path) -> None:
    axes = {"variants": VARIANT, "targets": "onnx", "precisions": ["fp32", "int8"], "grids": "common"}
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    found = plan_of(parse_config({**axes, "calibration": "photos", "counts": [50, 100]}, tmp_path))
    assert [(item.cell.calibration, item.cell.count) for item in found.cells[1:]] == [("photos", 50), ("photos", 100)]
    assert {item.inputs.calibration for item in found.cells[1:]} == {str(tmp_path / "photos")}


@pytest.mark.parametrize("calibrators", [["ours"], ["ort"]])
def test_images_that_accuracy_is_measured_on_are_refused(tmp_path: Path, calibrators: list[str]) -> None:
    axes = {"variants": VARIANT, "targets": "onnx", "precisions": ["fp32", "int8"], "calibrators": calibrators}
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "val.json").write_text(json.dumps(document(1)).replace("0.png", "a.png"))
    with pytest.raises(BadInputError, match=r"a\.png' is the evaluation image 'a\.png' of coco:.*; calibrate on"):
        plan_of(parse_config({**axes, "calibration": "photos", "data": "coco:val.json:photos"}, tmp_path))


def test_paths_count_from_the_file_s_folder() -> None:
    def data(text: str) -> str:
        return data_in(Path("/sweeps"), text)

    assert data("coco:a.json:images") == "coco:/sweeps/a.json:/sweeps/images"
    assert data("h3wb:a.npz") == "h3wb:/sweeps/a.npz"
    assert data("h3wb:a.npz:../h36m:S7,S9") == "h3wb:/sweeps/a.npz:/sweeps/../h36m:S7,S9"
    assert data("h3wb:/a.npz::S9") == "h3wb:/a.npz::S9"
    assert data("synthetic:val:9") == "synthetic:val:9"


def test_cells_are_named_alike_wherever_the_sweep_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "val").mkdir()
    for number, folder in enumerate(("photos", "val")):
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.full((8, 8, 3), number, np.uint8))
    (tmp_path / "val.json").write_text(json.dumps(document(1)).replace("0.png", "a.png"))
    (tmp_path / "sweep.toml").write_text(
        f"""
        variants = "{VARIANT}"
        targets = "onnx"
        grids = "common"
        data = "coco:val.json:val"
        calibration = ["photos", "synthetic:8"]
        [[exclude]]
        calibration = "synthetic:8"
        """
    )
    found = []
    for start, path in ((tmp_path, "sweep.toml"), (tmp_path / "photos", "../sweep.toml")):
        monkeypatch.chdir(start)
        found.append(plan_of(read_config(Path(path))))
    here, there = ([(item.cell, item.accuracy_id, item.speed_id) for item in one.cells] for one in found)
    assert here == there and [cell.calibration for cell, *_ in here] == ["", "photos"]
    (tmp_path / "sweep.toml").write_text(
        f'variants = "{VARIANT}"\ntargets = "onnx"\ncalibration = ["photos", "synthetic:8"]\n'
        '[[exclude]]\ncalibration = "photos"\n'
    )
    thinned = plan_of(read_config(Path("../sweep.toml")))
    assert "photos" not in {item.cell.calibration for item in thinned.cells} and not thinned.not_possible


def test_a_table_of_another_variant_or_that_is_none_is_refused(tmp_path: Path, table: Path) -> None:
    config = SweepConfig((VARIANT,), tables=(TablePair("qat", VARIANT, None, tmp_path / "none.json"),))
    with pytest.raises(BadInputError, match="Cannot read the quantization table"):
        plan_of(config)
    Table("rtmw-m-256x192", {"stem:weight": Entry(np.ones(3), axis=0)}).save(table)
    with pytest.raises(BadInputError, match="is for rtmw-m-256x192, not for rtmw-n-256x192; correct"):
        plan_of(replace(config, tables=(TablePair("qat", VARIANT, None, table),)))


def test_tables_that_ship_are_one_for_each_grid(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"targets": ["onnx"], "precisions": ["fp32", "int8"], "grids": ["common", "affine"]}
    tables = [{"name": "qat", "variant": VARIANT, "table": "shipped"}]
    axes["exclude"] = [{"table": "", "precision": "int8"}]
    monkeypatch.setattr(plan_module, "shipped_table", lambda variant, grid: table if grid == "common" else None)
    assert labels(planned(**axes, tables=tables)) == ["onnx fp32", "onnx int8 QAT common qat"]
    monkeypatch.setattr(plan_module, "shipped_table", lambda variant, grid: None)
    found = planned(**axes, tables=tables)
    assert labels(found) == ["onnx fp32"]
    assert list(found.not_possible.items()) == [(f"{VARIANT} qat", "no quantization table ships with it")]


def test_float_cells_are_the_yardsticks() -> None:
    found = planned(targets=["torch", "onnx", "openvino"], precisions=["fp32", "fp16", "int8"], grids=["common"])
    by = {item.cell.label.removesuffix(" common percentile synthetic:200"): item for item in found.cells}
    assert by["onnx int8 PTQ"].inputs.base == by["onnx fp32"].cell == by["onnx int8 PTQ"].inputs.paced_by
    assert by["openvino fp16"].inputs.base == by["openvino fp32"].cell
    assert by["openvino fp32"].inputs.base is None and by["openvino fp32"].inputs.paced_by == by["onnx fp32"].cell
    assert by["onnx fp32"].inputs.paced_by is None and by["torch fp32"].inputs.paced_by == by["onnx fp32"].cell
    with pytest.raises(BadInputError, match='has no fp32, which every figure is compared with; add "fp32"'):
        planned(precisions=["int8"])


def test_a_yardstick_has_the_same_weights_and_as_many_threads(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"x")
    weights = {VARIANT: ["a.safetensors", "b.safetensors"]}
    axes = {"targets": ["onnx", "openvino"], "precisions": ["fp32", "int8"], "grids": ["common"], "threads": [1, 2]}
    found = plan_of(parse_config({"variants": [VARIANT], "weights": weights, **axes}, tmp_path))
    quantized = [item for item in found.cells if item.cell.precision == "int8"]
    assert len(quantized) == 2 * 2 * 2
    for item in quantized:
        base, pace = item.inputs.base, item.inputs.paced_by
        assert base is not None and pace is not None and base.precision == pace.precision == "fp32"
        assert (base.weights, base.threads) == (item.cell.weights, item.cell.threads)
        assert (pace.target, pace.threads) == (item.cell.target, item.cell.threads)
    for item in found.cells:
        if item.cell.target == "openvino" and item.cell.precision == "fp32":
            assert item.inputs.paced_by is not None
            assert (item.inputs.paced_by.target, item.inputs.paced_by.threads) == ("onnx", item.cell.threads)


def test_a_yardstick_is_of_the_same_board_and_device() -> None:
    axes = {"targets": ["onnx"], "precisions": ["fp32", "int8"], "grids": ["common"]}
    found = planned(**axes, boards=["pi5", "orin"], devices=["cpu", "cuda"]).cells
    quantized = [item for item in found if item.cell.precision == "int8"]
    assert len(quantized) == 4
    for item in quantized:
        base, pace = item.inputs.base, item.inputs.paced_by
        assert base is not None and pace is not None
        assert base.board == pace.board == item.cell.board and pace.device == item.cell.device


def test_the_id_is_of_all_that_goes_in(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"weights")
    cell = Cell(VARIANT, "", "onnx", "int8", "common", table="qat", data="synthetic:val:9")
    inputs = Inputs(weights, weights, table, data=cell.data)

    def ids(cell: Cell = cell, inputs: Inputs = inputs) -> tuple[str, str, str]:
        cells_module.file_sha256.cache_clear()
        found = identified(cell, inputs, ("onnx",))
        return found.bundle_key, found.accuracy_id, found.speed_id

    first = ids()
    assert ids() == first
    bundle, accuracy, speed = ids(replace(cell, threads=2))
    assert (bundle, accuracy) == first[:2] and speed != first[2]
    bundle, accuracy, speed = ids(replace(cell, images=5))
    assert bundle == first[0] and accuracy != first[1] and speed == first[2]
    bundle, accuracy, speed = ids(replace(cell, device="cuda"))
    assert bundle == first[0] and accuracy != first[1] and speed != first[2]
    assert not set(ids(inputs=replace(inputs, calibration="synthetic:9"))) & set(first)
    paced = replace(inputs, paced_by=Cell(VARIANT, "", "openvino", "fp32"))
    speeds = {first[2], ids(inputs=paced)[2]}
    with monkeypatch.context() as patch:
        versions = cells_module.installed
        newer = {"openvino": "99"}
        patch.setattr(
            cells_module, "installed", lambda *names: {n: newer.get(n, v) for n, v in versions(*names).items()}
        )
        speeds.add(ids(inputs=paced)[2])
        newer = {"onnx": "99"}
        assert not set(ids()) & set(first), "the converter's version"
    assert len(speeds) == 3, "what it is timed in turns with counts, and the version that runs that"
    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "machine", lambda: "another processor x 64")
        bundle, accuracy, speed = ids()
        assert (bundle, accuracy) == first[:2] and speed != first[2]
    with monkeypatch.context() as patch:
        patch.setattr(cells_module, "__version__", "99.0")
        assert not set(ids()) & set(first)
    for changed in (replace(cell, target="ncnn"), replace(cell, grid="affine"), replace(cell, precision="int8-mixed")):
        assert not set(ids(changed)) & set(first)
    other = tmp_path / "float.pth"
    other.write_bytes(b"before the training")
    bundle, accuracy, speed = ids(inputs=replace(inputs, base_weights=other))
    assert (bundle, speed) == first[::2] and accuracy != first[1], "its keypoints are compared with those of others"
    for calibration in ({"method": "mse"}, {"count": 5}, {"bias_correction": True}, {"calibrator": "nncf"}):
        assert not set(ids(replace(cell, **calibration))) & set(first), calibration
    Table(VARIANT, {"stem:weight": Entry(np.ones(3) * 2, axis=0)}).save(table)
    assert not set(ids()) & set(first)
    second = ids()
    weights.write_bytes(b"others")
    assert not set(ids()) & set(second)
    third = ids()
    monkeypatch.setattr(cells_module, "code_sha256", lambda *_: "changed converters")
    assert not set(ids()) & set(third)
    fourth = ids()
    monkeypatch.setattr(cells_module, "installed", lambda *names: dict.fromkeys(names, "99"))
    assert not set(ids()) & set(fourth)


def test_a_time_is_not_of_the_images(tmp_path: Path) -> None:
    """More images for the accuracy time nothing anew, also where another cell is paced by the float one."""
    ids = set()
    for images in (2, 3):
        found = planned(targets=["onnx"], precisions=["fp32", "int8"], data="synthetic:val:9", images=images).cells
        assert found[1].inputs.paced_by == found[0].cell
        ids.add((found[0].speed_id, found[1].speed_id))
    assert len(ids) == 1


def test_files_that_change_while_the_sweep_runs_are_told(tmp_path: Path, table: Path) -> None:
    weights = tmp_path / "last.pth"
    weights.write_bytes(b"weights")
    found = identified(
        Cell(VARIANT, "", "onnx", "int8", "common", table="qat", data="synthetic:val"),
        Inputs(weights, weights, table, data="synthetic:val"),
        (),
    )
    found.check_files()
    weights.write_bytes(b"of the next epoch")
    with pytest.raises(BadInputError, match=r"last\.pth changed while the sweep ran; run it again"):
        found.check_files()
    cells_module.file_sha256.cache_clear()
    other = tmp_path / "trained.pth"
    other.write_bytes(b"trained from them")
    found = identified(found.cell, replace(found.inputs, weights=other), ())
    weights.write_bytes(b"of yet another")
    with pytest.raises(BadInputError, match=r"last\.pth changed"):
        found.check_files()


def test_photographs_are_known_by_their_sizes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    found = document()
    (tmp_path / "a.json").write_text(json.dumps(found))
    for image in found["images"]:
        (tmp_path / "one" / image["file_name"]).write_bytes(b"1")
        (tmp_path / "two" / image["file_name"]).write_bytes(b"22")
    one, two = (cells_module.data_sha256(f"coco:{tmp_path}/a.json:{tmp_path}/{name}") for name in ("one", "two"))
    ids = []
    for folder in (tmp_path, tmp_path / ".." / tmp_path.name):  # the same files, by another working folder
        weights = Path(__file__)
        cell = Cell(VARIANT, "", "onnx", "fp32", data="coco:a.json:one")
        inputs = Inputs(weights, weights, data=f"coco:{folder}/a.json:{folder}/one")
        ids.append(identified(cell, inputs, ("onnx",)).accuracy_id)
        other = replace(inputs, data=f"coco:{folder}/a.json:{folder}/two")
        assert identified(cell, other, ("onnx",)).accuracy_id != ids[0]
    assert ids[0] == ids[1]
    (tmp_path / "two" / found["images"][-1]["file_name"]).unlink()
    sweep = {"data": f"coco:{tmp_path}/a.json:{tmp_path}/two", "images": 2, "targets": ["onnx"], "precisions": ["fp32"]}
    assert len(planned(**sweep).cells) == 1, "what is not measured on may be missing"
    assert one and two and one != two and cells_module.data_sha256("synthetic:val:9") == ""


def test_a_change_of_one_target_s_code_is_of_its_cells_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> dict[str, tuple[str, str]]:
        cells = planned(targets=["torch", "onnx", "ncnn"], precisions=["fp32", "int8"], grids=["common"]).cells
        return {item.cell.label: (item.bundle_key, item.table_key) for item in cells}

    before, real = keys(), cells_module.code_sha256
    monkeypatch.setattr(
        cells_module, "code_sha256", lambda roots, *rest: real(roots, *rest) + "changed" * ("targets.ncnn" in roots)
    )
    after = keys()
    changed = {label for label in before if before[label] != after[label]}
    assert changed == {"ncnn fp32", "ncnn int8 PTQ common percentile synthetic:200"}
    assert all(before[label][1] == after[label][1] for label in before), "targets share the tables"
    monkeypatch.setattr(cells_module, "code_sha256", lambda *_: "changed")
    assert {label for label in before if before[label] == keys()[label]} == {"torch fp32"}


def test_a_calibration_folder_is_its_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    first = cells_module.calibration_sha256(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"2")
    cells_module.calibration_sha256.cache_clear()
    cells_module.file_sha256.cache_clear()
    second = cells_module.calibration_sha256(str(tmp_path))
    assert second != first
    for name in ("notes.txt", ".DS_Store", "._a.png"):
        (tmp_path / name).write_bytes(b"3")
    cells_module.calibration_sha256.cache_clear()
    assert cells_module.calibration_sha256(str(tmp_path)) == second
    assert cells_module.calibration_sha256("synthetic:8") == "synthetic:8"


def test_labelled_people_to_calibrate_on_need_only_what_calibrate_reads(tmp_path: Path) -> None:
    found = document()
    for annotation in found["annotations"]:
        del annotation["area"]
    (tmp_path / "a.json").write_text(json.dumps(found))
    write_images(tmp_path / "photos", len(found["images"]))
    axes = {
        "targets": "onnx",
        "precisions": ["fp32", "int8"],
        "calibration": f"coco:{tmp_path}/a.json:{tmp_path}/photos",
    }
    first = planned(**axes).cells[-1].table_key
    (tmp_path / "photos" / "0.png").write_bytes(b"1")
    cells_module.calibration_sha256.cache_clear()
    assert planned(**axes).cells[-1].table_key != first


def test_cells_that_differ_in_threads_alone_share_accuracy() -> None:
    jobs = jobs_of(planned(targets=["onnx"], precisions=["fp32"], threads=[1, 2]).cells)
    assert [job.kind for job in jobs] == ["accuracy", "speed", "speed"]
    assert all(job.alone and job.after == (jobs[0].id,) for job in jobs[1:])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('precison = ["int8"]', "Unknown key of a sweep 'precison'; did you mean 'precisions'?"),
        ('variants = ["rtmw-n"]', "Unknown variant 'rtmw-n'; did you mean 'rtmw-n-256x192'?"),
        ('data = "synthetic:test"', "Unknown split of rendered people 'test'"),
        ('data = "coco:none.json:images"', "There are no annotations at "),
        ('data = "h3wb:none.npz"', "/none.npz: check the path"),
        ('calibration = "synthetic:x"', "Calibration source 'synthetic:x' is not synthetic:N"),
        ('calibration = "photos"', "photos' to calibrate on; give one with images"),
        ('gate = "none.toml"', "none.toml: check the path, or take 'default'"),
        ('gate = "mpjpe.toml"', "The gate 'mpjpe' limits nothing but MPJPE, which 2D variants have none of."),
        ('targets = ["onxn"]', "Unknown target 'onxn'; did you mean 'onnx'?"),
        ('precisions = ["int4"]', "Unknown precision 'int4'; did you mean 'int8'?"),
        ('grids = ["afine"]', "Unknown grid of int8 'afine'; did you mean 'affine'?"),
        ('methods = ["percentil"]', "Unknown calibration method 'percentil'; did you mean 'percentile'?"),
        ('calibrators = ["nccf"]', "Unknown calibrator 'nccf'; did you mean 'nncf'?"),
        ("bias_correction = 1", "The sweep's bias_correction is 1; it must be true or false."),
        ('devices = ["cdua"]', "Unknown device 'cdua'; did you mean 'cuda'?"),
        ("threads = [-1]", "Cannot run on -1 threads"),
        ("counts = [0]", "A calibration count of 0 leaves nothing to calibrate on"),
        ("images = -5", "The sweep's images is -5; write 0 for all"),
        ('images = "many"', "The sweep's images is 'many'; it must be a whole number."),
        ("targets = []", "The sweep's targets is empty"),
        (
            'calibration = ""',
            "The sweep's calibration is an empty text; leave it out for the default, or write what it is.",
        ),
        ("targets = [1]", "The sweep's targets is 1; it must be text in quotes."),
        ('exclude = ["onnx"]', "write one [[exclude]] for each"),
        ('[[exclude]]\ntaget = "onnx"', "Unknown field of [[exclude]] 'taget'; did you mean 'target'?"),
        ('[[exclude]]\ntarget = "onxn"', "Unknown target 'onxn'; did you mean 'onnx'?"),
        ('[[include]]\nprecision = ["fp32", "int-8"]', "Unknown precision 'int-8'; did you mean 'int8'?"),
        ("[[exclude]]\ntarget = {a = 1}", "The target of a [[exclude]] is {'a': 1}; write the value of a cell"),
        ("[[exclude]]", "A [[exclude]] of the sweep is empty"),
        ('[[tables]]\nname = "a"', "A [[tables]] of the sweep lacks variant; it needs name, variant, weights, table."),
        ('[[tables]]\nnames = "a"', "Unknown key of [[tables]] 'names'; did you mean 'name'?"),
        ("weights = 3", "write [weights] with lines VARIANT"),
        ('weights."rtmw-n-256x192" = "none.pth"', "There are no weights at"),
        ("variants = 7 7", "is not TOML"),
    ],
)
def test_wrong_keys_and_values_get_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mpjpe.toml").write_text("[whole]\nmpjpe_percent = 3.0\n")
    path = tmp_path / "sweep.toml"
    path.write_text(text if text.startswith("variants") else f'variants = ["{VARIANT}"]\n{text}')
    with pytest.raises(RtmwEdgeError) as caught:
        plan_of(read_config(path))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_value_is_told_with_the_file_that_it_is_in(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(f'variants = ["{VARIANT}"]\nimages = -5\n')
    with pytest.raises(BadInputError, match=rf"^In {tmp_path}/sweep.toml: The sweep's images is -5; write 0 for all"):
        read_config(tmp_path / "sweep.toml")


def test_what_no_cell_has_is_told(tmp_path: Path, table: Path) -> None:
    tables = [{"name": "qat", "variant": VARIANT, "table": str(table)}, {"name": "t", "variant": "rtmw-t-256x192"}]
    tables[1]["table"] = "shipped"
    found = planned(
        targets=["onnx"], precisions=["fp32", "int8"], grids=["affine"], tables=tables,
        weights={"rtmw-t-256x192": "nowhere.pth"}, exclude=[{"target": "ncnn"}, {"precision": ["w8", "fp16"]}],
    )  # fmt: skip
    assert list(found.not_possible.items()) == [
        ("weights of rtmw-t-256x192", "it is none of the sweep's variants"),
        (f"{VARIANT} qat", "no cell has the variant, precision and grid of its quantization table"),
        ("rtmw-t-256x192 t", "no quantization table ships with it"),
        ("[[exclude]] target ncnn", "it matches no cell"),
        ("[[exclude]] precision w8 or fp16", "it matches no cell"),
    ]
    with pytest.raises(BadInputError, match=r"no fp32 to compare .* onnx int8 PTQ common .* with; leave it in"):
        planned(targets=["onnx"], precisions=["fp32", "int8"], exclude=[{"precision": "fp32"}])


def test_weights_of_qat_without_their_table_are_told(tmp_path: Path, table: Path) -> None:
    """Their int8 is calibrated as any weights' is, which is not what they were trained for."""
    shipped = embedded(VARIANT)
    assert shipped is not None
    trained = Path(shutil.copy(shipped, tmp_path / "weights.safetensors"))
    axes: dict[str, object] = {
        "targets": ["onnx"], "precisions": ["fp32", "int8"], "weights": {VARIANT: {"mine": str(trained)}}
    }  # fmt: skip
    assert list(planned(**axes).not_possible.items()) == [(
        f"int8 QAT of {VARIANT} mine",
        "its weights were trained with a quantization table; name both in [[tables]] to measure that",
    )]  # fmt: skip
    pair = {"name": "qat", "variant": VARIANT, "table": str(table), "weights": str(trained)}
    assert not planned(**axes, tables=[pair]).not_possible


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert parse_config({"variants": [VARIANT], "gate": "default"}, tmp_path).gate is None
    with pytest.raises(BadInputError, match=r"There is no sweep at .*none.toml: check the path"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(BadInputError, match="The sweep names no variant"):
        parse_config({}, tmp_path)


def test_the_plan_is_printed_with_an_estimate_and_nothing_is_made(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(f'variants = "{VARIANT}"\ntargets = ["onnx", "ncnn"]\nprecisions = ["fp32", "w8a16"]\nimages = 9\n')
    done = CliRunner().invoke(app, ["sweep", str(path), "--out", str(tmp_path / "store"), "--plan"])
    assert done.exit_code == 0, done.output
    assert f"{VARIANT}  onnx fp32  about " in done.output and "cells, about " in done.output
    assert "not possible: ncnn w8a16: ncnn has" in done.output
    assert not (tmp_path / "store").exists()


def test_the_plan_of_a_fleet_says_what_it_cannot_know(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(f'variants = "{VARIANT}"\ntargets = "onnx"\nprecisions = "fp32"\nboards = ["local", "pi5"]\n')
    done = CliRunner().invoke(app, ["sweep", str(path), "--out", str(tmp_path / "store"), "--plan"])
    assert done.exit_code == 0 and "; less where pi5 did theirs before, which is known when they join" in done.output


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "all done already"), (59, "less than a minute"), (5400, "about 90 min on"), (9000, "2.5 h")],
)
def test_an_estimate_is_said_in_minutes_up_to_two_hours(seconds: float, words: str) -> None:
    assert words in Expected({"a": seconds}).sentence


def test_the_estimate_counts_the_images_of_the_data(tmp_path: Path) -> None:
    def seconds(**options: object) -> float:
        config = {"variants": VARIANT, "targets": "onnx", "precisions": "fp32", **options}
        (found,) = plan_of(parse_config(config, tmp_path)).cells
        return expected_of([found], tmp_path, 1).seconds[found.accuracy_id]

    few, many = seconds(data="synthetic:val:10"), seconds(data="synthetic:val:2000")
    assert seconds(data="synthetic:val:2000", images=10) == few
    assert many - few > 1990 * IMAGE_SECONDS

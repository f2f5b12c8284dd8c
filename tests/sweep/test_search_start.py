"""A search from its file to its report: a whole network, its exports, accuracy and time, in a store that resumes."""

from __future__ import annotations

import fcntl
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("optuna")
pytest.importorskip("onnx")

import tiny_study
from calm_network import calm_network
from rtmw_edge.calibration import Method, open_source
from rtmw_edge.calibration.collect import Settings as Collecting
from rtmw_edge.calibration.collect import collect
from rtmw_edge.calibration.sources import batches
from rtmw_edge.quantization import GRIDS, Table
from small_runs import TINY, forget, register
from typer.testing import CliRunner

from rtmw_edge.cli import app
from rtmw_edge.cli.console import Console
from rtmw_edge.errors import BadInputError, RtmwEdgeError, VerificationError
from rtmw_edge.keypoints import PARTS
from rtmw_edge.models.checkpoints import save_safetensors
from rtmw_edge.poses import COCO_FIELDS
from rtmw_edge.runtime import timing
from rtmw_edge.sweep.config import SweepConfig, parse_config, read_config
from rtmw_edge.sweep.rows import rows_of, run_of
from rtmw_edge.sweep.search import start as start_module
from rtmw_edge.sweep.search.problem import problem_of
from rtmw_edge.sweep.search.start import LOCK, start
from rtmw_edge.sweep.search.tables import Tables
from rtmw_edge.sweep.start import Options
from rtmw_edge.sweep.store import Store

VARIANT = "rtmw-n-256x192"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Weights, photographs whose labels are what the float network answers, and photographs to calibrate on."""
    register()
    folder = tmp_path_factory.mktemp("given")
    save_safetensors(calm_network(TINY.name), folder / "calm.safetensors")
    people = []
    for name in ("val", "calibration"):
        (folder / name).mkdir()
    for index, item in enumerate(tiny_study.clouds()):
        cv2.imwrite(str(folder / "val" / f"{index}.png"), item.image)
        cv2.imwrite(str(folder / "calibration" / f"c{index}.png"), cv2.flip(item.image, 1))
        labels = np.column_stack([item.people.keypoints[0], np.ones(133)])
        x, y, right, bottom = item.people.boxes[0].tolist()
        fields = {name: labels[PARTS[part]].ravel().tolist() for part, name in COCO_FIELDS.items()}
        people.append({"id": index + 1, "image_id": index, "category_id": 1, "iscrowd": 0, "area": 40.0,
                       "bbox": [x, y, right - x, bottom - y], "num_keypoints": 17, **fields})  # fmt: skip
    images = [{"id": index, "file_name": f"{index}.png"} for index in range(len(people))]
    document = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
    (folder / "val.json").write_text(json.dumps(document))
    yield folder
    forget()


def config_of(folder: Path, **search: Any) -> SweepConfig:
    section = {"budget": "whole<=100", "trials": 2, "percentiles": [99.9], "groups": ["head", "neck"], **search}
    document = {
        "variants": [TINY.name],
        "targets": ["onnx"],
        "weights": {TINY.name: "calm.safetensors"},
        "grids": ["common", "affine"],
        "methods": ["minmax", "percentile"],
        "bias_correction": [False, True],
        "threads": 1,
        "data": "coco:val.json:val",
        "calibration": "calibration",
        "search": section,
    }
    return parse_config(document, folder)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs done here, where the tiny variant is known, and timed in few rounds."""

    def swept(folder: Path, run: int, crews: Any, on_event: Any) -> None:
        with Store.open(folder) as store:
            crews[0](store, on_event)

    monkeypatch.setattr(start_module, "sweep", swept)
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(timing, "FEWEST_ROUNDS", 2)
    monkeypatch.setattr(timing, "BLOCK_SECONDS", 0.01)


def searched(config: SweepConfig, store: Path, out: io.StringIO | None = None) -> str:
    out = io.StringIO() if out is None else out
    start(config, Options(store), Console(file=out, width=200, highlight=False, soft_wrap=True))
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_a_search_measures_cells_tells_the_front_and_goes_on(folder: Path, tmp_path: Path) -> None:
    store, hopeless = tmp_path / "store", io.StringIO()
    with pytest.raises(VerificationError, match=r"None of 1 trials keeps whole<=0: allow more|keeps whole<=0; nearest"):
        searched(config_of(folder, budget="whole<=0", trials=1), store, hopeless)
    assert hopeless.getvalue().endswith(f"1 trials, 0 failed, 0 keep the budget. Report: {store / 'report.html'}\n")
    first = searched(config_of(folder), store)
    assert re.search(r"trial 1, common minmax .*, all in int8: whole .* AP, .* of fp32's time, keeps the budget", first)
    assert f"--target onnx --precision int8 --weights {folder / 'calm.safetensors'} --table {store}" in first or (
        "--precision int8-mixed" in first
    )
    with Store.open(store) as opened:
        run = run_of(opened)
        rows = rows_of(opened, run)
        records = opened.last_record()
    assert len(rows) == 3 and rows[0].cell.precision == "fp32" and all(row.status == "ok" for row in rows)
    whole = rows[0].ap("whole")
    assert whole is not None and whole.value > 99
    assert rows[1].cell.table == "trial 1" and rows[1].cell.lane == "int8 PTQ" and rows[1].passed
    assert all(row.speed["paced_by"] == rows[0].cell.to_dict() for row in rows[1:])
    assert run.document["gate"] == {"name": "budget whole<=100", "limits": {"whole": {"ap_drop": 100.0}}}
    assert "trial 1" in (store / "report.html").read_text()
    again = searched(config_of(folder), store)
    assert "2 of 2 trials are done already" in again and "✓ trial 1" not in again
    assert again.splitlines()[-8:] == first.splitlines()[-8:]
    with Store.open(store) as opened:
        assert opened.last_record() == records


def test_another_search_in_the_store_is_not_disturbed(folder: Path, tmp_path: Path) -> None:
    Store.create(tmp_path / "store").close()
    with (tmp_path / "store" / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BadInputError, match=r"Another process searches in .*; wait for it"):
            searched(config_of(folder), tmp_path / "store")


def test_tables_are_those_of_calibrate_and_one_pass_serves_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rtmw_edge.sweep.search import tables as tables_module

    passes: list[str] = []
    observe = tables_module.observe
    monkeypatch.setattr(tables_module, "observe", lambda *given: (passes.append(given[2].name), observe(*given))[1])
    problem = problem_of(config_of(folder))
    tables = Tables(problem, tmp_path)
    for grid, method in (("common", "minmax"), ("affine", "percentile")):
        chosen = {"scales": "calibrated", "grid": grid, "method": method}
        made = Table.load(tables.made(problem.space.settings(chosen)))
        percentile = 99.9 if method == "percentile" else None
        crops = batches(open_source(str(folder / "calibration")), TINY.input_size)
        wanted = collect(problem.network, crops, Collecting(Method.named(method), GRIDS[grid], percentile))
        assert made.entries.keys() == wanted.entries.keys()
        assert all(np.array_equal(made.entries[point].scale, wanted.entries[point].scale) for point in wanted.entries)
        mixed = Table.load(tables.made(problem.space.settings({**chosen, "float head": True})))
        assert set(mixed.floats) == {name for name in problem.network.convolutions() if name.startswith("head.")}
        assert mixed.entries.keys() < made.entries.keys()
    assert passes == ["common"]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_plan_reads_no_store(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results.sqlite").write_bytes(b"another program's")
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    start_module.describe(config_of(folder), Console(file=out))
    assert "min on this machine" in out.getvalue()


@pytest.mark.parametrize(
    ("calibration", "text"),
    [
        ("val", r"0\.png' is the evaluation image '0\.png' of coco:.*; calibrate on images that accuracy is not"),
        ("coco:val.json", r"val\.json' is not coco:ANNOTATIONS\.json:IMAGES"),
        ("nowhere", "nowhere"),
    ],
)
def test_who_cannot_be_calibrated_on_is_refused_before_anything_is_measured(
    folder: Path, calibration: str, text: str
) -> None:
    config = config_of(folder)
    with pytest.raises(BadInputError, match=text):
        problem_of(parse_config({**_document(config), "calibration": calibration}, folder))


def _document(config: SweepConfig) -> dict[str, Any]:
    weights = {TINY.name: "calm.safetensors"}
    search = {"budget": "whole<=1", "groups": ["head"]}
    return {"variants": [TINY.name], "targets": ["onnx"], "weights": weights, "data": config.data, "search": search}


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("", "The sweep has no \\[search\\] to search by"),
        ("[search]", "The \\[search\\] has no budget, which says what may be lost"),
        ('search = "yes"', "The sweep's search is 'yes'; write \\[search\\]"),
        ('[search]\nbudget = "hands<=0.5"\ntrails = 3', "Unknown key of \\[search\\] 'trails'; did you mean 'trials'"),
        ('[search]\nbudget = "hand<=0.5"', "Unknown part in the budget 'hand'; did you mean 'hands'"),
        ('[search]\nbudget = "whole<=1"\ntrials = 0', "The search's trials is 0; write 1 or more"),
        (
            '[search]\nbudget = "whole<=1"\ntrials = "many"',
            "The sweep's search.trials is 'many'; it must be a whole number",
        ),
        ('[search]\nbudget = "whole<=1"\npercentiles = [5]', "percentile 5 is not above 50 and at most 100"),
        ('[search]\nbudget = "whole<=1"\npart = "nose"', "Unknown part of \\[search\\] 'nose'"),
        ('[search]\nbudget = "whole<=1"\ngroups = ["backbone.stam"]', "Unknown group .* did you mean 'backbone.stem'"),
        ('[search]\nbudget = "whole<=1"\n[[exclude]]\ngrid = "affine"', "A search knows no exclude; leave it out"),
    ],
)
def test_what_cannot_be_searched_is_told_in_one_sentence(section: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(f'variants = ["{VARIANT}"]\ntargets = ["onnx"]\n{section}\n')
    with pytest.raises(BadInputError, match=text) as caught:
        searched(read_config(path), tmp_path / "store")
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_a_search_is_about_one_target(tmp_path: Path) -> None:
    config = parse_config(
        {"variants": [VARIANT], "targets": ["onnx", "openvino"], "search": {"budget": "whole<=1"}}, tmp_path
    )
    with pytest.raises(BadInputError, match=r"A search is for one variant .*onnx fp32, rtmw-n-256x192 openvino fp32"):
        problem_of(config)


def test_the_table_that_ships_is_where_a_search_begins(tmp_path: Path) -> None:
    search = {"budget": "whole<=1", "groups": []}
    problem = problem_of(parse_config({"variants": [VARIANT], "targets": ["onnx"], "search": search}, tmp_path))
    assert [start["scales"] for start in problem.space.starts()] == ["shipped common", "calibrated"]
    assert problem.space.groups == {} and problem.given["shipped common"].weights == problem.float_cell.inputs.weights


def test_without_optuna_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(f'variants = ["{VARIANT}"]\ntargets = ["onnx"]\n[search]\nbudget = "whole<=1"\n')
    for name in [name for name in sys.modules if name.startswith("optuna") or name.endswith("search.study")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    found = CliRunner().invoke(app, ["sweep", str(path), "--search", "--out", str(tmp_path / "store")])
    assert isinstance(found.exception, RtmwEdgeError) and found.exception.exit_code == 3
    assert 'A search needs optuna, which is not installed. Run: pip install "rtmw-edge[search]".' in str(
        found.exception
    )
    assert not (tmp_path / "store").exists()


def test_a_plan_says_what_would_be_chosen_among(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(f'variants = ["{VARIANT}"]\ntargets = ["onnx"]\n[search]\nbudget = "whole<=1"\ntrials = 7\n')
    found = CliRunner().invoke(app, ["sweep", str(path), "--search", "--plan"])
    assert found.exit_code == 0 and "7 trials under whole<=1" in found.output
    assert "scales: shipped common, calibrated" in found.output and "backbone.stage4" in found.output

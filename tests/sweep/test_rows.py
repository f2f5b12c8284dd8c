"""From records to what a user reads: drops, gate, advice in words, tables, and what differs between two runs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_sweep import BOARD, ENVIRONMENT, SWEEP, Made, cell, int8, samples, store_of
from typer.testing import CliRunner

from rtmw_edge.bundle import GateCheck
from rtmw_edge.cli import app
from rtmw_edge.errors import BadInputError, VerificationError
from rtmw_edge.sweep.compare import compare, environments_apart
from rtmw_edge.sweep.rows import Row, _pace, rows_of, run_of
from rtmw_edge.sweep.store import Store
from rtmw_edge.sweep.tables import flat, lost
from rtmw_edge.sweep.verdicts import Advice, about_processor, fastest, verdicts


def rows(folder: Path, run: int | None = None) -> list[Row]:
    with Store.open(folder) as store:
        return rows_of(store, run_of(store, run))


def test_drops_are_paired_and_judged(tmp_path: Path) -> None:
    found = rows(store_of(tmp_path / "store"))
    single, broken, good, weights, _, _, failed = found
    assert single.passed is None and single.drop == {}
    drop = broken.drop["face"]
    assert drop.value == pytest.approx(3.0)
    # Each AP alone is known to 4 points; their difference, on the same draws of images, to a few tenths.
    assert drop.low == pytest.approx(2.7, abs=0.1) and drop.high == pytest.approx(3.3, abs=0.1)
    plain = np.quantile(100 * (samples(SWEEP[0], "face").astype(float) - samples(SWEEP[1], "face")), [0.025, 0.975])
    assert (drop.low, drop.high) == pytest.approx(tuple(plain), abs=1e-4)
    assert broken.passed is False and [check.part for check in broken.gate if not check.passed] == ["face"]
    assert good.passed and weights.passed
    assert failed.status == "failed" and failed.reason == "it said <no> & stopped"


def test_pace_is_the_chain_of_ratios_down_to_onnx_in_float(tmp_path: Path) -> None:
    found = rows(store_of(tmp_path / "store"))
    assert [row.pace for row in found] == [1.0, 0.5, 0.6, 1.1, 0.8, pytest.approx(0.8 * 1.01), None]


def test_pace_counts_from_onnx_in_float_alone(tmp_path: Path) -> None:
    found = rows(store_of(tmp_path / "store", SWEEP[:2]))
    alone = {**found[1].speed, "paced_by": None}
    assert _pace(replace(found[1], speed=alone), {}) is None and _pace(found[0], {}) == 1.0


def test_a_time_that_was_measured_in_a_run_on_other_data_counts(tmp_path: Path) -> None:
    """Times hang on no images, so that their record stays, and names the cell of the data that there was."""
    folder = store_of(tmp_path / "store", SWEEP[:2])
    with Store.open(folder) as store:
        entries = json.loads(json.dumps(run_of(store, 1).document))
        for entry in entries["cells"]:
            for of in (entry["cell"], entry["base"] or {}):
                of["data"] = "synthetic:val:12"
        number = store.begin(entries)
    found = rows(folder, number)
    assert [row.cell.data for row in found] == ["synthetic:val:12"] * 2
    assert [row.pace for row in found] == [1.0, 0.5]


def test_labels_leave_out_what_all_cells_share(tmp_path: Path) -> None:
    assert [row.label for row in rows(store_of(tmp_path / "a"))][:3] == [
        "onnx fp32",
        "onnx int8 PTQ common",
        "onnx int8 PTQ affine",
    ]
    two = (SWEEP[0], SWEEP[1], Made(int8("onnx", calibration="synthetic:50")))
    assert [row.label for row in rows(store_of(tmp_path / "b", two))][1:] == [
        "onnx int8 PTQ common synthetic:8",
        "onnx int8 PTQ common synthetic:50",
    ]
    photos = (SWEEP[0], Made(int8("onnx", calibration="photos", weights="photos-too")))
    assert rows(store_of(tmp_path / "c", photos))[1].label == "onnx int8 PTQ common photos-too"


def test_the_advice_follows_gate_and_ratio(tmp_path: Path) -> None:
    found = rows(store_of(tmp_path / "store"))
    onnx, openvino = verdicts(found)
    assert onnx.advice is Advice.QUANTIZE
    assert onnx.sentence() == (
        "rtmw-n-256x192 on onnx: quantize: int8 PTQ affine percentile keeps the gate and takes 0.60 times as long as "
        "fp32 (0.58 to 0.62); it is bundles/x."
    )
    assert openvino.advice is Advice.DO_NOT
    assert openvino.sentence() == (
        "rtmw-n-256x192 on openvino: do not quantize on this board: int8 PTQ common percentile, the fastest that keeps "
        "the gate, is not faster: it takes 1.01 times as long as fp32 (0.99 to 1.03); Runtime of openvino runs none of "
        "its convolutions in int8 on this processor."
    )
    assert fastest(found) == [
        "rtmw-n-256x192: the fastest that keeps the gate is onnx int8 PTQ affine, 6.0 ms (0.60 of the time of "
        "ONNX in fp32), AP whole 29.9."
    ]
    assert "no VNNI" in about_processor(ENVIRONMENT)
    assert about_processor({"int8 instructions": "avx2, avx512_vnni"}) == ""


def test_a_processor_with_little_for_int8_is_told(tmp_path: Path) -> None:
    """By what `environment` says of such machines: a Raspberry Pi 4 has none of the words that it looks for."""
    pi = {"system": "Linux-6.6.31+rpt-rpi-v8-aarch64-with-glibc2.36", "processor": "aarch64"}
    assert "no dot product instructions" in about_processor(pi)
    assert "no dot product instructions" in about_processor({"system": "Linux-6.6.31-v7l+-armv7l-with-glibc2.36"})
    assert about_processor(pi | {"int8 instructions": "asimddp, i8mm"}) == about_processor({}) == ""
    for other in ("Linux-6.1.0-22-amd64-x86_64-with-glibc2.36", "macOS-14.5-arm64-arm-64bit"):
        assert about_processor({"system": other}) == "", "a Mac does not tell, and has them"


def test_the_fastest_is_one_for_each_number_of_threads_and_device(tmp_path: Path) -> None:
    """A pace is over ONNX on as many threads: 0.5 of one thread's time is longer than 0.6 of four's."""
    sweep = (
        Made(cell("onnx", threads=1), ms=40.0),
        Made(int8("onnx", threads=1), 29.9, {}, 20.0, (0.5, 0.48, 0.52), noisy=("heat",)),
        Made(cell("onnx", threads=4), ms=12.0),
        Made(int8("onnx", threads=4), 29.9, {}, 7.2, (0.6, 0.58, 0.62)),
        Made(cell("onnx", threads=4, device="cuda"), 30.0, ms=2.0),
    )
    assert fastest(rows(store_of(tmp_path / "store", sweep))) == [
        "rtmw-n-256x192: on cpu, with 1 thread, the fastest that keeps the gate is onnx int8 PTQ common 1 thread, "
        "20.0 ms (0.50 of the time of ONNX in fp32), times that are noisy, AP whole 29.9.",
        "rtmw-n-256x192: on cpu, with 4 threads, the fastest that keeps the gate is onnx int8 PTQ common 4 threads, "
        "7.2 ms (0.60 of the time of ONNX in fp32), AP whole 29.9.",
        "rtmw-n-256x192: on cuda, with 4 threads, the fastest that keeps the gate is onnx fp32 cuda 4 threads, 2.0 ms, "
        "AP whole 30.0.",
    ]


def test_a_broken_gate_and_noise_are_said_in_words(tmp_path: Path) -> None:
    broken = (SWEEP[0], SWEEP[1])
    (verdict,) = verdicts(rows(store_of(tmp_path / "a", broken)))
    assert verdict.advice is Advice.DO_NOT
    assert "none of 1 quantized cells keeps the gate" in verdict.why and "face: 3.00 AP points lost" in verdict.why
    assert "takes 0.50 times as long as fp32" in verdict.why
    noisy = (SWEEP[0], replace(SWEEP[2], ratio=(0.9, 0.7, 1.2), noisy=("the rounds' ratios spread by 40%",)))
    (verdict,) = verdicts(rows(store_of(tmp_path / "b", noisy)))
    assert verdict.advice is Advice.UNDECIDED and "the rounds' ratios spread by 40%" in verdict.why


def test_a_gate_that_noise_decides_gives_no_advice(tmp_path: Path) -> None:
    """The same drop on images that say little: the limit lies inside the interval, and more images are asked for."""
    found = rows(store_of(tmp_path / "a", (SWEEP[0], SWEEP[1])))
    cell = found[1]

    def broken(**changes: object) -> tuple[GateCheck, ...]:
        return tuple(replace(check, **changes) if not check.passed else check for check in cell.gate)  # type: ignore[arg-type]

    open_ = replace(cell, gate=broken(low=0.1, high=9.0))
    (verdict,) = verdicts([found[0], open_])
    assert verdict.advice is Advice.UNDECIDED
    assert verdict.why.startswith("int8 PTQ common percentile breaks the gate by less than chance, where face: 3.00 AP")
    assert "within noise); it takes 0.50 times" in verdict.why
    assert verdict.why.endswith("; more images than these 40 decide")
    perhaps = {**cell.speed, "ratio": 0.9, "ratio_low": 0.8, "ratio_high": 1.0}
    (verdict,) = verdicts([found[0], replace(open_, speed=perhaps)])
    assert verdict.why.endswith("; more images than these 40 and a quieter machine decide")
    (verdict,) = verdicts([found[0], replace(open_, speed={})])
    assert verdict.why.endswith("; more images than these 40 and its time decide")
    unmeasured = replace(cell, gate=broken(value=None, low=None, high=None))
    assert verdicts([found[0], unmeasured])[0].advice is Advice.UNDECIDED
    slow = {**cell.speed, "ratio": 1.5, "ratio_low": 1.4, "ratio_high": 1.6}
    (verdict,) = verdicts([found[0], replace(open_, speed=slow)])
    assert verdict.advice is Advice.DO_NOT, "no image makes it faster"
    assert verdict.why == (
        "int8 PTQ common percentile, the fastest that may keep the gate on more images, is not faster: it takes 1.50 "
        "times as long as fp32 (1.40 to 1.60)"
    )
    (verdict,) = verdicts([found[0], cell, replace(open_, speed=slow)])
    assert verdict.advice is Advice.DO_NOT and "is not faster: it takes 1.50" in verdict.why, "not what breaks the gate"
    keeps = replace(cell, gate=tuple(check for check in cell.gate if check.passed), speed=slow)
    (verdict,) = verdicts([found[0], keeps, open_])
    assert verdict.advice is Advice.UNDECIDED and "takes 0.50" in verdict.why, "what is fast may keep it yet"


def test_a_runtime_that_takes_one_of_two_files_is_not_said_to_run_none_in_int8(tmp_path: Path) -> None:
    slow: dict[str, Any] = {"whole": 29.9, "ap": {}, "ratio": (1.1, 1.05, 1.15)}
    other = Made(int8("onnx", grid="affine"), **slow)
    for name, count, said in (("a", 80, False), ("b", 0, True)):
        one = Made(int8("onnx"), int8=count, **slow)
        (verdict,) = verdicts(rows(store_of(tmp_path / name, (SWEEP[0], one, other))))
        assert verdict.advice is Advice.DO_NOT and ("runs none of its convolutions" in verdict.why) is said


def test_half_precision_is_no_quantized_cell(tmp_path: Path) -> None:
    half = Made(cell("onnx", "fp16"), 30.0, ms=4.0, ratio=(0.4, 0.38, 0.42))
    found = rows(store_of(tmp_path / "store", (SWEEP[0], half, SWEEP[1])))
    assert found[1].passed
    (verdict,) = verdicts(found)
    assert verdict.advice is Advice.DO_NOT and "none of 1 quantized cells keeps the gate" in verdict.why
    clipped = rows(store_of(tmp_path / "clipped", (SWEEP[0], replace(half, whole=3.0))))
    assert clipped[1].passed is False and "is onnx fp32" in fastest(clipped)[0], "the gate is for it too"


def test_of_cells_that_are_as_fast_the_most_accurate_is_named(tmp_path: Path) -> None:
    twin = Made(int8("onnx", method="mse"), 29.95, ms=9.7, ratio=(0.605, 0.59, 0.62))
    found = rows(store_of(tmp_path / "store", (*SWEEP[:1], SWEEP[2], twin)))
    assert found[1].passed and found[2].passed
    assert "is onnx int8 PTQ common mse, 9.7 ms (0.60 of the time" in fastest(found)[0]


def test_who_is_a_little_slower_is_not_as_fast(tmp_path: Path) -> None:
    """2 % are a tie, 3 % are not, however accurate."""
    slower = Made(int8("onnx", method="mse"), 29.99, ms=9.7, ratio=(0.619, 0.6, 0.63))
    found = rows(store_of(tmp_path / "store", (SWEEP[0], SWEEP[2], slower)))
    assert "is onnx int8 PTQ affine percentile" in fastest(found)[0]


def test_every_device_board_and_number_of_threads_has_its_own_advice(tmp_path: Path) -> None:
    found = rows(store_of(tmp_path / "store", (SWEEP[0], SWEEP[2])))
    places = ({}, {"device": "gpu"}, {"threads": 2}, {"board": "pi5"})
    placed = [replace(found[1], cell=replace(found[1].cell, **place)) for place in places]  # type: ignore[arg-type]
    assert [verdict.target for verdict in verdicts([found[0], *placed])] == [
        "onnx", "onnx gpu", "onnx 2 threads", "onnx on pi5"
    ]  # fmt: skip


def test_what_is_for_tensorrt_gets_no_advice_from_the_time_of_another_runtime(tmp_path: Path) -> None:
    slow, fast = (1.67, 1.59, 1.78), (0.5, 0.48, 0.52)
    sweep = (
        SWEEP[0],
        Made(cell("tensorrt"), ms=9.0, ratio=(0.9, 0.88, 0.92)),
        Made(int8("tensorrt"), 29.9, ratio=slow),
    )
    found = rows(store_of(tmp_path / "here", sweep))
    assert [verdict.sentence() for verdict in verdicts(found)] == [
        "rtmw-n-256x192 on tensorrt: not decided: TensorRT did not run, only ONNX Runtime; sweep with "
        'devices = ["tensorrt"] on a machine that has it.'
    ]
    assert fastest(found)[0].endswith("is onnx fp32, 10.0 ms, AP whole 30.0.")
    there = tuple(Made(replace(made.cell, device="tensorrt"), made.whole, ratio=fast) for made in sweep)
    (verdict,) = verdicts(rows(store_of(tmp_path / "there", there)))
    assert verdict.advice is Advice.QUANTIZE and verdict.target == "tensorrt tensorrt"


def test_what_is_sure_to_be_faster_is_taken_before_what_may_be(tmp_path: Path) -> None:
    def advice(name: str, *ratios: tuple[float, float, float]) -> tuple[Advice, str]:
        cells = [
            Made(int8("onnx", method=f"m{number}"), 29.9, ratio=ratio, noisy=("load",) if number else ())
            for number, ratio in enumerate(ratios)
        ]
        (found,) = verdicts(rows(store_of(tmp_path / name, (SWEEP[0], *cells))))
        return found.advice, found.why

    sure, maybe, slow = (0.92, 0.91, 0.93), (0.90, 0.85, 0.96), (1.1, 1.05, 1.15)
    assert advice("a", sure, maybe)[0] == Advice.QUANTIZE and "0.92 times" in advice("b", sure, maybe)[1]
    assert advice("c", maybe)[0] == Advice.UNDECIDED and advice("d", slow, maybe)[0] == Advice.UNDECIDED
    assert advice("e", slow)[0] == Advice.DO_NOT


def test_what_nobody_judged_is_not_the_fastest_that_keeps_the_gate(tmp_path: Path) -> None:
    alone = (SWEEP[0], Made(int8("ncnn"), 3.0, ms=4.0, ratio=(0.4, 0.38, 0.42)))
    found = rows(store_of(tmp_path / "store", alone))
    assert found[1].passed is None
    assert fastest(found)[0].endswith("is onnx fp32, 10.0 ms, AP whole 30.0.")


def test_what_another_command_recorded_meanwhile_counts(tmp_path: Path) -> None:
    folder = store_of(tmp_path / "store")
    with Store.open(folder) as store:
        first = run_of(store, 1)
        entries = json.loads(json.dumps(first.document))
        entries["cells"][0]["accuracy"] = "of another"
        mine, theirs = store.begin(entries), store.begin({})
        old = store.records([first.document["cells"][0]["accuracy"]])
        (record,) = old.values()
        store.finish(replace(record, job="of another", run=theirs))
    assert rows(folder, mine)[0].status == "ok"


def test_a_run_is_what_it_found_whatever_a_later_one_did(tmp_path: Path) -> None:
    """A failure that was tried again stays a failure of its own run; and what nobody has timed yet is waited for."""
    folder = store_of(tmp_path / "store", (SWEEP[0], replace(SWEEP[1], reason="It broke.")))
    with Store.open(folder) as store:
        document = json.loads(json.dumps(run_of(store, 1).document))
        good, failed = (document["cells"][k]["accuracy"] for k in (0, 1))
        document["cells"][1]["speed"] = "not yet"
        again = store.begin(document)
        (record,) = store.records([good]).values()
        assert store.finish(replace(record, job=failed, run=again), retry_until=store.last_record())
    assert [row.status for row in rows(folder, 1)] == ["ok", "failed"]
    assert [row.status for row in rows(folder, again)] == ["ok", "pending"]
    assert rows(folder, 1)[1].accuracy == {} and rows(folder, again)[1].accuracy


def test_a_limit_on_mpjpe_that_nobody_measured_is_not_kept(tmp_path: Path) -> None:
    cells = [replace(made.cell, variant="rtmw3d-n-256x192") for made in SWEEP[:2]]
    found = rows(store_of(tmp_path / "store", tuple(map(Made, cells))))
    unmeasured = [check for check in found[1].gate if check.measure == "mpjpe_percent"]
    assert unmeasured and not any(check.passed for check in unmeasured) and found[1].passed is False


def test_a_base_that_finds_nobody_has_nothing_to_lose(tmp_path: Path) -> None:
    found = rows(store_of(tmp_path / "store", tuple(replace(made, ap={"foot": 0.0}) for made in SWEEP[:2])))
    assert found[1].drop["foot"].value == 0
    (foot,) = (check for check in found[1].gate if check.part == "foot")
    assert foot.value is None and not foot.passed and found[1].passed is False


def test_tables_hold_every_figure(tmp_path: Path) -> None:
    folder = store_of(tmp_path / "store")
    runner = CliRunner()

    def printed(*arguments: str) -> str:
        done = runner.invoke(app, ["results", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    text = printed("export", str(folder), "--markdown")
    assert "| onnx int8 PTQ common | 7.0 | 100 | 5.0 | 0.50 (0.48 to 0.52) | 80/80 | 0.2 (" in text
    assert "| failed |" in text and "- ncnn w8a16: ncnn has fp32, fp16, int8" in text
    assert "- ncnn fp32: it said <no> & stopped" in text
    lines = list(csv.DictReader(io.StringIO(printed("export", str(folder), "--csv"))))
    assert [line["target"] for line in lines] == ["onnx"] * 4 + ["openvino"] * 2 + ["ncnn"]
    assert float(lines[1]["drop_face"]) == pytest.approx(3.0) and lines[1]["gate"] == "failed"
    assert [line["threads"] for line in lines] == ["2"] * 6 + [""]  # all cores, of which this machine has two
    document = json.loads(printed("export", str(folder), "--json"))
    assert document["environment"] == ENVIRONMENT and document["cells"][2]["ratio"] == 0.6
    assert json.loads(printed("show", str(folder), "--json")) == document
    assert "failed: it said <no> & stopped" in printed("show", str(folder))
    assert "7 cells, 6 evaluated, 6 timed, 1 failed, 0 not possible, 0 waiting" in printed("list", str(folder))
    assert json.loads(printed("list", str(folder), "--json"))[0]["cells"] == 7
    page = tmp_path / "page.md"
    assert printed("export", str(folder), "--out", str(page)).strip() == str(page) and page.read_text() == text


def test_nothing_lost_is_never_minus_nothing() -> None:
    assert [lost(drop) for drop in (-0.04, 0.0, 0.06, -0.06)] == ["0.0", "0.0", "0.1", "-0.1"]


def test_the_share_of_int8_is_of_all_products(tmp_path: Path) -> None:
    found = rows(store_of(tmp_path / "store", SWEEP[:2]))[1]
    runs = {**found.accuracy["runs"], "int8_macs": 3.0e9, "macs": 4.0e9}
    assert flat(replace(found, accuracy={**found.accuracy, "runs": runs}))["int8_mac_share"] == 0.75
    assert flat(found)["int8_mac_share"] is None, "who cannot tell has no share"


def test_a_fleet_s_tables_have_the_boards_environments(tmp_path: Path) -> None:
    folder = store_of(tmp_path / "store", tuple(Made(replace(made.cell, board="pi5")) for made in SWEEP[:2]))
    text = CliRunner().invoke(app, ["results", "export", str(folder), "--markdown"]).output
    assert "On pi5: board Made Pi, system Linux-6.6.31-v8+-aarch64-with-glibc2.36." in text
    document = json.loads(CliRunner().invoke(app, ["results", "export", str(folder), "--json"]).output)
    assert document["boards"] == {"pi5": BOARD}


def test_3d_variants_have_their_mpjpe_judged(tmp_path: Path) -> None:
    name = "rtmw3d-n-256x192"
    sweep = (
        Made(cell("onnx", variant=name), mpjpe=100.0),
        Made(int8("onnx", variant=name), mpjpe=102.0),
        Made(int8("onnx", variant=name, grid="affine"), mpjpe=104.0),
    )
    folder = store_of(tmp_path / "store", sweep)
    _, good, bad = rows(folder)
    assert good.mpjpe_more["whole"].value == pytest.approx(2.0) and good.passed
    more = good.mpjpe_more["whole"]
    assert (more.low, more.high) == pytest.approx((1.96, 2.04), abs=0.01)
    assert bad.passed is False and "4.00 % more MPJPE (at most 3" in bad.gate[-1].sentence()
    text = CliRunner().invoke(app, ["results", "export", str(folder)]).output
    assert "| 104.0 (+4.0 %) | failed |" in text


def changes(tmp_path: Path, old: tuple[Made, ...], new: tuple[Made, ...]) -> list[tuple[str, bool | None]]:
    store_of(tmp_path / "store", old)
    store_of(tmp_path / "store", new)
    found = compare(rows(tmp_path / "store", 1), rows(tmp_path / "store", 2))
    return [(change.what, change.worse) for change in found]


def test_a_higher_mpjpe_is_worse(tmp_path: Path) -> None:
    near, far = ((Made(cell("onnx", variant="rtmw3d-n-256x192"), mpjpe=error),) for error in (100.0, 110.0))
    assert changes(tmp_path / "a", near, far) == [("MPJPE of whole 100.0 -> 110.0 mm (+10.00 to +10.00)", True)]
    little, more = ((Made(cell("onnx", variant="rtmw3d-n-256x192"), mpjpe=error),) for error in (100.15, 100.25))
    assert changes(tmp_path / "c", near, little) == [], "less than 2 in a thousand, however sure"
    assert [worse for _, worse in changes(tmp_path / "d", near, more)] == [True]
    assert changes(tmp_path / "b", far, near) == [("MPJPE of whole 110.0 -> 100.0 mm (-10.00 to -10.00)", False)]


def test_two_equal_runs_do_not_differ_and_noise_is_no_regression(tmp_path: Path) -> None:
    assert changes(tmp_path, SWEEP, SWEEP) == []
    shaken = tuple(replace(made, seed=1, whole=made.whole - 0.15) for made in SWEEP)
    assert changes(tmp_path / "shaken", SWEEP, shaken) == []


def test_what_is_worse_beyond_noise_is_told(tmp_path: Path) -> None:
    single, good = SWEEP[0], SWEEP[2]
    worse = replace(
        good, ap={"left_hand": 28.9}, ratio=(0.7, 0.68, 0.72), megabytes=8.0, int8=70, seed=1
    )  # fmt: skip
    found = changes(tmp_path, (single, good), (single, worse))
    words = [what for what, _ in found]
    assert words[1].startswith("AP of left hand 29.90 -> 28.90 (-1.")
    assert [*words[:1], *words[2:]] == [
        "passed the gate, and now fails",
        "time against float 0.60 (0.58 to 0.62) -> 0.70 (0.68 to 0.72)",
        "file 7.0 -> 8.0 MB",
        "convolutions that run in int8 80 -> 70",
    ]
    assert all(flag for _, flag in found)
    back = changes(tmp_path / "back", (single, worse), (single, good))
    assert len(back) == len(found) and not any(flag for _, flag in back)


def test_noisy_times_failures_and_cells_that_come_and_go(tmp_path: Path) -> None:
    single, good, failed = SWEEP[0], SWEEP[2], SWEEP[6]
    noisy = replace(good, ratio=(0.9, 0.85, 0.95), noisy=("others took 90% of the processor",))
    (change,) = changes(tmp_path / "a", (single, good), (single, noisy))
    assert change[1] is None and change[0].endswith("but one of them was noisy: measure again")
    assert [worse for _, worse in changes(tmp_path / "before", (single, noisy), (single, good))] == [None]
    broken = replace(good, reason="The converter broke.")
    assert ("worked, and now: failed The converter broke.", True) in changes(
        tmp_path / "b", (single, good), (single, broken)
    )
    assert ("works now; before: failed it said <no> & stopped", False) in changes(
        tmp_path / "c", (single, failed), (single, replace(failed, reason=""))
    )
    assert changes(tmp_path / "d", (single, good), (single, SWEEP[3])) == [
        ("is no longer there", None),
        ("is new", None),
    ]


def test_the_command_s_exit_code_is_1_on_a_regression(tmp_path: Path) -> None:
    single, good = SWEEP[0], SWEEP[2]
    one = store_of(tmp_path / "one", (single, good))
    other = store_of(tmp_path / "other", (single, replace(good, whole=25.0)), {**ENVIRONMENT, "cores": "4"})
    runner = CliRunner()
    done = runner.invoke(app, ["results", "diff", str(one), f"{other}@1"])
    assert isinstance(done.exception, VerificationError) and done.exception.exit_code == 1
    assert (
        "environment: cores: 2 against 4" in done.output
        and "worse   rtmw-n-256x192 onnx int8 PTQ affine" in done.output
    )
    done = runner.invoke(app, ["results", "diff", str(one), str(one), "--json"])
    assert done.exit_code == 0 and json.loads(done.output) == {"environment": [], "changes": []}
    assert "No change beyond noise in 2 cells." in runner.invoke(app, ["results", "diff", str(one), str(one)]).output


def test_a_run_that_is_not_done_yet_is_told_as_such_and_is_neither_worse_nor_better(tmp_path: Path) -> None:
    one = store_of(tmp_path / "one", SWEEP[:2])
    with Store.open(one) as store:
        document = run_of(store).document
        single, integer = document["cells"]
        store.begin({**document, "cells": [single, {**integer, "accuracy": "later", "speed": "later too"}]})
    done = CliRunner().invoke(app, ["results", "diff", f"{one}@1", f"{one}@2"])
    name = "rtmw-n-256x192 onnx int8 PTQ common percentile synthetic:8"
    assert done.output.splitlines() == [f"note    {name}: is not done yet"]
    assert isinstance(done.exception, BadInputError)
    assert str(done.exception) == (
        f"1 of 2 cells of {one}@2 are not done yet, so that this says nothing of them; run its sweep to the end, and "
        "compare again."
    )
    done = CliRunner().invoke(app, ["results", "diff", f"{one}@2", f"{one}@1"])
    assert done.output.splitlines() == [f"note    {name}: was not done before"] and done.exit_code == 0


def test_boards_environments_are_compared_too(tmp_path: Path) -> None:
    made = tuple(Made(replace(made.cell, board="pi5")) for made in SWEEP[:2])
    one = store_of(tmp_path / "one", made)
    other = store_of(tmp_path / "other", made, board={**BOARD, "ncnn": "1.0"})
    done = CliRunner().invoke(app, ["results", "diff", str(one), str(other)])
    assert done.exit_code == 0 and "environment: pi5: ncnn: none against 1.0" in done.output


def test_a_board_that_one_run_has_not_is_compared_with_nothing() -> None:
    facts = {"environment": ENVIRONMENT, "boards": {"pi5": BOARD}}
    alone = {"environment": {**ENVIRONMENT, "cores": "4"}, "boards": {}}
    assert environments_apart(facts, alone) == ["cores: 2 against 4"]
    assert environments_apart(alone, facts) == ["cores: 4 against 2"]


def test_runs_on_other_data_are_compared_as_independent_and_strangers_are_refused(tmp_path: Path) -> None:
    before = rows(store_of(tmp_path / "a", SWEEP[:2]))
    worse = [replace(made, cell=replace(made.cell, data="synthetic:val:500"), whole=10.0, ap={}) for made in SWEEP[:2]]
    after = rows(store_of(tmp_path / "b", tuple(worse)))
    found = compare(before, after)
    assert found[0].what == "measured on synthetic:val:40, and now on synthetic:val:500"
    assert {change.cell for change in found if change.worse} == {
        row.cell.variant + " " + row.cell.label for row in after
    }
    slower = [replace(made, cell=replace(made.cell, data="synthetic:val:500")) for made in SWEEP[:2]]
    slower[1] = replace(slower[1], ratio=(0.8, 0.78, 0.82))
    told = compare(before, rows(store_of(tmp_path / "slower", tuple(slower))))
    words = "time against float 0.50 (0.48 to 0.52) -> 0.80 (0.78 to 0.82)"
    assert words in [change.what for change in told], "a time hangs on no images, nor does what it was paced by"
    # A point is beyond noise on the same images, and within the noise of two draws of them.
    for data, told in (("synthetic:val:40", True), ("synthetic:val:500", False)):
        point = tuple(replace(made, cell=replace(made.cell, data=data), whole=made.whole - 1) for made in SWEEP[:1])
        found = compare(before[:1], rows(store_of(tmp_path / data.replace(":", "-"), point)))
        assert any(change.worse for change in found) is told
    with pytest.raises(BadInputError, match=r"have no cell in common \(rtmw-n.*, and rtmw-t.*\)"):
        compare(before, rows(store_of(tmp_path / "c", (Made(cell("onnx", variant="rtmw-t-256x192")),))))


def test_wrong_names_are_refused(tmp_path: Path) -> None:
    folder = str(store_of(tmp_path / "store", SWEEP[:1]))
    for arguments, words in (
        (["show", str(tmp_path)], "There is no sweep in"),
        (["show", folder, "--run", "7"], "There is no run 7 in .*; it has 1 to 1"),
        (["export", folder, "--csv", "--json"], "Choose one of --markdown"),
        (["export", folder, "--svg", "--part", "hand"], "Unknown part 'hand'; did you mean"),
        (["export", folder, "--svg", "--cost", "watts"], "Unknown cost 'watts'"),
        (
            ["export", folder, "--svg", "--most", "0"],
            "of whole against ms: no cell costs 0 or less; raise --most",
        ),
        (["export", folder, "--part", "face"], "--part, --cost and --most are of the picture: add --svg, or leave"),
    ):
        done = CliRunner().invoke(app, ["results", *arguments])
        assert isinstance(done.exception, BadInputError)
        with pytest.raises(BadInputError, match=words):
            raise done.exception

"""Timing a bundle: the record, what it is compared with, and what the machine tells of itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rtmw_edge.errors import BadInputError
from rtmw_edge.runtime import Description, Engine, Model, Runner, processor
from rtmw_edge.runtime import benchmark as timing
from rtmw_edge.runtime.benchmark import Benchmark, Times, benchmark, scene
from rtmw_edge.runtime.environment import Sensors, differences, environment, read_sensors


class SleepingEngine(Engine):
    """Takes four milliseconds a crop and counts them."""

    runtime = "sleep"
    devices = ("cpu",)

    def __init__(self) -> None:
        super().__init__(Model("tiny", "onnx", "fp32", (48, 64), (96, 128), None, None), "cpu", 1, batch=1, fixed=True)
        self.crops = 0

    def run(self, crops: NDArray[np.uint8]) -> Sequence[NDArray[np.float32]]:
        self.crops += 1
        time.sleep(0.004)
        return [np.ones((1, 133, bins), np.float32) for bins in self.model.bins]

    def describe(self) -> Description:
        return Description("sleep", "1", "cpu", 1, {"float": 1, "integer": 1}, 1)


@pytest.fixture()
def record(monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.0)
    return benchmark(Runner(SleepingEngine()), people=2, seconds=0.0, calls=5)


@pytest.fixture()
def board(tmp_path: Path) -> Path:
    """The files of a small board under a folder."""
    files = {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/cpuinfo": "processor : 0\nFeatures\t: fp asimd asimddp\n",
        "proc/meminfo": "MemTotal:        8000000 kB\nMemFree:  1 kB\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "61234\n",
        "sys/class/thermal/thermal_zone1/temp": "unreadable\n",
        **{f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq": f"{1000 + n}000\n" for n in (10, 2, 0)},
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_machine_is_busy_by_the_load_of_each_core(record: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 8)
    assert not replace(record, load=1.5).busy and replace(record, load=3.0).busy


def test_steps_are_parts_of_the_call(record: Benchmark) -> None:
    assert list(record.steps) == ["crop", "inference", "decode", "call"] and record.calls == 5
    inference, call = record.steps["inference"], record.steps["call"]
    assert 8.0 <= inference.p50 <= inference.p90 <= inference.p99
    parts = sum(record.steps[name].mean for name in ("crop", "inference", "decode"))
    assert call.mean == pytest.approx(parts) and record.seconds >= 5 * call.mean / 1000 >= 5 * 0.008
    assert 0 < record.steps["crop"].p50 < call.p50 and 0 < record.steps["decode"].p50 < call.p50
    assert record.people_per_second == pytest.approx(10 / record.seconds)
    assert record.settings == {"device": "cpu", "threads": 1, "people": 2, "streams": 1} and record.peak_memory_mb > 10


def test_a_run_lasts_its_time_and_has_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.0)
    shares: list[float] = []
    engine = SleepingEngine()
    result = benchmark(Runner(engine), seconds=0.2, calls=3, on_progress=shares.append)
    assert result.seconds >= 0.2 and result.calls > 3
    assert engine.crops == timing.WARM_UP_CALLS + result.calls
    assert shares == sorted(shares) and shares[0] >= 0 and 0.8 < shares[-1] <= 1.0


def test_percentiles_are_of_the_calls() -> None:
    times = Times.of(np.arange(101) / 1000)
    assert (times.p50, times.p90, times.p99, times.mean) == pytest.approx((50, 90, 99, 50))


@pytest.mark.parametrize("people", [1, 2, 7])
def test_people_stand_inside_the_picture(people: int) -> None:
    image, boxes = scene(people)
    assert image.shape == (720, 1280, 3) and boxes.shape == (people, 4)
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 1279 and boxes[:, 3].max() <= 719
    assert np.array_equal(image, scene(people)[0])


def test_numbers_that_measure_nothing_are_refused() -> None:
    with pytest.raises(BadInputError, match="Cannot time 100 calls of 0 people for 10 s: pass at least 1"):
        benchmark(Runner(SleepingEngine()), people=0)
    with pytest.raises(BadInputError, match="Cannot time calls of 100000 people: pass at most 256"):
        benchmark(Runner(SleepingEngine()), people=100_000)
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(BadInputError, match=f"for {seconds:g} s: pass at least 1, and a time that ends"):
            benchmark(Runner(SleepingEngine()), seconds=seconds)


def test_a_board_tells_what_it_is(board: Path) -> None:
    found = environment(board)
    assert found["board"] == "Raspberry Pi 5 Model B Rev 1.0" and found["memory"] == "8.2 GB"
    assert found["int8 instructions"] == "asimddp" and found["frequency governor"] == "ondemand"
    assert "openvino-dev" not in found and all(found.values())


def test_sensors_are_read_where_there_are_some(board: Path, tmp_path: Path) -> None:
    found = read_sensors(board)
    assert found.temperature_c == {"cpu-thermal (thermal_zone0)": 61.234}
    assert found.frequency_mhz == [1000.0, 1002.0, 1010.0]
    nothing = read_sensors(tmp_path / "nowhere")
    assert nothing.temperature_c == {} and nothing.frequency_mhz is None


def test_throttling_is_asked_of_the_firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_sensors(tmp_path).throttled is None
    command = tmp_path / "vcgencmd"
    command.write_text("#!/bin/sh\n[ $1 = get_throttled ] && echo throttled=0x50000\n")
    command.chmod(0o755)
    assert read_sensors(tmp_path).throttled == "0x50000"


def test_environments_differ_in_words() -> None:
    lines = differences({"cores": "2", "numpy": "2", "board": "Pi"}, {"cores": "2", "numpy": "1", "torch": "3"})
    assert lines == ["numpy: 2 against 1", "board: Pi against none", "torch: none against 3"]


def test_a_record_survives_its_file(record: Benchmark, tmp_path: Path) -> None:
    warm = replace(record, after=Sensors({"cpu": 70.5}, [1500.0], "0x0"))
    warm.save(tmp_path / "a.json")
    assert Benchmark.load_file(tmp_path / "a.json") == warm
    warm.save(tmp_path / "a.json")  # its own record may be replaced


def test_other_files_are_kept(record: Benchmark, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.json"
    thesis.write_text('{"years": 4}')
    with pytest.raises(BadInputError, match=r"Refusing to overwrite .*thesis.json': this command did not write it"):
        record.save(thesis)
    with pytest.raises(BadInputError, match=r"it is a folder\. Name a file"):
        record.save(tmp_path)
    assert thesis.read_text() == '{"years": 4}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a benchmark: not JSON"),
        ('{"format": "poses"}', "is not a benchmark of this tool"),
        ('{"format": "rtmw-edge benchmark", "version": 99}', "is of another version"),
        ('{"format": "rtmw-edge benchmark", "version": 1, "steps": {}}', "is a damaged benchmark"),
    ],
)
def test_what_is_no_record_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BadInputError, match=message):
        Benchmark.load_file(path)
    with pytest.raises(BadInputError, match=r"Cannot read the benchmark .*: No such file"):
        Benchmark.load_file(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("part", "value"), [("settings", {}), ("model", {"variant": "x"}), ("steps", None), ("runs", {"runtime": "x"})]
)
def test_a_damaged_record_is_refused(record: Benchmark, tmp_path: Path, part: str, value: object) -> None:
    record.save(tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    if part == "steps":
        document["steps"]["call"]["p50"] = "fast"
    else:
        document[part] = value
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(BadInputError, match=r"a\.json is a damaged benchmark .*; measure again"):
        Benchmark.load_file(tmp_path / "a.json")


def test_the_command_measures_and_keeps(
    cli: Callable[..., Any], tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.0)
    path = tmp_path / "a.json"
    done = cli("benchmark", tiny_bundle, "--threads", 1, "--batch", 2, "--duration", 0, "--json", path)
    assert done.code == 0 and "tiny onnx fp32 on cpu, 1 thread, 2 people a call" in done.out
    assert "100 calls in " in done.out and "0 of 1 convolutions in int8" in done.out and "peak memory" in done.out
    document = json.loads(path.read_text())
    assert document["environment"]["onnxruntime"] and document["settings"]["people"] == 2
    assert len(document["model"]["files_sha256"]) == 64


def test_the_command_compares_in_one_environment(cli: Callable[..., Any], record: Benchmark, tmp_path: Path) -> None:
    faster = replace(record, steps={name: Times(2.0, 3.0, 4.0, 2.0) for name in record.steps}, load=1e6)
    slower = replace(faster, steps={name: Times(5.0, 9.0, 9.0, 5.0) for name in record.steps}, load=0.0)
    elsewhere = replace(slower, environment={**slower.environment, "board": "Raspberry Pi 5"})
    for name, result in (("a", faster), ("b", slower), ("c", elsewhere)):
        result.save(tmp_path / f"{name}.json")
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    done = cli("benchmark", "--compare", a, b)
    assert done.code == 0 and done.out.count("2.50") == 4 and done.out.count("3.00") == 8
    assert "A was measured while other programs were at work" in done.out and "B was" not in done.out
    done = cli("benchmark", "--compare", a, c)
    assert done.code == 2 and "different environments (board: none against Raspberry Pi 5)" in done.err
    assert "pass --across to compare them all the same" in done.err
    done = cli("benchmark", "--compare", a, c, "--across")
    assert done.code == 0 and "Across environments" in done.out and "board: none against Raspberry Pi 5" in done.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "There is nothing to measure: name a bundle"),
        (["builtin", "--across"], "--across goes with --compare"),
        (["builtin", "--compare", "a.json", "b.json"], "--compare reads two records and measures nothing"),
        (["--compare", "a.json", "b.json", "--threads", "3"], "leave out all but --across"),
        (["--compare", "a.json", "b.json", "--batch", "7"], "leave out all but --across"),
        (["builtin", "--device", "warp"], "Unknown device 'warp'"),
        (["builtin", "--duration", "-1"], "Cannot time 100 calls of 1 people for -1 s"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], text: str, cli: Callable[..., Any]) -> None:
    done = cli("benchmark", *arguments)
    assert done.code == 2 and text in done.err and len(done.err.strip().splitlines()) == 1  # Rich 13 puts one before it


@pytest.mark.parametrize(("quota", "wanted"), [("max 100000", 8), ("150000 100000", 2), ("1000 100000", 1), ("x", 8)])
def test_a_container_s_share_of_the_processors_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, wanted: int
) -> None:
    monkeypatch.setattr(processor.os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(processor, "CPU_QUOTA", tmp_path / "cpu.max")
    assert processor.cores() == 8
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert processor.cores() == wanted

"""What a convolution costs in float: counted by hand, and timed in the runtimes that tell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from small_deployable import absmax_table, small_deployable, smooth_crops

from rtmw_edge.errors import NotAvailableError
from rtmw_edge.runtime.openvino_engine import WITHOUT_DOT_PRODUCT
from rtmw_edge.sweep.sensitivity import layer_costs as costs_module
from rtmw_edge.sweep.sensitivity.layer_costs import layer_costs


def test_without_times_a_convolution_costs_its_multiply_accumulates() -> None:
    network, crops = small_deployable(), smooth_crops(2)
    table = absmax_table(network, crops)
    found = layer_costs(network, table, "ncnn", None)
    assert found.unit == "MMAC" and found.source == "Multiply-accumulates, as ncnn tells no times of layers"
    assert found.extra["stem"] == pytest.approx(32 * 24 * 12 * 3 * 9 / 1e6)
    assert found.extra["depthwise"] == pytest.approx(32 * 24 * 16 * 25 / 1e6)
    assert list(found.extra) == list(network.convolutions())
    assert layer_costs(network, table, None, None).source == "Multiply-accumulates, as no target was named"


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_every_convolution_is_found_in_the_runtimes_profile(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime" if target == "onnx" else "openvino")
    network, crops = small_deployable(), smooth_crops(2)
    table = absmax_table(network, crops)
    monkeypatch.setattr(costs_module, "why_in_float", str)
    kept: list[dict[str, float]] = []
    timer = getattr(costs_module, f"_{target}_times")
    monkeypatch.setattr(costs_module, f"_{target}_times", lambda *a: kept.append(timer(*a)) or kept[-1])
    found = layer_costs(network, table, target, 1)
    single, integer = kept
    names = list(network.convolutions())
    for times in kept:
        assert set(names) <= times.keys() and min(times.values()) >= 0
        # OpenVINO counts whole microseconds, and the attention's convolution of one position takes less.
        too_short = {"attention"} if target == "openvino" else set()
        assert {name for name in names if times[name] == 0} <= too_short
    if found.unit == "ms":
        assert found.extra == pytest.approx({name: single[name] - integer[name] for name in names})
    else:
        assert sum(single[name] - integer[name] for name in names) <= 0
        assert found.source.endswith(f"as {target} is no faster in int8 than in float on this machine")


def test_an_openvino_that_computes_in_float_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs_module, "why_in_float", lambda: WITHOUT_DOT_PRODUCT)
    network, crops = small_deployable(), smooth_crops(2)
    found = layer_costs(network, absmax_table(network, crops), "openvino", None)
    assert found.source.endswith("OpenVINO computes int8 in float on this processor")


def test_a_runtime_that_renames_its_layers_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        costs_module, "target_named", lambda _: SimpleNamespace(convert=lambda *_: None, requirements=list)
    )
    monkeypatch.setattr(costs_module, "_onnx_times", lambda *_: {"stem": 1.0})
    network, crops = small_deployable(), smooth_crops(2)
    found = layer_costs(network, absmax_table(network, crops), "onnx", None)
    assert found.unit == "MMAC" and "does not name its layers as expected" in found.source


def test_a_converter_that_is_missing_is_told_before_layers_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> None:
        raise AssertionError("converted without its converter")

    missing = SimpleNamespace(convert=absent, requirements=lambda: ["a-converter-of-tomorrow"])
    monkeypatch.setattr(costs_module, "target_named", lambda _: missing)
    network = small_deployable()
    with pytest.raises(NotAvailableError, match="needs a-converter-of-tomorrow, which is not installed"):
        layer_costs(network, absmax_table(network, smooth_crops(2)), "onnx", None)

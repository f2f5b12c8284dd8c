"""One pass over crops: the table against plain recording of every activation, and the same bytes every time."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from observed_values import heavy_tailed, observed
from rtmw_edge.calibration.collect import Settings, _best, collect, table_of
from rtmw_edge.calibration.consumers import errors_at_consumers
from rtmw_edge.calibration.kept import Kept
from rtmw_edge.calibration.observing import Observed, Pass, observe
from rtmw_edge.calibration.ranges import SINGLE, Method
from rtmw_edge.quantization import AFFINE, COMMON, FULL, W8, W8A16, Grid, Table
from rtmw_edge.quantization.fake import check_table, fake_quantize
from small_deployable import (
    SmallDeployable,
    absmax_table,
    float_logits,
    relative_rms,
    smooth_crops,
)

from rtmw_edge.errors import BadInputError

CROPS = smooth_crops(12)
CALIBRATED = [COMMON, AFFINE, W8A16, FULL]


def in_batches(size: int) -> list[np.ndarray]:
    return [CROPS[start : start + size] for start in range(0, len(CROPS), size)]


@pytest.mark.parametrize("grid", CALIBRATED, ids=lambda grid: grid.name)
def test_minmax_equals_an_independent_recording(network: SmallDeployable, grid: Grid) -> None:
    table = collect(network, in_batches(4), Settings(Method.MINMAX, grid))
    expected = absmax_table(network, CROPS, grid, silu_floor=-6.0 if grid.bits == 8 else -np.inf)
    assert table.variant == "small" and table.grid == grid.name and table.entries.keys() == expected.entries.keys()
    for point, entry in table.entries.items():
        # Normalized here in one step and inside the graph in another, so the input differs in its last bits.
        other = expected.entries[point]
        np.testing.assert_allclose(entry.scale, other.scale, rtol=1e-5, err_msg=point)
        fields = (entry.zero_point, entry.bits, entry.low, entry.high, entry.axis)
        assert fields == (other.zero_point, other.bits, other.low, other.high, other.axis), point
    check_table(network, table)


def test_what_silu_turns_into_nothing_takes_no_range(network: SmallDeployable) -> None:
    """The depthwise convolution gives -8.4 to less than 6; from -6 down SiLU is within half a step of zero."""
    extremes = absmax_table(network, CROPS).entries["depthwise:output"]
    assert 127 * extremes.scale[0] > 8
    entry = collect(network, in_batches(4), Settings(Method.MINMAX)).entries["depthwise:output"]
    assert entry.scale == np.float32(6) / np.float32(127)
    assert abs(-6 / (1 + np.exp(6.0))) < entry.scale[0] / 2


def test_where_each_scale_comes_from_is_written_down(network: SmallDeployable) -> None:
    settings = Settings(Method.PERCENTILE, percentile=99.9)
    table = collect(network, in_batches(4), settings, manifest=lambda: {"source": "test"})
    assert table.entries["stem:input"].source == "percentile 99.9"
    assert table.entries["stem:weight"].source == "weights" and table.entries["stem:weight"].axis == 0
    assert table.entries["attention:output"].source == "fixed"
    assert np.float32(127) * table.entries["attention:output"].scale[0] == np.float32(6)
    assert table.provenance["source"] == "test" and table.provenance["crops"] == 12
    assert table.provenance["method"] == "percentile 99.9" and table.provenance["threads"] == 1
    assert table.provenance["versions"].keys() == {"rtmw-edge", "torch", "numpy", "numba", "opencv"}
    assert table.provenance["preprocessing"]["padding"] == 1.25
    assert table.provenance["preprocessing"]["input_size"] == [48, 64]


@pytest.mark.parametrize("method", Method)
def test_the_same_crops_give_the_same_bytes(network: SmallDeployable, method: Method) -> None:
    settings = Settings(method, bias_correction=method is Method.MSE)
    first, second = (collect(network, in_batches(4), settings) for _ in range(2))
    assert first.to_bytes() == second.to_bytes() and first.sha256 == second.sha256


def test_one_pass_serves_every_method_and_grid_with_the_same_points(network: SmallDeployable) -> None:
    observed = observe(network, in_batches(4), COMMON)
    for grid in (COMMON, AFFINE):
        for method in (Method.MOVING_AVERAGE, Method.BEST):
            settings = Settings(method, grid)
            assert table_of(network, observed, settings).to_bytes() == (
                collect(network, in_batches(4), settings).to_bytes()
            )


def test_methods_keep_less_and_less_of_the_tails(network: SmallDeployable) -> None:
    observed = observe(network, in_batches(4), COMMON)
    tables = [
        table_of(network, observed, settings)
        for settings in (Settings(percentile=99.0), Settings(percentile=99.99), Settings(Method.MINMAX))
    ]
    for point in ("middle:output", "depthwise:input", "down:output"):
        scales = [float(table.entries[point].scale[0]) for table in tables]
        assert scales == sorted(scales) and scales[0] < scales[-1], point


@pytest.mark.parametrize("grid", CALIBRATED, ids=lambda grid: grid.name)
def test_every_method_keeps_the_function(network: SmallDeployable, grid: Grid) -> None:
    observed = observe(network, in_batches(4), grid)
    for method in Method:
        quantized = fake_quantize(network, table_of(network, observed, Settings(method, grid)))
        for found, exact in zip(float_logits(quantized, CROPS), float_logits(network, CROPS), strict=True):
            allowed = 0.3 if method is Method.ENTROPY else 0.15 if grid.between else 0.08  # entropy cuts off much
            assert relative_rms(found, exact) < allowed, method


def test_best_says_which_method_it_took_and_is_no_worse_than_any(network: SmallDeployable) -> None:
    observed = observe(network, in_batches(4), COMMON)
    table = table_of(network, observed, Settings(Method.BEST))
    sources = {entry.source for entry in table.entries.values()}
    assert table.provenance["method"] == "best" and len(sources) > 3
    for method in SINGLE:
        single = table_of(network, observed, Settings(method))
        for point, entry in table.entries.items():
            if entry.source == f"best: {method.described(99.999)}":
                assert entry.scale == single.entries[point].scale


def test_best_tries_ranges_on_crops_from_first_to_last(
    network: SmallDeployable, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def noted(deployable: SmallDeployable, crops: np.ndarray, *rest: Any) -> dict[str, np.ndarray]:
        tried.append(crops)
        return errors_at_consumers(deployable, crops, *rest)

    monkeypatch.setattr("rtmw_edge.calibration.collect.errors_at_consumers", noted)
    crops = smooth_crops(32)
    collect(network, [crops], Settings(Method.BEST))
    assert len(tried) == 1 and np.array_equal(tried[0], crops[::2])


def test_a_tensor_with_two_readers_takes_what_harms_both_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reader alone would take the first range, and what put the tensor out has no say."""
    seen = observed(heavy_tailed().reshape(20, -1))
    harm = {"a:input": [0, 1], "b:input": [5, 1], "c:output": [0, 9]}
    errors = {point: np.array([*values, 20.0, 20.0, 20.0]) for point, values in harm.items()}
    monkeypatch.setattr("rtmw_edge.calibration.collect.errors_at_consumers", lambda *_: errors)
    taken = _best(SmallDeployable(), Observed(dict.fromkeys(harm, seen), CROPS, 12), Settings(Method.BEST))
    assert {source for _, source in taken.values()} == {"best: moving-average"} and taken.keys() == harm.keys()


def test_a_dead_channel_with_a_bias_keeps_it_in_int32(network: SmallDeployable) -> None:
    with torch.no_grad():
        network.middle.conv.weight[0] = 1e-12
        network.middle.conv.bias[0] = 3.0
    entries = collect(network, in_batches(4)).entries
    assert 3.0 / (float(entries["middle:input"].scale[0]) * float(entries["middle:weight"].scale[0])) < 2**31


def test_the_network_is_left_without_observers(network: SmallDeployable) -> None:
    collect(network, in_batches(4), Settings(Method.BEST, FULL, bias_correction=True))
    for module in network.convolutions().values():
        assert type(module.quant_in) is type(module.quant_out) is type(module.quant_w) is torch.nn.Identity
        assert not module.conv._forward_hooks
    assert all(type(place.quant) is torch.nn.Identity for place in network.between().values())


def test_memory_does_not_grow_with_the_images(network: SmallDeployable) -> None:
    through = Pass(network, COMMON)
    for batch in in_batches(4) * 12:  # 144 crops: what is kept of them is full
        through.add(batch)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for batch in in_batches(6) * 40:
        through.add(batch)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert through.observed().crops == 144 + 480
    assert grown < 20 * CROPS[0].nbytes, "480 more crops cost no more memory than a few"


def test_few_crops_are_kept_and_spread_evenly() -> None:
    for count in (1, 7, 8, 9, 100, 1000):
        kept = Kept(limit=8)
        numbers = np.arange(count).reshape(-1, 1, 1, 1)
        for batch in np.array_split(numbers, 3):
            kept.add(batch)
        found = kept.crops().ravel()
        assert min(count, 4) <= len(found) <= 8
        assert len(set(np.diff(found))) <= 1 and found[0] == 0 and count - found[-1] <= count // len(found) + 1


def test_what_is_kept_is_its_own() -> None:
    """Crops may come in one buffer, which the next ones are written into."""
    kept, batch = Kept(), np.full((2, 4, 4, 3), 7, np.uint8)
    kept.add(batch)
    batch[:] = 0
    assert (kept.crops() == 7).all()


def test_weights_alone_take_no_ranges(network: SmallDeployable) -> None:
    table = collect(network, in_batches(4), Settings(grid=W8, bias_correction=True))
    assert all(point.endswith(":weight") for point in table.entries)
    assert table.bias_corrections.keys() == network.convolutions().keys()
    check_table(network, table)


def test_a_table_is_plain_json(network: SmallDeployable, tmp_path: Path) -> None:
    table = collect(network, in_batches(4), Settings(Method.BEST, AFFINE, bias_correction=True))
    table.save(tmp_path / "table.json")
    loaded = Table.load(tmp_path / "table.json")
    assert loaded.to_bytes() == table.to_bytes()
    assert json.loads((tmp_path / "table.json").read_bytes())["provenance"]["bias_correction"] is True


def test_no_crop_is_refused(network: SmallDeployable) -> None:
    with pytest.raises(BadInputError, match="No image to calibrate on; give a folder with images or synthetic:N"):
        collect(network, [])


def test_crops_of_another_size_are_refused(network: SmallDeployable) -> None:
    with pytest.raises(BadInputError) as caught:
        collect(network, [CROPS[:, :, :32]])
    assert str(caught.value) == "A calibration batch is uint8 (12, 64, 32, 3); small takes uint8 (N, 64, 48, 3)."
    with pytest.raises(BadInputError, match=r"is float32 \(12, 64, 48, 3\)"):
        collect(network, [CROPS.astype(np.float32)])


@pytest.mark.parametrize("percentile", [0.0, 50.0, 100.1, float("nan")])
def test_a_percentile_that_is_none_is_refused(percentile: float) -> None:
    with pytest.raises(BadInputError, match=r"^Percentile .* is not above 50 and at most 100; try 99\."):
        Settings(percentile=percentile)


def test_sixteen_bits_cut_nothing_off_by_default(network: SmallDeployable) -> None:
    by_default = collect(network, [CROPS], Settings(grid=W8A16))
    extremes = collect(network, [CROPS], Settings(Method.MINMAX, W8A16))
    assert by_default.entries.keys() == extremes.entries.keys()
    for point, entry in by_default.entries.items():
        assert entry.scale.tobytes() == extremes.entries[point].scale.tobytes()
    assert by_default.provenance["method"] == "percentile 100"
    assert collect(network, [CROPS]).provenance["method"] == "percentile 99.999"

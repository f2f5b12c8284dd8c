"""One pass over crops: the table against plain recording of every activation, and the same bytes every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rtmw_edge.calibration.collect import collect
from rtmw_edge.quantization.fake import check_table, fake_quantize
from small_deployable import (
    SmallDeployable,
    absmax_table,
    float_logits,
    relative_rms,
    small_deployable,
    smooth_crops,
)

from rtmw_edge.errors import BadInputError

CROPS = smooth_crops(12)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network() -> SmallDeployable:
    return small_deployable()


def in_batches(size: int) -> list[np.ndarray]:
    return [CROPS[start : start + size] for start in range(0, len(CROPS), size)]


def test_minmax_equals_an_independent_recording(network: SmallDeployable) -> None:
    table, expected = collect(network, in_batches(4), "minmax"), absmax_table(network, CROPS)
    assert table.variant == "small" and table.grid == "common" and table.entries.keys() == expected.entries.keys()
    for point, entry in table.entries.items():
        # Normalized here in one step and inside the graph in another, so the input differs in its last bits.
        np.testing.assert_allclose(entry.scale, expected.entries[point].scale, rtol=1e-5, err_msg=point)
    check_table(network, table)


def test_where_each_scale_comes_from_is_written_down(network: SmallDeployable) -> None:
    table = collect(network, in_batches(4), "percentile", percentile=99.9, manifest=lambda: {"source": "test"})
    assert table.entries["stem:input"].source == "percentile 99.9"
    assert table.entries["stem:weight"].source == "weights" and table.entries["stem:weight"].axis == 0
    assert table.entries["attention:output"].source == "fixed"
    assert np.float32(127) * table.entries["attention:output"].scale[0] == np.float32(6)
    assert table.provenance["source"] == "test" and table.provenance["crops"] == 12
    assert table.provenance["method"] == "percentile 99.9"
    assert table.provenance["versions"].keys() == {"rtmw-edge", "torch", "numpy"}


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_the_same_crops_give_the_same_bytes(network: SmallDeployable, method: str) -> None:
    first, second = (collect(network, in_batches(4), method) for _ in range(2))
    assert first.to_bytes() == second.to_bytes() and first.sha256 == second.sha256


def test_methods_keep_less_and_less_of_the_tails(network: SmallDeployable) -> None:
    minmax, high, low = (
        collect(network, in_batches(4), method, percentile=percentile)
        for method, percentile in (("minmax", 0), ("percentile", 99.99), ("percentile", 99.0))
    )
    for point in ("middle:output", "depthwise:input", "down:output"):
        scales = [float(table.entries[point].scale[0]) for table in (low, high, minmax)]
        assert scales == sorted(scales) and scales[0] < scales[-1], point


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_every_method_keeps_the_function(network: SmallDeployable, method: str) -> None:
    quantized = fake_quantize(network, collect(network, in_batches(4), method))
    for found, exact in zip(float_logits(quantized, CROPS), float_logits(network, CROPS), strict=True):
        assert relative_rms(found, exact) < 0.05


def test_the_network_is_left_without_observers(network: SmallDeployable) -> None:
    collect(network, in_batches(4))
    for module in network.convolutions().values():
        assert type(module.quant_in) is type(module.quant_out) is torch.nn.Identity


def test_no_crop_is_refused(network: SmallDeployable) -> None:
    with pytest.raises(BadInputError, match="No image to calibrate on; give a folder with images or synthetic:N"):
        collect(network, [])


def test_crops_of_another_size_are_refused(network: SmallDeployable) -> None:
    with pytest.raises(BadInputError) as caught:
        collect(network, [CROPS[:, :, :32]])
    assert str(caught.value) == "A calibration batch is uint8 (12, 64, 32, 3); small takes uint8 (N, 64, 48, 3)."
    with pytest.raises(BadInputError, match=r"is float32 \(12, 64, 48, 3\)"):
        collect(network, [CROPS.astype(np.float32)])

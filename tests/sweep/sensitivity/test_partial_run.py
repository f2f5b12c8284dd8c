"""Running a changed network from its change on gives what running all of it gives."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from calm_network import calm_network
from rtmw_edge.quantization.fake import fake_quantize
from rtmw_edge.quantization.inference import for_inference
from rtmw_edge.targets.rewrites import ActConv, deployable
from small_deployable import absmax_table, float_logits, small_deployable, smooth_crops

from rtmw_edge.sweep.sensitivity import partial_run
from rtmw_edge.sweep.sensitivity.partial_run import PartialRuns, blocks_of, logits_of


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_run, "BATCH", 3)


def test_every_convolution_alone_and_all_but_it() -> None:
    """The same bits as the network that an export of the mixed table is held to, and every network left as it was."""
    network, crops = small_deployable(), smooth_crops(7)
    table = absmax_table(network, crops)
    table = replace(table, bias_corrections={"down": np.full(24, 0.05, np.float32)})
    integer = fake_quantize(network, table)
    names = list(network.convolutions())
    alone, all_but = PartialRuns(network, crops), PartialRuns(for_inference(fake_quantize(network, table)), crops)
    for name in names:
        others = [other for other in names if other != name]
        for found, floats in ((alone.run(integer, [name]), others), (all_but.run(network, [name]), [name])):
            expected = logits_of(fake_quantize(network, table.leaving_in_float(floats)), crops)
            assert all(np.array_equal(line, whole) for line, whole in zip(found, expected, strict=True)), name
    found, expected = alone.run(integer, names), logits_of(fake_quantize(network, table), crops)
    assert all(np.array_equal(line, whole) for line, whole in zip(found, expected, strict=True))
    assert all(isinstance(unit.quant_in, torch.nn.Identity) for unit in network.convolutions().values())


def test_logits_are_those_of_the_uint8_graph() -> None:
    network, crops = small_deployable(), smooth_crops(4)
    for line, whole in zip(logits_of(network, crops), float_logits(network, crops), strict=True):
        assert np.abs(line - whole).max() < 1e-4 * np.abs(whole).max()


def test_only_what_comes_after_the_change_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    network, crops = small_deployable(), smooth_crops(3)
    runs = PartialRuns(network, crops)
    ran: list[str] = []
    forward = ActConv.forward
    monkeypatch.setattr(ActConv, "forward", lambda self, x: (ran.append(self.name), forward(self, x))[1])
    runs.run(network, ["down"])
    assert ran == ["down", "attention", "branch", "head"]


def test_a_real_network_is_cut_into_stages_and_layers() -> None:
    network = deployable(calm_network("rtmw-n-256x192"))
    blocks = blocks_of(network)
    assert list(blocks) == list(network.convolutions()) and len(blocks) == 80
    assert list(dict.fromkeys(blocks.values())) == [
        "backbone.stem",
        *(f"backbone.stage{stage}" for stage in (1, 2, 3, 4)),
        *(f"neck.{layers}.{index}" for layers in ("reduce_layers", "top_down_blocks") for index in (0, 1)),
        *(f"neck.{layers}.{index}" for layers in ("downsamples", "bottom_up_blocks") for index in (0, 1)),
        *(f"head.{layer}" for layer in ("conv_dec", "final_layer", "final_layer2")),
    ]
    crops = smooth_crops(2, (192, 256))
    runs = PartialRuns(network, crops)
    for name in ("neck.top_down_blocks.0.main_conv.conv", "head.conv_dec.conv"):
        changed = copy.deepcopy(network)
        with torch.no_grad():
            changed.convolutions()[name].conv.weight.mul_(1.5)
        expected = logits_of(changed, crops)
        found = runs.run(changed, [name])
        assert all(np.array_equal(line, whole) for line, whole in zip(found, expected, strict=True))
        assert not np.array_equal(found[0], runs.logits[0])

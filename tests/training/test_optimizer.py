"""Optimizers: what decays, what Muon takes, and that it steps the network's own weights."""

import copy

import pytest
import torch
from torch import nn

from rtmw_edge.errors import BadInputError
from rtmw_edge.models import build
from rtmw_edge.training.optimizer import Muon, Optimizer, as_matrix, parameter_groups
from rtmw_edge.training.recipe import read_recipe


def test_norms_gains_and_biases_do_not_decay():
    network = build("rtmw-n-256x192")
    decay, keep = parameter_groups(list(network.parameters()), 0.05)
    names = {id(p): n for n, p in network.named_parameters()}
    kept = {names[id(p)] for p in keep["params"]}
    assert keep["weight_decay"] == 0 and decay["weight_decay"] == 0.05
    assert "head.mlp.0.g" in kept and "backbone.stem.0.bn.weight" in kept
    assert "head.cls_x.weight" in {names[id(p)] for p in decay["params"]}
    assert len(decay["params"]) + len(keep["params"]) == len(names)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_moves_every_matrix_by_an_orthogonal_step_of_adamws_size(layout):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 24, 3, bias=False)).to(memory_format=layout)
    weight = network[0].weight
    before = weight.detach().clone()
    optimizer = Optimizer(network, "muon", lr=0.01, weight_decay=0.0)
    weight.grad = torch.randn(24, 8, 3, 3).contiguous(memory_format=layout)
    optimizer.step()
    step = as_matrix((before - weight).detach(), weight) / 0.01
    singular = torch.linalg.svdvals(step.double())
    assert singular.max() / singular.min() < 2  # Newton and Schulz's singular values lie in about 0.7 to 1.2
    assert float(step.square().mean().sqrt()) == pytest.approx(0.2, rel=0.25)
    assert torch.nn.functional.cosine_similarity(step.flatten(), as_matrix(weight.grad, weight).flatten(), dim=0) > 0.8


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_is_torch_s_with_its_momentum_and_decay():
    torch.manual_seed(0)
    begin = [torch.randn(shape) for shape in ((24, 40), (40, 24), (24, 40))]
    ours, theirs = ([nn.Parameter(value.clone()) for value in begin] for _ in range(2))
    mine = Muon(ours, lr=0.1, weight_decay=0.1)
    peer = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        mine.step()
        peer.step()
    for value, one, other in zip(begin, ours, theirs, strict=True):
        assert (one - other).norm() < 0.02 * (other - value).norm()  # torch's computes in bfloat16


def test_muon_leaves_kernels_of_one_channel_the_first_layer_and_the_classifiers_to_adamw():
    network = build("rtmw-n-256x192")
    optimizer = Optimizer(network, "muon", lr=0.01, weight_decay=0.0)
    names = {id(p): n for n, p in network.named_parameters()}
    matrices = {names[id(weight)] for weight, _ in optimizer._views}
    assert {"head.gau.uv.weight", "head.conv_dec.conv.weight", "backbone.stem.1.conv.weight"} <= matrices
    others = set(names.values()) - matrices
    assert {"backbone.stem.0.conv.weight", "head.cls_x.weight", "head.gau.gamma"} <= others
    assert not [name for name in matrices if "depthwise" in name or name.endswith(".bias")]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_state_brings_momentum_and_not_the_rates_of_then(kind):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4))
    scales = [nn.Parameter(torch.zeros(3))]
    before = Optimizer(network, kind, 0.1, 0.5, scales=scales, scale_lr=0.05)
    for parameter in (*network.parameters(), *scales):
        parameter.grad = torch.ones_like(parameter)
    before.step()
    after = Optimizer(network, kind, 0.2, 0.25, scales=scales, scale_lr=0.05)
    after.load_state_dict(before.state_dict())
    after.set_lr(0.2)
    groups = [group for part in after._parts for group in part.param_groups]
    assert {group["weight_decay"] for group in groups} == {0.0, 0.25}
    assert [group["lr"] for group in groups if "share" in group] == [pytest.approx(0.05)]
    moments = [value for part in after._parts for state in part.state.values() for value in state.values()]
    assert moments and all(float(moment.abs().sum()) > 0 for moment in moments)


def test_the_state_of_another_optimizer_is_refused():
    network = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ValueError, match="group"):
        Optimizer(network, "muon", 0.1, 0.0).load_state_dict(Optimizer(network, "adamw", 0.1, 0.0).state_dict())
    with pytest.raises(BadInputError, match=r"optimizer 'muno'.*muon"):
        read_recipe("rtmw-n-256x192", ["optimizer=muno"])


def test_muon_decays_its_matrices_and_leaves_those_without_a_gradient():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 3, bias=False))
    first, second = (layer.weight for layer in network)
    plain, decayed = (copy.deepcopy(network) for _ in range(2))
    gradient = torch.randn(4, 6)
    for one, decay in ((plain, 0.0), (decayed, 0.5)):
        one[0].weight.grad = gradient.clone()
        Optimizer(one, "muon", lr=0.1, weight_decay=decay).step()
    expected = plain[0].weight - 0.1 * 0.5 * first
    torch.testing.assert_close(decayed[0].weight, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(decayed[1].weight, second), "without a gradient nothing decays"
    optimizer = Optimizer(network, "muon", lr=0.1, weight_decay=0.5)
    first.grad = gradient
    optimizer.step()
    before = first.detach().clone()
    first.grad = None
    optimizer.step()
    assert torch.equal(first, before), "a gradient counts once"


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_scales_within_the_network_have_their_rate_alone_and_no_decay(kind):
    network = nn.Sequential(nn.Linear(4, 4))
    network.scale = nn.Parameter(torch.ones(2, 2))
    network.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)
    optimizer = Optimizer(network, kind, lr=0.1, weight_decay=0.5, scales=[network.scale], scale_lr=0.01)
    for learning_rate, step in ((0.1, 0.01), (0.02, 0.002)):
        optimizer.set_lr(learning_rate)
        before = network.scale.detach().clone()
        network.scale.grad = torch.ones(2, 2)
        optimizer.step()
        torch.testing.assert_close(before - network.scale, torch.full((2, 2), step), rtol=1e-3, atol=0)
    held = [parameter for part in optimizer._parts for group in part.param_groups for parameter in group["params"]]
    assert not any(parameter is network.frozen for parameter in held)

"""The loop: schedule, what decays, the average, and going on after a stop."""

import copy
import json
import math

import pytest
import torch

from rtmw_edge.errors import BadInputError
from rtmw_edge.models import build
from rtmw_edge.models.checkpoints import load_weights
from rtmw_edge.training.ema import Ema
from rtmw_edge.training.loop import Trainer, learning_rate
from rtmw_edge.training.recipe import read_recipe

SMALL = ["steps=4", "batch=2", "warmup=1", "checkpoint_every=1", "validate_every=4", "validate_crops=2"]


def test_the_learning_rate_warms_up_stays_and_falls_as_a_cosine():
    recipe = read_recipe("rtmw-n-256x192", ["steps=1000", "warmup=100", "lr=1e-3", "lr_end=1e-5"])
    assert learning_rate(recipe, 0) == pytest.approx(1e-5)
    assert learning_rate(recipe, 49) == pytest.approx(5e-4)
    assert learning_rate(recipe, 100) == learning_rate(recipe, 499) == 1e-3
    assert learning_rate(recipe, 750) == pytest.approx((1e-3 + 1e-5) / 2)
    assert learning_rate(recipe, 1000) == pytest.approx(1e-5)


def test_the_average_follows_its_formula():
    network = torch.nn.BatchNorm1d(1)
    ema = Ema(network, decay=0.99, ramp=100)
    before = copy.deepcopy(ema.network.state_dict())
    with torch.no_grad():
        network.weight.add_(1.0)
        network.running_mean.add_(2.0)
        network.num_batches_tracked += 7
    ema.update(network, step=9)
    momentum = 0.99 * math.exp(-10 / 100) + 0.01
    after = ema.network.state_dict()
    assert float(after["weight"] - before["weight"]) == pytest.approx(momentum, rel=1e-6)
    assert float(after["running_mean"]) == pytest.approx(2 * momentum, rel=1e-6)
    assert int(after["num_batches_tracked"]) == 7


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_ends_with_loadable_weights(tmp_path):
    recipe = read_recipe("rtmw-n-256x192", SMALL)
    first = Trainer(recipe, tmp_path, workers=0)
    crops, points, weights = next(first._batches())
    assert crops.shape == (2, 256, 192, 3) and crops.dtype == torch.uint8
    assert points.shape == (2, 133, 2) and set(weights.unique().tolist()) <= {0.0, 0.5, 1.0}
    losses = [first.train_step(crops, points, weights) for _ in range(2)]
    first.save()
    again = Trainer(recipe, tmp_path, workers=0)
    assert (again.step, again.samples) == (2, 4)
    # The same batch after a resume gives the loss of the run that was never stopped, to bf16.
    assert again.train_step(crops, points, weights) == pytest.approx(first.train_step(crops, points, weights), rel=1e-3)
    assert losses[1] != losses[0]
    records = list(Trainer(recipe, tmp_path, workers=0).run())
    assert records[-1]["step"] == 4 and 0 <= records[-1]["pck_left_hand"] <= 1
    load_weights(build(recipe.variant), tmp_path / "weights.safetensors")
    assert json.loads((tmp_path / "recipe.json").read_text())["batch"] == 2
    assert not list(Trainer(recipe, tmp_path, workers=0).run())
    with pytest.raises(BadInputError, match="holds a run of rtmw-n-256x192, not of rtmw-t-256x192"):
        Trainer(read_recipe("rtmw-n-256x192", [*SMALL, "variant=rtmw-t-256x192"]), tmp_path)

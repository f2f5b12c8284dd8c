"""A run's folder: what it cannot change on its way, and what is told of the rest."""

from dataclasses import asdict

import pytest
import torch
from small_runs import forget, small_recipe

from rtmw_edge.errors import BadInputError
from rtmw_edge.training import checkpoint

CPU = torch.device("cpu")


@pytest.fixture
def recipe():
    yield asdict(small_recipe("steps=5"))
    forget()


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("variant", "rtmw-m-256x192"), ("optimizer", "muon"), ("batch", 8), ("seed", 7), ("reuse", 3), ("window", 64),
        ("distillation", {"teacher": "rtmw-m-256x192", "stage": 1}),
    ],
)  # fmt: skip
def test_what_the_state_hangs_on_cannot_change(tmp_path, recipe, name, other):
    checkpoint.write(tmp_path, {"recipe": recipe})
    assert checkpoint.read(tmp_path, recipe, CPU)["recipe"] == recipe
    with pytest.raises(BadInputError) as caught:
        checkpoint.read(tmp_path, {**recipe, name: other}, CPU)
    assert str(caught.value) == (
        f"'{tmp_path}' holds a run with {name} {recipe[name]}, not {other}; choose another --out."
    )


def test_a_run_of_the_other_command_is_told_by_its_name(tmp_path, recipe):
    qat = {**recipe, "quantization": {"grid": "common"}}
    for held, given, told in ((recipe, qat, "train, not of qat"), (qat, recipe, "qat, not of train")):
        checkpoint.write(tmp_path, {"recipe": held})
        with pytest.raises(BadInputError, match=f"holds a run of {told}; choose another --out"):
            checkpoint.read(tmp_path, given, CPU)


def test_the_rest_may_change_and_is_told(tmp_path, recipe, caplog):
    checkpoint.write(tmp_path, {"recipe": recipe})
    given = {**recipe, "lr": 0.5, "steps": 9}
    assert checkpoint.read(tmp_path, given, CPU) is not None
    checkpoint.tell_changes(recipe, given)
    assert sorted(caplog.messages) == [
        "the run goes on with lr 0.5 instead of 0.001", "the run goes on with steps 9 instead of 5",
    ]  # fmt: skip
    caplog.clear()
    checkpoint.tell_changes({}, given)
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["weights", "backbone", "table", "calibration", "data", "teacher"])
def test_only_what_a_run_began_with_may_be_left_out_on_the_way(tmp_path, name):
    checkpoint.check_given(tmp_path, {name: "one"}, {name: "one"})
    with pytest.raises(BadInputError, match=f"holds a run with --{name} one, not two; choose another --out"):
        checkpoint.check_given(tmp_path, {name: "one"}, {name: "two"})
    with pytest.raises(BadInputError, match=f"holds a run with --{name} left out, not two; choose another --out"):
        checkpoint.check_given(tmp_path, {name: None}, {name: "two"})
    checkpoint.check_given(tmp_path, {}, {name: "two"})
    if name in ("data", "teacher"):
        with pytest.raises(BadInputError, match=f"holds a run with --{name} one, not left out; choose another --out"):
            checkpoint.check_given(tmp_path, {name: "one"}, {name: None})
    else:
        checkpoint.check_given(tmp_path, {name: "one"}, {name: None})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_none_is_enough(value):
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    checkpoint.check_finite(network, 3, 0)
    network[1].running_var[1] = value
    with pytest.raises(BadInputError, match="infinite by step 3, and nothing was saved before; lower lr"):
        checkpoint.check_finite(network, 3, 0)
    with pytest.raises(BadInputError, match=r"infinite by step 3, and last\.pt of step 2 is kept; lower lr"):
        checkpoint.check_finite(network, 3, 2)

"""Recipes: what is shipped reads, and what is wrong is refused in one sentence."""

import pytest

from rtmw_edge.errors import BadInputError
from rtmw_edge.training.recipe import Augmentation, read_recipe, shipped_recipes


def test_every_shipped_recipe_reads():
    for name in shipped_recipes():
        assert read_recipe(name).variant == name


def test_overrides_reach_nested_keys():
    recipe = read_recipe("rtmw-n-256x192", ["lr=3e-4", "augmentation.scale=[0.9, 1.1]", "part_weights.body=2"])
    assert recipe.lr == 3e-4
    assert recipe.augmentation.scale == (0.9, 1.1)
    assert recipe.augmentation.flip == Augmentation().flip
    assert recipe.part_weights["body"] == 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("stpes=3", "Unknown recipe key in 'rtmw-n-256x192.toml' 'stpes'; did you mean 'steps'?"),
        ("augmentation.flop=1", "Unknown recipe key in [augmentation] 'flop'; did you mean 'flip'?"),
        ("batch=0", "The recipe's batch is 0; it must be at least 1."),
        ("batch=many", "The recipe's batch is 'many'; it must be of type int."),
        ("lr=2", "The recipe's lr 2.0 and lr_end"),
        ("variant=rtmw-q-256x192", "Unknown variant 'rtmw-q-256x192'; did you mean"),
        ("part_weights.hand=2", "Unknown part in part_weights 'hand'"),
        ("batch", "The override 'batch' is not of the form key=value."),
    ],
)
def test_wrong_values_are_refused(override, sentence):
    with pytest.raises(BadInputError) as caught:
        read_recipe("rtmw-n-256x192", [override])
    assert sentence in str(caught.value)


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="Unknown recipe 'rtmw-n-256'; did you mean 'rtmw-n-256x192'"):
        read_recipe("rtmw-n-256")
    with pytest.raises(BadInputError, match="There is no recipe at"):
        read_recipe(str(tmp_path / "none.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("steps = = 3")
    with pytest.raises(BadInputError, match="is not valid TOML"):
        read_recipe(str(broken))
    broken.write_text('variant = "rtmw-n-256x192"')
    with pytest.raises(BadInputError, match=r"The recipe lacks steps; add it to 'broken\.toml'\."):
        read_recipe(str(broken))

"""Recipes: what is shipped reads, and what is wrong is refused in one sentence."""

from dataclasses import fields

import pytest
from official_augmentation import RTMW, RTMW3D, RTMW3D_SECOND

from rtmw_edge.errors import BadInputError
from rtmw_edge.models.variants import VARIANTS
from rtmw_edge.training.augmentation import Augmentation
from rtmw_edge.training.recipe import LIMITS, Distillation, Quantization, Recipe, read_recipe, shipped_recipes

PAIRS = {
    "rtmw-m-256x192": "rtmw-l-256x192",
    "rtmw-l-256x192": "rtmw-x-256x192",
    "rtmw-l-384x288": "rtmw-x-384x288",
    "rtmw-n-256x192": "rtmw-m-256x192",
    "rtmw-t-256x192": "rtmw-l-256x192",
}


def test_every_shipped_recipe_reads_and_is_named_after_its_variant():
    recipes = {name: read_recipe(name) for name in shipped_recipes()}
    for name, recipe in recipes.items():
        assert name.startswith(recipe.variant)
    assert set(VARIANTS) <= set(recipes)
    for name, teacher in PAIRS.items():
        first, second = recipes[f"{name}-distill"], recipes[f"{name}-distill-2"]
        assert (first.distillation, second.distillation) == (Distillation(teacher, 1), Distillation(name, 2))
        assert first.clip == second.clip == 1
        assert (first.epochs, second.epochs) == (270, 60)


@pytest.mark.parametrize(
    ("name", "batch", "decay", "first", "second"),
    [
        ("rtmw-m-256x192", 1024, 0.05, RTMW, RTMW.second_stage()),
        ("rtmw-l-256x192", 1024, 0.1, RTMW, RTMW.second_stage()),
        ("rtmw-x-256x192", 704, 0.1, RTMW, RTMW.second_stage()),
        ("rtmw-l-384x288", 320, 0.1, RTMW, RTMW.second_stage()),
        ("rtmw-x-384x288", 320, 0.1, RTMW, RTMW.second_stage()),
        ("rtmw3d-l-384x288", 64, 0.05, RTMW3D, RTMW3D_SECOND),
        ("rtmw3d-x-384x288", 32, 0.05, RTMW3D, RTMW3D_SECOND),
    ],
)
def test_official_recipes_have_the_published_values(name, batch, decay, first, second):
    """The tables of MMPose's configs (spec 2.5, 4.3, 4.4)."""
    recipe = read_recipe(name)
    assert (recipe.batch, recipe.micro, recipe.official_batch) == (8 * batch, batch, batch)
    assert (recipe.epochs, recipe.late, recipe.warmup) == (270, 10, 1000)
    assert (recipe.lr, recipe.lr_end, recipe.weight_decay) == (5e-4, 2.5e-5, decay)
    assert (recipe.ema_decay, recipe.ema_ramp, recipe.optimizer) == (0.9998, 2000, "adamw")
    assert (recipe.augmentation, recipe.late_augmentation) == (first, second)
    assert recipe.synchronized == "neck" and recipe.occluded_weight == 1
    three = name.startswith("rtmw3d")
    assert (recipe.clip, recipe.beta, recipe.seed) == ((0, 10, 2024) if three else (35, 1, 21))
    assert recipe.part_weights["face"] == (1.0 if three else 0.5)
    assert recipe.bone_weight == (2.0 if three else 0.0)
    assert recipe.dropout == (0.1 if name == "rtmw3d-l-384x288" else 0.0)


def test_steps_replace_epochs_and_a_file_may_change_a_shipped_recipe(tmp_path):
    recipe = read_recipe("rtmw-m-256x192", ["steps=7", "late=0", "validate_every=5"])
    assert (recipe.steps, recipe.epochs, recipe.late) == (7, 0, 0)
    with pytest.raises(BadInputError, match="late=10 and validate_every=10 would count steps and not epochs; set"):
        read_recipe("rtmw-m-256x192", ["steps=7"])
    mine = tmp_path / "mine.toml"
    mine.write_text('base = "rtmw-l-256x192"\nlr = 1e-4\n[augmentation]\nflip = 0.25\n')
    recipe = read_recipe(str(mine))
    assert (recipe.variant, recipe.lr, recipe.weight_decay) == ("rtmw-l-256x192", 1e-4, 0.1)
    assert (recipe.augmentation.flip, recipe.augmentation.rotation_degrees) == (0.25, 90.0)
    mine.write_text('base = "rtmw-q"')
    with pytest.raises(BadInputError, match="Unknown base of a recipe 'rtmw-q'"):
        read_recipe(str(mine))


def test_overrides_reach_nested_keys():
    recipe = read_recipe("rtmw-n-256x192", ["lr=3e-4", "augmentation.scale=[0.9, 1.1]", "part_weights.body=2"])
    assert recipe.lr == 3e-4
    assert recipe.augmentation.scale == (0.9, 1.1)
    assert recipe.augmentation.flip == Augmentation().flip
    assert recipe.part_weights["body"] == 2


def test_a_table_of_an_override_joins_the_recipes():
    whole, one = (read_recipe("rtmw-m-256x192", [text]) for text in ("augmentation={flip=0.0}", "augmentation.flip=0"))
    assert whole == one and whole.augmentation.half_body > 0


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("stpes=3", "Unknown recipe key in 'rtmw-n-256x192.toml' 'stpes'; did you mean 'steps'?"),
        ("augmentation.flop=1", "Unknown recipe key in [augmentation] 'flop'; did you mean 'flip'?"),
        ("batch=0", "The recipe's batch is 0; it must lie in 1..1000000000."),
        ("batch=many", "The recipe's batch is 'many'; it must be of type int."),
        ("lr=2", "The recipe's lr is 2.0; it must lie in 1e-09..1."),
        ("lr_end=0.1", "The recipe's lr_end 0.1 is above its lr 0.0015; lower it."),
        ("ema_ramp=0", "The recipe's ema_ramp is 0; it must lie in 1..1000000000."),
        ("ema_decay=1.5", "The recipe's ema_decay is 1.5; it must lie in 0..0.999999."),
        ("seed=-1", "The recipe's seed is -1; it must lie in 0..2147483647."),
        ("seed=99999999999999", "it must lie in 0..2147483647."),
        ("part_weights.face=abc", "The recipe's part_weights.face is 'abc'; it must lie in 0..1000000."),
        ("part_weights.face=true", "The recipe's part_weights.face is True; it must lie in 0..1000000."),
        ("augmentation.scale=[true, 2]", "The augmentation's scale is [True, 2]; give two numbers"),
        ("part_weights.face=-1", "The recipe's part_weights.face is -1; it must lie in 0..1000000."),
        ("part_weights=3", "The recipe's part_weights is 3; it must be a table: [part_weights]."),
        ("reuse=nan", "The recipe's reuse is nan; it must lie in 1..1000000."),
        ("occluded_weight=-3", "The recipe's occluded_weight is -3.0; it must lie in 0..1."),
        ("beta=0", "The recipe's beta is 0.0; it must lie in 0.01..1000."),
        ("clip=nan", "The recipe's clip is nan; it must lie in 0..1000000."),
        ("weight_decay=inf", "The recipe's weight_decay is inf; it must lie in 0..100."),
        ("bone_weight=2", "The recipe's bone_weight is 2.0, but rtmw-n-256x192 has no depth; set it to 0."),
        ("bone_weight=nan", "The recipe's bone_weight is nan; it must lie in 0..1000000."),
        ('augmentation.scale=["a", "b"]', "The augmentation's scale is ['a', 'b']; give two numbers"),
        ("variant=rtmw-q-256x192", "Unknown variant 'rtmw-q-256x192'; did you mean"),
        ("part_weights.hand=2", "Unknown part in part_weights 'hand'"),
        ("steps=-1", "The recipe has steps -1 and epochs 0; exactly one of them must be above 0."),
        (
            "epochs=9",
            "With epochs set, the recipe's late=3500 and validate_every=500 would count epochs and not steps;",
        ),
        ("micro=-1", "The recipe's micro is -1; it must lie in 0..1000000000."),
        ("augmentation.scale=5", "The recipe's augmentation.scale is 5; it must be of type list."),
        ("compile=1", "The recipe's compile is 1; it must be of type bool."),
        ("precision=fp8", "Unknown precision 'fp8'"),
        ("dropout=1", "The recipe's dropout is 1.0; it must lie in 0..0.99."),
        ("augmentation=3", "The recipe's augmentation is 3; it must be a table: [augmentation]."),
        ("batch.size=3", "The override 'batch.size=3' goes into batch, which is a value and no table."),
        ("distillation.stage=1", "The recipe lacks teacher; add it to [distillation]."),
        ("distillation.teacher=rtmw-k", "Unknown variant 'rtmw-k'"),
        ("batch", "The override 'batch' is not of the form key=value."),
        ("=5", "The override '=5' is not of the form key=value."),
        ("augmentation.=5", "The override 'augmentation.=5' is not of the form key=value."),
    ],
)
def test_wrong_values_are_refused(override, sentence):
    with pytest.raises(BadInputError) as caught:
        read_recipe("rtmw-n-256x192", [override])
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "overrides", "sentence"),
    [
        (
            "rtmw-n-256x192",
            ["late=0", "late_augmentation.flip=0"],
            "late_augmentation.flip would change nothing: the recipe's late is 0; set it to the last steps (epochs).",
        ),
        (
            "rtmw-n-256x192-qat",
            ["dropout=0.1"],
            "The recipe's dropout is 0.1, but [quantization] has none; set it to 0.",
        ),
    ],
)
def test_what_would_change_nothing_is_refused(recipe, overrides, sentence):
    with pytest.raises(BadInputError) as caught:
        read_recipe(recipe, overrides)
    assert str(caught.value) == sentence


def test_every_number_of_a_recipe_has_its_limits():
    numbers = [one.name for kind in (Recipe, Quantization) for one in fields(kind) if one.type in ("int", "float")]
    assert len(numbers) > 25 and set(numbers) <= LIMITS.keys()


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(BadInputError, match="Unknown recipe 'rtmw-n-256'; did you mean 'rtmw-n-256x192'"):
        read_recipe("rtmw-n-256")
    with pytest.raises(BadInputError, match="There is no recipe at"):
        read_recipe(str(tmp_path / "none.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("steps = = 3")
    with pytest.raises(BadInputError, match=r"The recipe .*broken\.toml is not TOML: "):
        read_recipe(str(broken))
    broken.write_text("steps = 3")
    with pytest.raises(BadInputError, match=r"The recipe lacks variant; add it to 'broken\.toml'\."):
        read_recipe(str(broken))
    broken.write_text('variant = "rtmw-n-256x192"')
    with pytest.raises(BadInputError, match="The recipe has steps 0 and epochs 0; exactly one"):
        read_recipe(str(broken))

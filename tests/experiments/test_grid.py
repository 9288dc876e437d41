"""The grid of a sweep: all combinations, each checked before anything is trained."""

from __future__ import annotations

import pytest

from sentinode.errors import RecipeError
from sentinode.experiments.grid import combinations, split_values
from sentinode.recipes import load_recipe

BASE = load_recipe("quick")


def test_all_values_of_all_keys_are_combined_in_order() -> None:
    found = combinations(BASE, ["model.backbone=resnet18,resnet50", "optimizer.lr=1e-3,3e-4"])
    assert [(one.recipe.model.backbone, one.recipe.optimizer.lr) for one in found] == [
        ("resnet18", 1e-3),
        ("resnet18", 3e-4),
        ("resnet50", 1e-3),
        ("resnet50", 3e-4),
    ]
    assert found[1].name == "backbone resnet18, lr 0.0003"


def test_a_key_with_one_value_overrides_the_recipe_and_is_in_no_name() -> None:
    found = combinations(BASE, ["model.backbone=resnet18,resnet50", "training.epochs=1"])
    assert [one.name for one in found] == ["resnet18", "resnet50"]
    assert {one.recipe.training.epochs for one in found} == {1}


def test_without_a_setting_the_recipe_alone_is_trained() -> None:
    assert [(one.name, one.recipe) for one in combinations(BASE, [])] == [("recipe", BASE)]


def test_commas_in_quotes_and_brackets_belong_to_a_value() -> None:
    assert split_values('"a,b",[1,2],c') == ['"a,b"', "[1,2]", "c"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.backbone"], "is not of the form"),
        (["backbone=resnet18"], "is not of the form"),
        (["model.backbon=resnet18"], "there is no key 'model.backbon'"),
        (["nothing.lr=1"], "there is no key"),
        (["optimizer.lr=1e-3,"], "has an empty value"),
        (["optimizer.lr=1e-3,much"], "optimizer.lr"),
        (["optimizer.lr=1e-3,-1"], "optimizer.lr"),
        (["optimizer.lr=1e-3,0.001"], "has the same value twice"),
        (["optimizer.lr=1e-3", "optimizer.lr=1e-4"], "is given 2 times"),
        (["training.seed=1,2"], "seeds are no values of a grid"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(settings: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        combinations(BASE, settings)

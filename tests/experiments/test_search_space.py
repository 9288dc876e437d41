"""What a search may try: each key, end and value is checked before anything is trained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import RecipeError
from sentinode.experiments.search_space import Dimension, default_space, parse_space
from sentinode.recipes import load_recipe, recipe_names

BASE = load_recipe("quick")


def test_a_range_a_logarithmic_one_and_a_choice() -> None:
    stain, rate, head = parse_space(
        BASE, ["augment.stain=0..0.2", "optimizer.lr=1e-5..1e-2:log", "training.head_epochs=0,1,2"]
    )
    assert (stain.low, stain.high, stain.log, stain.values) == (0.0, 0.2, False, ())
    assert (rate.low, rate.high, rate.log) == (1e-5, 1e-2, True)
    assert head.values == ("0", "1", "2")


def test_keys_of_whole_numbers_get_whole_numbers() -> None:
    (epochs,) = parse_space(BASE, ["training.epochs=1..8"])
    assert epochs.whole
    assert epochs.text(3.0) == "3"


@pytest.mark.parametrize("name", recipe_names())
def test_the_default_space_suits_every_shipped_recipe(name: str) -> None:
    base = load_recipe(name)
    space = parse_space(base, [])
    assert space == default_space(base)
    assert len({one.key for one in space}) >= 6


@given(st.floats(1e-6, 1.0))
def test_what_is_trained_is_what_is_recorded(value: float) -> None:
    """A value is rounded once, and its text is the value that the recipe gets."""
    text = Dimension("optimizer.lr", low=1e-6, high=1.0, log=True).text(value)
    assert load_recipe("quick", [f"optimizer.lr={text}"]).optimizer.lr == float(text) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (["optimizer.lr"], "is not of the form"),
        (["optimizer.lrr=1..2"], "optimizer.lrr"),
        (["nothing.lr=1..2"], "nothing"),
        (["optimizer.lr=1e-2..1e-5"], "this range is empty"),
        (["optimizer.lr=1e-3..1e-3"], "this range is empty"),
        (["optimizer.weight_decay=0..1:log"], "cannot begin at 0"),
        (["optimizer.lr=1e-5..1e-2:ln"], "no scale 'ln'"),
        (["optimizer.lr=low..high"], "no range of numbers"),
        (["optimizer.lr=nan..1"], "ends at numbers"),
        (["optimizer.lr=1e-3..inf"], "ends at numbers"),
        (["optimizer.lr=-1..1"], "optimizer.lr"),
        (["training.epochs=1..2.5"], "takes whole numbers"),
        (["model.backbone=1..2"], "takes no range of numbers"),
        (["model.backbone=resnet18"], "between two or more"),
        (["training.epochs=2,2"], "between two or more"),
        (["training.epochs=1,many"], "training.epochs"),
        (["training.epochs=1..2", "training.epochs=3..4"], "is given 2 times"),
        (["training.seed=1..5"], "another seed is no better recipe"),
        (["training.monitor=auc,nll"], "--monitor"),
        (["split.seed=1..5"], "other patches"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(search: list[str], message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_space(BASE, search)
    assert message in str(refused.value)

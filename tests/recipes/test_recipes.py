"""A recipe holds every hyperparameter, and refuses what it does not know."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import RecipeError
from sentinode.recipes import OTHER_NAMES, Recipe, check_recipe, load_recipe, recipe_names


def test_the_shipped_recipes_spell_out_every_key(tmp_path: Path) -> None:
    assert {"resnet50", "resnet18", "quick", "convnext_atto"} <= set(recipe_names())
    import sentinode.recipes

    folder = Path(sentinode.recipes.__file__).parent
    for name in set(recipe_names()) - set(OTHER_NAMES):
        assert (folder / f"{name}.toml").read_text("utf-8") == load_recipe(name).to_toml(), name


def test_best_is_the_recipe_that_it_stands_for() -> None:
    assert "best" in recipe_names()
    assert load_recipe("best") == load_recipe(OTHER_NAMES["best"])
    assert load_recipe("best", ["training.epochs=1"]).training.epochs == 1


def test_overrides_are_read_as_toml_and_bare_words_as_text() -> None:
    recipe = load_recipe("quick", ["optimizer.lr=3e-4", "model.backbone=resnet18", "model.hidden=[64, 32]"])
    assert (recipe.optimizer.lr, recipe.model.backbone, recipe.model.hidden) == (3e-4, "resnet18", [64, 32])


def test_the_last_override_wins() -> None:
    assert load_recipe("quick", ["training.epochs=2", "training.epochs=7"]).training.epochs == 7


def test_a_file_needs_only_the_keys_that_it_changes(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[training]\nepochs = 9\n")
    recipe = load_recipe(tmp_path / "mine.toml")
    assert recipe.training.epochs == 9
    assert recipe.optimizer == Recipe().optimizer


@given(
    lr=st.floats(1e-6, 10),
    epochs=st.integers(1, 10000),
    hidden=st.lists(st.integers(1, 8192), max_size=4),
    rule=st.sampled_from(["accuracy", "sensitivity@0.9"]),
)
def test_a_written_recipe_reads_back_as_itself(lr: float, epochs: int, hidden: list[int], rule: str) -> None:
    import tomllib

    recipe = check_recipe(
        {
            "optimizer": {"lr": lr},
            "training": {"epochs": epochs},
            "model": {"hidden": hidden},
            "operating_point": {"rule": rule},
        }
    )
    assert check_recipe(tomllib.loads(recipe.to_toml())) == recipe


@pytest.mark.parametrize(
    ("override", "says", "advises"),
    [
        ("optimiser.lr=1", "there is no key 'optimiser'", "optimizer"),
        ("training.epoch=3", "there is no key 'training.epoch'", "Did you mean 'training.epochs'?"),
        ("training.lr=3", "there is no key 'training.lr'", "Did you mean 'optimizer.lr'?"),
        ("training.epochs=two", "'training.epochs' = 'two'", "Passes over the training patches"),
        ("training.epochs=2.5", "'training.epochs' = 2.5", "Passes over"),
        ("training.epochs=0", "greater than or equal to 1", "Passes over"),
        ("augment.shift=-1", "greater than or equal to 0", "half of the label's region"),
        ("augment.symmetries=1", "'augment.symmetries' = 1", "symmetries of the square"),
        ("model.pooling=mean", "'model.pooling' = 'mean'", "feature map"),
        ("model.hidden=[0]", "'model.hidden.0' = 0", "hidden layers"),
        ("optimizer.lr=nan", "is not valid", "learning rate"),
        ("epochs=3", "is not of the form SECTION.KEY=VALUE", "--set optimizer.lr=3e-4"),
        ("training.epochs", "is not of the form SECTION.KEY=VALUE", "--set"),
    ],
)
def test_a_wrong_override_is_named_with_the_nearest_right_one(override: str, says: str, advises: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("quick", [override])
    assert says in caught.value.what
    assert advises in (caught.value.hint or "")


def test_an_unknown_recipe_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'resnet50'"):
        load_recipe("resnet5O")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml")


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[training\nepochs = 9\n")
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_recipe(tmp_path / "bad.toml")


def test_a_file_of_windows_editors_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xef\xbb\xbf[training]\r\nepochs = 9\r\n")
    assert load_recipe(tmp_path / "mine.toml").training.epochs == 9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("training.epochs=" + "9" * 5000, "too many digits"),
        ("model.hidden=" + "[" * 100_000, "nested too deeply"),
        ("optimizer.lr=1\ntraining = 2", "more than one value"),
        ("augment.jpeg_quality=[90, 50]", "the lowest quality comes first"),
        ("model.backbone=" + "a" * 201, "at most 200 characters"),
        ("model.backbone=\udcff", "not valid Unicode"),
    ],
)
def test_an_odd_setting_is_refused_in_a_short_sentence(text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as refused:
        load_recipe("quick", [text])
    assert len(str(refused.value)) < 400


@given(st.text(max_size=40))
def test_whatever_is_set_is_taken_or_refused(text: str) -> None:
    for setting in (text, f"model.backbone={text}", f"training.epochs={text}", f"{text}=1"):
        with contextlib.suppress(RecipeError):
            assert load_recipe("quick", [setting])

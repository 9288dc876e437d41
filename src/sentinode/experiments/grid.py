"""The grid of a sweep: settings with several values each, and all combinations of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sentinode.errors import RecipeError, nearest
from sentinode.recipes import Recipe, load_recipe

SEED = "training.seed"
EXAMPLE = "For example --set model.backbone=resnet18,resnet50 --set optimizer.lr=1e-3,3e-4"

OPENING, CLOSING, QUOTES = "[{(", "]})", "\"'"


@dataclass(frozen=True)
class Axis:
    """One key of the recipe and its values, as the user wrote them."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Combination:
    """One value of each key.

    Attributes:
        name: what tables call it: the values of the keys that have several.
        settings: ``KEY=VALUE`` of each key.
        recipe: the whole recipe, with the base recipe's seed.
    """

    name: str
    settings: tuple[str, ...]
    recipe: Recipe


def combinations(base: Recipe, settings: Iterable[str]) -> list[Combination]:
    """All combinations of the values, each checked as a recipe.

    Args:
        base: the recipe that they change.
        settings: ``KEY=VALUE,VALUE``; commas within brackets or quotes do not separate values. A key with one value is
            the same for all combinations.

    Raises:
        RecipeError: a setting of another form, an unknown key, a value that its key does not take, a key or a value
            that is given twice, or the seed among the keys.
    """
    axes = [parse_axis(text) for text in settings]
    for key, count in Counter(axis.key for axis in axes).items():
        if count > 1:
            raise RecipeError(
                f"'{key}' is given {count} times.", where="--set", hint=f"Give its values once. {EXAMPLE}"
            )
    for axis in axes:
        _check(base, axis)
    tables = base.model_dump(mode="json")
    names = {axis.key: _names(base, axis, axes) for axis in axes}
    several = [axis.key for axis in axes if len(axis.values) > 1]
    found = []
    for values in product(*(axis.values for axis in axes)):
        chosen = dict(zip(names, values, strict=True))
        parts = [names[key][chosen[key]] for key in several]
        texts = tuple(f"{key}={value}" for key, value in chosen.items())
        found.append(Combination(", ".join(parts) or "recipe", texts, load_recipe(tables, texts)))
    return found


def parse_axis(text: str) -> Axis:
    """A key and its values, from ``KEY=VALUE,VALUE``.

    Raises:
        RecipeError: it is of another form, has an empty value, or names the seed.
    """
    key, equals, values = text.partition("=")
    key = key.strip()
    if not equals or "." not in key:
        raise RecipeError(f"'{text}' is not of the form SECTION.KEY=VALUE,VALUE.", where="--set", hint=EXAMPLE)
    if key == SEED:
        raise RecipeError(
            "seeds are no values of a grid: each combination is trained with each seed.",
            where=f"--set {text}",
            hint="Give their number with --seeds.",
        )
    split = split_values(values)
    if not all(split):
        raise RecipeError(f"'{text}' has an empty value.", where="--set", hint=EXAMPLE)
    return Axis(key, tuple(split))


def split_values(text: str) -> list[str]:
    """The values between commas; commas within brackets or quotes belong to a value."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES:
            quote = letter
        elif letter in OPENING:
            depth += 1
        elif letter in CLOSING:
            depth -= 1
        elif letter == "," and depth == 0:
            values.append("")
            continue
        values[-1] += letter
    return [value.strip() for value in values]


def value_of(recipe: Recipe, key: str) -> Any:
    """The value of ``SECTION.KEY``."""
    section, _, name = key.partition(".")
    return getattr(getattr(recipe, section), name)


def _check(base: Recipe, axis: Axis) -> None:
    """Refuse an unknown key, a value that the key does not take, and two that are the same."""
    section, _, name = axis.key.partition(".")
    table = getattr(base, section, None) if section in type(base).model_fields else None
    if table is None or name not in type(table).model_fields:
        known = [f"{one}.{key}" for one, of in base for key in type(of).model_fields]
        same = [full for full in known if full.partition(".")[2] == name]
        guess = same[0] if same else nearest(axis.key, known)
        raise RecipeError(
            f"there is no key '{axis.key}' in a recipe.",
            where="--set",
            hint=f"Did you mean '{guess}'?" if guess else "`sentinode recipe resnet50` lists the keys.",
        )
    seen: dict[str, str] = {}
    for text in axis.values:
        recipe = load_recipe(base.model_dump(mode="json"), [f"{axis.key}={text}"])
        value = json.dumps(value_of(recipe, axis.key))
        if value in seen:
            raise RecipeError(
                f"'{axis.key}' has the same value twice: {seen[value]} and {text}.", where="--set", hint=EXAMPLE
            )
        seen[value] = text


def _names(base: Recipe, axis: Axis, axes: Sequence[Axis]) -> dict[str, str]:
    """What tables call each value: the value, with its key unless the key alone has several values."""
    shown = {text: _shown(value_of(load_recipe(base.model_dump(mode="json"), [f"{axis.key}={text}"]), axis.key))
             for text in axis.values}  # fmt: skip
    short = {text: Path(name).name for text, name in shown.items()}
    if len(set(short.values())) == len(short):
        shown = short
    several = [one.key for one in axes if len(one.values) > 1]
    if several == [axis.key] and axis.key.startswith("model."):
        return shown
    word = axis.key.partition(".")[2]
    if [one.partition(".")[2] for one in several].count(word) > 1:
        word = axis.key
    return {text: f"{word} {name}" for text, name in shown.items()}


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)

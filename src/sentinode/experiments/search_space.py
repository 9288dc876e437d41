"""The space that ``tune`` searches: keys of the recipe, with a range or a few values each, checked first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sentinode.errors import RecipeError
from sentinode.experiments.grid import parse_axis
from sentinode.recipes import Recipe, load_recipe

EXAMPLE = "For example --search optimizer.lr=1e-5..1e-2:log --search training.head_epochs=0,1,2"

NO_CHOICE = {
    "training.seed": "another seed is no better recipe",
    "training.monitor": "it is what the search goes by; give it with --monitor",
    "split.seed": "trials on other patches cannot be compared",
}
"""Keys that are not searched, and why."""


@dataclass(frozen=True)
class Dimension:
    """One key of the recipe, and where its value may lie.

    Attributes:
        key: ``SECTION.KEY``.
        values: the values of a choice, as text; empty for a range.
        low: the lower end of a range.
        high: its upper end, which belongs to it.
        log: whether the range is searched on a logarithmic scale.
        whole: whether its values are whole numbers.
    """

    key: str
    values: tuple[str, ...] = ()
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """The values to check before the search: the ends of a range, or all values."""
        return self.values or tuple(self.text(value) for value in (self.low, self.high))

    def text(self, value: Any) -> str:
        """A value as a recipe has it: that of a range rounded to four digits, which is what is trained."""
        if self.values:
            return str(value)
        return str(int(value)) if self.whole else repr(float(f"{value:.4g}"))

    def value_in(self, recipe: Recipe) -> Any:
        """The recipe's own value as a search would choose it, or None if it lies outside."""
        section, _, name = self.key.partition(".")
        own = getattr(getattr(recipe, section), name)
        if not self.values:
            return own if self.low <= own <= self.high else None
        same = (
            text
            for text in self.values
            if load_recipe(recipe.model_dump(mode="json"), [f"{self.key}={text}"]) == recipe
        )
        return next(same, None)

    def __str__(self) -> str:
        if self.values:
            return f"{self.key}={','.join(self.values)}"
        return f"{self.key}={self.text(self.low)}..{self.text(self.high)}{':log' if self.log else ''}"


Space = tuple[Dimension, ...]


def parse_space(base: Recipe, search: Sequence[str]) -> Space:
    """The dimensions of a search, each end and each value checked as part of the recipe.

    Args:
        base: the recipe that trials change.
        search: ``KEY=LOW..HIGH``, ``KEY=LOW..HIGH:log`` or ``KEY=VALUE,VALUE``; none for :func:`default_space`.

    Raises:
        RecipeError: another form, an unknown key, a key that is given twice or is no matter of choice, a value that
            its key does not take, an empty range, or a logarithmic range that begins at 0 or below.
    """
    space = tuple(_parse(base, text) for text in search) or default_space(base)
    for key, count in Counter(one.key for one in space).items():
        if count > 1:
            raise RecipeError(f"'{key}' is given {count} times.", where="--search", hint="Give each key once.")
    tables = base.model_dump(mode="json")
    for dimension in space:
        for text in dimension.ends:
            try:
                load_recipe(tables, [f"{dimension.key}={text}"])
            except RecipeError as error:
                raise RecipeError(error.what, where=f"--search {dimension}", hint=error.hint) from None
    return space


def default_space(base: Recipe) -> Space:
    """What is worth a search for most recipes, around the values that the recipe has.

    The learning rate may be ten times lower or higher; then come the weight decay, stain and brightness of the
    augmentation, label smoothing and dropout, and for pretrained weights how much slower the lower layers learn.
    """
    rate = base.optimizer.lr
    space = [
        Dimension("optimizer.lr", low=rate / 10, high=min(rate * 10, 10.0), log=True),
        Dimension("optimizer.weight_decay", low=1e-4, high=0.3, log=True),
        Dimension("augment.stain", low=0.0, high=0.2),
        Dimension("augment.brightness", low=0.0, high=0.3),
        Dimension("training.label_smoothing", low=0.0, high=0.15),
        Dimension("model.dropout", low=0.0, high=0.5),
    ]
    if base.model.weights != "none":
        space.append(Dimension("optimizer.layer_decay", low=0.5, high=1.0))
    return tuple(space)


def _parse(base: Recipe, text: str) -> Dimension:
    """One ``--search``."""
    where = f"--search {text}"
    key, _, rest = (part.strip() for part in text.partition("="))
    if key in NO_CHOICE:
        raise RecipeError(f"{key} is not searched: {NO_CHOICE[key]}.", where=where)
    if ".." not in rest:
        return _choice(text, where)
    ends, _, scale = rest.partition(":")
    first, _, last = ends.partition("..")
    if scale not in ("", "log"):
        raise RecipeError(f"there is no scale '{scale}'.", where=where, hint=f"Write :log, or nothing. {EXAMPLE}")
    kind = _kind(base, key, where)
    try:
        low, high = float(first), float(last)
    except ValueError:
        raise RecipeError(f"'{ends}' is no range of numbers.", where=where, hint=EXAMPLE) from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RecipeError("a range ends at numbers.", where=where, hint=EXAMPLE)
    if kind is int and not (low.is_integer() and high.is_integer()):
        raise RecipeError(f"{key} takes whole numbers.", where=where, hint=f"For example --search {key}=1..8")
    if scale and low <= 0:
        raise RecipeError(
            f"a logarithmic range cannot begin at {low:g}.", where=where, hint="Begin above 0, or leave out :log."
        )
    if low >= high:
        raise RecipeError("this range is empty.", where=where, hint="Write the lower end first: LOW..HIGH.")
    return Dimension(key, low=low, high=high, log=bool(scale), whole=kind is int)


def _choice(text: str, where: str) -> Dimension:
    try:
        axis = parse_axis(text)
    except RecipeError as error:
        raise RecipeError(error.what, where=where, hint=EXAMPLE) from None
    if len(set(axis.values)) < 2 or len(set(axis.values)) < len(axis.values):
        raise RecipeError("a choice is between two or more different values.", where=where, hint=EXAMPLE)
    return Dimension(axis.key, values=axis.values)


def _kind(base: Recipe, key: str, where: str) -> type:
    """Whether a key takes whole numbers or any; it has a range only then."""
    section, _, name = key.partition(".")
    table = getattr(base, section, None)
    field = type(table).model_fields.get(name) if table is not None else None
    if field is None:
        load_recipe(base.model_dump(mode="json"), [f"{key}=0"])  # refuses it by name
    if field is None or field.annotation not in (int, float):
        raise RecipeError(
            f"{key} takes no range of numbers.", where=where, hint=f"Name its values: --search {key}=VALUE,VALUE"
        )
    return int if field.annotation is int else float

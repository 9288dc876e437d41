"""Whether teaching helped, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sentinode.learning.comparison import Change

FEWEST_THAT_TELL = 6
"""Slides that have to change, all in one direction, before the test of sign flips tells it from chance."""

Name = Literal["helped", "harmed", "mixed", "cannot be told"]


@dataclass(frozen=True)
class Verdict:
    """What the comparison comes to.

    Attributes:
        name: ``helped``: something is better and nothing is worse. ``harmed``: the reverse. ``mixed``: both.
            ``cannot be told``: no change is larger than chance gives.
        sentence: the same with the figures.
    """

    name: Name
    sentence: str


def decide(changes: Sequence[Change]) -> Verdict:
    """The verdict on the changes that decide."""
    deciding = [change for change in changes if change.decides]
    better, worse = (
        [_figures(change) for change in deciding if change.outcome == outcome] for outcome in ("better", "worse")
    )
    if better and worse:
        return Verdict("mixed", f"Teaching helped and harmed. Better: {'; '.join(better)}. Worse: {'; '.join(worse)}.")
    if better:
        return Verdict("helped", f"Teaching helped: {'; '.join(better)}. Nothing is measurably worse.")
    if worse:
        return Verdict("harmed", f"Teaching harmed: {'; '.join(worse)}. Nothing is measurably better.")
    return Verdict("cannot be told", _untold(deciding))


def _untold(changes: Sequence[Change]) -> str:
    if not changes:
        return (
            "Whether teaching helped cannot be told: no slide was held back, and there are no valid patches to compare "
            "the bundles on."
        )
    text = (
        f"Whether teaching helped cannot be told: {'; '.join(map(_figures, changes))}. "
        "Chance gives changes as large as these."
    )
    slides = max((change.n for change in changes if change.unit == "slides"), default=0)
    if 0 < slides < FEWEST_THAT_TELL:
        text += (
            f" {slides} slides cannot tell it, whatever they show: {FEWEST_THAT_TELL} or more have to change in one "
            "direction."
        )
    return text


def _figures(change: Change) -> str:
    if change.unit == "slides":
        return f"{change.name} {change.old:.0f} before, {change.new:.0f} after (n = {change.n} slides)"
    return (
        f"{change.name} {change.old:.4f} before, {change.new:.4f} after (difference {interval(change)}; n = "
        f"{change.n:,} patches{'; ' if change.note else ''}{change.note})"
    )


def interval(change: Change) -> str:
    """The difference of a figure with its interval."""
    if math.isnan(change.low):
        return f"{change.difference:+.4f}, no interval"
    return f"{change.difference:+.4f}, {change.low:+.4f} to {change.high:+.4f}"

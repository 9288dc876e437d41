"""What the reader of each file format hands over: the regions as they stand in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""The corners of an outline or a hole: float64 (points, 2), x and y."""

Bounds = tuple[int, int, int, int]
"""Left, top, width and height in level-0 pixels of the part that a scanner filled."""

UNCLASSIFIED = "unclassified"
"""What a region without a group or class is called, in messages and in options."""

NO_AREA = ("has no area", "have no area")
"""Why a region cannot count, said of one and of several."""

LONGEST_NAME = 60


MOST_REGIONS = 100_000
"""Regions of a file. The 50,000 of a large project's file take seconds, and each takes as long again."""

AGAIN = "Export it again from the program that drew it."
FEWER = "Export the annotations alone, without cells and tiles, and simplify the outlines in their program."


class Malformed(Exception):
    """A file breaks its format. The message goes on from the file's name, in plain words: 'is not ...'.

    Attributes:
        hint: what to do.
    """

    hint = AGAIN


class TooMuch(Malformed):
    """A file holds more than can be read in seconds."""

    hint = FEWER


@dataclass(frozen=True, slots=True)
class Drawing:
    """One region as it stands in the file.

    Attributes:
        name: what its author called it.
        classes: what it may count as, from the most particular name to the most general one; never empty.
        polygons: its polygons, each an outline followed by its holes.
        fault: why it has no area where it has no polygons, said of one region and of several.
    """

    name: str
    classes: tuple[str, ...]
    polygons: list[list[Ring]]
    fault: tuple[str, str] = NO_AREA


@dataclass(frozen=True)
class Contents:
    """All that a file holds.

    Attributes:
        drawings: its regions.
        ignored: how many objects are no annotations, by kind, such as ``cell``.
        notes: sentences that the user should see.
        cropped: whether coordinates count from the corner of the slide's bounds, as QuPath's do.
        bounds: the bounds that the file itself states.
    """

    drawings: list[Drawing]
    ignored: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cropped: bool = False
    bounds: Bounds | None = None


def printable(text: object) -> str:
    """A text from a file on one line, without characters that a terminal would obey."""
    cleaned = str(text)
    if not cleaned.isprintable():
        cleaned = "".join(c if c.isprintable() else " " for c in cleaned)
    return " ".join(cleaned.split())


def unknown_type(kind: str) -> tuple[str, str]:
    """The fault of a region of a type that no format has, said of one and of several."""
    return f"is of the unknown type '{printable(kind)}'", f"are of the unknown type '{printable(kind)}'"


def region_name(name: object, number: int) -> str:
    """What a region is called in messages: its name, shortened, or its number in the file."""
    cleaned = printable(name or f"number {number}")
    return cleaned if len(cleaned) <= LONGEST_NAME else cleaned[: LONGEST_NAME - 3] + "..."


def require_countable(regions: int) -> None:
    """
    Raises:
        TooMuch: there are more regions than can be read.
    """
    if regions > MOST_REGIONS:
        raise TooMuch(f"has more than {MOST_REGIONS:,} regions.")


def listed(names: list[str]) -> str:
    """The first three of some names, in quotes."""
    return ", ".join(f"'{name}'" for name in names[:3]) + (", ..." if len(names) > 3 else "")


def sentence(names: list[str], fault: tuple[str, str], what_was_done: tuple[str, str]) -> str:
    """What befell some regions, in a sentence that stays short for thousands of them.

    Args:
        names: of the regions.
        fault: a verb and what follows, for one and for several: ``("has no area", "have no area")``.
        what_was_done: the same, such as ``("was left out", "were left out")``.
    """
    if len(names) == 1:
        return f"region {listed(names)} {fault[0]} and {what_was_done[0]}."
    return f"{len(names)} regions ({listed(names)}) {fault[1]} and {what_was_done[1]}."

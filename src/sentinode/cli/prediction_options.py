"""The options that say how tables of predictions are read. `evaluate` and `compare` share them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sentinode.errors import DataError

Scale = Literal["probability", "percent", "logit"]
IntervalKind = Literal["auto", "jackknife", "percentile", "bca"]

LabelTable = Annotated[
    Path | None,
    typer.Option("--labels", metavar="TABLE", help="Table of id,label, if the predictions have no labels."),
]
CopiesTable = Annotated[
    Path | None,
    typer.Option(
        "--copies",
        metavar="TABLE",
        help="Table of id,copies: the same text for patches that are copies of one another. They are drawn together.",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="ROLE=COLUMN",
        help="Column of the id, label, probability, slide or copies, if its name does not tell it.",
    ),
]
ScaleOption = Annotated[
    Scale | None,
    typer.Option("--scale", help="The scale of the numbers, if they are not probabilities from 0 to 1."),
]
Interval = Annotated[
    IntervalKind,
    typer.Option(
        "--interval",
        help="Method of the 95 % intervals. auto: jackknife if slides are known, else percentiles of a bootstrap.",
    ),
]


def columns_of(stated: list[str] | None) -> dict[str, str]:
    """``["id=key", "label=y"]`` by role; several may stand in one text, with commas between them.

    Raises:
        DataError: one is not ROLE=COLUMN.
    """
    found = {}
    for pair in (part for text in stated or [] for part in text.split(",")):
        role, equals, column = pair.partition("=")
        if not equals or not role.strip() or not column.strip():
            raise DataError(f"{pair!r} is not ROLE=COLUMN.", hint="Write --columns probability=score, for example.")
        found[role.strip()] = column.strip()
    return found

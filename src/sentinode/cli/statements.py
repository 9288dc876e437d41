"""The options by which a user states what labelled patches do not say themselves."""

from __future__ import annotations

from typing import Annotated

import typer

PatchMpp = Annotated[
    float | None, typer.Option("--mpp", metavar="UM", help="Microns per pixel of the patches, where unknown.")
]
LabelRegion = Annotated[
    int | None,
    typer.Option(
        "--label-region",
        metavar="PIXELS",
        help="Side of the centre square that labels cover: 32 in PCam, else the whole patch.",
    ),
]
Positive = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME", help="The class folders that are the positive class, where their names do not say it."
    ),
]


def names(positive: str | None) -> tuple[str, ...]:
    """The names in an option, with commas between them."""
    return tuple(name.strip() for name in (positive or "").split(",") if name.strip())

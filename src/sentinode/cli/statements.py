"""The options that state what labelled patches do not record."""

from __future__ import annotations

from typing import Annotated

import typer

PatchMpp = Annotated[
    float | None, typer.Option("--mpp", metavar="UM", help="Microns per pixel of the patches, if the data has none.")
]
LabelRegion = Annotated[
    int | None,
    typer.Option(
        "--label-region",
        metavar="PIXELS",
        help="Side of the centre square that labels cover. Default: 32 for PCam, else the whole patch.",
    ),
]
Positive = Annotated[
    str | None,
    typer.Option(metavar="NAME,NAME", help="Class folders of the positive class, if their names do not tell it."),
]


def names(positive: str | None) -> tuple[str, ...]:
    """The names in an option, with commas between them."""
    return tuple(name.strip() for name in (positive or "").split(",") if name.strip())

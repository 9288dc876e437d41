"""``sentinode data preview``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import sentinode
from sentinode.cli.choices import NamedSplit
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names


def preview(
    data: Annotated[Path, typer.Argument(help="Labelled patches: PCam's HDF5, Kaggle, class folders, Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="SHEET.png", help="Picture to write.")],
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE.toml", help="Recipe whose [augment] section is shown.")
    ] = "resnet50",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe, such as augment.jpeg=0.3."),
    ] = None,
    split: Annotated[NamedSplit, typer.Option(help="Split from which patches are taken.")] = "train",
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="Number of patches, one row each.")] = 6,
    seed: Annotated[int, typer.Option(help="Random seed for the choice of patches and the augmentation.")] = 0,
) -> None:
    """Draw patches as they are and with each augmentation of a recipe.

    Example: sentinode data preview pcam --out augmentation.png --set augment.stain=0.2
    """
    patches = sentinode.open_data(data, mpp=mpp, label_region=label_region, positive=names(positive))[split]
    options = sentinode.load_recipe(recipe, settings or ()).augment.model_dump()
    augment = sentinode.Augment(**options, geometry=patches.geometry)
    typer.echo(sentinode.preview(patches, augment, out, count=count, seed=seed))

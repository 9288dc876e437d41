"""``sentinode data preview``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names


def preview(
    data: Annotated[Path, typer.Argument(help="Labelled patches: PCam's HDF5, Kaggle, class folders, Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="SHEET.png", help="The picture to write.")],
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE.toml", help="Whose [augment] section is shown.")
    ] = "resnet50",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe, such as augment.jpeg=0.3."),
    ] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="How many patches, a row each.")] = 6,
    seed: Annotated[int, typer.Option(help="Of the choice of patches and the augmentation.")] = 0,
) -> None:
    """Draw a sheet of examples: patches as they are, and under each augmentation of a recipe.

    Example: sentinode data preview pcam --out augmentation.png --set augment.stain=0.2
    """
    from sentinode.augmentation.preview import preview as draw
    from sentinode.augmentation.transforms import Augment
    from sentinode.patches import open_data
    from sentinode.recipes import load_recipe

    patches = open_data(data, mpp=mpp, label_region=label_region, positive=names(positive))[split]
    augment = Augment(**load_recipe(recipe, settings or ()).augment.model_dump(), geometry=patches.geometry)
    typer.echo(draw(patches, augment, out, count=count, seed=seed))

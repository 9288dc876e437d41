"""``sentinode train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.progress import console

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe, such as optimizer.lr=3e-4."),
]


def train(
    data: Annotated[Path, typer.Argument(help="Labelled patches: PCam's HDF5, Kaggle, class folders, Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="The run's folder.")],
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml", help="A shipped recipe or your own; else resnet50."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="imagenet|none|FILE", help="What to start from, in place of the recipe's word."),
    ] = None,
    settings: Settings = None,
    slides: Annotated[
        Path | None,
        typer.Option(metavar="MAP.csv", help="Which slide each patch is from (id,slide), against leakage."),
    ] = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in RUN.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes that train together (DDP).")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the bundle's card as JSON.")] = False,
) -> None:
    """Train a patch classifier and leave it at RUN/bundle.

    Example: sentinode train pcam --out runs/first --recipe resnet50 --set training.epochs=2
    """
    from sentinode.api import train as run

    bundle = run(
        data,
        out,
        recipe=recipe,
        weights=weights,
        settings=settings or (),
        slide_map=slides,
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        resume=resume,
        device=device,
        devices=devices,
    )
    if as_json:
        typer.echo(bundle.card.model_dump_json(indent=2))
        return
    valid = bundle.card.metrics["valid"]
    auc = valid["auc"]
    interval = "no interval" if auc["low"] is None else f"{auc['low']:.4f} to {auc['high']:.4f}"
    toy = " A toy: it was trained on generated patches." if bundle.card.toy else ""
    threshold = f"{bundle.card.threshold:.3f} by {bundle.card.threshold_rule}"
    map_of_slides = f" --slides {slides}" if slides else ""
    lines = [
        f"Valid AUC {auc['value']:.4f} ({interval}), threshold {threshold}.{toy}",
        *(f"Note: {note}" for note in valid["notes"]),
        f"Next: sentinode evaluate {bundle.path} {data} --split test{map_of_slides} --out {out / 'test'}",
    ]
    console.print("\n".join(lines), markup=False)
    typer.echo(bundle.path)


def recipe(
    name: Annotated[str | None, typer.Argument(help="A shipped recipe or a file; none lists the shipped ones.")] = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Print a recipe with all its keys and what they mean, to copy and change.

    Example: sentinode recipe resnet50 > mine.toml
    """
    import json

    from sentinode.recipes import load_recipe, recipe_names

    if name is None:
        shipped = recipe_names()
        typer.echo(json.dumps(shipped) if as_json else "\n".join(shipped))
        return
    chosen = load_recipe(name, settings or ())
    typer.echo(chosen.model_dump_json(indent=2) if as_json else chosen.to_toml(), nl=as_json)

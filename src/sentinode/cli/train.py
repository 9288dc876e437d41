"""``sentinode train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.progress import console

if TYPE_CHECKING:
    from sentinode.model.bundle import Bundle

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe, such as optimizer.lr=3e-4."),
]


def train(
    data: Annotated[Path, typer.Argument(help="Labelled patches: PCam's HDF5, Kaggle, class folders, Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Folder for the run.")],
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE.toml", help="A shipped recipe, or a file. Default: resnet50."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="imagenet|none|FILE", help="Initial weights. Overrides the recipe."),
    ] = None,
    settings: Settings = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DATA", help="Further labelled patches for the training split, such as mined ones. Repeatable."
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="BUNDLE|packaged",
            help="Continue from a bundle: its network and weights. Default recipe: its own, one pass at a tenth of its "
            "learning rate. 'packaged' is the bundled model.",
        ),
    ] = None,
    slides: Annotated[
        Path | None,
        typer.Option(metavar="MAP.csv", help="CSV with the slide of each patch (id,slide). Prevents leakage."),
    ] = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint in RUN.")] = False,
    device: Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="Number of devices of this computer that train together (DDP).")
    ] = 1,
    nodes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of computers that train together. Start the same command on each with torchrun or Slurm's "
            "srun, once for each device.",
        ),
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the bundle's card as JSON.")] = False,
) -> None:
    """Train a patch classifier and write it to RUN/bundle.

    Example: sentinode train pcam --out runs/first --recipe resnet50 --set training.epochs=2
    """
    import sentinode
    from sentinode.training.nodes import is_first

    bundle = sentinode.train(
        data,
        out,
        recipe=recipe,
        weights=weights,
        settings=settings or (),
        start_from=start_from,
        also=also or (),
        slide_map=slides,
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        resume=resume,
        device=device,
        devices=devices,
        nodes=nodes,
    )
    if not is_first(nodes):
        return
    if as_json:
        typer.echo(bundle.card.model_dump_json(indent=2))
        return
    console.print(_summary(bundle, data, out, slides), markup=False)
    typer.echo(bundle.path)


def _summary(bundle: Bundle, data: Path, out: Path, slides: Path | None) -> str:
    """What training reached, and the command that comes next."""
    card = bundle.card
    valid = card.metrics["valid"]
    auc = valid["auc"]
    interval = "no interval" if auc["low"] is None else f"{auc['low']:.4f} to {auc['high']:.4f}"
    toy = " This model is a toy: it was trained on generated patches." if card.toy else ""
    slide_map = f" --slides {slides}" if slides else ""
    lines = [
        f"Valid AUC {auc['value']:.4f} ({interval}), threshold {card.threshold:.3f} by {card.threshold_rule}.{toy}",
        *(f"Note: {note}" for note in valid["notes"]),
        f"Next: sentinode evaluate {bundle.path} {data} --split test{slide_map} --out {out / 'test'}",
    ]
    return "\n".join(lines)


def recipe(
    name: Annotated[str | None, typer.Argument(help="A shipped recipe, or a file. Default: list the recipes.")] = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the recipe as JSON.")] = False,
) -> None:
    """Print a recipe with all its keys and their meaning, to copy and change.

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

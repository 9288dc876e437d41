"""``sentinode tune``: search the hyperparameters of a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from sentinode.cli.embed import Device, print_rows
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.cli.train import Settings
from sentinode.cli.training_options import BaseRecipe, Patches, Sample, SampleValid, SlideMap, Workers
from sentinode.progress import console


def tune(
    data: Patches,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the trials and the results.")],
    recipe: BaseRecipe = "resnet50",
    settings: Settings = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=LOW..HIGH[:log]|VALUE,VALUE",
            help="A key to search and its range or values, such as optimizer.lr=1e-5..1e-2:log. Repeatable. "
            "Default: seven keys around the recipe.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, with those that are there already.")] = 20,
    monitor: Annotated[
        Literal["auc", "nll"], typer.Option(help="Score on valid to search by; nll is that before calibration.")
    ] = "auc",
    confirm: Annotated[
        int, typer.Option(min=0, metavar="N", help="Train the best and the base recipe again with N other seeds.")
    ] = 0,
    sample: Sample = 0,
    sample_valid: SampleValid = 0,
    slides: SlideMap = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    device: Device = "auto",
    workers: Workers = 1,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the search. Trainings have the recipe's.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print tune.json instead of a table.")] = False,
) -> None:
    """Search the hyperparameters of a recipe with Optuna, by the score on valid.

    Writes best.toml, tune.html, tune.json and trials.csv to DIR. The same command continues a search that was stopped;
    in a second terminal it helps the first. Needs the extra sentinode[tune].

    Example: sentinode tune pcam --recipe quick --trials 20 --confirm 3 --out search
    """
    import sentinode

    found = sentinode.tune(
        data,
        out,
        recipe=recipe,
        settings=settings or (),
        search=search or (),
        trials=trials,
        monitor=monitor,
        confirm=confirm,
        sample=sample,
        sample_valid=sample_valid,
        slide_map=slides,
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        device=device,
        workers=workers,
        seed=seed,
    )
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        from sentinode.experiments.tuning_page import sentence, table

        print_rows(table(found))
        typer.echo(sentence(found))
    console.print(f"Page: {out / 'tune.html'}", markup=False)
    console.print(f"Next: sentinode train {data} --recipe {out / 'best.toml'} --out RUN", markup=False)

"""``sentinode sweep``: some settings of the recipe, each trained with several seeds, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sentinode.cli.choices import OnCluster
from sentinode.cli.embed import Device, print_rows
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.cli.training_options import BaseRecipe, Patches, Sample, SampleValid, SlideMap, WithTest, Workers, end


def sweep(
    data: Patches,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the runs and the results.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE,VALUE",
            help="A key of the recipe and its values, such as model.backbone=resnet18,resnet50.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each combination, each with another seed.")] = 3,
    recipe: BaseRecipe = "resnet50",
    sample: Sample = 0,
    sample_valid: SampleValid = 0,
    test: WithTest = False,
    slides: SlideMap = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    device: Device = "auto",
    workers: Workers = 0,
    cluster: OnCluster = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print sweep.json instead of a table.")] = False,
) -> None:
    """Train all combinations of some settings, each with several seeds, and say which differences are real.

    Writes sweep.html, .csv, .json and .md to DIR, and each run to DIR/runs. The same command goes on where it
    stopped; a finished run is not trained again. The choice is by valid.

    Example: sentinode sweep pcam --set model.backbone=resnet18,resnet50 --seeds 3 --out backbones
    """
    import sentinode
    from sentinode.experiments.sweep_page import sentence, table

    found = sentinode.sweep(
        data,
        out,
        settings=settings or (),
        seeds=seeds,
        recipe=recipe,
        sample=sample,
        sample_valid=sample_valid,
        test=test,
        slide_map=slides,
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        device=device,
        workers=workers,
        cluster=cluster,
    )
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        print_rows(table(found))
        typer.echo(sentence(found))
    end(out / "sweep.html", found.failures)

"""``sentinode curve``: the same training with more and more data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from sentinode.cli.embed import Device, print_rows
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.cli.train import Settings
from sentinode.cli.training_options import BaseRecipe, Patches, SampleValid, SlideMap, WithTest, Workers, end
from sentinode.errors import DataError


def curve(
    data: Patches,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the runs and the results.")],
    sizes: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Training patches or slides. Default: all, a half, a quarter: six sizes."),
    ] = None,
    by: Annotated[
        Literal["patch", "slide"],
        typer.Option(help="Count sizes in patches, or in whole slides with all their patches."),
    ] = "patch",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each size, each with another draw and seed.")] = 3,
    recipe: BaseRecipe = "resnet50",
    settings: Settings = None,
    same_epochs: Annotated[
        bool,
        typer.Option(
            "--same-epochs",
            help="Give each size the recipe's epochs. Default: as many steps as the largest, in more passes.",
        ),
    ] = False,
    sample_valid: SampleValid = 0,
    test: WithTest = False,
    slides: SlideMap = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    device: Device = "auto",
    workers: Workers = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print curve.json instead of a table.")] = False,
) -> None:
    """Train with more and more of the data, and say what the last step gained: would more data help?

    Writes curve.html, .csv, .json and .md to DIR, and each run to DIR/runs. The same command goes on where it
    stopped; a finished run is not trained again. Nothing is chosen by test.

    Example: sentinode curve pcam --sizes 1000,2000,4000,8000 --recipe quick --out more
    """
    import sentinode
    from sentinode.experiments.curve_page import sentence, table

    found = sentinode.curve(
        data,
        out,
        sizes=_numbers(sizes),
        by=by,
        seeds=seeds,
        recipe=recipe,
        settings=settings or (),
        same_epochs=same_epochs,
        sample_valid=sample_valid,
        test=test,
        slide_map=slides,
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        device=device,
        workers=workers,
    )
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        print_rows(table(found))
        typer.echo(sentence(found))
    end(out / "curve.html", found.failures)


def _numbers(text: str | None) -> list[int]:
    """The sizes between commas."""
    words = [] if text is None else [word.strip().replace("_", "") for word in text.split(",")]
    for word in words:
        if not word.removeprefix("-").isdecimal():
            raise DataError(f"'{word}' is no size.", where="--sizes", hint="For example --sizes 250,500,1000,2000")
    return [int(word) for word in words]

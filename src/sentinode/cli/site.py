"""``sentinode check-site``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import sentinode
from sentinode.cli.choices import Split
from sentinode.cli.model import open_model
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.errors import EXIT_PARTIAL


def check_site(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[BUNDLE] PATH...",
            help="A bundle (default: the bundled model), then images, folders, HDF5 or Parquet files.",
        ),
    ],
    labelled: Annotated[
        bool, typer.Option("--labelled", help="Read the labels of the patches too, and measure AUC and accuracy.")
    ] = False,
    split: Annotated[
        Split, typer.Option(help="With --labelled: split to use. 'all' is for data without splits.")
    ] = "all",
    slides: Annotated[
        Path | None,
        typer.Option(metavar="MAP.csv", help="CSV with the slide of each patch (id,slide). Tests go by slide."),
    ] = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    device: Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed for the choice of patches and the permutations.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was measured as JSON.")] = False,
) -> None:
    """Compare patches of a new hospital with those that a bundle knows, with or without labels.

    The exit code is 3 if some patches cannot be read. The others are compared.

    Example: sentinode check-site runs/first/bundle patches/
    """
    bundle, patches = open_model(paths)
    found = sentinode.check_site(
        bundle,
        patches,
        labelled=labelled,
        split=split,
        slide_map=slides,
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        device=device,
        seed=seed,
    )
    typer.echo(json.dumps(found.as_dict(), indent=2, allow_nan=False) if as_json else "\n".join(found.sentences))
    if found.failures:
        raise typer.Exit(EXIT_PARTIAL)

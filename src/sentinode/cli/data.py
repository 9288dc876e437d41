"""``sentinode data``: download, check, generate and preview patches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import sentinode
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.progress import console

app = typer.Typer(help="Download, check, generate and preview patches.", no_args_is_help=True)


@app.command()
def download(
    out: Annotated[Path, typer.Argument(help="Folder for the files.")],
    splits: Annotated[str, typer.Option(help="Splits to download, separated by commas.")] = "train,valid,test",
    url: Annotated[str | None, typer.Option(metavar="URL", help="Address of a mirror's folder with the files.")] = None,
    keep_gz: Annotated[bool, typer.Option("--keep-gz", help="Keep the compressed files too.")] = False,
) -> None:
    """Download the official PatchCamelyon files from Zenodo (8 GB). Run it again to resume.

    Prints the path of each file. Checks every file against its published checksum, compressed and unpacked.

    Example: sentinode data download pcam --splits valid,test
    """
    from sentinode.patches.download import FILES_URL

    chosen = [split.strip() for split in splits.split(",") if split.strip()]
    for path in sentinode.download(out, splits=chosen, url=url or FILES_URL, keep_gz=keep_gz):
        typer.echo(path)


@app.command()
def audit(
    data: Annotated[Path, typer.Argument(help="Labelled patches: PCam's HDF5, Kaggle, class folders, Parquet.")],
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the copies that have both labels, side by side, into this file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that was found as JSON.")] = False,
) -> None:
    """Check patches for leakage, copies, exchanged splits, and black, blank and corrupt patches.

    Example: sentinode data audit pcam
    """
    from rich.console import Console

    from sentinode.patches.audit import render

    found = sentinode.audit(data, mpp=mpp, label_region=label_region, positive=names(positive))
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        Console(highlight=False, markup=False).print(render(found))
    if picture is not None:
        from sentinode.patches.disagreements import draw_disagreements

        groups = draw_disagreements(found, picture, positive=names(positive))
        console.print(
            f"{groups:,} groups of copies with both labels: {picture}"
            if groups
            else "No copies have both labels, so no picture was written.",
            markup=False,
        )


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="A new folder, or a folder of generated patches to replace.")],
    train: Annotated[int, typer.Option(min=1, help="Number of patches in train.")] = 2048,
    valid: Annotated[int, typer.Option(min=1, help="Number of patches in valid.")] = 512,
    test: Annotated[int, typer.Option(min=1, help="Number of patches in test.")] = 512,
    slides: Annotated[int, typer.Option(min=1, help="Number of made-up slides in train, each with a stain.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Random seed. The same seed writes the same patches.")] = 0,
) -> None:
    """Generate H&E-like patches in the official format. A model trained on them is a toy.

    Example: sentinode data synth toy --train 2000 --valid 500 --test 500
    """
    from sentinode.patches.synthetic import synthesise

    synthesise(out, train=train, valid=valid, test=test, slides=slides, seed=seed)
    typer.echo(out)

"""``sentinode embed`` and ``probe``: a backbone's features, and what a linear classifier makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from sentinode.cli.choices import Precision
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.errors import RecipeError
from sentinode.progress import console

Device = Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")]
Pooling = Literal["own", "avg", "max", "avgmax", "centre", "avgcentre"]


def embed(
    data: Annotated[Path, typer.Argument(help="Labelled patches: PCam's HDF5, Kaggle, class folders, Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File to write: .npz or .parquet.")],
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            "-b",
            metavar="NAME|BUNDLE",
            help="A timm name, hf-hub:ORGANISATION/MODEL, a folder with a model of the hub, a bundle, or 'packaged'.",
        ),
    ] = "packaged",
    weights: Annotated[
        str, typer.Option(metavar="pretrained|none|FILE", help="Weights of a timm backbone.")
    ] = "pretrained",
    pooling: Annotated[
        Pooling, typer.Option(help="How a feature map becomes one vector. 'own': as the backbone does it.")
    ] = "own",
    side: Annotated[
        int,
        typer.Option(min=0, metavar="PX", help="Side in pixels to which patches are enlarged. 0: only where needed."),
    ] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Argument of the network, such as init_values=1e-5."),
    ] = None,
    slides: Annotated[
        Path | None,
        typer.Option(metavar="MAP.csv", help="CSV with the slide of each patch (id,slide). Makes intervals by slide."),
    ] = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    probe: Annotated[bool, typer.Option("--probe", help="Also fit a linear probe to all labels and print it.")] = False,
    device: Device = "auto",
    precision: Annotated[Precision, typer.Option(help="Precision of the network.")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written (and the probe) as JSON.")] = False,
) -> None:
    """Write the features of a frozen backbone for all patches, with ids, labels, slides and splits.

    An interrupted run goes on where it stopped. A file that has these features already is kept.

    Example: sentinode embed pcam --backbone resnet50 --out resnet50.npz --probe
    """
    import sentinode

    embeddings = sentinode.embed(
        data,
        out,
        backbone=backbone,
        weights=weights,
        pooling=pooling,
        side=side,
        options=option or (),
        slide_map=slides,
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        device=device,
        precision=precision,
    )
    record = {"file": str(out), "patches": len(embeddings), **embeddings.about}
    if probe:
        from sentinode.experiments.probe_page import table

        found = sentinode.probe(embeddings)
        record["probe"] = found.as_dict()
        if not as_json:
            print_rows(table([found]))
    if as_json:
        typer.echo(json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False))
        return
    width = embeddings.features.shape[1]
    console.print(f"{len(embeddings):,} patches, {width:,} features of {embeddings.name}.", markup=False)
    typer.echo(out)


def probe(
    features: Annotated[
        list[Path], typer.Argument(metavar="FEATURES...", help="Files that sentinode embed wrote, of the same patches.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")],
    labels: Annotated[
        str,
        typer.Option(metavar="LIST", help="Numbers of labels of each class to fit to, such as 10,100,1000,all."),
    ] = "all",
    draws: Annotated[int, typer.Option(min=1, help="Draws for each number of labels.")] = 5,
    protocol: Annotated[
        Literal["logistic", "eva"], typer.Option(help="Logistic regression, or the linear head of eva's benchmark.")
    ] = "logistic",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the first draw.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print probe.json instead of a table.")] = False,
) -> None:
    """Fit linear classifiers to frozen features, with all labels and with few, and score them on valid and test.

    Writes probe.html, probe.csv and probe.json to DIR. Nothing is chosen on test.

    Example: sentinode probe resnet50.npz --labels 10,100,1000,all --out probes
    """
    import sentinode
    from sentinode.experiments.probe_page import table, write_probes

    counts = tuple(_count(word) for word in labels.split(","))
    probes = [sentinode.probe(path, labels=counts, draws=draws, seed=seed, protocol=protocol) for path in features]
    page = write_probes(out, probes)
    if as_json:
        typer.echo(json.dumps({"probes": [probe.as_dict() for probe in probes]}, indent=2, allow_nan=False))
    else:
        print_rows(table(probes))
    console.print(f"Page: {page}", markup=False)


def _count(word: str) -> int:
    """A number of labels; 0 stands for all."""
    word = word.strip().replace("_", "")
    if word == "all":
        return 0
    if not word.isdecimal() or int(word) < 2:
        raise RecipeError(
            f"'{word}' is no number of labels.", where="--labels", hint="For example --labels 10,100,1000,all"
        )
    return int(word)


def print_rows(rows: list[tuple[str, ...]]) -> None:
    """Print a table, its head first, on standard output; as plain columns where that is no terminal."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for place, word in enumerate(rows[0]):
        shown.add_column(word, justify="left" if place == 0 else "right", no_wrap=place == 0)
    for row in rows[1:]:
        shown.add_row(*row)
    Console(width=None if console.is_terminal else 160, highlight=False, markup=False).print(shown)

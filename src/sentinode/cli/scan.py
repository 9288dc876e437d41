"""``sentinode scan``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sentinode
from sentinode.cli.choices import OnCluster, Precision, Reading, SlidePoint
from sentinode.cli.model import open_model
from sentinode.errors import EXIT_PARTIAL, EXIT_REFUSED
from sentinode.names import aligned, printable
from sentinode.progress import console

if TYPE_CHECKING:
    from sentinode.slides.scanning.manifest import SlideState


WholeSlide = Annotated[
    bool | None,
    typer.Option(
        "--whole-slide-coordinates/--cropped-coordinates",
        help="Origin of lesions.geojson: the slide's corner, or the corner of the slide's bounds, as in QuPath. "
        "Default: the choice of the first scan into this folder, or the bounds.",
    ),
]


def scan(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[BUNDLE] SLIDE...",
            help="A bundle (default: the bundled model), then slides or folders, also such as s3://BUCKET/FOLDER.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder for the results of the batch, also such as s3://BUCKET/FOLDER."
        ),
    ],
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Pixels between predictions, at the bundle's resolution. Default: 32 for PCam, half a patch if "
            "labels cover whole patches. A larger value is faster.",
        ),
    ] = None,
    prior: Annotated[float, typer.Option(help="Expected share of tissue windows that show tumour.")] = 0.05,
    mpp: Annotated[
        float | None, typer.Option(help="Microns per pixel of the slides. Overrides the values in their files.")
    ] = None,
    icc: Annotated[bool, typer.Option("--icc", help="Convert colours to sRGB with the slides' ICC profiles.")] = False,
    device: Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Precision of the network.")] = "auto",
    tta: Annotated[bool, typer.Option("--tta", help="Average over the eight symmetries. 8 x slower.")] = False,
    reading: Annotated[
        Reading,
        typer.Option(
            help="How windows are computed: 'dense' computes each region once for all of its windows, 'patch' computes "
            "each window separately. 'auto' keeps the batch's earlier choice. In a new batch, it reads densely if the "
            "bundle's card says that this is as good."
        ),
    ] = "auto",
    operating_point: SlidePoint = None,
    whole_slide_coordinates: WholeSlide = None,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Scan one of N parts of the slides, with I from 0 to N - 1. 'auto' is the part of this task in a "
            "Slurm job array, and all slides elsewhere. 'none' is all slides.",
        ),
    ] = "auto",
    cluster: OnCluster = None,
    stage: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Local folder for copies of s3://, gs:// and https:// slides while they are read, and for results "
            "until they are written to an address.",
        ),
    ] = None,
    stage_limit: Annotated[float, typer.Option(metavar="GB", help="Gigabytes that these copies have at most.")] = 100.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state of each slide as JSON.")] = False,
) -> None:
    """Scan whole slides: write probability maps, heatmaps, lesions and pages.

    Run the same command again to resume. Several computers can share one DIR.

    Example: sentinode scan runs/first/bundle slides/ --out maps
    """
    from sentinode.slides.reading.addresses import is_remote, without_credentials
    from sentinode.slides.results.summary import PAGE
    from sentinode.slides.scanning.manifest import DONE

    bundle, slides = open_model(paths)
    states = sentinode.scan(
        bundle,
        slides,
        out,
        stride=stride,
        prior=prior,
        mpp=mpp,
        icc=icc,
        device=device,
        precision=precision,
        tta=tta,
        reading=reading,
        operating_point=operating_point,
        whole_slide_coordinates=whole_slide_coordinates,
        shard=shard,
        cluster=cluster,
        stage=stage,
        stage_gb=stage_limit,
    )
    typer.echo(json.dumps([asdict(state) for state in states], indent=2) if as_json else _table(states))
    failed = sum(state.state != DONE for state in states)
    console.print(
        f"{len(states) - failed} of {len(states)} slides done. The probabilities assume that {prior:.1%} of the "
        f"tissue windows show tumour (--prior).",
        markup=False,
    )
    if is_remote(out):
        console.print(f"Written to {without_credentials(out)}; the page of the batch is {PAGE}.", markup=False)
    elif (Path(out) / PAGE).exists():
        console.print(f"Open in a browser: {Path(out) / PAGE}", markup=False)
    if failed:
        raise typer.Exit(EXIT_REFUSED if failed == len(states) else EXIT_PARTIAL)


def _table(states: Sequence[SlideState]) -> str:
    """A line for each slide: its folder, state, windows, tissue, and why it failed."""
    rows = [("slide", "state", "windows", "tissue mm2", "reason")]
    for state in states:
        windows = "" if state.windows is None else f"{state.windows}"
        tissue = "" if state.tissue_mm2 is None else f"{state.tissue_mm2:.1f}"
        reason = printable((state.reason or "").replace("\n", " "))
        rows.append((state.name, state.state, windows, tissue, reason))
    return aligned(rows)

"""``sentinode learn``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sentinode
from sentinode.cli.train import Settings
from sentinode.names import aligned
from sentinode.progress import console

if TYPE_CHECKING:
    from sentinode.learning import Learned


def learn(
    maps: Annotated[Path, typer.Argument(metavar="MAPS", help="The --out folder of a scan that was reviewed.")],
    start_from: Annotated[
        str, typer.Option("--from", metavar="BUNDLE|packaged", help="The bundle to teach. 'packaged': the bundled one.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Folder for the run.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="The labelled patches that the bundle was trained on, to mix in. Default: a replay sample of the "
            "slides.",
        ),
    ] = None,
    valid: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Labelled patches to compare on. Default: the valid split of --data."),
    ] = None,
    slides: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH", help="Folder or file to look for the slides in, where they have moved. May be repeated."
        ),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Leave out this slide. May be repeated.")
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Reviewed slides to hold back for the comparison. Default: a third, at least 2."
        ),
    ] = None,
    share: Annotated[
        float, typer.Option(help="Share of a pass that is of the review, with --data. Each is shown 10 times at most.")
    ] = 0.2,
    per_slide: Annotated[
        int, typer.Option(min=1, help="Largest number of patches of each class from one slide.")
    ] = 200,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same command stopped.")] = False,
    device: Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    seed: Annotated[
        int, typer.Option(help="Random seed for the slides that are held back and the choice of patches.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print learned.json instead of a table.")] = False,
) -> None:
    """Teach a bundle with the reviews of slides, and say whether it is better than before.

    Holds some reviewed slides back, trains on with what was judged on the others, and compares both bundles.
    Writes the new bundle to RUN/bundle, and learned.html and learned.json to RUN.

    Example: sentinode learn maps --from runs/first/bundle --data pcam --out runs/taught
    """
    learned = sentinode.learn(
        maps,
        out,
        start_from=start_from,
        data=data,
        valid=valid,
        slides=slides or (),
        without=without or (),
        hold_out=hold_out,
        share=share,
        per_slide=per_slide,
        settings=settings or (),
        resume=resume,
        device=device,
        seed=seed,
    )
    if as_json:
        typer.echo(json.dumps(learned.as_dict(), indent=2, allow_nan=False))
    else:
        typer.echo(_table(learned))
    console.print(f"The new bundle: {learned.bundle.path}\nThe comparison: {learned.page}", markup=False)


def _table(learned: Learned) -> str:
    """The verdict, and the figures before and after."""
    from sentinode.learning.page import rows

    head = ("figure", "before", "after", "difference", "measured on", "after is")
    return f"{learned.verdict.sentence}\n\n{aligned([head, *(row[:-1] for row in rows(learned.changes))])}"

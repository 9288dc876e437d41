"""``sentinode view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    maps: Annotated[Path, typer.Argument(metavar="MAPS", help="The --out folder of a scan, or one slide's in it.")],
    slides: Annotated[
        list[Path] | None,
        typer.Option(
            "--slides",
            metavar="PATH",
            help="Folder or file to look for the slides in, where they are no longer where they were scanned. May be "
            "repeated.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of this machine to listen on. Default: 8765, or the next free one."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no browser.")] = False,
    icc: Annotated[bool, typer.Option("--icc", help="Convert colours to sRGB by the ICC profiles.")] = False,
    reviewer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who reviews, for the records. Default: the user's name.")
    ] = None,
) -> None:
    """Look at scanned slides and their lesions in the browser, and review them. Ctrl-C stops it.

    Example: sentinode view maps
    """
    from sentinode.app.serving import serve

    serve(maps, slides=slides or [], port=port, browser=not no_browser, icc=icc, reviewer=reviewer)

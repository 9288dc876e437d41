"""``sentinode doctor``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sentinode.errors import EXIT_REFUSED


def doctor(
    measure: Annotated[bool, typer.Option("--measure", help="Also time ResNet-50, about ten seconds.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the hub if it can be reached.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say what this machine can do, what it lacks, and what to do about each lack.

    Versions, devices and precision, memory, pretrained weights, disk, extras.
    Exit code 2 where the main job cannot run here.

    Example: sentinode doctor --measure
    """
    from sentinode.doctor import examine

    found = examine(online=not offline, measure=measure)
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else found.as_text())
    if not found.ok:
        raise typer.Exit(EXIT_REFUSED)

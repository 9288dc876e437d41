"""``sentinode doctor``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sentinode.errors import EXIT_REFUSED


def doctor(
    measure: Annotated[bool, typer.Option("--measure", help="Time a ResNet-50, about ten seconds.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not check the connection to the hub.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check this machine: what works, what is missing, and how to fix it.

    Checks versions, devices and precision, memory, pretrained weights, disk and extras.
    The exit code is 2 if training and evaluation cannot run here.

    Example: sentinode doctor --measure
    """
    from sentinode.doctor import examine

    found = examine(online=not offline, measure=measure)
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else found.as_text())
    if not found.ok:
        raise typer.Exit(EXIT_REFUSED)

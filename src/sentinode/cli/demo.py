"""``sentinode demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")] = Path("demo"),
    patches: Annotated[int, typer.Option(min=32, help="Number of training patches. Fewer are quicker.")] = 2048,
) -> None:
    """Run the main steps on generated patches: train, evaluate, predict, explain.

    It needs no download and no GPU, and takes a few minutes. It prints the command of
    each step. The model is a toy. Run it again to resume.

    Example: sentinode demo --out demo
    """
    from sentinode.demo import run

    typer.echo(run(out, patches=patches))

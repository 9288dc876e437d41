"""``sentinode demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder for all of it.")] = Path("demo"),
    patches: Annotated[int, typer.Option(min=32, help="Generated for training; fewer are quicker.")] = 2048,
) -> None:
    """Run the main job on generated patches: train, evaluate, predict, explain.

    No download, no GPU, a few minutes. Each step is printed as the command that
    does the same. The model is a toy. Run again, it goes on where it stopped.

    Example: sentinode demo --out demo
    """
    from sentinode.demo import run

    typer.echo(run(out, patches=patches))

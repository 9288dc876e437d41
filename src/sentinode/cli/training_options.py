"""The options that the commands share which train many times: ``sweep``, ``tune`` and ``curve``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinode.errors import EXIT_PARTIAL
from sentinode.progress import console

if TYPE_CHECKING:
    from sentinode.experiments.trials import Failure

Patches = Annotated[Path, typer.Argument(help="Labelled patches: PCam's HDF5, Kaggle, class folders, Parquet.")]
BaseRecipe = Annotated[str, typer.Option("--recipe", "-r", metavar="NAME|FILE", help="Recipe to change.")]
Sample = Annotated[int, typer.Option(min=0, metavar="N", help="Train on N random training patches. 0: on all.")]
SampleValid = Annotated[int, typer.Option(min=0, metavar="N", help="Score on N random validation patches. 0: on all.")]
WithTest = Annotated[bool, typer.Option("--test", help="Also score the test split. Nothing is chosen by it.")]
SlideMap = Annotated[
    Path | None,
    typer.Option(metavar="MAP.csv", help="CSV with the slide of each patch (id,slide). Makes intervals by slide."),
]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that train at a time. 0: one on each GPU, and one on a CPU.")
]


def end(page: Path, failures: Sequence[Failure]) -> None:
    """Name the runs that failed and the page, and end with 3 if there are such runs."""
    for failure in failures:
        console.print(f"Failed: {failure.name}, seed {failure.seed}: {failure.error}", markup=False)
    console.print(f"Page: {page}", markup=False)
    if failures:
        raise typer.Exit(EXIT_PARTIAL)

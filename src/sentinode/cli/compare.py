"""``sentinode compare``: models against each other on the same patches."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import sentinode
from sentinode.cli.choices import Precision, Split
from sentinode.cli.prediction_options import (
    Columns,
    CopiesTable,
    Interval,
    LabelTable,
    ScaleOption,
    columns_of,
)
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.errors import DataError
from sentinode.progress import console

if TYPE_CHECKING:
    from sentinode.evaluation.comparing import Comparison
    from sentinode.patches import PatchSet
    from sentinode.scoring import Predictions

Metric = Literal[
    "auc",
    "accuracy",
    "precision",
    "recall",
    "specificity",
    "f1",
    "average_precision",
    "nll",
    "brier",
    "ece",
]


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="Two or more: tables of any program's predictions, folders of `sentinode evaluate`, bundles or runs.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled patches: needed for bundles; for tables, to show the patches as images."),
    ] = None,
    split: Annotated[Split, typer.Option(help="Split of DATA. Use 'all' for data without splits.")] = "test",
    valid: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Predictions of each model for other patches, in the order of the models, to choose its threshold on.",
        ),
    ] = None,
    rule: Annotated[str, typer.Option(help="Rule that chooses the thresholds on --valid.")] = "accuracy",
    metric: Annotated[Metric, typer.Option(help="Metric of the verdicts and of the picture.")] = "auc",
    non_inferior: Annotated[
        str | None,
        typer.Option(
            metavar="[METRIC=]MARGIN",
            help="Test whether each model is not worse than the first by this margin, as in auc=0.01.",
        ),
    ] = None,
    shared_only: Annotated[
        bool, typer.Option("--shared-only", help="Use only the patches that all models have, if they differ.")
    ] = False,
    called: Annotated[
        str | None, typer.Option("--names", metavar="NAME,NAME", help="Names of the models, in their order.")
    ] = None,
    slides: Annotated[
        Path | None,
        typer.Option(metavar="MAP.csv", help="CSV with the slide of each patch (id,slide). Makes tests by slide."),
    ] = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    labels: LabelTable = None,
    copies: CopiesTable = None,
    columns: Columns = None,
    scale: ScaleOption = None,
    device: Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Precision of the networks.")] = "float32",
    interval: Interval = "auto",
    resamples: Annotated[int, typer.Option(min=20, help="Number of bootstrap resamples.")] = 2000,
    seed: Annotated[int, typer.Option(help="Random seed for the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print comparison.json instead of the verdicts.")] = False,
) -> None:
    """Compare models pair by pair on the same patches, with tests, tables and a report.

    The AUC is compared by DeLong's method, the accuracy by McNemar's test, all else by a paired bootstrap. p is
    corrected for many pairs (Holm).

    Writes report.html, comparison.json, models.csv, pairs.csv, table.md, table.tex, comparison.svg and verdict.txt
    to DIR.

    Example: sentinode compare ours.csv theirs.csv --out runs/compared
    """
    margin = _margin(non_inferior, metric)
    given = _names(called, models)
    reading: dict[str, Any] = {"columns": columns_of(columns), "scale": scale, "positive": names(positive)}
    stated: dict[str, Any] = {"mpp": mpp, "label_region": label_region, "positive": names(positive)}
    compute: dict[str, Any] = {"device": device, "precision": precision}
    tables: dict[str, Any] = {"labels": labels, "slides": slides, "copies": copies}
    found, patches = _open(models, given, data, split, slides, {**reading, **tables}, stated, compute)
    others = [sentinode.read_predictions(path, **reading) for path in valid or []]
    comparison = sentinode.compare(
        found,
        out,
        valid=others,
        rule=rule,
        metric=metric,
        non_inferior=margin,
        shared_only=shared_only,
        patches=patches,
        interval=interval,
        resamples=resamples,
        seed=seed,
        command=shlex.join(["sentinode", *sys.argv[1:]]),
    )
    if as_json:
        typer.echo(json.dumps(comparison.as_dict(), indent=2, allow_nan=False))
    else:
        _print(comparison)
    console.print(f"Report: {comparison.report}", markup=False)


def _open(
    paths: Sequence[Path],
    called: Sequence[str | None],
    data: Path | None,
    split: str,
    slides: Path | None,
    reading: dict[str, Any],
    stated: dict[str, Any],
    compute: dict[str, Any],
) -> tuple[list[Predictions], PatchSet | None]:
    """The predictions of each model, and the patches with their images where they are at hand."""
    from sentinode.evaluation.evaluating import open_for, predict_labelled
    from sentinode.evaluation.prediction_files import is_predictions

    found: list[Predictions] = []
    patches = None
    for path, name in zip(paths, called, strict=True):
        if is_predictions(path):
            found.append(sentinode.read_predictions(path, name=name, **reading))
            continue
        bundle = sentinode.load(path)
        if data is None:
            raise DataError(
                "a bundle needs labelled patches.", where=path, hint="Name them with --data DATA and --split."
            )
        opened = open_for(bundle, data, split, slide_map=slides, **stated)
        patches = opened[split]
        found.append(predict_labelled(bundle, opened, split, name=name, **compute))
    if data is not None and patches is None:
        patches = sentinode.open_data(data, whole=split == "all", **stated)[split]
    return found, patches


def _names(called: str | None, models: Sequence[Path]) -> list[str | None]:
    if called is None:
        return [None] * len(models)
    given = [name.strip() for name in called.split(",")]
    if len(given) != len(models) or not all(given):
        raise DataError(f"there are {len(models)} models, and --names has {len(given)} names.")
    return list(given)


def _margin(text: str | None, metric: str) -> tuple[str, float] | None:
    """``auc=0.01``, or ``0.01`` by the metric of the verdicts."""
    if text is None:
        return None
    by, equals, number = text.rpartition("=")
    try:
        return (by.strip() if equals else metric), float(number)
    except ValueError:
        raise DataError(f"{text!r} is not a margin.", hint="Write --non-inferior auc=0.01, for example.") from None


def _print(comparison: Comparison) -> None:
    """The models' metrics, and one sentence for each pair."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    shown = ("accuracy", "recall", "specificity", "f1", "ece")
    table = Table(caption=f"Interval: {comparison.scores[0].interval}", box=SIMPLE_HEAD)
    for name in ("model", "auc", *shown):
        table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for one, scores in zip(comparison.models, comparison.scores, strict=True):
        values = (getattr(scores, name).value for name in shown)
        table.add_row(one.name, str(scores.auc), *("-" if value != value else f"{value:.3f}" for value in values))
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, 72 + max(len(one.name) for one in comparison.models))
    console.print(table)
    typer.echo("\n".join(comparison.verdicts))

"""``sentinode evaluate``, ``predict``, ``explain`` and ``stress``: use a bundle on patches."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sentinode
from sentinode.cli.choices import OnCluster, Precision, Split, TableFormat
from sentinode.cli.model import open_model
from sentinode.cli.prediction_options import (
    Columns,
    CopiesTable,
    Interval,
    LabelTable,
    Scale,
    ScaleOption,
    columns_of,
)
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.errors import EXIT_PARTIAL, DataError
from sentinode.progress import console

if TYPE_CHECKING:
    from rich.table import Table

    from sentinode.evaluation import Evaluation
    from sentinode.evaluation.evaluating_predictions import PredictionEvaluation
    from sentinode.model.bundle import Card

BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the run that made it.")]
Device = Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")]
Tta = Annotated[bool, typer.Option("--tta", help="Average the logits over the eight symmetries. 8 x slower.")]
Mpp = Annotated[
    float | None,
    typer.Option(
        metavar="UM",
        help="Microns per pixel of the images. They are resampled to the model's resolution, and the centre is used.",
    ),
]
Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="[BUNDLE] PATH...",
        help="A bundle (default: the bundled model), then images, folders, HDF5 or Parquet files.",
    ),
]


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE|FILE", help="A bundle, the run that made it, or a table of any program's predictions."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")],
    data: Annotated[
        Path | None,
        typer.Argument(help="For a bundle: labelled patches (PCam's HDF5, Kaggle, class folders, Parquet)."),
    ] = None,
    split: Annotated[Split, typer.Option(help="Split to score. Use 'all' for data without splits.")] = "test",
    rule: Annotated[
        str | None,
        typer.Option(help="Use the bundle's threshold for this rule, or choose it by this rule on --valid."),
    ] = None,
    valid: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The model's predictions for other patches, to choose operating points and calibrations on, and for a "
            "table also the threshold.",
        ),
    ] = None,
    guarantee: Annotated[
        str | None,
        typer.Option(
            metavar="RECALL@CONFIDENCE",
            help="Recall that a threshold chosen on --valid must keep, such as 0.95@0.9. Refused if it has too few.",
        ),
    ] = None,
    slides: Annotated[
        Path | None,
        typer.Option(metavar="MAP.csv", help="CSV with the slide of each patch (id,slide). Makes intervals by slide."),
    ] = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    labels: LabelTable = None,
    copies: CopiesTable = None,
    columns: Columns = None,
    scale: ScaleOption = None,
    tta: Tta = False,
    device: Device = "auto",
    precision: Annotated[Precision, typer.Option(help="Precision of the network.")] = "float32",
    cluster: OnCluster = None,
    interval: Interval = "auto",
    resamples: Annotated[int, typer.Option(min=1, help="Number of bootstrap resamples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed for the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json instead of a table.")] = False,
) -> None:
    """Score a bundle on labelled patches, or any program's predictions, with intervals, curves and a report.

    Writes metrics.json, predictions.parquet, report.html and its charts as SVGs to DIR.

    A table of predictions is CSV, Parquet or JSON lines with an id, a label and a probability for each patch, and a
    slide where it is known.

    Example: sentinode evaluate runs/first/bundle pcam --split test --out runs/first/test
    sentinode evaluate predictions.csv --out runs/theirs
    """
    from sentinode.evaluation.prediction_files import is_predictions

    evaluated: Evaluation | PredictionEvaluation
    how: dict[str, Any] = {"interval": interval, "resamples": resamples, "seed": seed, "guarantee": guarantee}
    if is_predictions(model):
        for_patches: dict[str, Any] = {"DATA": data, "--mpp": mpp, "--label-region": label_region}
        for_patches |= {"--tta": tta or None, "--cluster": cluster}
        _refuse_options(for_patches, "for a bundle; a table of predictions needs no patches")
        evaluated = _evaluate_table(model, out, valid, rule, slides, positive, labels, copies, columns, scale, how)
        table = _table_of_predictions(evaluated)
    else:
        for_tables = {"--labels": labels, "--copies": copies, "--columns": columns, "--scale": scale}
        _refuse_options(for_tables, "for a table of predictions, not for a bundle")
        if data is None:
            raise DataError(
                "no labelled patches are named.",
                where=model,
                hint="Name them after the bundle: `sentinode evaluate BUNDLE DATA --out DIR`. A table of predictions "
                "ends with .csv, .parquet or .jsonl.",
            )
        bundle = sentinode.load(model)
        evaluated = sentinode.evaluate(
            bundle,
            data,
            split,
            out,
            rule=rule,
            slide_map=slides,
            mpp=mpp,
            label_region=label_region,
            positive=names(positive),
            tta=tta,
            device=device,
            precision=precision,
            valid=None if valid is None else sentinode.read_predictions(valid),
            cluster=cluster,
            **how,
        )
        table = _figures(evaluated, bundle.card)
    if as_json:
        typer.echo(json.dumps(evaluated.as_dict(), indent=2, allow_nan=False))
    else:
        _print_table(table)
    console.print(f"Report: {evaluated.report}", markup=False)


def _refuse_options(stated: dict[str, Any], why: str) -> None:
    if here := [name for name, value in stated.items() if value is not None and value != []]:
        raise DataError(f"{', '.join(here)} {'is' if len(here) == 1 else 'are'} {why}.")


def _evaluate_table(
    path: Path,
    out: Path,
    valid: Path | None,
    rule: str | None,
    slides: Path | None,
    positive: str | None,
    labels: Path | None,
    copies: Path | None,
    columns: list[str] | None,
    scale: Scale | None,
    how: dict[str, Any],
) -> PredictionEvaluation:
    """Read predictions, and those for other patches, and score them."""
    if rule is not None and valid is None:
        raise DataError(
            "--rule chooses the threshold on other patches.", hint="Give the predictions for them with --valid FILE."
        )
    same: dict[str, Any] = {"columns": columns_of(columns), "scale": scale, "positive": names(positive)}
    test = sentinode.read_predictions(path, labels=labels, slides=slides, copies=copies, **same)
    others = None if valid is None else sentinode.read_predictions(valid, **same)
    command = shlex.join(["sentinode", *sys.argv[1:]])
    return sentinode.evaluate_predictions(test, out, valid=others, rule=rule or "accuracy", command=command, **how)


def predict(
    paths: Paths,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Table to write. Default: standard output."),
    ] = None,
    format: Annotated[
        TableFormat | None,
        typer.Option(help="Format of the table. Default: from the ending of FILE. kaggle writes id,label."),
    ] = None,
    mpp: Mpp = None,
    tta: Tta = False,
    device: Device = "auto",
    precision: Annotated[Precision, typer.Option(help="Precision of the network.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format jsonl.")] = False,
) -> None:
    """Predict the probability of tumour for patches without labels.

    Writes one row for each patch, with the reason if it cannot be read. The exit code is
    then 3, and the other patches are predicted.

    Example: sentinode predict runs/first/bundle patches/ --out predictions.csv
    """

    bundle, patches = open_model(paths)
    done = sentinode.predict(
        bundle,
        patches,
        out=sys.stdout if out is None else out,
        format="jsonl" if as_json and format is None else format,
        mpp=mpp,
        tta=tta,
        device=device,
        precision=precision,
    )
    many = "1 patch" if done.done == 1 else f"{done.done:,} patches"
    told = f"{many} predicted" + (f", {len(done.failures):,} failed" if done.failures else "")
    console.print(f"{told}: {done.out}" if done.out else f"{told}.", markup=False)
    if done.failures:
        raise typer.Exit(EXIT_PARTIAL)


def explain(
    paths: Paths,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the pictures.")] = Path(
        "explained"
    ),
    target: Annotated[
        str, typer.Option(help="Class whose evidence is shown: a class name, or called (each patch's predicted class).")
    ] = "called",
    neighbours: Annotated[
        int, typer.Option(min=0, max=50, metavar="N", help="Show the N nearest training patches of each. Needs --data.")
    ] = 0,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Labelled patches that the bundle was trained on.")
    ] = None,
    slides: Annotated[
        Path | None, typer.Option(metavar="MAP.csv", help="CSV with the slide of each patch of DATA (id,slide).")
    ] = None,
    mpp: Mpp = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the pictures and the failures as JSON.")] = False,
) -> None:
    """Draw each patch and, beside it, a map of the model's evidence.

    The exit code is 3 if some images cannot be read. The others are explained.

    Example: sentinode explain runs/first/bundle patch.png --out explained
    """

    bundle, images = open_model(paths)
    done = sentinode.explain(
        bundle, images, out, target=target, mpp=mpp, neighbours=neighbours, data=data, slide_map=slides, device=device
    )
    pictures = [str(picture) for picture in done.pictures]
    failed = [{"id": name, "error": why} for name, why in done.failures]
    told: dict[str, Any] = {"method": done.method, "pictures": pictures, "failed": failed}
    if neighbours:
        keys = ("id", "label", "slide", "distance", "copy")
        told["neighbours"] = [[{key: getattr(one, key) for key in keys} for one in near] for near in done.neighbours]
        told["disagreements"] = [{"id": name, "what": what} for name, what in done.disagreements]
    typer.echo(json.dumps(told, indent=2) if as_json else "\n".join(pictures))
    if failed:
        raise typer.Exit(EXIT_PARTIAL)


def stress(
    bundle: BundleArgument,
    data: Annotated[Path, typer.Argument(help="Labelled patches: PCam's HDF5, Kaggle, class folders, Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")],
    split: Annotated[Split, typer.Option(help="Split to score. Use 'all' for data without splits.")] = "valid",
    count: Annotated[int, typer.Option("--patches", min=2, help="Number of patches to take from the split.")] = 1000,
    slides: Annotated[
        Path | None,
        typer.Option(metavar="MAP.csv", help="CSV with the slide of each patch (id,slide). Makes intervals by slide."),
    ] = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    device: Device = "auto",
    precision: Annotated[Precision, typer.Option(help="Precision of the network.")] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed for the choice of patches and the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print stress.json instead of the weakest point.")] = False,
) -> None:
    """Score a bundle on patches with changed focus, compression, stain, brightness or magnification.

    Writes stress.html, stress.json and stress.png to DIR, and names the weakest point.

    Example: sentinode stress runs/first/bundle pcam --split valid --out runs/first/stress
    """
    points = sentinode.stress(
        sentinode.load(bundle),
        data,
        split,
        out,
        count=count,
        slide_map=slides,
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        device=device,
        precision=precision,
        seed=seed,
    )
    if as_json:
        typer.echo((out / "stress.json").read_text("utf-8"), nl=False)
        return
    from sentinode.evaluation.stress import weakest_point

    typer.echo(weakest_point(points))
    console.print(f"Page: {out / 'stress.html'}", markup=False)


def _figures(evaluation: Evaluation, card: Card) -> Table:
    """The figures as ``valid (test)``, with the interval on the patches of this evaluation."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from sentinode.scoring import METRICS

    split, scores, raw = evaluation.about["split"], evaluation.scores, evaluation.uncalibrated
    valid = card.metrics.get("valid", {})
    without = "; valid is without averaging over the symmetries" if evaluation.about["tta"] else ""
    table = Table(
        title=f"{card.name}: {scores.n:,} {split} patches, threshold {scores.threshold:.3f}",
        caption=f"Interval: {scores.interval}. ECE by chance {scores.ece_floor}; before temperature scaling "
        f"NLL {raw.nll.value:.3f}, Brier {raw.brier.value:.3f}, ECE {raw.ece.value:.3f}{without}",
        box=SIMPLE_HEAD,
    )
    table.add_column("metric")
    for head in (f"valid ({split})", "95 % interval", "at 0.5"):
        table.add_column(head, justify="right")
    for name in METRICS:
        here, half, known = getattr(scores, name), getattr(evaluation.at_half, name), valid.get(name, {})
        table.add_row(
            name,
            f"{_number(known.get('value'))} ({_number(here.value)})",
            "-" if math.isnan(here.low) else f"{_number(here.low)} to {_number(here.high)}",
            _number(half.value),
        )
    return table


def _table_of_predictions(evaluated: PredictionEvaluation) -> Table:
    """The metrics with their intervals."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from sentinode.scoring import METRICS

    scores, half = evaluated.scores, evaluated.at_half
    other = scores.threshold != 0.5
    delong = "" if math.isnan(scores.auc_delong.low) else f". DeLong's interval of the AUC {scores.auc_delong}"
    table = Table(
        title=f"{evaluated.predictions.name}: {scores.n:,} patches, threshold {scores.threshold:.3f} "
        f"({evaluated.predictions.rule})",
        caption=f"Interval: {scores.interval}{delong}. ECE by chance {scores.ece_floor}",
        box=SIMPLE_HEAD,
    )
    table.add_column("metric")
    for head in ("value", "95 % interval", *(["at 0.5"] if other else [])):
        table.add_column(head, justify="right")
    for name in METRICS:
        here = getattr(scores, name)
        limits = "-" if math.isnan(here.low) else f"{_number(here.low)} to {_number(here.high)}"
        table.add_row(name, _number(here.value), limits, *([_number(getattr(half, name).value)] if other else []))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _print_table(table: Table) -> None:
    from rich.console import Console

    Console(highlight=False, markup=False).print(table)

"""Models compared on the same patches: tables, tests, one picture, a sentence for each pair, and the disagreements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sentinode._version import __version__
from sentinode.atomic import make_folder, output_errors
from sentinode.errors import DataError
from sentinode.evaluation.charts import STYLE, Chart
from sentinode.evaluation.comparison_tables import (
    as_latex,
    as_markdown,
    models_table,
    non_inferiority_verdict,
    numbers_csv,
    pairs_table,
    scores_csv,
    verdict,
)
from sentinode.evaluation.disagreements import Disagreement, disagreements, refuse_other_patches
from sentinode.evaluation.evaluating import tell
from sentinode.evaluation.forest import Line, forest, standalone_forest
from sentinode.evaluation.report import NAMES, environment
from sentinode.patches import PatchSet
from sentinode.scoring import METRICS, Predictions, Scores, align, measure, roc_curve, with_threshold
from sentinode.scoring.comparison import LOWER_IS_BETTER, Difference, Paired, compare_metrics

COLOURS = ("#b5338a", "#3f6fb5", "#c77d12", "#2f8f6b", "#7a5cc7", "#8a8a2a", "#c2483d", "#5a6b7b")
"""Of the models' curves, in their order; they are legible on white and on black."""


@dataclass(frozen=True)
class Comparison:
    """Models compared on the same patches.

    Attributes:
        models: the aligned predictions, each with its threshold.
        scores: the metrics of each model.
        paired: the differences and their tests.
        metric: the metric of the verdicts.
        verdicts: one sentence for each pair, and for each test of non-inferiority.
        warnings: what to bear in mind, as sentences.
        path: the folder that was written.
    """

    models: tuple[Predictions, ...] = field(repr=False)
    scores: tuple[Scores, ...] = field(repr=False)
    paired: Paired = field(repr=False)
    metric: str
    verdicts: tuple[str, ...]
    warnings: tuple[str, ...]
    path: Path
    about: dict[str, Any] = field(repr=False, default_factory=dict)

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"

    def as_dict(self) -> dict[str, Any]:
        """The content of ``comparison.json``; None for what is undefined."""
        names = [one.name for one in self.models]
        return {
            "models": [
                {"name": one.name, "path": str(one.source or ""), "threshold_rule": one.rule, **found.as_dict()}
                for one, found in zip(self.models, self.scores, strict=True)
            ],
            "differences": [_named(asdict(one), names, "one", "other") for one in self.paired.differences],
            "non_inferiority": [
                {**_named(asdict(one), names, "model", "reference"), "shown": one.shown}
                for one in self.paired.non_inferiority
            ],
            "metric": self.metric,
            "verdicts": list(self.verdicts),
            "warnings": list(self.warnings),
            **self.about,
        }


def _named(record: dict[str, Any], names: Sequence[str], *places: str) -> dict[str, Any]:
    """A record with the models' names for their places, and None for NaN."""
    return {
        key: names[value] if key in places else None if isinstance(value, float) and value != value else value
        for key, value in record.items()
    }


def compare(
    models: Sequence[Predictions],
    out: str | Path,
    *,
    valid: Sequence[Predictions] = (),
    rule: str = "accuracy",
    metric: str = "auc",
    non_inferior: tuple[str, float] | None = None,
    shared_only: bool = False,
    patches: PatchSet | None = None,
    interval: str = "auto",
    resamples: int = 2000,
    seed: int = 0,
    command: str = "",
    show: bool = True,
) -> Comparison:
    """Compare models pair by pair on the same patches, and write tables, a picture and a report.

    The AUC is compared by DeLong's method, the accuracy by McNemar's test, all else by a paired bootstrap, and p is
    corrected for many pairs by Holm's method. Patches of one slide, and copies of a patch, stay together.

    Args:
        models: two or more sets of predictions, as :func:`~sentinode.read_predictions` reads them.
        out: the folder to write to.
        valid: the predictions of the same models, in the same order, for other patches, to choose the thresholds on.
            Without them each model has the threshold that its predictions bring, or 0.5.
        rule: how to choose the thresholds on ``valid``.
        metric: the metric of the verdicts.
        non_inferior: a metric and a margin, to test whether each model is not worse than the first by the margin.
        shared_only: whether to use only the patches that all models have, if they differ.
        patches: patches with images, to show those on which models disagree.
        interval: of each model's metrics; see :func:`~sentinode.measure`.
        resamples: number of bootstrap resamples.
        seed: random seed for the bootstrap.
        command: the command that repeats this comparison, for the report.
        show: whether to print warnings on standard error.

    Raises:
        DataError: fewer than two models, two of one name, different patches or labels, or patches on which a
            threshold would be chosen are scored.
        RecipeError: the rule is unknown.
        OutputError: the folder cannot be written.
    """
    _check(models, valid, metric)
    aligned = align(models, shared_only=shared_only)
    others: Sequence[Predictions | None] = valid or [None] * len(models)
    scored = [with_threshold(one, other, rule) for one, other in zip(aligned, others, strict=True)]
    if patches is not None:
        refuse_other_patches(scored[0], patches)
    scores = [
        measure(
            one.labels,
            one.probabilities,
            one.threshold or 0.0,
            groups=one.slides,
            copies=one.copies,
            interval=interval,
            resamples=resamples,
            seed=seed,
            class_names=one.class_names,
        )
        for one in scored
    ]
    paired = compare_metrics(scored, margin=non_inferior, resamples=resamples, seed=seed)
    of_metric = paired.of(metric)
    verdicts = [verdict(scored, one, len(of_metric)) for one in of_metric]
    verdicts += [non_inferiority_verdict(scored, one) for one in paired.non_inferiority]
    comparison = Comparison(
        tuple(scored),
        tuple(scores),
        paired,
        metric,
        tuple(verdicts),
        tuple(dict.fromkeys((*_left_out(models, scored), *(n for one in models for n in one.notes), *paired.notes))),
        make_folder(Path(out)),
        {
            "command": command,
            "seed": seed,
            "resamples": resamples,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": __version__,
        },
    )
    if show:
        tell(comparison.warnings)
    _write(comparison, patches)
    return comparison


def _check(models: Sequence[Predictions], valid: Sequence[Predictions], metric: str) -> None:
    names = [one.name for one in models]
    if len(models) < 2:
        raise DataError("a comparison needs two models or more.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"two models are called {twice!r}.", hint="Give each a name of its own with --names.")
    if valid and len(valid) != len(models):
        raise DataError(
            f"there are {len(models)} models and {len(valid)} sets of predictions for other patches.",
            hint="Give --valid once for each model, in the same order.",
        )
    if metric not in METRICS:
        raise DataError(f"there is no metric {metric!r}.", hint=f"The metrics are {', '.join(METRICS)}.")


def _left_out(models: Sequence[Predictions], aligned: Sequence[Predictions]) -> list[str]:
    n = len(aligned[0])
    return [f"{len(one) - n:,} of {len(one):,} patches of {one.name} are left out." for one in models if len(one) > n]


def _write(comparison: Comparison, patches: PatchSet | None) -> None:
    models, scores, paired = comparison.models, comparison.scores, comparison.paired
    of_metric = paired.of(comparison.metric)
    name = NAMES[comparison.metric][0]
    tables = {"models": models_table(models, scores), "pairs": pairs_table(models, of_metric)}
    lead = f"{len(models[0]):,} patches. {scores[0].interval}."
    picture = _picture(comparison, of_metric)
    texts = {
        "models.csv": scores_csv(models, scores),
        "pairs.csv": numbers_csv(models, paired.differences),
        "table.md": "\n".join([as_markdown(tables["models"]), as_markdown(tables["pairs"])]),
        "table.tex": "\n".join(
            [
                as_latex(tables["models"], f"Metrics with 95 % intervals. {lead}"),
                as_latex(tables["pairs"], f"Differences in {name}, p corrected by Holm's method."),
            ]
        ),
        "comparison.svg": standalone_forest(picture),
        "comparison.json": json.dumps(comparison.as_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n",
        "verdict.txt": "".join(f"{sentence}\n" for sentence in comparison.verdicts),
    }
    pairs = [(one, disagreements(models, one.one, one.other, patches)) for one in of_metric]
    texts["report.html"] = _page(comparison, picture, tables["models"], pairs, with_images=patches is not None)
    folder = comparison.path
    with output_errors(folder), TemporaryDirectory(prefix=".part-", dir=folder) as staged:
        for file, text in texts.items():
            Path(staged, file).write_text(text, encoding="utf-8", newline="\n")
        for written in sorted(Path(staged).iterdir()):
            written.replace(folder / written.name)


def _picture(comparison: Comparison, of_metric: Sequence[Difference]) -> str:
    """All differences by the metric of the verdicts, in colour where one is shown."""
    models, name = comparison.models, NAMES[comparison.metric][0]
    lines = [
        Line(
            f"{models[one.one].name} - {models[one.other].name}",
            one.value,
            one.low,
            one.high,
            "soft" if one.better is None else "tumour",
        )
        for one in of_metric
    ]
    margins = [one.margin for one in comparison.paired.non_inferiority if one.metric == comparison.metric][:1]
    marks = [0.0, *(sign * margin for margin in margins for sign in (-1, 1))]
    lower = ", lower is better" if comparison.metric in LOWER_IS_BETTER else ""
    return forest(f"Differences in {name}", f"difference in {name}{lower} (95 % interval)", lines, marks)


def _curves(comparison: Comparison) -> str:
    """The ROC curves of all models."""
    chart = Chart("ROC curves", "1 - specificity", "sensitivity (recall)")
    chart.line([0, 1], [0, 1], "dash")
    for at, (one, found) in enumerate(zip(comparison.models, comparison.scores, strict=True)):
        curve = roc_curve(one.labels, one.probabilities)
        if "auc" not in found.undefined:
            chart.line(curve.x, curve.y, f"line model-{at % len(COLOURS)}")
            chart.legend(f"model-{at % len(COLOURS)}", f"{one.name[:24]} {found.auc.value:.3f}")
    return chart.svg()


def _page(
    comparison: Comparison,
    picture: str,
    table: Sequence[Sequence[str]],
    pairs: Sequence[tuple[Difference, list[Disagreement]]],
    *,
    with_images: bool,
) -> str:
    models = comparison.models
    others = [
        (NAMES[metric][0], pairs_table(models, comparison.paired.of(metric)))
        for metric in METRICS
        if metric != comparison.metric
    ]
    style = "".join(
        f".chart .line.model-{at} {{ stroke: {colour}; }} .chart rect.model-{at} {{ fill: {colour}; }}\n"
        for at, colour in enumerate(COLOURS)
    )
    return (
        environment()
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            models=models,
            name=NAMES[comparison.metric][0],
            classes=models[0].class_names,
            n=len(models[0]),
            style=STYLE + style,
            picture=picture,
            curves=_curves(comparison),
            table=table,
            others=others,
            main=pairs_table(models, comparison.paired.of(comparison.metric)),
            pairs=pairs,
            with_images=with_images,
            about=comparison.about,
        )
    )

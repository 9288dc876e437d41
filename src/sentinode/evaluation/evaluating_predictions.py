"""The evaluation of predictions that any program made: the same metrics, intervals and page as for a bundle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sentinode.atomic import make_folder
from sentinode.evaluation.charts import (
    STYLE,
    histogram_figure,
    pr_figure,
    reliability_figure,
    roc_figure,
    standalone,
)
from sentinode.evaluation.evaluating import tell, warnings_of, write_results
from sentinode.evaluation.examination_figures import SHORT, examination_figures
from sentinode.evaluation.examining import Examination, examine
from sentinode.evaluation.report import CALIBRATION, environment, named_metrics, trust, verdict
from sentinode.model.bundle import versions
from sentinode.scoring import Predictions, Scores, measure, pr_curve, reliability, roc_curve, with_threshold


@dataclass(frozen=True)
class PredictionEvaluation:
    """How good predictions are.

    Attributes:
        scores: at the threshold of the predictions.
        at_half: at 0.5.
        predictions: what was scored, with its threshold.
        about: the files and the settings: the rest of ``metrics.json``.
        warnings: warnings for the reader of the metrics, as sentences.
        path: the folder that was written.
        examination: calibration, operating points, decisions, and patches that are left open.
    """

    scores: Scores
    at_half: Scores
    predictions: Predictions = field(repr=False)
    about: dict[str, Any] = field(repr=False)
    warnings: tuple[str, ...]
    path: Path
    examination: Examination = field(repr=False)

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"

    def as_dict(self) -> dict[str, Any]:
        """The content of ``metrics.json``."""
        return {
            **self.scores.as_dict(),
            "at_half": self.at_half.as_dict(),
            "warnings": list(self.warnings),
            **self.examination.as_dict(),
            **self.about,
        }


def evaluate_predictions(
    predictions: Predictions,
    out: str | Path,
    *,
    valid: Predictions | None = None,
    rule: str = "accuracy",
    guarantee: str | None = None,
    interval: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
    command: str = "",
    show: bool = True,
) -> PredictionEvaluation:
    """Score predictions for labelled patches, and write the metrics, the curves and a report.

    Args:
        predictions: of any program, as :func:`~sentinode.read_predictions` reads them.
        out: the folder to write to.
        valid: the same model's predictions for other patches, to choose the threshold on. Without them the threshold
            is the one that the predictions bring, or 0.5.
        rule: how to choose the threshold on ``valid``.
        guarantee: ``RECALL@CONFIDENCE`` that ``valid`` must allow, such as ``0.95@0.9``.
        interval: ``auto`` (the jackknife where slides are known, else a bootstrap), ``jackknife``, or of a bootstrap
            ``percentile`` or ``bca``.
        resamples: number of bootstrap resamples.
        seed: random seed for the bootstrap.
        command: the command that repeats this evaluation, for the report.
        show: whether to print warnings on standard error.

    Raises:
        DataError: ``valid`` holds patches that are scored or does not allow the guarantee, or the kind of interval is
            unknown.
        RecipeError: the rule is unknown.
        OutputError: the folder cannot be written.
    """
    scored = with_threshold(predictions, valid, rule)
    scores, half = (
        measure(
            scored.labels,
            scored.probabilities,
            threshold,
            groups=scored.slides,
            copies=scored.copies,
            interval=interval,
            resamples=resamples,
            seed=seed,
            class_names=scored.class_names,
        )
        for threshold in (scored.threshold, 0.5)
        if threshold is not None
    )
    examination = examine(scored, scores.threshold, valid, guarantee)
    folder = make_folder(Path(out))
    evaluation = PredictionEvaluation(
        scores=scores,
        at_half=half,
        predictions=scored,
        about={
            "model": scored.name,
            "split": "",
            "command": command,
            "data": {"path": str(scored.source or ""), "name": scored.name, "toy": False, "slides": scores.slides},
            "class_names": list(scored.class_names),
            "threshold_rule": scored.rule,
            "seed": seed,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        },
        warnings=(*predictions.notes, *_other_way_round(scores), *warnings_of(scores)),
        path=folder,
        examination=examination,
    )
    if show:
        tell(evaluation.warnings)
    _write(evaluation)
    return evaluation


def _other_way_round(scores: Scores) -> list[str]:
    """A warning where the probabilities rank the classes the wrong way round."""
    if not scores.auc.high < 0.5:
        return []
    return ["The AUC is below 0.5. The probabilities may be those of the other class."]


def _write(evaluation: PredictionEvaluation) -> None:
    predictions, scores = evaluation.predictions, evaluation.scores
    labels, probabilities = predictions.labels, predictions.probabilities
    bins = reliability(labels, probabilities)
    figures = {
        "roc": roc_figure(roc_curve(labels, probabilities), scores, evaluation.at_half),
        "pr": pr_figure(pr_curve(labels, probabilities), scores, evaluation.at_half),
        "reliability": reliability_figure(
            bins, None, scores, None, predictions.class_names[1], evaluation.examination.calibration.bins
        ),
        **examination_figures(evaluation.examination),
    }
    texts = {f"{name}.svg": standalone(svg) for name, svg in figures.items()}
    figures["histogram"] = histogram_figure(labels, probabilities, scores.threshold, predictions.class_names)
    metrics = evaluation.as_dict()
    confusion = metrics["confusion"]
    texts["report.html"] = (
        environment()
        .get_template("predictions.html.j2")
        .render(
            metrics=metrics,
            figures=figures,
            style=STYLE,
            names=named_metrics(predictions.class_names),
            negative_name=predictions.class_names[0],
            positive_name=predictions.class_names[1],
            calibration=CALIBRATION,
            positives=confusion["tp"] + confusion["fn"],
            negatives=confusion["tn"] + confusion["fp"],
            verdict=verdict(metrics),
            trust=trust(metrics),
            examination=evaluation.examination,
            short=SHORT,
        )
    )
    texts["metrics.json"] = json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_results(evaluation.path, texts, predictions)

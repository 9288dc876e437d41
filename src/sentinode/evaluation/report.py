"""The report: one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

from sentinode.evaluation.charts import STYLE, learning_figures
from sentinode.evaluation.examination_figures import SHORT
from sentinode.evaluation.examining import Examination
from sentinode.evaluation.gallery import Gallery
from sentinode.geometry import PCAM
from sentinode.model.bundle import Card
from sentinode.patches import ALL

NAMES = {
    "auc": ("AUC", "area under the ROC curve"),
    "accuracy": ("Accuracy", "share of patches that are classified correctly"),
    "precision": ("Precision", "share of the patches called {1} that are {1}"),
    "recall": ("Recall", "sensitivity: share of the {1} patches that are called {1}"),
    "specificity": ("Specificity", "share of the {0} patches that are called {0}"),
    "f1": ("F1", "harmonic mean of precision and recall"),
    "average_precision": ("Average precision", "area under the precision-recall curve"),
    "nll": ("NLL", "negative log-likelihood, in nats; lower is better"),
    "brier": ("Brier", "mean squared error of the probability; lower is better"),
    "ece": ("ECE", "expected calibration error, 15 equal-mass bins; lower is better"),
}
"""The title and the meaning of each metric; {0} and {1} stand for the names of the classes."""

CALIBRATION = ("nll", "brier", "ece")


@dataclass(frozen=True)
class Report:
    """Everything that the report shows.

    Attributes:
        metrics: the content of ``metrics.json``.
        card: the bundle's card.
        figures: SVGs by name: ``roc``, ``pr``, ``reliability``, ``histogram``.
        gallery: the most confident errors.
        examination: what lies behind the metrics.
    """

    metrics: dict[str, Any]
    card: Card
    figures: dict[str, str]
    gallery: Gallery
    examination: Examination


def render(report: Report) -> str:
    """The report as HTML. Whatever comes from outside, such as names of files, is escaped."""
    metrics, card = report.metrics, report.card
    confusion, classes = metrics["confusion"], metrics["class_names"]
    page = environment().get_template("report.html.j2")
    return page.render(
        metrics=metrics,
        card=card,
        figures=report.figures,
        gallery=report.gallery,
        learning=learning_figures(card.history),
        style=STYLE,
        names=named_metrics(classes),
        negative_name=classes[0],
        positive_name=classes[1],
        geometry=card.geometry,
        calibration=CALIBRATION,
        valid=card.metrics.get("valid", {}),
        positives=confusion["tp"] + confusion["fn"],
        negatives=confusion["tn"] + confusion["fp"],
        verdict=verdict(metrics),
        trust=trust(metrics),
        examination=report.examination,
        short=SHORT,
        yardsticks=_yardsticks(metrics, card),
    )


def named_metrics(class_names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The title and the meaning of each metric, for these classes."""
    return {key: (title, why.format(*class_names)) for key, (title, why) in NAMES.items()}


def verdict(metrics: dict[str, Any]) -> str:
    """The result in one plain sentence, with its intervals."""
    n, auc, accuracy = metrics["n"], metrics["auc"], metrics["accuracy"]
    words = ("generated" if metrics["data"]["toy"] else "", "" if metrics["split"] in (ALL, "") else metrics["split"])
    patches = " ".join((*filter(None, words), "patches"))
    right = (
        f"at its threshold of {metrics['threshold']:.3f} it classifies {_percent(accuracy)} of them correctly"
        f"{_interval(accuracy)}"
    )
    negative, positive = metrics["class_names"]
    if auc["value"] is None:
        return f"All {n:,} {patches} are of one class, so there is no AUC; {right}."
    return (
        f"On {n:,} {patches} the model ranks a {positive} patch above a {negative} one {_percent(auc)} of "
        f"the time{_interval(auc)}, and {right}."
    )


def trust(metrics: dict[str, Any]) -> str:
    """How far its probabilities can be believed, and whether a guarantee was kept, in one or two plain sentences."""
    ece, chance = metrics["ece"]["value"], metrics["ece_floor"]
    told = f"Its probabilities are off by {ece:.3f} on average (ECE)"
    if chance["high"] is not None:
        beyond = "no more than chance gives" if ece <= chance["high"] else "more than chance gives"
        told += f", {beyond} a perfectly calibrated model ({chance['low']:.3f} to {chance['high']:.3f})"
    guarantee = metrics["guarantee"]
    if "refused" in guarantee:
        return f"{told}."
    asked, test = guarantee["recall"], guarantee["test"]
    if test["kept"] is None:
        return f"{told}."
    kept = "was kept" if test["kept"] else "was not kept"
    return f"{told}. A guaranteed recall of {asked:g} {kept}: {test['recall']['value']:.3f}."


def _percent(figure: dict[str, float]) -> str:
    """With a space at which no line breaks."""
    return f"{100 * figure['value']:.1f}\N{NO-BREAK SPACE}%"


def _interval(figure: dict[str, float | None]) -> str:
    low, high = figure["low"], figure["high"]
    return (
        ""
        if low is None or high is None
        else f" (95\N{NO-BREAK SPACE}% interval {100 * low:.1f} to {100 * high:.1f}\N{NO-BREAK SPACE}%)"
    )


def _yardsticks(metrics: dict[str, Any], card: Card) -> bool:
    toy = metrics["data"]["toy"] or card.toy
    return not toy and card.geometry == PCAM and metrics["data"]["kind"] in ("official", "parquet")


def _figure(value: float | None, digits: int = 3) -> str:
    # Adding 0 makes a negative zero positive.
    return "undefined" if value is None or value != value else f"{round(value, digits) + 0.0:.{digits}f}"


def environment() -> jinja2.Environment:
    """The templates of all pages. What they are given is escaped."""
    folder = resources.files("sentinode.evaluation")
    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters["figure"] = _figure
    return found

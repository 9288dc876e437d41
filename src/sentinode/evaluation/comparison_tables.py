"""The tables of a comparison, ready for a paper: Markdown, LaTeX and CSV; and its verdicts as sentences."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence

from sentinode.csv_tables import write_rows
from sentinode.evaluation.report import NAMES
from sentinode.scoring import METRICS, Estimate, Predictions, Scores
from sentinode.scoring.comparison import LOWER_IS_BETTER, Difference, NonInferiority, few_slides

Row = Sequence[str]

PAPER = ("auc", "accuracy", "recall", "specificity", "f1", "average_precision", "brier", "ece")
"""The metrics of the table of models."""


def models_table(sets: Sequence[Predictions], scores: Sequence[Scores]) -> list[Row]:
    """A header, and a row for each model: each metric with its 95 % interval."""
    head = ["model", *(NAMES[name][0] for name in PAPER), "threshold"]
    rows = [
        [one.name, *(_estimate(getattr(found, name)) for name in PAPER), f"{found.threshold:.3f}"]
        for one, found in zip(sets, scores, strict=True)
    ]
    return [head, *rows]


def pairs_table(sets: Sequence[Predictions], differences: Iterable[Difference]) -> list[Row]:
    """A header, and a row for each difference."""
    head = ["A", "B", "metric", "A - B", "95 % interval", "p", "p (Holm)", "method"]
    rows = [
        [
            sets[one.one].name,
            sets[one.other].name,
            NAMES[one.metric][0],
            _signed(one.value),
            "-" if math.isnan(one.low) else f"{_signed(one.low)} to {_signed(one.high)}",
            p_value(one.p),
            p_value(one.corrected),
            one.method,
        ]
        for one in differences
    ]
    return [head, *rows]


def numbers_csv(sets: Sequence[Predictions], differences: Iterable[Difference]) -> str:
    """All differences with all digits."""
    head = ("a", "b", "metric", "difference", "low", "high", "p", "p_holm", "method")
    rows = ((sets[one.one].name, sets[one.other].name, one.metric, *_numbers(one), one.method) for one in differences)
    return as_csv([head, *rows])


def scores_csv(sets: Sequence[Predictions], scores: Sequence[Scores]) -> str:
    """All metrics of all models with all digits."""
    head = ("model", "metric", "value", "low", "high", "threshold", "interval")
    rows = []
    for one, found in zip(sets, scores, strict=True):
        for name in (*METRICS, "auc_delong"):
            estimate: Estimate = getattr(found, name)
            numbers = [_digits(value) for value in (estimate.value, estimate.low, estimate.high, found.threshold)]
            rows.append((one.name, name, *numbers, "DeLong" if name == "auc_delong" else found.interval))
    return as_csv([head, *rows])


def _numbers(one: Difference) -> list[str]:
    return [_digits(value) for value in (one.value, one.low, one.high, one.p, one.corrected)]


def _digits(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.9g}"


def as_csv(rows: Iterable[Sequence[str]]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    write_rows(text, rows)
    return text.getvalue()


def as_markdown(rows: Sequence[Row]) -> str:
    """Rows as a table in Markdown, the first being its header."""
    head, *body = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_latex(rows: Sequence[Row], caption: str) -> str:
    """Rows as a table in LaTeX (booktabs), the first being its header."""
    head, *body = [[_escaped(cell) for cell in row] for row in rows]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(caption)}}}",
        rf"\begin{{tabular}}{{{'l' * len(head)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
    return "".join(special.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in text).replace("\n", " ")


def _estimate(one: Estimate) -> str:
    if math.isnan(one.value):
        return "-"
    return f"{one.value:.3f}" if math.isnan(one.low) else f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.4f}"


def p_value(p: float) -> str:
    """p as papers print it."""
    if math.isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict(sets: Sequence[Predictions], one: Difference, pairs: int) -> str:
    """One sentence: which of the two models is better by this metric, by how much, and how sure that is."""
    first, second, name = sets[one.one].name, sets[one.other].name, NAMES[one.metric][0]
    if math.isnan(one.value):
        return f"{first} and {second} cannot be compared by {name}: it is undefined for these patches."
    if math.isnan(one.corrected):
        return f"{first} and {second} differ by {abs(one.value):.4f} in {name}; no test of it exists for these patches."
    if (slides := few_slides(sets)) is not None:
        return (
            f"Whether {first} or {second} has the better {name} cannot be said from {slides} slides. On these, the "
            f"first less the second is {one.value:+.4f}."
        )
    told = _turned(one) if one.better == one.other else one
    holm = f" after Holm's correction for {pairs} pairs" if pairs > 1 else ""
    sure = (
        f"{told.value:+.4f} (95 % interval {told.low:+.4f} to {told.high:+.4f}; {told.method}; "
        f"p {_relation(told.corrected)}{holm})"
    )
    if told.better is None:
        return f"No difference in {name} between {first} and {second} is shown: {first} less {second} is {sure}."
    which = "lower (better)" if one.metric in LOWER_IS_BETTER else "higher"
    return f"{sets[told.one].name} has a {which} {name} than {sets[told.other].name}: {sure}."


def _turned(one: Difference) -> Difference:
    return Difference(one.metric, one.other, one.one, -one.value, -one.high, -one.low, one.p, one.method, one.corrected)


def non_inferiority_verdict(sets: Sequence[Predictions], one: NonInferiority) -> str:
    """One sentence: whether a model is shown not to be worse than the reference by the margin."""
    model, reference, name = sets[one.model].name, sets[one.reference].name, NAMES[one.metric][0]
    if math.isnan(one.corrected):
        return f"Whether {model} is not inferior to {reference} by {name} cannot be tested on these patches."
    sure = (
        f"it is {'better' if one.advantage >= 0 else 'worse'} by {abs(one.advantage):.4f}, and the 95 % interval "
        f"ends at {one.worst:+.4f} (one-sided p {_relation(one.corrected)} after Holm's correction)"
    )
    if (slides := few_slides(sets)) is not None:
        return f"Whether {model} is not inferior to {reference} cannot be said from {slides} slides."
    claim = f"{model} is not inferior to {reference} in {name} by the margin of {one.margin:g}: {sure}."
    return claim if one.shown else f"It is not shown that {claim}"


def _relation(p: float) -> str:
    text = p_value(p)
    return text if text[0] == "<" else f"= {text}"

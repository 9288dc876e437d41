"""The charts of an examination, in the style of the report's others."""

from __future__ import annotations

import math

import numpy as np

from sentinode.evaluation.charts import Chart
from sentinode.evaluation.examining import Examination
from sentinode.scoring.decision_curve import DecisionCurve
from sentinode.scoring.estimate import Estimate

SHORT = {
    "balanced_accuracy": "Youden",
    "accuracy": "accuracy",
    "f1": "F1",
    "sensitivity@0.95": "sensitivity 0.95",
    "specificity@0.95": "specificity 0.95",
    "cost@5": "a miss costs 5 false alarms",
    "half": "0.5",
}
"""How charts and tables name the rules."""


def examination_figures(examination: Examination) -> dict[str, str]:
    """SVGs by name; ``operating`` and ``conformal`` only where valid is known."""
    figures = {"decision": decision_figure(examination.decisions), "selective": selective_figure(examination)}
    if examination.points:
        figures["operating"] = operating_figure(examination)
    if examination.conformal:
        figures["conformal"] = conformal_figure(examination)
    return figures


def operating_figure(examination: Examination) -> str:
    """Each operating point from valid (ring) to test (dot), in the plane of the ROC curve."""
    found = [
        (SHORT.get(point.rule, point.rule), point.threshold, point.valid, point.test)
        for point in examination.points
        if point.valid is not None and point.test is not None
    ]
    moves = [
        (name, threshold, (valid.sensitivity, valid.specificity), (test.sensitivity, test.specificity), "normal")
        for name, threshold, valid, test in found
    ]
    if kept := examination.kept:
        there = (Estimate(kept.guarantee.reached, math.nan, math.nan), kept.valid_specificity)
        moves.append(("guaranteed", kept.guarantee.threshold, there, (kept.recall, kept.specificity), "tumour"))
    values = [share.value for _, _, valid, test, _ in moves for share in (*valid, *test) if math.isfinite(share.value)]
    lowest = max(0.0, math.floor(10 * min(values, default=0.0) - 0.2) / 10)
    chart = Chart(
        "Operating points, from valid to test", "1 - specificity", "sensitivity (recall)", (0, 1 - lowest), (lowest, 1)
    )
    for name, threshold, valid, test, kind in moves:
        if not all(math.isfinite(share.value) for share in (*valid, *test)):
            continue
        x, y = [1 - valid[1].value, 1 - test[1].value], [valid[0].value, test[0].value]
        chart.line(x, y, f"line s-{kind}")
        tips = [f"{name}, threshold {threshold:.3f}, on {where}: sensitivity {b:.3f}, specificity {1 - a:.3f}"
                for where, a, b in zip(("valid", "test"), x, y, strict=True)]  # fmt: skip
        chart.dots(x[0], y[0], f"hollow s-{kind}", 4.5, tips[:1])
        chart.dots(x[1], y[1], f"f-{kind} halo", 5, tips[1:])
    chart.legend("f-normal", "a rule: valid (ring), test (dot)")
    if kept:
        chart.legend("f-tumour", "guaranteed")
    return chart.svg()


def decision_figure(curve: DecisionCurve) -> str:
    """The net benefit of the model, of acting on all, and of acting on none."""
    top = max(float(np.nanmax(curve.model)), float(curve.everyone.max()), 0.01)
    chart = Chart("Decision curve", "threshold probability", "net benefit", up=(-0.15 * top, 1.1 * top))
    low = np.where(np.isfinite(curve.low), curve.low, curve.model)
    chart.area(curve.threshold, low, np.where(np.isfinite(curve.high), curve.high, curve.model), "band")
    chart.line([0, 1], [0, 0], "dash")
    visible = curve.everyone >= -0.15 * top
    if visible.any():
        chart.line(curve.threshold[visible], curve.everyone[visible], "line s-normal")
    chart.line(curve.threshold, curve.model, "line s-tumour")
    chart.legend("f-tumour", "the model")
    chart.legend("f-normal", "act on all")
    chart.legend("f-soft", "act on none")
    return chart.svg()


def selective_figure(examination: Examination) -> str:
    """The accuracy by the share of patches that are judged."""
    risk = examination.risk
    shown = [one for one in examination.selected if math.isfinite(one.accuracy.value)]
    # The first few patches of the curve are noise.
    start = min(max(20, len(risk.risk) // 50), len(risk.risk) - 1)
    limits = [x for one in shown for x in (one.accuracy.low, one.accuracy.value) if math.isfinite(x)]
    lowest = min([1 - float(risk.risk[start:].max()), *limits])
    chart = Chart(
        "Accuracy by coverage", "share of patches that are judged", "accuracy", up=(max(0.0, lowest - 0.02), 1.0)
    )
    chart.line(risk.coverage[start:], 1 - risk.risk[start:], "line s-tumour")
    for one in shown:
        if math.isfinite(one.accuracy.low):
            chart.line([one.reached.value] * 2, [one.accuracy.low, one.accuracy.high], "line s-tumour")
        chart.dots(one.reached.value, one.accuracy.value, "f-tumour halo", 4,
                   [f"{one.reached.value:.3f} of the patches judged: accuracy {one.accuracy}"])  # fmt: skip
    chart.legend("f-tumour", f"AURC {risk.aurc:.4f}")
    return chart.svg("top")


def conformal_figure(examination: Examination) -> str:
    """The share of patches whose set holds the true class, against what was promised."""
    numbers = [
        share.low if math.isfinite(share.low) else share.value
        for _, found in examination.conformal
        for share in (found.covered, found.negative, found.positive)
        if math.isfinite(share.value)
    ]
    lowest = min([*numbers, 0.88]) - 0.01
    chart = Chart("Conformal sets", "promised", "measured", (0.88, 1.0), (max(lowest, 0.0), 1.0))
    chart.line([max(lowest, 0.88), 1], [max(lowest, 0.88), 1], "dash")
    for shift, kind, name, words in (
        (0.0, "soft", "covered", "all patches"),
        (-0.004, "normal", "negative", "negative, each class"),
        (0.004, "tumour", "positive", "positive, each class"),
    ):
        for rule, found in examination.conformal:
            share: Estimate = getattr(found, name)
            if rule.by_class == (name == "covered") or not math.isfinite(share.value):
                continue
            at = min(rule.level + shift, 1.0)
            if math.isfinite(share.low):
                chart.line([at, at], [share.low, share.high], f"line s-{kind}")
            chart.dots(at, share.value, f"f-{kind} halo", 4.5, [f"{words}: promised {rule.level:g}, measured {share}"])
        chart.legend(f"f-{kind}", words)
    return chart.svg()

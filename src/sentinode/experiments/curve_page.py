"""What a curve leaves behind: a page with one picture and one table, CSV, JSON and Markdown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np

from sentinode.atomic import write_text
from sentinode.evaluation.charts import Chart
from sentinode.evaluation.comparison_tables import as_markdown
from sentinode.evaluation.report import NAMES
from sentinode.experiments.learning_curve import MANY, CurvePoint, LearningCurve, sized
from sentinode.experiments.page import Page, Picture, Row, Table, write_results
from sentinode.experiments.sweep_page import cell, digits, failed, heading, spread_digits, spread_heads

GAIN = (
    "The interval of the gain counts two errors: that of the training and of the draw, by Student's t over the seeds' "
    "differences, and that of the patches, by resampling them for both sizes together."
)
RANGE = (
    "The forecast is a power law through the mean AUCs, error = a + b n^-c. Its range is that of the laws without one "
    "size each. It is no interval: on made-up curves it held the truth about half of the time."
)
COLUMNS: Final = ("auc", "accuracy", "nll")
"""The metrics of the table; CSV and JSON have more."""

TICK: Final = 0.17
"""Share of the chart's width that a tick's number needs."""

APART: Final = 0.012
"""Share of the chart's width between the dots of valid and of test, whose intervals would lie on each other."""


def write_curve(curve: LearningCurve) -> Path:
    """Write ``curve.html``, ``.csv``, ``.json`` and ``.md`` into the curve's folder, and return the page.

    Raises:
        OutputError: the folder cannot be written.
    """
    page = Page(
        title=f"Learning curve over {len(curve.points)} sizes",
        lead=sentence(curve),
        pictures=[picture(curve)] if curve.finished else [],
        tables=[
            Table(heading(curve.splits), table(curve)),
            *([Table("Runs that failed", failed(curve.failures))] if curve.failures else ()),
        ],
        notes=[*methods(curve), *curve.notes],
    )
    path = write_results(curve.path, "curve", curve.as_dict(), numbers(curve), page)
    write_text(curve.path / "curve.md", markdown(curve))
    return path


def table(curve: LearningCurve) -> list[Row]:
    """A head, and a row for each size, the smallest first."""
    slides = any(point.slides is not None for point in curve.points)
    names = [NAMES[metric][0] for metric in COLUMNS]
    rows: list[Row] = [("patches", *(("slides",) if slides else ()), *names, "runs", "steps", "training s")]
    for point in curve.points:
        told = (f"{point.patches:,.0f}", *((_count(point.slides),) if slides else ()))
        done, all_ = len(point.setting.outcomes), len(point.setting.outcomes) + len(point.setting.failures)
        runs = str(done) if done == all_ else f"{done} of {all_}"
        if not done:
            rows.append((*told, *("failed" for _ in COLUMNS), runs, f"{point.steps:,.0f}", ""))
            continue
        seconds = sum(one.seconds for one in point.setting.outcomes) / done
        figures = (cell(point.setting, curve.splits, metric) for metric in COLUMNS)
        rows.append((*told, *figures, runs, f"{point.steps:,.0f}", f"{seconds:,.0f}"))
    return rows


def _count(slides: float | None) -> str:
    return "-" if slides is None else f"{slides:,.0f}"


def sentence(curve: LearningCurve) -> str:
    """What was found: the AUC with the most data, what the last step gained, and the forecast or why there is none."""
    finished = curve.finished
    if not finished:
        return "No run was finished."
    last = finished[-1]
    seeds = len(last.setting.outcomes)
    text = f"With {last.setting.name}: AUC on valid {last.setting.spread('valid', 'auc')}"
    text += f", over {seeds} seeds." if seeds > 1 else ", one seed."
    text += f" {_gained(curve)} {_ahead(curve)}"
    if curve.failures:
        asked = sum(len(point.setting.outcomes) + len(point.setting.failures) for point in curve.points)
        text += f" {len(curve.failures)} of {asked} runs failed."
    return " ".join(text.split())


def _gained(curve: LearningCurve) -> str:
    """What the last step gained, and whether that may be chance."""
    gain = curve.gain
    if gain is None:
        return ""
    before, last = curve.finished[-2:]
    step = "doubling" if last.size == 2 * before.size else "step"
    text = f"The last {step}, from {before.size:,} to {last.setting.name}, changed it by {gain.value:+.4f}"
    if not math.isfinite(gain.low):
        return f"{text}; whether that is chance cannot be told."
    text += f" ({gain.low:+.4f} to {gain.high:+.4f})"
    if "one seed" in gain.method:
        return f"{text}, between two models; with one seed it may be the luck of the training or of the draw."
    if gain.low > 0:
        return f"{text}: more data still helped."
    if gain.high < 0:
        return f"{text}: more data did not help, it harmed."
    return f"{text}: whether more data still helped is not shown."


def _ahead(curve: LearningCurve) -> str:
    """The forecast, with what it is worth."""
    told = curve.forecast
    if told.why:
        return f"No forecast is made: {told.why}"
    assert told.predicted is not None and told.observed is not None
    parts = [
        f"{1 - one.error:.3f} ({1 - one.high:.3f} to {1 - one.low:.3f}) with {sized(one.size, curve.by)}"
        for one in told.ahead
    ]
    return (
        f"A power law forecasts {' and '.join(parts)}; without the largest size it predicted "
        f"{1 - told.predicted:.4f} there, and it was {1 - told.observed:.4f}."
    )


def picture(curve: LearningCurve) -> Picture:
    """The AUC against the size, on a logarithmic axis."""
    finished, told = curve.finished, curve.forecast
    size = {point.size: math.log10(point.size) for point in finished}
    reached = math.log10(told.ahead[-1].size) if told.ahead else max(size.values())
    margin = 0.08 * max(reached - min(size.values()), 0.3)
    across = (min(size.values()) - margin, reached + margin)
    named = [(at, f"{number:,}") for number, at in size.items()]
    named += [(math.log10(one.size), f"{one.size:,}") for one in told.ahead]
    chart = Chart(
        f"AUC against the number of {MANY[curve.by]}",
        f"training {MANY[curve.by]}, on a logarithmic axis",
        "AUC",
        across,
        _up(curve),
        named=_spaced(named, across[1] - across[0]),
    )
    if told.law is not None:
        along = np.linspace(min(size.values()), reached, 80)
        chart.line(along, [1 - told.law.error(10**at) for at in along], "dash")
    for split, colour, apart in zip(curve.splits, ("tumour", "normal"), (0.0, APART), strict=False):
        _draw(chart, curve, split, colour, apart * (across[1] - across[0]))
        chart.legend(f"f-{colour}", split)
    if told.law is not None:
        chart.legend("f-soft", "power law")
    caption = (
        "Dots are means over seeds, rings the seeds, upright lines the 95 % intervals of the means over seeds "
        "(Student's t), which end at the frame where they are longer."
    )
    return Picture("Would more data help?", chart.svg(), caption)


def _draw(chart: Chart, curve: LearningCurve, split: str, colour: str, apart: float) -> None:
    """The line, the interval and the seeds of one split, a little to the right of their size."""
    finished = curve.finished
    across = [math.log10(point.size) + apart for point in finished]
    spreads = [point.setting.spread(split, "auc") for point in finished]
    chart.line(across, [spread.mean for spread in spreads], f"line s-{colour}")
    for at, spread in zip(across, spreads, strict=True):
        if spread.low is not None:
            chart.line([at, at], [spread.low, spread.high], f"limits s-{colour}")
    for point, at in zip(finished, across, strict=True):
        values, outcomes = point.setting.values(split, "auc"), point.setting.outcomes
        if len(values) > 1:
            tips = [
                f"{split}, {point.setting.name}, seed {one.seed}: {value:.4f}"
                for one, value in zip(outcomes, values, strict=True)
            ]
            chart.dots([at] * len(values), values, f"hollow s-{colour}", 2.5, tips)
    tips = [f"{split}, {point.setting.name}: {spread}" for point, spread in zip(finished, spreads, strict=True)]
    chart.dots(across, [spread.mean for spread in spreads], f"f-{colour} halo", 4.5, tips)


def _up(curve: LearningCurve) -> tuple[float, float]:
    """The range of the AUC: all seeds and the forecast, and as much of the intervals as leaves these to be seen."""
    values = [
        value for point in curve.finished for split in curve.splits for value in point.setting.values(split, "auc")
    ]
    values += [1 - one.error for one in curve.forecast.ahead]
    low, high = min(values), max(values)
    room = max(high - low, 0.01) / 4
    return max(low - room, 0.0), min(high + room, 1.0)


def _spaced(named: list[tuple[float, str]], width: float) -> list[tuple[float, str]]:
    """Ticks without the words of those that would lie on a later one's."""
    kept: list[tuple[float, str]] = []
    free = math.inf
    for at, words in sorted(named, reverse=True):
        fits = free - at > TICK * width
        kept.append((at, words if fits else ""))
        free = at if fits else free
    return kept[::-1]


def methods(curve: LearningCurve) -> list[str]:
    """How the gain and the forecast are reckoned, where there are such."""
    told = [GAIN] if curve.gain is not None and math.isfinite(curve.gain.low) else []
    return told + ([RANGE] if not curve.forecast.why else [])


def numbers(curve: LearningCurve) -> list[Row]:
    """A head, and a row for each size with all digits."""
    head = ["size", "by", "patches", "slides", "steps", "runs", "failed", *spread_heads(curve.splits)]
    head += ["training_seconds"]
    rows: list[Row] = [tuple(head)]
    for point in curve.points:
        rows.append(tuple(_digits(point, curve, len(head))))
    return rows


def _digits(point: CurvePoint, curve: LearningCurve, columns: int) -> list[str]:
    outcomes, failures = point.setting.outcomes, point.setting.failures
    row = [str(point.size), curve.by, digits(point.patches), digits(point.slides), digits(point.steps)]
    row += [str(len(outcomes)), str(len(failures))]
    if not outcomes:
        return row + [""] * (columns - len(row))
    row += spread_digits(point.setting, curve.splits)
    return [*row, digits(sum(one.seconds for one in outcomes) / len(outcomes))]


def markdown(curve: LearningCurve) -> str:
    """The table for a paper."""
    parts = [sentence(curve), "", f"{heading(curve.splits)}:", "", as_markdown(table(curve)), *methods(curve)]
    return "\n".join(parts).rstrip() + "\n"

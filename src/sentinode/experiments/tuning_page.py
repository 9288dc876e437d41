"""What a search leaves behind: a page, the best recipe, a table of all trials, and JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from sentinode.atomic import write_text
from sentinode.csv_tables import write_rows
from sentinode.evaluation.charts import Chart
from sentinode.experiments.page import Page, Picture, Row, Table
from sentinode.experiments.search_space import Dimension
from sentinode.experiments.tuned_trial import TunedTrial
from sentinode.experiments.tuning import CONFIRMED, Tuned

SHOWN = 10
"""Trials in the table on the page; ``trials.csv`` has all."""


def write_tuned(tuned: Tuned, space: Sequence[Dimension]) -> Path:
    """Write ``tune.html``, ``tune.json``, ``trials.csv`` and ``best.toml``, and return the page.

    Raises:
        OutputError: the folder cannot be written.
    """
    tables = [Table(f"The best {SHOWN} trials" if len(tuned.trials) > SHOWN else "Trials", table(tuned))]
    if tuned.confirmed is not None:
        tables.append(Table("Trained again with other seeds", confirmed_table(tuned)))
    name = tuned.about["data"]["name"]
    page = Page(
        title=f"Search of {len(space)} hyperparameter{'s' if len(space) > 1 else ''} on {name}",
        lead=sentence(tuned),
        pictures=[history(tuned), *importance(tuned), *(slice_of(tuned, one) for one in space)],
        tables=tables,
        notes=tuned.notes,
    )
    lines = io.StringIO()
    write_rows(lines, all_trials(tuned))
    told = json.dumps(tuned.as_dict(), indent=2, allow_nan=False, ensure_ascii=False)
    write_text(tuned.out / "trials.csv", lines.getvalue())
    write_text(tuned.out / "tune.json", told + "\n")
    write_text(tuned.out / "best.toml", tuned.recipe.to_toml())
    write_text(tuned.out / "tune.html", page.html())
    return tuned.out / "tune.html"


def sentence(tuned: Tuned) -> str:
    """What was found, and how far it can be trusted."""
    name = tuned.monitor.upper()
    counts = {state: sum(one.state == state for one in tuned.trials) for state in ("finished", "pruned", "failed")}
    told = f"{len(tuned.trials)} trials: " + ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    found = f"The best, trial {tuned.best.number + 1}, has a valid {name} of {_value(tuned.best)}"
    if tuned.best.base:
        return f"{told}. {found}: it is the base recipe itself. No other trial was better."
    if tuned.base is not None:
        found += f", the base recipe {_value(tuned.base)}"
    return f"{told}. {found}. {_confirmed(tuned)}"


def _confirmed(tuned: Tuned) -> str:
    if tuned.confirmed is None or tuned.confirmed.difference is None:
        return "The best of many is too good on the patches that chose it."
    difference, seeds = tuned.confirmed.difference, len(tuned.confirmed.best.outcomes)
    seeds_told = f"{seeds} other seeds" if seeds > 1 else "one other seed"
    text = f"Trained again with {seeds_told}, best less base is {difference.value:+.4f}"
    if math.isnan(difference.low):
        return f"{text}; whether that is chance cannot be told."
    text += f" ({difference.low:+.4f} to {difference.high:+.4f})"
    if difference.low <= 0 <= difference.high:
        return f"{text}: no difference is shown."
    good = (difference.value > 0) == (tuned.monitor == "auc")
    return f"{text}: the best recipe is {'better' if good else 'worse'} on these valid patches."


def table(tuned: Tuned) -> list[Row]:
    """A head, and the best trials with the values of all keys."""
    keys = list(tuned.best.settings)
    sign = 1 if tuned.monitor == "auc" else -1
    rows: list[Row] = [("trial", f"valid {tuned.monitor.upper()}", "state", "epochs", "seconds", *map(_short, keys))]
    ranked = sorted(tuned.trials, key=lambda one: (one.value is None, -sign * (one.value or 0), one.number))
    for one in ranked[:SHOWN]:
        name = f"{one.number + 1} (base)" if one.base else f"{one.number + 1}"
        values = (one.settings.get(key, "") for key in keys)
        rows.append((name, _value(one), one.state, str(len(one.scores)), _seconds(one), *values))
    return rows


def all_trials(tuned: Tuned) -> list[Row]:
    """A head, and all trials in their order."""
    keys = list(tuned.best.settings)
    rows: list[Row] = [("trial", "base", "state", f"valid_{tuned.monitor}", "epochs", "seconds", "why", *keys)]
    for one in tuned.trials:
        value = "" if one.value is None else repr(one.value)
        told = ("yes" if one.base else "", one.state, value, str(len(one.scores)), _seconds(one), one.why)
        rows.append((str(one.number + 1), *told, *(one.settings.get(key, "") for key in keys)))
    return rows


def confirmed_table(tuned: Tuned) -> list[Row]:
    """The mean of best and base over the seeds that chose nothing."""
    name = tuned.monitor.upper()
    rows: list[Row] = [("recipe", f"valid {name}, mean and 95 % over seeds", "seeds", "folder")]
    if tuned.confirmed is None:
        return rows
    for setting in (tuned.confirmed.best, tuned.confirmed.base):
        told = str(setting.spread("valid", tuned.monitor)) if setting.outcomes else setting.failures[0].error
        rows.append((setting.name, told, str(len(setting.outcomes)), CONFIRMED))
    return rows


def history(tuned: Tuned) -> Picture:
    """The value of each trial, and the best so far."""
    name = f"valid {tuned.monitor.upper()}"
    finished = [one for one in tuned.trials if one.value is not None]
    chart = Chart(f"{name} of each trial", "trial", name, (0.5, len(tuned.trials) + 0.5), _range(finished), whole=True)
    best, line = math.nan, []
    better = max if tuned.monitor == "auc" else min
    for one in finished:
        best = float(one.value or 0) if math.isnan(best) else better(best, float(one.value or 0))
        line.append(best)
    numbers = [one.number + 1 for one in finished]
    if len(numbers) > 1:
        chart.line(*_steps(numbers, line), "line s-soft")
    stopped = [one for one in tuned.trials if one.state == "pruned" and one.scores]
    for group, kind, told in ((stopped, "hollow s-soft", "pruned"), (finished, "f-tumour halo", "finished")):
        if group:
            last = [one.value if one.value is not None else list(one.scores.values())[-1] for one in group]
            tips = [_tip(one) for one in group]
            chart.dots([one.number + 1 for one in group], last, kind, 4, tips)
            chart.legend("f-tumour" if told == "finished" else "f-soft", told)
    chart.legend("f-soft", "line: best so far")
    caption = "Dots are finished trials; rings are pruned ones at the epoch where they stopped."
    if tuned.base is not None:
        caption += " Trial 1 is the base recipe."
    return Picture("Each trial, and the best so far", chart.svg(), caption)


def importance(tuned: Tuned) -> list[Picture]:
    """The share of each key as bars, if it was measured."""
    if not tuned.importance:
        return []
    height = 26 * len(tuned.importance) + 8
    parts = [
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 {height}" role="img" '
        'aria-label="Share of each hyperparameter"><title>Share of each hyperparameter</title>'
    ]
    for row, (key, share) in enumerate(tuned.importance.items()):
        y = 26 * row + 4
        parts.append(f'<text x="150" y="{y + 14}" text-anchor="end">{escape(_short(key))}</text>')
        parts.append(f'<rect class="f-normal" x="158" y="{y}" width="{150 * share:.1f}" height="18" rx="3"/>')
        parts.append(f'<text class="soft" x="{164 + 150 * share:.1f}" y="{y + 14}">{100 * share:.0f} %</text>')
    caption = (
        "PED-ANOVA: the share of each key in what separates the best tenth of the finished trials from the others. "
        "With few trials it is a hint and no more."
    )
    return [Picture("What mattered", "".join([*parts, "</svg>"]), caption)]


def slice_of(tuned: Tuned, dimension: Dimension) -> Picture:
    """The value of each finished trial against one key."""
    name = f"valid {tuned.monitor.upper()}"
    finished = [one for one in tuned.trials if one.value is not None and dimension.key in one.settings]
    label, caption = dimension.key, ""
    if dimension.values:
        across = (0.5, len(dimension.values) + 0.5)
        caption = ", ".join(f"{place} = {value}" for place, value in enumerate(dimension.values, 1)) + "."
    else:
        low, high = _place(dimension, str(dimension.low)), _place(dimension, str(dimension.high))
        room = (high - low) / 30
        across = (low - room, high + room)
    if dimension.log:
        label += ", as a power of 10"
    whole = bool(dimension.values) or dimension.whole
    chart = Chart(f"{name} against {dimension.key}", label, name, across, _range(finished), whole=whole)
    for one in finished:
        kind, radius = ("f-tumour halo", 6) if one.number == tuned.best.number else ("f-normal halo", 4)
        chart.dots(_place(dimension, one.settings[dimension.key]), one.value, kind, radius, [_tip(one)])
    chart.legend("f-tumour", "best")
    return Picture(dimension.key, chart.svg(), caption)


def _place(dimension: Dimension, text: str) -> float:
    """Where a value stands on the axis."""
    if dimension.values:
        return float(dimension.values.index(text) + 1)
    return math.log10(float(text)) if dimension.log else float(text)


def _range(trials: Sequence[TunedTrial]) -> tuple[float, float]:
    """The vertical axis: from the worst to the best, with room."""
    values = [float(one.value) for one in trials if one.value is not None] or [0.0, 1.0]
    low, high = min(values), max(values)
    room = max((high - low) / 8, 0.002)
    return low - room, high + room


def _steps(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """A line that keeps its height until the next point."""
    across, up = [x[0]], [y[0]]
    for at, value in zip(x[1:], y[1:], strict=True):
        across += [at, at]
        up += [up[-1], value]
    return list(across), list(up)


def _tip(one: TunedTrial) -> str:
    return f"trial {one.number + 1}: {_value(one) or one.state}; {', '.join(one.overrides)}"


def _short(key: str) -> str:
    return key.partition(".")[2]


def _value(one: TunedTrial) -> str:
    return "" if one.value is None else f"{one.value:.4f}"


def _seconds(one: TunedTrial) -> str:
    return "" if one.seconds is None else f"{one.seconds:.0f}"

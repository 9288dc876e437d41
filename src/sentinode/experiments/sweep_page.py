"""What a sweep leaves behind: one table as a page, CSV, JSON and Markdown, and which differences are real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from sentinode.atomic import write_text
from sentinode.evaluation.comparison_tables import as_markdown, p_value
from sentinode.evaluation.forest import Line, forest
from sentinode.evaluation.report import NAMES
from sentinode.experiments.page import Page, Picture, Row, Table, write_results
from sentinode.experiments.spread import Spread
from sentinode.experiments.sweeping import SHOWN, Setting, Sweep
from sentinode.experiments.trials import Failure
from sentinode.scoring.comparison import Difference

METHOD = (
    "The interval of a difference counts two errors: that of the training, by Student's t over the seeds' differences, "
    "and that of the patches, by resampling them for both models together. It is as wide as the root of the sum of "
    "both squares, which is wider than it need be rather than too narrow. p is corrected by Holm's method for the "
    "number of pairs. A difference counts as real if the corrected p is below 0.05."
)


def write_sweep(sweep: Sweep) -> Path:
    """Write ``sweep.html``, ``.csv``, ``.json`` and ``.md`` into the sweep's folder, and return the page.

    Raises:
        OutputError: the folder cannot be written.
    """
    rows = table(sweep)
    page = Page(
        title=f"Sweep of {len(sweep.settings)} settings",
        lead=sentence(sweep),
        pictures=pictures(sweep),
        tables=[
            Table(heading(sweep.splits), rows),
            *difference_tables(sweep),
            *([Table("Runs that failed", failed(sweep.failures))] if sweep.failures else ()),
        ],
        notes=[METHOD, *sweep.notes] if sweep.compared.differences else sweep.notes,
    )
    path = write_results(sweep.path, "sweep", sweep.as_dict(), numbers(sweep), page)
    write_text(sweep.path / "sweep.md", markdown(sweep))
    return path


def heading(splits: Sequence[str]) -> str:
    """Of the table."""
    shown = "valid (test)" if "test" in splits else "valid"
    return f"Mean over seeds on {shown}, and half the width of its 95 % interval over seeds (Student's t)"


def table(sweep: Sweep) -> list[Row]:
    """A head, and a row for each setting, the best on valid first."""
    head: Row = ("setting", *(NAMES[metric][0] for metric in SHOWN), "runs", "parameters", "training s", "patches/s")
    means = [(setting.spread("valid", "auc").mean, setting) for setting in sweep.finished]
    rows = [
        (setting.name, *(cell(setting, sweep.splits, metric) for metric in SHOWN), *costs(setting))
        for _, setting in sorted(means, key=lambda one: -one[0])
    ]
    rows += [
        (setting.name, *("failed" for _ in SHOWN), f"0 of {len(setting.failures)}", "", "", "")
        for setting in sweep.settings
        if not setting.outcomes
    ]
    return [head, *rows]


def cell(setting: Setting, splits: Sequence[str], metric: str) -> str:
    """``valid (test)`` of one metric."""
    told = [spread_text(setting.spread(split, metric)) for split in splits]
    return told[0] if len(told) == 1 else f"{told[0]} ({told[1]})"


def spread_text(spread: Spread) -> str:
    """The mean, and half the width of Student's interval."""
    return f"{spread.mean:.3f}" if spread.reach is None else f"{spread.mean:.3f} ± {spread.reach:.3f}"


def costs(setting: Setting) -> tuple[str, ...]:
    """Runs, parameters, seconds of training and patches a second, the last two as means."""
    runs, count = setting.outcomes, len(setting.outcomes)
    of = count + len(setting.failures)
    seconds = sum(one.seconds for one in runs) / count
    speed = sum(one.patches_per_second for one in runs) / count
    number = str(count) if of == count else f"{count} of {of}"
    return number, f"{runs[0].parameters:,}", f"{seconds:,.0f}", f"{speed:,.0f}"


def differences(sweep: Sweep) -> list[Row]:
    """A head, and a row for each pair and metric, the AUC first."""
    head: Row = ("A", "B", "metric", "A - B", "95 % interval", "p (Holm)", "real")
    finished = sweep.finished
    return [head, *(difference_row(one, finished[one.one].name, finished[one.other].name)
                    for one in sweep.compared.differences)]  # fmt: skip


def difference_tables(sweep: Sweep) -> list[Table]:
    """The differences of the AUC, by which settings are chosen, and folded those of the other metrics."""
    head, *rows = differences(sweep)
    by_auc = [row for row in rows if row[2] == NAMES["auc"][0]]
    others = [row for row in rows if row not in by_auc]
    found = [Table("Differences of the AUC on valid: which are real", [head, *by_auc])] if by_auc else []
    if others:
        found.append(Table("Differences of the other metrics on valid", [head, *others], folded=True))
    return found


def difference_row(one: Difference, first: str, second: str) -> Row:
    """A difference as a row."""
    if math.isnan(one.value):
        return (first, second, NAMES[one.metric][0], "-", "-", "-", "undefined")
    if math.isnan(one.low):
        return (first, second, NAMES[one.metric][0], f"{one.value:+.4f}", "-", "-", "cannot be told")
    interval = f"{one.low:+.4f} to {one.high:+.4f}"
    return (first, second, NAMES[one.metric][0], f"{one.value:+.4f}", interval, p_value(one.corrected), real(one))


def real(one: Difference) -> str:
    """Whether a difference is real, as far as it can be known."""
    if "one seed" in one.method:
        return "of these two models" if one.better is not None else "not shown"
    return "yes" if one.better is not None else "not shown"


def failed(failures: Sequence[Failure]) -> list[Row]:
    """A head, and a row for each run that failed."""
    return [("run", "seed", "error"), *((one.name, str(one.seed), one.error) for one in failures)]


def sentence(sweep: Sweep) -> str:
    """What was found: the best on valid, and which others are not shown to be worse."""
    if sweep.best is None:
        return "No run was finished."
    finished = sweep.finished
    best = finished[sweep.best]
    text = f"Best on valid: {best.name}, AUC {best.spread('valid', 'auc')}"
    text += f", over {len(best.outcomes)} seeds." if len(best.outcomes) > 1 else ", one seed."
    against = sweep.against_best()
    if not against:
        return text
    worse = [finished[one.other].name for one in against if one.better == sweep.best]
    open_ = [finished[one.other].name for one in against if one.better is None]
    if sweep.compared.seeds == 1:
        text += " With one seed no difference between settings is shown, only between these models."
        return text
    if worse:
        text += f" Shown to be worse: {', '.join(worse)}."
    if open_:
        text += f" Not shown to be worse: {', '.join(open_)}."
    if sweep.failures:
        text += f" {len(sweep.failures)} runs failed."
    return text


def pictures(sweep: Sweep) -> list[Picture]:
    """The AUC of each setting, and how far each is from the best."""
    if sweep.best is None:
        return []
    lines = []
    ordered = sorted(sweep.finished, key=lambda setting: -setting.spread("valid", "auc").mean)
    for setting in ordered:
        for split in sweep.splits:
            spread = setting.spread(split, "auc")
            name = setting.name if split == "valid" else f"{setting.name}, {split}"
            low, high = (math.nan if limit is None else limit for limit in (spread.low, spread.high))
            lines.append(Line(name, spread.mean, low, high, "tumour" if split == "valid" else "normal"))
    found = [
        Picture(
            "AUC",
            forest("AUC of each setting", "AUC (mean over seeds)", lines),
            "Dots are means over seeds, lines their 95 % intervals over seeds (Student's t).",
        )
    ]
    against = sorted(sweep.against_best(), key=lambda one: one.value)
    if against:
        finished = sweep.finished
        name = finished[sweep.best].name
        behind = [
            Line(finished[one.other].name, -one.value, -one.high, -one.low, "soft" if one.better is None else "tumour")
            for one in against
        ]
        title = f"AUC on valid less that of {name}"
        caption = "Differences with their 95 % intervals. In colour: real after the correction for all pairs."
        found.append(Picture("Distance from the best", forest(title, title, behind, [0.0]), caption))
    return found


def numbers(sweep: Sweep) -> list[Row]:
    """A head, and a row for each setting with all digits."""
    head: list[str] = ["setting", "settings", "runs", "failed", *spread_heads(sweep.splits)]
    head += ["parameters", "training_seconds", "patches_per_second"]
    rows: list[Row] = [tuple(head)]
    for setting in sweep.settings:
        row = [setting.name, " ".join(setting.settings), str(len(setting.outcomes)), str(len(setting.failures))]
        if not setting.outcomes:
            rows.append(tuple(row + [""] * (len(head) - len(row))))
            continue
        row += spread_digits(setting, sweep.splits)
        count = len(setting.outcomes)
        row += [
            str(setting.outcomes[0].parameters),
            digits(sum(one.seconds for one in setting.outcomes) / count),
            digits(sum(one.patches_per_second for one in setting.outcomes) / count),
        ]
        rows.append(tuple(row))
    return rows


def spread_heads(splits: Sequence[str]) -> list[str]:
    """The names of the columns of :func:`spread_digits`."""
    kinds = ("", "_sd", "_low", "_high")
    return [f"{split}_{metric}{kind}" for split in splits for metric in SHOWN for kind in kinds]


def spread_digits(setting: Setting, splits: Sequence[str]) -> list[str]:
    """Mean, standard deviation and interval over seeds, of each metric and split."""
    spreads = [setting.spread(split, metric) for split in splits for metric in SHOWN]
    return [digits(value) for one in spreads for value in (one.mean, one.deviation, one.low, one.high)]


def digits(value: float | None) -> str:
    """A number with all digits that matter; empty for none."""
    return "" if value is None or math.isnan(value) else f"{value:.9g}"


def markdown(sweep: Sweep) -> str:
    """The tables for a paper."""
    parts = [sentence(sweep), "", f"{heading(sweep.splits)}:", "", as_markdown(table(sweep))]
    if sweep.compared.differences:
        parts += ["Differences on valid:", "", as_markdown(differences(sweep)), METHOD]
    return "\n".join(parts).rstrip() + "\n"

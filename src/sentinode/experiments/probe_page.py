"""What probes leave behind: a page, a table and JSON; one probe, or several backbones side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentinode.errors import DataError
from sentinode.evaluation.charts import Chart
from sentinode.experiments.page import Page, Picture, Row, Table, write_results
from sentinode.experiments.probing import Probe

COLOURS = ("tumour", "normal", "soft")
HEAD: Row = (
    *("backbone", "labels of each class", "split"),
    *("AUC", "95 % over draws", "sd", "accuracy", "balanced accuracy", "draws"),
)


def write_probes(folder: Path, probes: Sequence[Probe]) -> Path:
    """Write ``probe.html``, ``probe.csv`` and ``probe.json`` into a folder, and return the page.

    Raises:
        DataError: the probes are of different patches or splits, so that their figures cannot stand side by side.
        OutputError: the folder cannot be written.
    """
    require_same_patches(probes)
    rows = table(probes)
    names = ", ".join(probe.name for probe in probes)
    protocol = "eva's linear head" if probes[0].protocol == "eva" else "logistic regression"
    page = Page(
        title=f"Linear probes of {names}",
        lead=sentence(probes),
        pictures=[picture(probes, split) for split in probes[0].splits],
        tables=[Table(f"Frozen features and {protocol}", rows), Table("All labels", all_labels(probes))],
        notes=list(dict.fromkeys(note for probe in probes for note in probe.notes)),
    )
    return write_results(folder, "probe", {"probes": [probe.as_dict() for probe in probes]}, rows, page)


def require_same_patches(probes: Sequence[Probe]) -> None:
    """
    Raises:
        DataError: two probes are of different patches or splits.
    """

    def patches(probe: Probe) -> Any:
        return probe.about.get("data", {}).get("fingerprint"), probe.splits

    for probe in probes[1:]:
        if patches(probe) != patches(probes[0]):
            raise DataError(
                f"the features of {probe.name} are of other patches than those of {probes[0].name}.",
                hint="Embed the same data with each backbone, or probe the files one by one.",
            )


def table(probes: Sequence[Probe]) -> list[Row]:
    """A head, and a row for each backbone, number of labels and split."""
    rows = [HEAD]
    for probe in probes:
        for labels in probe.labels:
            for split in probe.splits:
                auc, accuracy, balanced = (
                    probe.spread(labels, split, metric) for metric in ("auc", "accuracy", "balanced_accuracy")
                )
                interval = "" if auc.low is None or auc.high is None else f"{auc.low:.4f} to {auc.high:.4f}"
                deviation = "" if auc.deviation is None else f"{auc.deviation:.4f}"
                figures = (f"{auc.mean:.4f}", interval, deviation, f"{accuracy.mean:.4f}", f"{balanced.mean:.4f}")
                rows.append((probe.name, f"{labels:,}" if labels else "all", split, *figures, str(auc.draws)))
    return rows


def all_labels(probes: Sequence[Probe]) -> list[Row]:
    """With all labels: the metrics with their intervals over slides, or patches where no slides are known."""
    rows: list[Row] = [("backbone", "split", "AUC", "accuracy", "ECE", "interval")]
    for probe in probes:
        for split, scores in probe.scores.items():
            figures = (str(scores.auc), str(scores.accuracy), str(scores.ece))
            rows.append((probe.name, split, *figures, scores.interval))
    return rows


def sentence(probes: Sequence[Probe]) -> str:
    """What was found, on test where it was scored."""
    split = probes[0].splits[-1]
    parts = []
    for probe in probes:
        most, fewest = probe.labels[-1], probe.labels[0]
        text = f"{probe.name}: AUC {probe.spread(most, split)} on {split} with {_labels(most)}"
        if fewest != most:
            text += f", {probe.spread(fewest, split)} with {_labels(fewest)}"
        parts.append(text)
    return ". ".join(parts) + "."


def picture(probes: Sequence[Probe], split: str) -> Picture:
    """The AUC against the number of labels."""
    counts = [draw.patches / 2 for probe in probes for draw in probe.draws]
    values = [draw.figures[split]["auc"] for probe in probes for draw in probe.draws]
    across = (math.log10(min(counts)) - 0.1, math.log10(max(counts)) + 0.1)
    low, high = min(values), max(values)
    span = max(high - low, 0.01)
    chart = Chart(
        f"AUC on {split} against the number of labels",
        "labels of each class, as a power of 10",
        f"AUC on {split}",
        across,
        (max(low - span / 5, 0), min(high + span / 10, 1.0)),
        whole=True,
    )
    for number, probe in enumerate(probes):
        colour = COLOURS[number % len(COLOURS)]
        points = []
        for labels in probe.labels:
            spread = probe.spread(labels, split)
            each = next(draw.patches for draw in probe.draws if draw.labels == labels) / 2
            points.append((math.log10(each), spread))
        x = [at for at, _ in points]
        chart.line(x, [spread.mean for _, spread in points], f"line s-{colour}")
        for at, spread in points:
            if spread.low is not None:
                chart.line([at, at], [spread.low, spread.high], f"line s-{colour}")
        tips = [f"{probe.name}, {_labels(count)}: {s}" for count, (_, s) in zip(probe.labels, points, strict=True)]
        chart.dots(x, [spread.mean for _, spread in points], f"f-{colour} halo", 4, tips)
        chart.legend(f"f-{colour}", probe.name)
    caption = "Dots are means over draws of the labels, upright lines their 95 % intervals."
    return Picture(f"Labels against AUC, {split}", chart.svg(), caption)


def _labels(count: int) -> str:
    return f"{count:,} labels of each class" if count else "all labels"

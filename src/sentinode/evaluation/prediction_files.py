"""Predictions from any program: a CSV, Parquet or JSON-lines table of id, label, probability, and slide where known.

One reader, for every command that takes predictions. A table that could be misread is refused by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import expit

from sentinode.errors import DataError, nearest
from sentinode.evaluation.prediction_tables import (
    COLUMNS,
    ENDINGS,
    METADATA,
    Cells,
    PredictionTable,
    column_name,
    text_of,
)
from sentinode.patches.slide_map import known_slide
from sentinode.patches.source import as_names
from sentinode.scoring.counts import CLASS_NAMES
from sentinode.scoring.predictions import Predictions, refuse_twice, some

WRITTEN: Final = "predictions.parquet"
"""What `sentinode evaluate` calls its predictions."""

SCALES: Final = ("probability", "percent", "logit")
"""What the numbers may be: from 0 to 1, from 0 to 100, or the log-odds."""


@dataclass(frozen=True)
class Reading:
    """How a table of predictions is to be read; the options of the commands.

    Attributes:
        name: of the model; by default that of the file, or of its folder if Sentinode wrote it.
        columns: the column of each role (``id``, ``label``, ``probability``, ``slide``, ``copies``) whose name does
            not tell it.
        scale: ``probability``, ``percent`` or ``logit``; None for probabilities that are checked to look like some.
        positive: the texts of the positive label, if labels are words.
        labels: another table of id and label, if the predictions have no labels.
        slides: another table of id and slide.
        copies: another table of id and copies.
    """

    name: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    scale: str | None = None
    positive: Sequence[str] = ()
    labels: Path | None = None
    slides: Path | None = None
    copies: Path | None = None


def is_predictions(path: Path) -> bool:
    """Whether a path is a table of predictions, or a folder that `sentinode evaluate` wrote."""
    return path.suffix.lower() in ENDINGS or (path / WRITTEN).is_file()


def read_predictions(
    path: str | Path,
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    scale: str | None = None,
    positive: Sequence[str] = (),
    labels: str | Path | None = None,
    slides: str | Path | None = None,
    copies: str | Path | None = None,
) -> Predictions:
    """Read the predictions of any program for labelled patches.

    Args:
        path: CSV (UTF-8, commas), Parquet or JSON lines with a row for each patch; or a folder that
            :func:`~sentinode.evaluate` wrote. The columns are found by the names that programs commonly use.
        name: of the model, as tables and charts show it.
        columns: the column of each role (``id``, ``label``, ``probability``, ``slide``, ``copies``) whose name does
            not tell it.
        scale: ``percent`` for 0 to 100, ``logit`` for log-odds, ``probability`` for 0 to 1 even if all are 0 or 1.
        positive: the texts of the positive label, if labels are words such as ``tumour`` and ``normal``.
        labels: another table of ``id`` and ``label``, if the predictions have no labels.
        slides: another table of ``id`` and ``slide``.
        copies: another table of ``id`` and ``copies``: the same text for patches that are copies of one another.

    Raises:
        DataError: the table cannot be read, lacks a column or has two that may be meant; an id is missing, or occurs
            twice; a label or a probability is missing or out of range; or another table does not name every patch.
    """
    how = Reading(
        name,
        columns or {},
        scale,
        tuple(positive),
        *(None if one is None else Path(one) for one in (labels, slides, copies)),
    )
    return read(Path(path), how)


def read(path: Path, how: Reading) -> Predictions:
    """:func:`read_predictions` with its options as one value."""
    _check(how)
    file = path / WRITTEN if (path / WRITTEN).is_file() else path
    table = PredictionTable.of(file, how.columns)
    ids = _ids(table)
    probabilities = _probabilities(table, how)
    labels, class_names = _labels(table, ids, how)
    stored = table.stored
    slides = _groups(table, "slide", ids, how.slides)
    copies = _groups(table, "copies", ids, how.copies)
    return Predictions(
        how.name or stored.get("name") or (file.parent.resolve().name if file.name == WRITTEN else file.stem),
        ids,
        labels,
        probabilities,
        slides,
        copies,
        class_names=class_names or tuple(stored.get("class_names", CLASS_NAMES)),
        threshold=stored.get("threshold"),
        rule=stored.get("rule", ""),
        source=file,
        notes=tuple(note for note in (table.told(), _unpredicted(ids, how.labels)) if note),
    )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write Parquet that :func:`read_predictions` reads back whole."""
    parts: dict[str, Any] = {
        "id": pa.array(predictions.ids.tolist()),
        "label": predictions.labels,
        "probability": predictions.probabilities,
    }
    if predictions.slides is not None:
        parts["slide"] = pa.array(predictions.slides.tolist())
    if predictions.copies is not None:
        parts["copies"] = pa.array(predictions.copies.tolist())
    about = {
        "name": predictions.name,
        "class_names": list(predictions.class_names),
        "threshold": predictions.threshold,
        "rule": predictions.rule,
    }
    table = pa.table(parts).replace_schema_metadata({METADATA: json.dumps(about)})
    pq.write_table(table, path)


def _check(how: Reading) -> None:
    if how.scale is not None and how.scale not in SCALES:
        raise DataError(f"there is no scale {how.scale!r}.", hint=f"The scales are {', '.join(SCALES)}.")
    for role in how.columns:
        if role not in COLUMNS:
            guess = nearest(role, list(COLUMNS))
            raise DataError(
                f"there is no column role {role!r}{f'; did you mean {guess}' if guess else ''}.",
                hint=f"The roles are {', '.join(COLUMNS)}: write probability=COLUMN, for example.",
            )


def _refuse_missing(cells: Cells, what: str, path: Path, hint: str | None = None) -> None:
    missing = [row for row, cell in enumerate(cells) if cell is None or cell != cell]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(cells):,} rows have no {what}; the first is row {missing[0] + 1:,}.",
            where=path,
            hint=hint,
        )


def _ids(table: PredictionTable) -> NDArray[np.str_]:
    cells = table.need("id")
    _refuse_missing(cells, "id", table.path)
    ids = as_names([text_of(cell) for cell in cells], table.path)
    refuse_twice(ids, table.path)
    return ids


def _probabilities(table: PredictionTable, how: Reading) -> NDArray[np.float64]:
    if "probability" not in table.cells and how.labels is not None and "label" in table.cells:
        # A submission to Kaggle calls the probability its label.
        table = replace(table, cells={**table.cells, "probability": table.cells["label"]})
        table = replace(table, named={**table.named, "probability": table.named["label"]})
    elif "probability" not in table.cells and "label" in table.cells and _fractions(table.cells["label"]):
        raise DataError(
            "the labels are not 0 and 1, and there is no probability: this looks like a submission to Kaggle, whose "
            "label is the predicted probability.",
            where=table.path,
            hint="Give the true labels in another table with --labels FILE (id,label).",
        )
    cells = table.need("probability")
    failed = next((error for error in table.errors if error is not None and str(error).strip()), None)
    _refuse_missing(
        cells,
        "probability",
        table.path,
        f"The first reason in the column error: {failed}. Leave these rows out of the file if the metrics shall be of "
        "the others."
        if failed
        else "Leave these rows out of the file if the metrics shall be of the others.",
    )
    values = np.array([_number(cell, row, table, how.scale) for row, cell in enumerate(cells)], dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum()):,} probabilities are infinite.", where=table.path)
    return _on_scale(values, table, how.scale)


def _fractions(cells: Cells) -> bool:
    """Whether cells are numbers from 0 to 1, some of them between."""
    try:
        numbers = [float(cell) for cell in cells if cell is not None]
    except (TypeError, ValueError, OverflowError):
        return False
    return all(0 <= number <= 1 for number in numbers) and any(0 < number < 1 for number in numbers)


def _number(cell: Any, row: int, table: PredictionTable, scale: str | None) -> float:
    if isinstance(cell, bool):
        raise DataError(
            f"the column {table.named['probability']!r} holds true and false: the classes called, not probabilities.",
            where=table.path,
            hint="Name the column of the probabilities with --columns probability=COLUMN.",
        )
    text = cell.rstrip("%") if scale == "percent" and isinstance(cell, str) else cell
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError):
        percent = isinstance(cell, str) and cell.endswith("%")
        comma = isinstance(cell, str) and "," in cell
        hint = "If they are percent, say --scale percent." if percent else None
        hint = "Write decimals with a point." if comma else hint
        short = text_of(cell)[:40]
        raise DataError(
            f"{short!r} in row {row + 1:,} of the column {table.named['probability']!r} is not a number.",
            where=table.path,
            hint=hint or "Name the column of the probabilities with --columns probability=COLUMN.",
        ) from None


def _on_scale(values: NDArray[np.float64], table: PredictionTable, scale: str | None) -> NDArray[np.float64]:
    """Probabilities, from what the numbers are said to be and seem to be."""
    low, high = float(values.min()), float(values.max())
    column = table.named["probability"]
    within = low >= 0 and high <= 1
    told = f"the numbers in the column {column!r} run from {low:.6g} to {high:.6g}"
    if scale == "logit":
        if within:
            raise DataError(f"{told}, as probabilities do, and are said to be logits.", where=table.path)
        return np.asarray(expit(values), dtype=np.float64)
    if scale == "percent":
        if low < 0 or high > 100:
            raise DataError(f"{told}, which is not percent.", where=table.path)
        if high <= 1:
            raise DataError(f"{told}, as probabilities do, and are said to be percent.", where=table.path)
        return values / 100
    if not within:
        percent = low >= 0 and high <= 100
        guess = "They may be percent (0 to 100)" if percent else "They look like logits (log-odds)"
        hint = "Say --scale percent, or --scale logit if they are log-odds." if percent else "Say --scale logit."
        if low >= -0.01 and high <= 1.01:
            guess, hint = "Probabilities lie from 0 to 1", "Clip them where they are made, if it is rounding."
        raise DataError(f"{told}. {guess}.", where=table.path, hint=hint)
    if scale is None and ("logit" in column_name(column) or column_name(column) == "margin"):
        raise DataError(
            f"the column {column!r} is called that of logits.",
            where=table.path,
            hint="Say --scale logit, or --scale probability if they are probabilities.",
        )
    if scale is None and len(values) > 2 and np.isin(values, (0, 1)).all():
        raise DataError(
            f"every number in the column {column!r} is 0 or 1: these look like the classes called, not probabilities.",
            where=table.path,
            hint="Name another column with --columns probability=COLUMN, or say --scale probability.",
        )
    return values


Labels = tuple[NDArray[np.uint8], tuple[str, str] | None]
"""uint8 (N,), and the names of the classes where the labels are words."""


def _labels(table: PredictionTable, ids: NDArray[np.str_], how: Reading) -> Labels:
    if how.labels is None:
        return _as_labels(table.need("label"), table, how.positive)
    other = PredictionTable.of(how.labels, {})
    labels, names = _as_labels(_matched(other, "label", ids, table.path), other, how.positive)
    if {"label", "probability"} <= set(table.cells):
        own, _ = _as_labels(table.cells["label"], table, how.positive)
        _refuse_contradiction("labels", ids, own != labels, table.path, how.labels)
    return labels, names


def _refuse_contradiction(what: str, ids: NDArray[np.str_], differ: NDArray[np.bool_], path: Path, other: Path) -> None:
    if differ.any():
        raise DataError(
            f"{int(differ.sum()):,} of {len(ids):,} patches have other {what} here than in {other.name}, such as "
            f"{some(ids[differ])}.",
            where=path,
            hint="Check the ids, or remove the column that is wrong.",
        )


def _unpredicted(ids: NDArray[np.str_], labels: Path | None) -> str:
    """How many patches of the table of labels have no prediction; empty if all have one."""
    if labels is None:
        return ""
    labelled = _ids(PredictionTable.of(labels, {}))
    left = labelled[~np.isin(labelled, ids)]
    if not len(left):
        return ""
    return (
        f"{len(left):,} of {len(labelled):,} patches of {labels.name} have no prediction, such as {some(left)}. They "
        "are left out."
    )


def _as_labels(cells: Cells, table: PredictionTable, positive: Sequence[str]) -> Labels:
    _refuse_missing(cells, "label", table.path)
    words = as_names([_label_word(cell) for cell in cells], table.path)
    found = np.unique(words).tolist()
    shown = ", ".join(repr(word[:40]) for word in found[:6]) + (", ..." if len(found) > 6 else "")
    if set(found) <= {"0", "1"}:
        if positive and set(positive) != {"1"}:
            raise DataError(
                f"the labels are 0 and 1, and --positive names {', '.join(map(repr, positive))}.",
                where=table.path,
                hint="Leave --positive out: label 1 is the positive class.",
            )
        return (words == "1").astype(np.uint8), None
    if not positive:
        raise DataError(
            f"labels must be 0 or 1; these are {shown}.",
            where=table.path,
            hint="If they name two classes, say which is the positive one, as in --positive tumour.",
        )
    if absent := [word for word in positive if word not in found]:
        raise DataError(f"no label is {absent[0]!r}, which --positive names; the labels are {shown}.", where=table.path)
    others = [word for word in found if word not in positive]
    if len(others) != 1:
        told = (
            f"the labels beside the positive one are {', '.join(map(repr, others[:6]))}"
            if others
            else "no label is left"
        )
        raise DataError(f"{told}: there must be exactly one negative class; all labels are {shown}.", where=table.path)
    return np.isin(words, positive).astype(np.uint8), (others[0], positive[0])


def _label_word(cell: Any) -> str:
    """A label as text; whole numbers without a point, and Parquet's booleans as 0 and 1."""
    if isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, str):
        try:
            number = float(cell)
        except ValueError:
            return cell.strip()
        return text_of(number) if math.isfinite(number) else cell
    return text_of(cell)


def _groups(table: PredictionTable, role: str, ids: NDArray[np.str_], other: Path | None) -> NDArray[np.str_] | None:
    """The slide, or the group of copies, of each patch; None where none is known."""
    own = _named_groups(table.cells[role], table.path) if role in table.cells else None
    if other is None:
        names = own
    else:
        names = _named_groups(_matched(PredictionTable.of(other, {}), role, ids, table.path), other)
        if own is not None:
            differ = (own != "") & (names != "") & (own != names)
            _refuse_contradiction({"slide": "slides"}.get(role, role), ids, differ, table.path, other)
            names = np.where(names == "", own, names)
    return None if names is None or not (names != "").any() else names


def _named_groups(cells: Cells, path: Path) -> NDArray[np.str_]:
    return as_names(["" if cell is None or cell != cell else known_slide(text_of(cell)) for cell in cells], path)


def _matched(other: PredictionTable, role: str, ids: NDArray[np.str_], path: Path) -> Cells:
    """The cells of another table for these patches; it may have more patches, and must have these."""
    cells, keys = other.need(role), _ids(other)
    at = dict(zip(keys.tolist(), range(len(keys)), strict=True))
    foreign = np.array([id for id in ids.tolist() if id not in at])
    if len(foreign):
        raise DataError(
            f"{len(foreign):,} of {len(ids):,} patches of {path.name} have no {role} here, such as "
            f"{some(foreign)}; the ids here are such as {some(keys)}.",
            where=other.path,
            hint="Both tables must give each patch the same id.",
        )
    return [cells[at[id]] for id in ids.tolist()]

"""The tables that predictions are read from: their formats, and which column means what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sentinode.errors import DataError
from sentinode.names import listed
from sentinode.patches.parquet import MOST_ROWS, ROWS, batches, open_parquet, texts
from sentinode.patches.slide_map import SLIDE_COLUMNS
from sentinode.patches.table import MOST_CELLS, MOST_COLUMNS, SMALLER, Lines, read_rows
from sentinode.scoring.counts import CLASS_NAMES

ENDINGS: Final = (".csv", ".parquet", ".jsonl", ".ndjson")
"""The endings of tables that are read."""

METADATA: Final = b"sentinode"
"""The key under which a Parquet file that Sentinode wrote keeps the names of the classes and the threshold."""

COLUMNS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "id": (
        ("id",),
        *(
            ("patch_id", "image_id", "tile_id", "sample_id", "img_id"),
            ("filename", "file_name", "image_name", "patch_name", "image_path", "path", "file"),
            ("name", "image", "patch", "tile", "sample", "img"),
            ("index", "row", "", "unnamed:_0"),
        ),
    ),
    "label": (
        ("label",),
        ("true_label", "y_true", "target", "truth", "ground_truth", "gt", "true", "reference", "labels", "targets"),
        ("y", "class"),
    ),
    "probability": (
        ("probability",),
        (
            *("prob", "proba", "p", "probs", "probabilities", "y_prob", "y_proba", "pred_prob", "pred_proba"),
            *("prob_1", "proba_1", "p_1", "p1", "probability_1", "class_1", "prob_pos", "prob_positive"),
            *("positive_probability", "prob_tumor", "prob_tumour", "p_tumor", "p_tumour", "p(tumor)", "p(tumour)"),
            *("tumor_prob", "tumour_prob", "tumor_probability", "tumour_probability", "probability_tumor"),
            *("probability_tumour", "p_cancer", "cancer_prob", "prob_cancer"),
        ),
        ("score", "scores", "y_score", "y_hat", "yhat", "output", "outputs", "logit", "logits", "margin"),
        ("prediction", "predictions", "pred", "preds", "predicted", "y_pred", "tumor", "tumour", "positive", "1"),
    ),
    "slide": (SLIDE_COLUMNS, ("slide_name", "slide_uuid", "wsi_name", "wsi_file", "slide_path")),
    "copies": (("copies",), ("copy_of", "copies_of", "duplicate_of", "duplicates", "cluster")),
}
"""The names under which programs write each column, the clearest first. Case, spaces and hyphens do not matter."""

MISSING: Final = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})


Cells = Sequence[Any]


@dataclass(frozen=True)
class PredictionTable:
    """Some columns of a table: by role, the column's own name and its cells; a cell is None where it is missing."""

    path: Path
    head: Sequence[str]
    cells: Mapping[str, Cells]
    named: Mapping[str, str]
    stored: Mapping[str, Any] = field(default_factory=dict)
    errors: Cells = ()

    @classmethod
    def of(cls, path: Path, stated: Mapping[str, str]) -> PredictionTable:
        ending = path.suffix.lower()
        if ending == ".parquet":
            return cls._of_parquet(path, stated)
        if ending in (".jsonl", ".ndjson"):
            head, rows = _json_lines(path)
        elif ending == ".csv":
            head, rows = read_rows(path)
        else:
            raise DataError(
                "this is not a table of predictions.",
                where=path,
                hint=f"Give a file that ends with {', '.join(ENDINGS)}.",
            )
        named = _roles(path, head, stated)
        at = {role: head.index(column) for role, column in named.items()}
        cells = {role: [_cell(row[place]) for row in rows] for role, place in at.items()}
        errors = [_cell(row[head.index("error")]) for row in rows] if "error" in head else ()
        return cls(path, head, cells, named, errors=errors)

    @classmethod
    def _of_parquet(cls, path: Path, stated: Mapping[str, str]) -> PredictionTable:
        with open_parquet(path) as file:
            schema = file.schema_arrow
            if file.metadata.num_rows > MOST_ROWS:
                raise DataError(f"more than {MOST_ROWS:,} rows are not read at once.", where=path)
            named = _roles(path, schema.names, stated)
            for role, column in named.items():
                kind = schema.field(column).type
                if pa.types.is_nested(kind):
                    raise DataError(
                        f"the column {column!r} ({role}) holds {kind}, not one value a row.",
                        where=path,
                        hint="Write the probability of the positive class in a column of its own.",
                    )
            cells = {role: _column(path, file, column) for role, column in named.items()}
            errors = _column(path, file, "error") if schema.names.count("error") == 1 else ()
        return cls(path, schema.names, cells, named, _stored(schema.metadata, path), errors)

    def need(self, role: str) -> Cells:
        """The cells of a column that must be there."""
        if role in self.cells:
            return self.cells[role]
        others = listed([repr(name) for name in self.head], 20)
        raise DataError(
            f"no column tells the {role} of each patch; the columns are {others}.",
            where=self.path,
            hint=_LACKING.get(role, "") + f"Name it with --columns {role}=COLUMN.",
        )

    def told(self) -> str:
        """Which columns were taken where their names differ from ours; empty where none does."""
        other = [f"{role} from {column!r}" for role, column in self.named.items() if column_name(column) != role]
        return f"Columns of {self.path.name}: {', '.join(other)}." if other else ""


_LACKING: Final = {
    "label": "Give the true labels in another table with --labels FILE (id,label). ",
    "id": "Without ids, predictions cannot be matched: add the row of each patch in its data as a column id. ",
}


def column_name(column: str) -> str:
    return column.strip().lower().replace(" ", "_").replace("-", "_")


def _roles(path: Path, head: Sequence[str], stated: Mapping[str, str]) -> dict[str, str]:
    """The column of each role that the table has."""
    plain: dict[str, list[str]] = {}
    for column in head:
        plain.setdefault(column_name(column), []).append(column)
    found = {}
    for role, tiers in COLUMNS.items():
        if role in stated:
            found[role] = _stated(path, role, stated[role], plain)
            continue
        for tier in tiers:
            here = [column for name in tier for column in plain.get(name, [])]
            if len(here) > 1:
                raise DataError(
                    f"several columns may be the {role}: {', '.join(repr(column) for column in here)}.",
                    where=path,
                    hint=f"Name one with --columns {role}=COLUMN.",
                )
            if here:
                found[role] = here[0]
                break
    if len(set(found.values())) < len(found):
        raise DataError(f"one column has two roles: {found}.", where=path, hint="Name them apart with --columns.")
    return found


def _stated(path: Path, role: str, column: str, plain: Mapping[str, Sequence[str]]) -> str:
    here = plain.get(column_name(column), [])
    if len(here) == 1:
        return here[0]
    why = "occurs twice" if here else "is not in this table"
    columns = listed([repr(one) for several in plain.values() for one in several], 20)
    raise DataError(f"the column {column!r} ({role}) {why}; the columns are {columns}.", where=path)


def _json_lines(path: Path) -> tuple[list[str], list[list[Any]]]:
    """The keys of all lines, and the values of each; None where a line lacks one."""
    rows: list[dict[str, Any]] = []
    head: dict[str, None] = {}
    lines = Lines(path)
    for line in lines:
        lines.held = 0
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also of a number with too many digits
            raise DataError(f"line {lines.number:,} is not JSON ({error}).", where=path) from error
        if not isinstance(row, dict):
            raise DataError(f"line {lines.number:,} is not an object with columns.", where=path)
        rows.append(row)
        head.update(dict.fromkeys(row))
        if len(head) > MOST_COLUMNS or len(head) * len(rows) > MOST_CELLS:
            what = f"{len(rows):,} lines with {len(head):,} columns are more than is read."
            raise DataError(what, where=path, hint=SMALLER)
    if not rows:
        raise DataError("this table has no rows.", where=path)
    return list(head), [[row.get(key) for key in head] for row in rows]


def _stored(metadata: Mapping[bytes, bytes] | None, path: Path) -> dict[str, Any]:
    """What Sentinode kept beside the predictions; empty for files of other programs."""
    try:
        about = json.loads((metadata or {}).get(METADATA, b"{}"))
        names, threshold = about.get("class_names", CLASS_NAMES), about.get("threshold")
        good = isinstance(names, list | tuple) and len(names) == 2 and all(isinstance(one, str) for one in names)
        good &= threshold is None or 0 <= threshold <= 1
    except (ValueError, AttributeError, TypeError, RecursionError):
        good = False
    if not good:
        raise DataError("what Sentinode keeps beside the predictions is damaged.", where=path)
    return dict(about)


def _column(path: Path, file: pq.ParquetFile, column: str) -> Cells:
    """The values of a column of a Parquet file."""
    kind = file.schema_arrow.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if any(
        one(kind)
        for one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    ):
        return texts(path, file, column)
    return [value for batch in batches(path, file, [column], ROWS) for value in batch.column(0).to_pylist()]


def _cell(value: Any) -> Any:
    """A cell of a text table; None where it says that there is no value."""
    return None if isinstance(value, str) and value.lower() in MISSING else value


def text_of(value: Any) -> str:
    """A cell as text: whole numbers without a point, so that 12 and 12.0 are one id."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()

"""The probability of the positive class of patches without labels: images, folders, HDF5 and Parquet to a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from sentinode.ahead import read_ahead
from sentinode.atomic import whole_file
from sentinode.csv_tables import write_rows
from sentinode.errors import DataError, OutputError, nearest
from sentinode.extras import naming_extras
from sentinode.model.bundle import Bundle, images_as
from sentinode.model.engines import Engine, open_engine
from sentinode.patches.unlabelled import Patch, read_patches, short_name
from sentinode.progress import Bar, bar, console

FORMATS = ("csv", "kaggle", "parquet", "jsonl")
ENDINGS = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""Batches that are read while the engine works on one."""

NAMED = 20
"""Failures that are told one by one on standard error; the table names them all."""


@dataclass(frozen=True)
class Prediction:
    """The prediction for one patch, or the reason why there is none.

    Attributes:
        id: the path as given, or what the patch is called in its file; see :class:`sentinode.patches.unlabelled.Patch`.
        probability: of the positive class, calibrated; None where the patch could not be read.
        positive: whether the probability reaches the bundle's threshold; None likewise. In files its name is that of
            the positive class, such as ``tumour``.
        error: why there is no probability, else None.
    """

    id: str
    probability: float | None
    positive: bool | None
    error: str | None = None


@dataclass(frozen=True)
class Predicted:
    """The result of :func:`predict`.

    Attributes:
        done: number of patches with a probability.
        failures: the patches without a probability.
        out: the file that was written, if any.
        rows: the predictions in order, if no file was written.
    """

    done: int
    failures: tuple[Prediction, ...]
    out: Path | None = None
    rows: tuple[Prediction, ...] = field(default=(), repr=False)


def predict(
    bundle: Bundle,
    paths: Iterable[str | Path],
    *,
    out: str | Path | TextIO | None = None,
    format: str | None = None,
    mpp: float | None = None,
    tta: bool = False,
    device: str = "auto",
    precision: str = "auto",
    show: bool = True,
) -> Predicted:
    """Predict patches, one batch at a time. A million patches need no more memory than a thousand.

    On a processor, OpenVINO computes where it is installed, as in a scan.

    Args:
        bundle: the model.
        paths: images, folders, HDF5 or Parquet files; see :func:`sentinode.patches.unlabelled.read_patches`.
        out: a file, which is written completely or not at all, an open text stream, or None to return the
            rows.
        format: ``csv``, ``kaggle`` (``id,label``, the label being the probability), ``parquet`` or
            ``jsonl``; by default the format of the file's ending, else ``csv``.
        mpp: microns per pixel of the images, if they are not patches of the bundle's size and resolution.
        tta: average the logits over the eight symmetries of the square.
        device: where to compute.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``int8``.
        show: whether to show progress and failures on standard error.

    Raises:
        DataError: no patch could be read; nothing is written.
        OutputError: the file cannot be written, the format is unknown, or two patches of a Kaggle table have one id.
        DeviceError: no such device or precision.
        BundleError: ``mpp`` is given, and the bundle's own is unknown.
    """
    chosen = _format(out, format)
    geometry, name = images_as(bundle, mpp), column_of(bundle.card.positive_class)
    engine = open_engine(bundle, kind="fastest", device=device, precision=precision, tta=tta)
    patches = read_patches(paths, geometry=geometry, mpp=mpp)
    with bar("Predicting", show=show) as shown:
        tally = _Tally(_predictions(engine, patches, bundle.card.threshold), shown, show, geometry.size)
        if out is None:
            rows = tuple(tally)
            return Predicted(tally.done, tuple(tally.failures), rows=rows)
        if isinstance(out, str | Path):
            with whole_file(Path(out)) as staged:
                _WRITERS[chosen](tally, staged, name)
            return Predicted(tally.done, tuple(tally.failures), out=Path(out))
        _TEXTS[chosen](tally, out, name)
        return Predicted(tally.done, tuple(tally.failures))


def _predictions(engine: Engine, patches: Iterator[Patch], threshold: float) -> Iterator[Prediction]:
    def batches() -> Iterator[list[Patch]]:
        while batch := list(islice(patches, engine.batch)):
            yield batch

    for batch in read_ahead(batches()):
        good = [patch.pixels for patch in batch if not isinstance(patch.pixels, DataError)]
        probabilities = iter(engine.probabilities(np.stack(good)).tolist() if good else ())
        for patch in batch:
            if isinstance(patch.pixels, DataError):
                yield Prediction(patch.id, None, None, patch.pixels.what)
            else:
                probability = next(probabilities)
                yield Prediction(patch.id, probability, probability >= threshold)


class _Tally:
    """Counts predictions as they pass, tells of failures, and refuses to end with nothing done."""

    def __init__(self, predictions: Iterator[Prediction], shown: Bar, tell: bool, size: int) -> None:
        self._predictions, self._shown, self._tell, self._size = predictions, shown, tell, size
        self.done = 0
        self.failures: list[Prediction] = []

    def __iter__(self) -> Iterator[Prediction]:
        for prediction in self._predictions:
            self._shown.advance()
            if prediction.error is None:
                self.done += 1
            else:
                self._note(prediction)
            yield prediction
        if not self.done:
            first = self.failures[0] if self.failures else None
            raise DataError(
                f"none of the {len(self.failures)} inputs could be predicted; the first: {first.error}"
                if first
                else "there is nothing to predict.",
                where=first.id if first else None,
                hint=f"Give images of {self._size} x {self._size} pixels, folders of them, HDF5 or Parquet files.",
            )

    def _note(self, failed: Prediction) -> None:
        self.failures.append(failed)
        if self._tell and len(self.failures) <= NAMED:
            console.print(f"{failed.id}: {failed.error}", markup=False)
        if self._tell and len(self.failures) == NAMED + 1:
            console.print("More inputs failed. The output names them all.")


def _format(out: str | Path | TextIO | None, format: str | None) -> str:
    ending = Path(out).suffix.lower() if isinstance(out, str | Path) else ".csv"
    chosen = format or ENDINGS.get(ending)
    if chosen is None:
        raise OutputError(
            f"there is no format with the ending '{ending}'.",
            where=str(out),
            hint=f"End the name with {', '.join(ENDINGS)}, or give --format {'|'.join(FORMATS)}.",
        )
    if chosen not in FORMATS:
        guess = nearest(chosen, list(FORMATS))
        raise OutputError(
            f"there is no format '{chosen}'{f'; did you mean {guess}' if guess else ''}.",
            hint=f"The formats are {', '.join(FORMATS)}.",
        )
    if chosen == "parquet" and not isinstance(out, str | Path) and out is not None:
        raise OutputError("Parquet cannot be written to standard output.", hint="Name a file with --out.")
    return chosen


def column_of(positive_class: str) -> str:
    """The column that says whether a patch was called positive: the name of the class, unless another column has it."""
    return f"is {positive_class}" if positive_class in ("id", "probability", "error") else positive_class


def _row(prediction: Prediction, name: str) -> dict[str, str | float | bool | None]:
    return {
        "id": prediction.id,
        "probability": prediction.probability,
        name: prediction.positive,
        "error": prediction.error,
    }


def _write_csv(rows: Iterable[Prediction], stream: TextIO, name: str) -> None:
    def cells() -> Iterator[tuple[str, ...]]:
        yield "id", "probability", name, "error"
        for row in rows:
            probability = "" if row.probability is None else f"{row.probability:.7g}"
            positive = "" if row.positive is None else str(row.positive).lower()
            yield row.id, probability, positive, row.error or ""

    write_rows(stream, cells())


def _write_kaggle(rows: Iterable[Prediction], stream: TextIO, name: str) -> None:
    """Kaggle's two columns: failures have no row here, and ids stay as they are, since Kaggle looks for them."""
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(("id", "label"))
    written: dict[str, str] = {}
    for row in rows:
        if row.probability is None:
            continue
        id = short_name(row.id)
        if id in written:
            raise OutputError(
                f"the id '{id}' means two patches, {written[id]} and {row.id}.",
                hint="A submission has one row for each id. Predict them separately, or in another format.",
            )
        written[id] = row.id
        table.writerow((id, f"{row.probability:.7g}"))


def _write_jsonl(rows: Iterable[Prediction], stream: TextIO, name: str) -> None:
    for row in rows:
        stream.write(json.dumps(_row(row, name), ensure_ascii=False) + "\n")


def _write_parquet(rows: Iterable[Prediction], path: Path, name: str) -> None:
    with naming_extras():
        import pyarrow as pa
        import pyarrow.parquet as pq

    fields = {"id": pa.string(), "probability": pa.float32(), name: pa.bool_(), "error": pa.string()}
    schema, waiting = pa.schema(list(fields.items())), iter(rows)
    with pq.ParquetWriter(path, schema) as file:
        while group := list(islice(waiting, 10_000)):
            file.write_table(pa.Table.from_pylist([_row(row, name) for row in group], schema=schema))


def _as_file(
    write: Callable[[Iterable[Prediction], TextIO, str], None],
) -> Callable[[Iterable[Prediction], Path, str], None]:
    def to_path(rows: Iterable[Prediction], path: Path, name: str) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            write(rows, stream, name)

    return to_path


_TEXTS = {"csv": _write_csv, "kaggle": _write_kaggle, "jsonl": _write_jsonl}
_WRITERS = {name: _as_file(write) for name, write in _TEXTS.items()} | {"parquet": _write_parquet}

"""Features in a file: a vector for each patch, with its id, label, slide and split, and what made them. No pickle."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sentinode.atomic import whole_file
from sentinode.errors import DataError, OutputError
from sentinode.patches import SPLITS
from sentinode.patches.parquet import MOST_PACKED, MOST_ROWS, MOST_UNPACKED, ROWS, batches, open_parquet

ENDINGS = (".npz", ".parquet")
ARRAYS = ("features", "labels", "ids", "split")
"""What a file must have; ``slides`` and ``about`` may be missing, so that other programs can write one easily."""

ABOUT = b"sentinode"


@dataclass(frozen=True)
class Embeddings:
    """The features of labelled patches.

    Attributes:
        features: float32 (N, D).
        labels: uint8 (N,), 0 or 1.
        ids: str (N,), unique within a split.
        slides: str (N,), empty where the slide of a patch is unknown; None where no slides are known.
        split: str (N,): ``train``, ``valid``, ``test``, or ``all``.
        about: the backbone, its weights, the data, the geometry and the class names; empty if another program wrote
            the file.
        path: the file, or None.
    """

    features: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.uint8] = field(repr=False)
    ids: NDArray[np.str_] = field(repr=False)
    slides: NDArray[np.str_] | None = field(repr=False)
    split: NDArray[np.str_] = field(repr=False)
    about: dict[str, Any] = field(default_factory=dict, repr=False)
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are present."""
        present = set(np.unique(self.split).tolist())
        return tuple(split for split in (*SPLITS, "all") if split in present)

    @property
    def class_names(self) -> tuple[str, str]:
        """The names of labels 0 and 1."""
        first, second = self.about.get("class_names", ("normal", "tumour"))
        return str(first), str(second)

    @property
    def name(self) -> str:
        """What made the features."""
        return str(self.about.get("backbone", self.path.stem if self.path else "features"))

    def of(self, split: str) -> Embeddings:
        """The patches of one split.

        Raises:
            DataError: there are none.
        """
        rows = np.flatnonzero(self.split == split)
        if not len(rows):
            raise DataError(
                f"there are no features of the {split} split here, only of {', '.join(self.splits)}.", where=self.path
            )
        return self.rows(rows)

    def rows(self, rows: NDArray[np.int64]) -> Embeddings:
        """Some patches."""
        slides = None if self.slides is None else self.slides[rows]
        return Embeddings(
            self.features[rows], self.labels[rows], self.ids[rows], slides, self.split[rows], self.about, self.path
        )


def require_ending(path: Path) -> None:
    """
    Raises:
        OutputError: no format has this ending.
    """
    if path.suffix.lower() not in ENDINGS:
        raise OutputError(
            f"there is no format for features with the ending '{path.suffix}'.",
            where=path,
            hint="End the name with .npz (NumPy) or .parquet.",
        )


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write a file of features, completely or not at all; its ending chooses the format.

    Raises:
        OutputError: no format has this ending, or the file cannot be written.
    """
    require_ending(path)
    about = json.dumps(embeddings.about, ensure_ascii=False)
    with whole_file(path) as staged:
        if path.suffix.lower() == ".npz":
            arrays = {name: getattr(embeddings, name) for name in ARRAYS}
            if embeddings.slides is not None:
                arrays["slides"] = embeddings.slides
            with staged.open("wb") as stream:
                np.savez(stream, **arrays, about=np.array(about))
            return
        width = embeddings.features.shape[1]
        columns: dict[str, Any] = {
            "id": pa.array(embeddings.ids.tolist()),
            "label": pa.array(embeddings.labels),
            "split": pa.array(embeddings.split.tolist()),
            "features": pa.FixedSizeListArray.from_arrays(pa.array(embeddings.features.reshape(-1)), width),
        }
        if embeddings.slides is not None:
            columns["slide"] = pa.array(embeddings.slides.tolist())
        pq.write_table(pa.table(columns).replace_schema_metadata({ABOUT: about.encode()}), staged)


def read_embeddings(path: str | Path) -> Embeddings:
    """Read a file of features, and check it. Nothing in it is run.

    Raises:
        DataError: it is missing, damaged, not a file of features, or its arrays do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            "there is no such file of features.", where=path, hint="`sentinode embed DATA --out FILE.npz` writes one."
        )
    try:
        arrays = _read_npz(path) if path.suffix.lower() == ".npz" else _read_parquet(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError, pa.ArrowException) as error:
        raise DataError(
            f"this is not a file of features ({type(error).__name__}: {str(error)[:120]}).",
            where=path,
            hint="Give an .npz or .parquet that `sentinode embed` wrote, or one with features, labels, ids and split.",
        ) from error
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise DataError(
            f"this is not a file of features: it has no {' and no '.join(missing)}.",
            where=path,
            hint="`sentinode embed DATA --out FILE.npz` writes one.",
        )
    return _checked(arrays, path)


def _read_npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as held:
        for member in held.infolist():
            if member.file_size > max(MOST_UNPACKED, MOST_PACKED * member.compress_size):
                raise DataError(
                    f"the array {member.filename!r} unpacks from {member.compress_size / 1e6:,.1f} MB to "
                    f"{member.file_size / 1e6:,.0f} MB.",
                    where=path,
                    hint="No features do. Write the file again.",
                )
    with np.load(path, allow_pickle=False) as loaded:
        return {name: loaded[name] for name in loaded.files}


def _read_parquet(path: Path) -> dict[str, Any]:
    names = {"id": "ids", "label": "labels", "slide": "slides", "split": "split"}
    with open_parquet(path) as file:
        schema = file.schema_arrow
        if file.metadata.num_rows > MOST_ROWS:
            raise DataError(f"more than {MOST_ROWS:,} rows are not read at once.", where=path)
        found = list(batches(path, file, [name for name in (*names, "features") if name in schema.names], ROWS))
    table = pa.Table.from_batches(found) if found else schema.empty_table()
    arrays: dict[str, Any] = {
        name: table[column].to_numpy() for column, name in names.items() if column in table.column_names
    }
    if "features" in table.column_names:
        listed = table["features"].combine_chunks()
        flat = np.asarray(listed.flatten())
        arrays["features"] = flat.reshape(len(listed), -1) if len(listed) else flat.reshape(0, 0)
    held = (schema.metadata or {}).get(ABOUT)
    return arrays | ({"about": held.decode()} if held else {})


def _checked(arrays: Mapping[str, Any], path: Path) -> Embeddings:
    """The arrays as :class:`Embeddings`, or a refusal that names the fault."""
    features, labels = np.asarray(arrays["features"]), np.asarray(arrays["labels"]).ravel()
    ids, split = (np.asarray(arrays[name]).astype(str).ravel() for name in ("ids", "split"))
    slides = None if arrays.get("slides") is None else np.asarray(arrays["slides"]).astype(str).ravel()
    lengths = {"labels": len(labels), "ids": len(ids), "split": len(split)}
    lengths |= {} if slides is None else {"slides": len(slides)}
    wrong = None
    if features.ndim != 2 or not features.size or not np.issubdtype(features.dtype, np.floating):
        wrong = f"its features are {features.dtype} with the shape {features.shape}, not a vector for each patch"
    elif off := [name for name, length in lengths.items() if length != len(features)]:
        wrong = f"there are {len(features):,} vectors, but {lengths[off[0]]:,} {off[0]}"
    elif not np.isin(labels, (0, 1)).all():
        wrong = "there are labels other than 0 and 1"
    elif not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(1)).sum())
        wrong = f"the features of {bad:,} patches are not numbers"
    elif unknown := sorted(set(split.tolist()) - {*SPLITS, "all"}):
        wrong = f"there is a split '{unknown[0]}'; splits are called {', '.join(SPLITS)} or all"
    else:
        for name in set(split.tolist()):
            own = ids[split == name]
            if len(np.unique(own)) < len(own):
                wrong = f"two patches of the {name} split have the same id"
    if wrong:
        raise DataError(f"{wrong}.", where=path, hint="Write the file again.")
    try:
        about = json.loads(str(arrays["about"])) if "about" in arrays else {}
    except ValueError as error:
        raise DataError(
            "what it says of its making cannot be read.", where=path, hint="Write the file again."
        ) from error
    return Embeddings(features.astype(np.float32), labels.astype(np.uint8), ids, slides, split, about, path)

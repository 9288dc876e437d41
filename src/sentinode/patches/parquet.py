"""Parquet with an ``image`` struct and a ``label``, in shards named by split, as on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.patches.image_files import image_name
from sentinode.patches.pixels import SAMPLED, Decoded, decode, in_threads, size_of_most, write_stream
from sentinode.patches.source import SPLIT_NAMES, Part, Source, checked_labels, read_head
from sentinode.progress import Bar

SHARD = re.compile(rf"(?P<split>{'|'.join(SPLIT_NAMES)})(?:[-_.].*?)?(?:-of-(?P<total>\d+))?\.parquet", re.IGNORECASE)
STREAMED = 128
"""Rows decoded at a time while streaming."""

PEEKED = 16
"""Rows read at a time to see how large the images are; Arrow keeps the memory that more would take."""


def find(path: Path) -> Source | None:
    """Shards such as ``train-00000-of-00013.parquet`` or ``valid.parquet``, in a folder or its ``data``.

    A single file is all data of that split, or, if its name is no split, data without splits.

    Raises:
        DataError: a file is damaged or has other columns.
    """
    if path.is_file():
        files = [path] if path.suffix == ".parquet" else []
    else:
        files = sorted(path.glob("*.parquet")) or sorted((path / "data").glob("*.parquet"))
    if not files:
        return None
    if len(files) == 1 and not SHARD.fullmatch(files[0].name):
        return Source("parquet", path, {"": _read("", files)})
    shards: dict[str, list[Path]] = {"train": [], "valid": [], "test": []}
    warnings = []
    for file in files:
        if (match := SHARD.fullmatch(file.name)) is None:
            warnings.append(
                f"{file.name} is left out: its name has no split. Rename it to train-{file.name} to train on it."
            )
        else:
            shards[SPLIT_NAMES[match["split"].lower()]].append(file)
    for split, found in shards.items():
        total = max((int(m["total"]) for f in found if (m := SHARD.fullmatch(f.name)) and m["total"]), default=0)
        if len(found) < total:
            warnings.append(f"Only {len(found)} of {total} shards of {split} are here.")
    parts = {split: _read(split, found) for split, found in shards.items() if found}
    if not parts:
        raise DataError(
            f"none of the {len(files)} Parquet files here is named by its split.",
            where=path,
            hint="Name them train-*.parquet, valid-*.parquet and test-*.parquet, or give a single file.",
        )
    return Source("parquet", path, parts, tuple(warnings))


def _read(split: str, files: list[Path]) -> Part:
    tables = [_columns(file) for file in files]
    labels = np.concatenate([t["label"] for t in tables])
    ids = _ids(split, [t["path"] for t in tables], [t["index"] for t in tables])
    return Part(labels, ids, ParquetPixels(files, [len(t["label"]) for t in tables]), where=files[0].parent)


def _ids(split: str, paths: list[NDArray[Any]], indices: list[NDArray[Any]]) -> NDArray[np.str_]:
    """``split/index`` where the row of the official file is known; else the image's name; else the row."""
    stems = [image_name(path) if path else "" for path in np.concatenate(paths).tolist()]
    index = np.concatenate(indices).tolist()
    prefix = f"{split or 'all'}/"
    if len(set(stems)) < len(stems) or not all(stems):
        # Where only some rows know their index, the others must not be taken for it.
        mixed = "row-" if max(index, default=-1) >= 0 else ""
        stems = [f"{prefix}{mixed}{row:06d}" for row in range(len(stems))]
    return np.array([f"{prefix}{i:06d}" if i >= 0 else stem for i, stem in zip(index, stems, strict=True)])


def _columns(path: Path) -> dict[str, NDArray[Any]]:
    """The label, the path and the index (-1 where there is none) of each row; no pixels are read."""
    with open_parquet(path) as file:
        schema = file.schema_arrow
        fields = {field.name: field.type for field in schema}
        image, label = fields.get("image"), fields.get("label")
        if image is None or not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
            raise DataError(
                f"there is no column 'image' with a field 'bytes'; the columns are {', '.join(fields)}.",
                where=path,
            )
        if label is None or not (pa.types.is_integer(label) or pa.types.is_boolean(label)):
            raise DataError(f"the column 'label' must be integer or boolean; it is {label}.", where=path)
        wanted = ["label"]
        wanted += ["image.path"] if image.get_field_index("path") >= 0 else []
        wanted += ["index"] if "index" in fields and pa.types.is_integer(fields["index"]) else []
        try:
            table = file.read(columns=wanted)
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, error) from error
    if table["label"].null_count:
        raise DataError(f"{table['label'].null_count:,} labels are empty.", where=path)
    rows = len(table)
    paths = table["image"].combine_chunks().field("path").to_pylist() if "image.path" in wanted else [None] * rows
    index = table["index"].fill_null(-1).to_numpy() if "index" in wanted else np.full(rows, -1)
    labels = checked_labels(table["label"].to_numpy().astype(np.int64), path)
    return {"label": labels, "path": np.array(paths, dtype=object), "index": index}


def open_parquet(path: Path) -> pq.ParquetFile:
    """A Parquet file, with its errors in the user's words."""
    read_head(path)
    try:
        # Read ahead, Arrow would hold whole row groups of encoded images.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"this is not a Parquet file, or it is truncated or damaged ({str(error).splitlines()[0]}).",
        where=path,
        hint="Download it again.",
    )


class ParquetPixels:
    """The encoded images in column ``image.bytes`` of some shards."""

    def __init__(self, files: Sequence[Path], rows: Sequence[int]) -> None:
        self._files, self._rows = files, rows

    @property
    def files(self) -> Sequence[Path]:
        return self._files

    @cached_property
    def size(self) -> int:
        with closing(self._encoded(rows=PEEKED)) as encoded:
            return size_of_most((data for data, _ in islice(encoded, SAMPLED)), self._files[0])

    def __len__(self) -> int:
        return sum(self._rows)

    def mapped(self) -> None:
        return None

    def stream(self) -> Iterator[Decoded]:
        size = self.size
        return in_threads(lambda item: decode(*item, size), self._encoded())

    def unpack(self, target: Path, bar: Bar) -> int:
        return write_stream(self.stream(), target, bar)

    def _encoded(self, rows: int = STREAMED) -> Generator[tuple[bytes, str]]:
        for path in self._files:
            row = 0
            with open_parquet(path) as file:
                try:
                    for batch in file.iter_batches(rows, columns=["image.bytes"], use_threads=False):
                        for data in batch.column("image").field("bytes"):
                            yield data.as_py() or b"", f"{path}, row {row}"
                            row += 1
                except (OSError, pa.ArrowException) as error:
                    raise _damaged(path, error) from error

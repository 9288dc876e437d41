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
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.names import listed, shortened
from sentinode.patches.image_files import image_name
from sentinode.patches.pixels import SAMPLED, Decoded, decode, in_threads, rows_at_once, size_of_most, write_stream
from sentinode.patches.source import (
    LONGEST_NAME,
    MOST_NAMES,
    SPLIT_NAMES,
    Part,
    Source,
    as_names,
    checked_labels,
    read_head,
)
from sentinode.progress import Bar

SHARD = re.compile(rf"(?P<split>{'|'.join(SPLIT_NAMES)})(?:[-_.].*?)?(?:-of-(?P<total>\d+))?\.parquet", re.IGNORECASE)
STREAMED = 128
"""Rows decoded at a time while streaming."""

ROWS, MOST_IN_BATCH = 65_536, 128 * 2**20
"""Rows of labels and names read at a time, and the bytes of a batch."""

MOST_ROWS = 50_000_000

MOST_UNPACKED, MOST_PACKED = 2**30, 100
"""Bytes that a column may always unpack to, and how many times its size in the file if that is more."""

LONGEST_ENCODED = 64 * 2**20
"""Bytes of an image as it is packed."""

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
    ids = _ids(split, [t["path"] for t in tables], [t["index"] for t in tables], files[0])
    return Part(labels, ids, ParquetPixels(files, [len(t["label"]) for t in tables]), where=files[0].parent)


def _ids(split: str, paths: list[NDArray[Any]], indices: list[NDArray[Any]], where: Path) -> NDArray[np.str_]:
    """``split/index`` where the row of the official file is known; else the image's name; else the row."""
    stems = [image_name(path) if path else "" for path in np.concatenate(paths).tolist()]
    index = np.concatenate(indices).tolist()
    prefix = f"{split or 'all'}/"
    if len(set(stems)) < len(stems) or not all(stems):
        # Where only some rows know their index, the others must not be taken for it.
        mixed = "row-" if max(index, default=-1) >= 0 else ""
        stems = [f"{prefix}{mixed}{row:06d}" for row in range(len(stems))]
    return as_names([f"{prefix}{i:06d}" if i >= 0 else stem for i, stem in zip(index, stems, strict=True)], where)


def _columns(path: Path) -> dict[str, NDArray[Any]]:
    """The label, the path and the index (-1 where there is none) of each row; no pixels are read."""
    with open_parquet(path) as file:
        fields = _fields(file, path)
        image, label = fields.get("image"), fields.get("label")
        if image is None or not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
            raise DataError(
                f"there is no column 'image' with a field 'bytes'; the columns are {listed(list(fields))}.",
                where=path,
            )
        if label is None or not (pa.types.is_integer(label) or pa.types.is_boolean(label)):
            raise DataError(
                f"the column 'label' must be integer or boolean; it is {shortened(str(label), 60)}.", where=path
            )
        require_encoded(image, path)
        wanted = ["label"]
        wanted += ["index"] if "index" in fields and pa.types.is_integer(fields["index"]) else []
        table = pa.Table.from_batches(batches(path, file, wanted, ROWS))
        rows = len(table)
        paths = texts(path, file, "image.path") if image.get_field_index("path") >= 0 else [None] * rows
    if table["label"].null_count:
        raise DataError(f"{table['label'].null_count:,} labels are empty.", where=path)
    if "index" in wanted:
        try:
            index = pc.fill_null(table["index"].cast(pa.int64()), -1).to_numpy()
        except pa.ArrowInvalid as error:
            raise DataError(f"the column 'index' cannot be read ({error}).", where=path) from error
    else:
        index = np.full(rows, -1)
    labels = checked_labels(table["label"].to_numpy(), path)
    return {"label": labels, "path": np.array(paths, dtype=object), "index": index}


def _fields(file: pq.ParquetFile, path: Path) -> dict[str, pa.DataType]:
    """The type of each column.

    Raises:
        DataError: one of those that are read occurs twice, or there are more rows than are read.
    """
    schema = file.schema_arrow
    for name in ("image", "label", "index"):
        if schema.names.count(name) > 1:
            raise DataError(f"the column {name!r} occurs twice.", where=path, hint="Remove or rename one of the two.")
    if file.metadata.num_rows > MOST_ROWS:
        raise DataError(f"more than {MOST_ROWS:,} rows are not read.", where=path)
    return {field.name: field.type for field in schema}


def require_encoded(image: pa.DataType, path: Path) -> None:
    """
    Raises:
        DataError: the fields of the struct of an image are not bytes and, where it has one, a path.
    """
    for name, holds, needed in (("bytes", _BINARY, "the bytes of an image file"), ("path", _TEXT, "texts")):
        kind = image.field(name).type if image.get_field_index(name) >= 0 else None
        if kind is not None and not any(is_kind(_valued(kind)) for is_kind in holds):
            raise DataError(
                f"the field {name!r} of 'image' must hold {needed}; it holds {shortened(str(kind), 60)}.", where=path
            )


def _valued(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


_BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_null)
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)


def open_parquet(path: Path) -> pq.ParquetFile:
    """A Parquet file, with its errors in the user's words."""
    read_head(path)
    try:
        # Read ahead, Arrow would hold whole row groups of encoded images.
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (OSError, pa.ArrowException, MemoryError) as error:
        raise _damaged(path, error) from error


def batches(path: Path, file: pq.ParquetFile, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Some columns of an open file, a batch of ``rows`` at a time, or less.

    A column keeps what stands in many rows once, and Arrow copies it into each row. So a batch has no more rows than
    fit into memory if each held all that its column holds.

    Raises:
        DataError: the file is damaged, or a column unpacks to so much that it can only be meant to.
    """
    chunks = _require_sober(path, file, columns)
    largest = max((one.total_uncompressed_size for one in chunks if one.physical_type == "BYTE_ARRAY"), default=1)
    rows = max(1, min(rows, MOST_IN_BATCH // max(1, largest)))
    try:
        yield from file.iter_batches(rows, columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException, MemoryError) as error:
        raise _damaged(path, error) from error


def _require_sober(path: Path, file: pq.ParquetFile, columns: Sequence[str]) -> list[pq.ColumnChunkMetaData]:
    """The chunks of these columns.

    Raises:
        DataError: one unpacks to much more than it takes in the file.
    """
    prefixes = tuple(f"{column}." for column in columns)
    paths = [file.schema.column(number).path for number in range(len(file.schema))]
    numbers = [number for number, leaf in enumerate(paths) if leaf in columns or leaf.startswith(prefixes)]
    chunks = []
    for group in range(file.metadata.num_row_groups):
        of_group = file.metadata.row_group(group)
        chunks += [of_group.column(number) for number in numbers]
    for chunk in chunks:
        packed, size = chunk.total_compressed_size, chunk.total_uncompressed_size
        if size > max(MOST_UNPACKED, MOST_PACKED * packed):
            raise DataError(
                f"the column {chunk.path_in_schema!r} unpacks from {packed / 1e6:,.1f} MB to {size / 1e6:,.0f} MB.",
                where=path,
                hint="No images do. Write the file again from its source.",
            )
    return chunks


def texts(path: Path, file: pq.ParquetFile, column: str) -> list[str | None]:
    """A column of short texts; of one in a struct, the column is ``struct.field``.

    Raises:
        DataError: it is damaged, one is longer than a name can be, or all of them are too much, or no UTF-8.
    """
    name, _, inner = column.partition(".")
    held: list[str | None] = []
    total = 0
    for batch in batches(path, file, [column], ROWS):
        values = batch.column(name).field(inner) if inner else batch.column(name)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_null(values.type):
            held += values.to_pylist()
            continue
        lengths = pc.binary_length(values)
        total += pc.sum(lengths).as_py() or 0
        longest = pc.max(lengths).as_py() or 0
        if longest > LONGEST_NAME:
            raise DataError(
                f"the column {column!r} holds a text of {longest:,} bytes; texts up to {LONGEST_NAME:,} are read.",
                where=path,
            )
        if total > MOST_NAMES:
            raise DataError(f"the column {column!r} holds more than {MOST_NAMES / 1e6:,.0f} MB of texts.", where=path)
        try:
            held += values.to_pylist()
        except UnicodeDecodeError as error:
            raise DataError(f"the column {column!r} is not in UTF-8 ({error.reason}).", where=path) from error
    return held


def encoded(path: Path, file: pq.ParquetFile, rows: int) -> Generator[bytes | DataError]:
    """The images of a file as they are packed, one after the other.

    Raises:
        DataError: the file is damaged, or its images are many times what the file holds.
    """
    total, most = 0, MOST_UNPACKED + MOST_PACKED * path.stat().st_size
    for batch in batches(path, file, ["image.bytes"], rows):
        values = batch.column("image").field("bytes")
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        for value in values:
            held = value.as_buffer() if value.is_valid else None
            size = 0 if held is None else held.size
            if (total := total + size) > most:
                raise DataError(f"the images of this file are more than {MOST_PACKED} times its size.", where=path)
            if size > LONGEST_ENCODED:
                yield DataError(f"{size / 1e6:,.0f} MB are too many for an image of a patch.", where=path)
            else:
                yield b"" if held is None else held.to_pybytes()


def _damaged(path: Path, error: Exception) -> DataError:
    why = next(iter(str(error).splitlines()), "") or "it asks for more memory than there is"
    return DataError(
        f"this is not a Parquet file, or it is truncated or damaged ({why}).",
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
        with closing(self._encoded(rows=PEEKED)) as packed:
            heads = (data for data, _ in islice(packed, SAMPLED) if isinstance(data, bytes))
            return size_of_most(heads, self._files[0])

    def __len__(self) -> int:
        return sum(self._rows)

    def mapped(self) -> None:
        return None

    def stream(self) -> Iterator[Decoded]:
        size = self.size

        def decoded(item: tuple[bytes | DataError, str]) -> Decoded:
            data, name = item
            return decode(data, name, size) if isinstance(data, bytes) else DataError(data.what, where=name)

        return in_threads(decoded, self._encoded(), rows_at_once(size))

    def unpack(self, target: Path, bar: Bar) -> int:
        return write_stream(self.stream(), target, bar)

    def _encoded(self, rows: int = STREAMED) -> Generator[tuple[bytes | DataError, str]]:
        for path in self._files:
            with open_parquet(path) as file:
                for row, data in enumerate(encoded(path, file, rows)):
                    yield data, f"{path}, row {row}"

"""Labelled data, images and tables that are odd or hostile: refused in one sentence, or taken as what they are."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import Case, Hostile, by_name
from PIL import Image
from sound import bundle, picture

STEM = "camelyonpatch_level_2_split_test_"
AUDIT = ["data", "audit", "data"]
SECRET = b"the secret that no data file may have read"
ROOM = (20_000, 20_000, 3)
LABELS = np.array([0, 1, 0, 1], np.uint8)

Fill = Callable[[h5py.File, Path], Any]


def patches(count: int = 4) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)


# Official HDF5


def _sound_x(file: h5py.File, folder: Path) -> None:
    file["x"] = patches()


def _sound_y(file: h5py.File, folder: Path) -> None:
    file["y"] = LABELS.reshape(-1, 1, 1, 1)


def official(folder: Path, x: Fill = _sound_x, y: Fill = _sound_y, meta: bytes | None = None) -> list[str]:
    """Official files with what ``x`` and ``y`` make, beside a secret that neither may show."""
    (folder / "data").mkdir()
    (folder / "secret.bin").write_bytes(SECRET * 3000)
    with h5py.File(folder / "secret.h5", "w") as other:
        other["x"], other["y"] = patches(), LABELS
    for name, fill in (("x", x), ("y", y)):
        with h5py.File(folder / "data" / f"{STEM}{name}.h5", "w") as file:
            fill(file, folder)
    if meta is not None:
        (folder / "data" / f"{STEM}meta.csv").write_bytes(meta)
    return AUDIT


def _hdf5(x: Fill = _sound_x, y: Fill = _sound_y) -> Callable[[Path], list[str]]:
    return partial(official, x=x, y=y)


def _link(name: str, link: Callable[[Path], Any]) -> Fill:
    def fill(file: h5py.File, folder: Path) -> None:
        file[name] = link(folder)

    return fill


def _made(name: str, *shape: int, **how: Any) -> Fill:
    def fill(file: h5py.File, folder: Path) -> None:
        file.create_dataset(name, shape, how.get("dtype", np.uint8), **{k: v for k, v in how.items() if k != "dtype"})

    return fill


def _filled(name: str, values: Callable[[h5py.File], Any], dtype: Any = None) -> Fill:
    def fill(file: h5py.File, folder: Path) -> None:
        file.create_dataset(name, data=values(file), dtype=dtype)

    return fill


def _raw_outside(name: str, *shape: int) -> Fill:
    def fill(file: h5py.File, folder: Path) -> None:
        size = int(np.prod(shape))
        file.create_dataset(name, shape, np.uint8, external=[(str(folder / "secret.bin"), 0, size)])

    return fill


def _virtual(name: str, *shape: int, unlimited: bool = False) -> Fill:
    def fill(file: h5py.File, folder: Path) -> None:
        most = (None, *shape[1:]) if unlimited else shape
        layout = h5py.VirtualLayout(shape, np.uint8, maxshape=most)
        layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), name, shape)
        file.create_virtual_dataset(name, layout)

    return fill


def _partly_written(file: h5py.File, folder: Path) -> None:
    x = file.create_dataset("x", (4, 96, 96, 3), np.uint8, chunks=(1, 96, 96, 3))
    x[:2] = patches(2)


def _one_large_chunk(file: h5py.File, folder: Path) -> None:
    x = file.create_dataset(
        "x", (4, 96, 96, 3), np.uint8, maxshape=(None, 96, 96, 3), chunks=(20_000, 96, 96, 3), compression="gzip"
    )
    x[:] = patches()


def _chunk_bomb(file: h5py.File, folder: Path) -> None:
    """A chunk of four patches whose stored bytes unpack to 3 GB."""
    x = file.create_dataset("x", (4, 96, 96, 3), np.uint8, chunks=(4, 96, 96, 3), compression="gzip")
    x.id.write_direct_chunk((0, 0, 0, 0), _deflated(3_000_000_000))


def _deflated(size: int) -> bytes:
    """About so many zeros, as zlib packs them. A piece packed by itself is repeated, which takes no time."""
    packer = zlib.compressobj(9)
    first = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    count = max(2, size >> 20)
    checksum = ((count << 20) % 65521) << 16 | 1
    return first + again * (count - 1) + b"\x03\0" + struct.pack(">I", checksum)


def _unknown_filter(file: h5py.File, folder: Path) -> None:
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((4, 96, 96, 3))
    made.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((4, 96, 96, 3))
    data = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, space, made)
    data.write_direct_chunk((0, 0, 0, 0), b"\0" * 100)


def _bomb(name: str, size: int) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        official(folder)
        path = folder / "data" / f"{STEM}{name}.h5"
        path.with_name(f"{path.name}.gz").write_bytes(
            gzip.compress(path.read_bytes()) + gzip.compress(bytes(1 << 20)) * (size >> 20)
        )
        path.unlink()
        return AUDIT

    return make


def _arrays(file: h5py.File, folder: Path) -> None:
    y = file.create_dataset("y", 4, h5py.vlen_dtype(np.uint8))
    for row in range(4):
        y[row] = np.zeros(row + 1, np.uint8)


COMPOUND = np.dtype([(f"field_{i}", np.uint8) for i in range(500)])


def _damaged_names(folder: Path) -> list[str]:
    arguments = _hdf5()(folder)
    for file in folder.rglob("*_x.h5"):
        file.write_bytes(file.read_bytes().replace(b"SNOD", b"\0NOD"))
    return arguments


HDF5 = [
    Case(
        "x is an external link",
        _hdf5(_link("x", lambda f: h5py.ExternalLink(str(f / "secret.h5"), "x"))),
        r"test_x\.h5: 'x' is a link to another file",
        secret=SECRET,
    ),
    Case(
        "y is an external link",
        _hdf5(y=_link("y", lambda f: h5py.ExternalLink(str(f / "secret.h5"), "y"))),
        r"test_y\.h5: 'y' is a link to another file",
    ),
    Case(
        "an external link to nothing",
        _hdf5(_link("x", lambda f: h5py.ExternalLink("/nowhere.h5", "x"))),
        r"'x' is a link to another file",
    ),
    Case("a soft link to itself", _hdf5(_link("x", lambda f: h5py.SoftLink("/x"))), r"test_x\.h5: 'x' is a link"),
    Case("a soft link to nothing", _hdf5(_link("x", lambda f: h5py.SoftLink("/y"))), r"test_x\.h5: 'x' is a link"),
    Case(
        "x lies in another file",
        _hdf5(_raw_outside("x", 4, 96, 96, 3)),
        r"the values of 'x' lie in another file",
        secret=SECRET,
    ),
    Case("y lies in another file", _hdf5(y=_raw_outside("y", 4)), r"the values of 'y' lie in another file"),
    Case("x is a virtual dataset", _hdf5(_virtual("x", 4, 96, 96, 3)), r"the values of 'x' lie in another file"),
    Case("y is a virtual dataset", _hdf5(y=_virtual("y", 4)), r"the values of 'y' lie in another file"),
    Case(
        "x is a virtual dataset that grows",
        _hdf5(_virtual("x", 4, 96, 96, 3, unlimited=True)),
        r"the values of 'x' lie in another file",
    ),
    Case(
        "patches that were never written",
        _hdf5(_made("x", 1 << 40, 96, 96, 3, chunks=(64, 96, 96, 3)), _made("y", 1 << 40, chunks=(1 << 16,))),
        r"never written",
    ),
    Case(
        "as many labels as patches that were never written",
        _hdf5(_made("x", 1 << 30, 96, 96, 3, chunks=(64, 96, 96, 3))),
        r"never written",
    ),
    Case("contiguous patches that were never written", _hdf5(_made("x", 4, 96, 96, 3)), r"never written"),
    Case("half of the patches were never written", _hdf5(_partly_written), r"'x' was never written"),
    Case("labels that were never written", _hdf5(y=_made("y", 1 << 40, chunks=(1 << 16,))), r"never written"),
    Case("patches of 100,000 pixels", _hdf5(_made("x", 4, 100_000, 100_000, 3, chunks=(1, 64, 64, 3))), r"100000"),
    Case("patches without pixels", _hdf5(_made("x", 4, 0, 0, 3)), r"0 x 0|\(4, 0, 0, 3\)"),
    Case("no patches", _hdf5(_made("x", 0, 96, 96, 3), _made("y", 0)), r"no patches"),
    Case("a chunk of 552 MB", _hdf5(_one_large_chunk), r"chunks of 553 MB"),
    Case("a chunk that is a bomb", _hdf5(_chunk_bomb), r"test_x\.h5: .*damaged"),
    Case("a filter that is not installed", _hdf5(_unknown_filter), r"filter that is not installed"),
    Case(
        "x of compound type", _hdf5(_filled("x", lambda file: np.zeros((4, 96, 96, 3), COMPOUND))), r"'x' must be uint8"
    ),
    Case("y of compound type", _hdf5(y=_filled("y", lambda file: np.zeros(4, COMPOUND))), r"labels must be 0 and 1"),
    Case(
        "y of texts of any length", _hdf5(y=_filled("y", lambda file: ["0", "1", "0", "1"])), r"labels must be 0 and 1"
    ),
    Case(
        "y of references", _hdf5(y=_filled("y", lambda file: [file.ref] * 4, h5py.ref_dtype)), r"labels must be 0 and 1"
    ),
    Case("y of arrays of any length", _hdf5(y=_arrays), r"labels must be 0"),
    Case("x without a shape", _hdf5(_filled("x", lambda file: np.uint8(1))), r"'x' must be uint8"),
    Case("x of 32 dimensions", _hdf5(_filled("x", lambda file: np.zeros([1] * 32, np.uint8))), r"'x' must be uint8"),
    Case("the list of names is damaged", _damaged_names, r"test_x\.h5: .*damaged"),
    Case("x is a group", _hdf5(lambda file, folder: file.create_group("x")), r"no dataset 'x'"),
    Case("x is a type", _hdf5(lambda file, folder: file.__setitem__("x", np.dtype("u1"))), r"no dataset 'x'"),
    Case("a gzip bomb in place of labels", _bomb("y", 4_900_000_000), r"test_y\.h5\.gz: .* unpacks to more than"),
]


def _predict_hdf5(fill: Fill) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        official(folder, x=fill)
        return ["predict", str(bundle(folder)), f"data/{STEM}x.h5", "--device", "cpu"]

    return make


PREDICT = [
    Case(
        "predict an external link",
        _predict_hdf5(_link("x", lambda f: h5py.ExternalLink(str(f / "secret.h5"), "x"))),
        r"none of the 1 inputs could be predicted.*link to another file",
    ),
    Case(
        "predict patches that were never written",
        _predict_hdf5(_made("x", 1 << 40, 96, 96, 3, chunks=(64, 96, 96, 3))),
        r"never written",
    ),
    Case("predict a virtual dataset", _predict_hdf5(_virtual("x", 4, 96, 96, 3)), r"lie in another file"),
]


# Parquet


def png(side: int = 96) -> bytes:
    held = io.BytesIO()
    Image.fromarray(patches(1)[0][:side, :side]).save(held, "PNG", compress_level=1)
    return held.getvalue()


IMAGE = {"bytes": png(), "path": "0.png"}


def _images(**changed: Any) -> list[dict[str, Any]]:
    return [{"bytes": png(), "path": f"{i}.png"} | {name: of(i) for name, of in changed.items()} for i in range(4)]


def parquet(columns: Callable[[], dict[str, Any]], **how: Any) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "data").mkdir()
        table = pa.table({"image": _images(), "label": LABELS} | columns())
        pq.write_table(table, folder / "data" / "test.parquet", **how)
        return AUDIT

    return make


def _one_long_entry(name: str) -> dict[str, Any]:
    """A dictionary of one text of 5 MB, to which a million rows point."""
    rows = 1_000_000
    of_all = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([b"x" * 5_000_000]))
    few = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([b"0.png"]))
    of = {"bytes": few, "path": few} | {name: of_all}
    fields = {
        key: value.cast(pa.dictionary(pa.int32(), pa.string() if key == "path" else pa.binary()))
        for key, value in of.items()
    }
    return {"image": pa.StructArray.from_arrays(list(fields.values()), list(fields)), "label": np.zeros(rows, np.uint8)}


def _half(folder: Path) -> list[str]:
    parquet(dict)(folder)
    path = folder / "data" / "test.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return AUDIT


def _doubled(folder: Path) -> list[str]:
    (folder / "data").mkdir()
    arrays = [pa.array(_images()), pa.array(LABELS), pa.array(LABELS)]
    pq.write_table(pa.Table.from_arrays(arrays, ["image", "label", "label"]), folder / "data" / "test.parquet")
    return AUDIT


PARQUET = [
    Case(
        "bytes that are integers",
        parquet(lambda: {"image": [{"bytes": i, "path": "a"} for i in range(4)]}),
        r"'bytes' .*int64",
    ),
    Case("bytes that are lists", parquet(lambda: {"image": [{"bytes": [1, 2], "path": "a"}] * 4}), r"'bytes' .*list"),
    Case("bytes that are structs", parquet(lambda: {"image": [{"bytes": {"bytes": b"a"}}] * 4}), r"'bytes' .*struct"),
    Case(
        "bytes that are null",
        parquet(lambda: {"image": _images(bytes=lambda i: None if i else png())}),
        r"^$|read",
        code=0,
        says_out=r"Corrupt patches in test: 3",
    ),
    Case(
        "images that are null",
        parquet(lambda: {"image": [IMAGE, None, None, None]}),
        r"",
        code=0,
        says_out=r"Corrupt patches in test: 3",
    ),
    Case(
        "paths of 5 MB",
        parquet(lambda: {"image": _images(path=lambda i: f"{i}" * 5_000_000)}),
        r"test\.parquet: .*5,000,000 bytes",
    ),
    Case("paths that are integers", parquet(lambda: {"image": [{"bytes": png(), "path": 1}] * 4}), r"'path' .*int64"),
    Case(
        "paths that are no UTF-8",
        parquet(
            lambda: {
                "image": pa.StructArray.from_arrays(
                    [
                        pa.array([png()] * 4),
                        pa.Array.from_buffers(
                            pa.string(), 4, pa.array([b"\xff\xfe%d" % i for i in range(4)]).buffers()
                        ),
                    ],
                    ["bytes", "path"],
                )
            }
        ),
        r"test\.parquet: .*UTF-8",
    ),
    Case(
        "indices beyond 64 bits",
        parquet(lambda: {"index": pa.array([2**64 - 1, 1, 2, 3], pa.uint64())}),
        r"'index' .*18446744073709551615",
    ),
    Case(
        "labels beyond 64 bits",
        parquet(lambda: {"label": pa.array([2**64 - 1, 1, 0, 1], pa.uint64())}),
        r"labels must be 0 .* or 1",
    ),
    Case(
        "labels that are null", parquet(lambda: {"label": pa.array([None, 1, 0, 1], pa.uint8())}), r"1 labels are empty"
    ),
    Case("labels that are texts", parquet(lambda: {"label": ["a", "b", "c", "d"]}), r"'label' must be integer"),
    Case("two columns of labels", _doubled, r"'label' occurs twice"),
    Case("an image that is a list", parquet(lambda: {"image": [[IMAGE]] * 4}), r"no column 'image' with a field"),
    Case(
        "a path of 5 MB for a million rows",
        parquet(partial(_one_long_entry, "path"), compression="zstd"),
        r"test\.parquet: .*5,000,000 bytes",
    ),
    Case(
        "an image of 5 MB for a million rows",
        parquet(partial(_one_long_entry, "bytes"), compression="zstd"),
        r"test\.parquet: ",
    ),
    Case(
        "a million columns",
        parquet(lambda: {f"c{i}": [0] * 4 for i in range(20_000)} | {"label": ["a"] * 4}),
        r"'label' must be integer",
    ),
    Case("half of a parquet file", _half, r"not a Parquet file, or it is truncated"),
]


# Text tables


def kaggle(table: bytes | Callable[[Path], None]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "data" / "train").mkdir(parents=True)
        for number in range(4):
            picture(folder / "data" / "train" / f"{number}.png")
        path = folder / "data" / "train_labels.csv"
        table(path) if callable(table) else path.write_bytes(table)
        return AUDIT

    return make


def predictions(table: bytes, name: str = "theirs.csv") -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(table)
        return ["evaluate", name, "--out", "out"]

    return make


def _predicted(rows: list[bytes], head: bytes = b"id,label,probability") -> Callable[[Path], list[str]]:
    return predictions(b"\n".join([head, *rows, b""]))


def _sparse(size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(b"id,label\n")
            file.truncate(size)

    return write


def _jsonl(*lines: str) -> Callable[[Path], list[str]]:
    return predictions("\n".join(lines).encode(), "theirs.jsonl")


ROW = '{"id": "a", "label": 1, "probability": 0.5}'

TABLES = [
    Case(
        "a table in Latin-1",
        kaggle("id,label\n0,1\nMüller,0\n".encode("latin-1")),
        r"train_labels\.csv: .*UTF-8.*line 3.*byte 14",
    ),
    Case("a table in UTF-16", kaggle("id,label\n0,1\n".encode("utf-16")), r"train_labels\.csv: .*UTF-8"),
    Case("binary called a table", kaggle(bytes(range(256)) * 50), r"train_labels\.csv: "),
    Case("a table with zeros in it", kaggle(b"id,label\n0,1\n\0\0\0,1\n"), r"train_labels\.csv: .*zero"),
    Case("a cell of 3 MB", kaggle(b"id,label\n" + b"a" * 3_000_000 + b",1\n"), r"train_labels\.csv: line 2.* long"),
    Case(
        "a cell in quotation marks without end", kaggle(b'id,label\n"' + b"a\n" * 1_000_000), r"train_labels\.csv: line"
    ),
    Case(
        "a million columns in a table",
        kaggle(b"id,label" + b",a" * 1_000_000 + b"\n0,1\n"),
        r"train_labels\.csv: .*line 1",
    ),
    Case("a table of commas", kaggle(b"id,label\n" + b",\n" * 10 + b"," * 400_000 + b"\n"), r"train_labels\.csv: "),
    Case("a table without an end of line", kaggle(b"id,label," * 500_000), r"train_labels\.csv: line 1"),
    Case("a sparse table of 400 MB", kaggle(_sparse(400 << 20)), r"train_labels\.csv: line 2"),
    Case("a sparse table of 40 GB", kaggle(_sparse(40 << 30)), r"tables up to"),
    Case("labels of 5,000 digits", kaggle(b"id,label\n0," + b"1" * 5000 + b"\n"), r"labels must be 0"),
    Case("a meta table in Latin-1", partial(official, meta="wsi\nMüller\n".encode("latin-1")), r"meta\.csv: .*UTF-8"),
    Case(
        "a meta table with a slide of 100,000 letters",
        partial(official, meta=b"wsi\n" + b"a\n" * 3 + b"b" * 100_000),
        r"meta\.csv: .*100,000 characters",
    ),
    Case(
        "a pipe called a table",
        lambda folder: (
            kaggle(b"")(folder),
            (folder / "data/train_labels.csv").unlink(),
            os.mkfifo(folder / "data/train_labels.csv"),
            AUDIT,
        )[-1],
        r"no labelled patches",
    ),
    Case(
        "predictions that are a pipe",
        lambda folder: (os.mkfifo(folder / "theirs.csv"), ["evaluate", "theirs.csv", "--out", "out"])[-1],
        r"theirs\.csv: .*not a regular file",
    ),
    Case(
        "predictions with an id of 100,000 letters",
        _predicted([b"a,1,0.5", b"b" * 100_000 + b",0,0.2"]),
        r"theirs\.csv: .*100,000 characters",
    ),
    Case("predictions of 1e400", _predicted([b"a,1,1e400", b"b,0,0.2"]), r"infinite|1e400"),
    Case("JSON of deep lists", _jsonl(ROW, "[" * 100_000), r"theirs\.jsonl: line 2"),
    Case("JSON with a number of 5,000 digits", _jsonl(ROW, ROW.replace("0.5", "1" * 5000)), r"theirs\.jsonl: line 2"),
    Case(
        "JSON with a number of 400 digits",
        _jsonl(ROW, ROW.replace('"a"', '"b"').replace("0.5", "1" * 400)),
        r"theirs\.jsonl: ",
    ),
    Case(
        "JSON with other keys in each line",
        _jsonl(*(json.dumps({"id": i, f"k{i}": 1}) for i in range(20_000))),
        r"theirs\.jsonl: .*columns",
    ),
    Case("a line of JSON of 40 MB", _jsonl(ROW, "[" + "1," * 20_000_000), r"theirs\.jsonl: line 2"),
    Case("JSON in Latin-1", predictions(b'{"id": "M\xfcller"}\n', "theirs.jsonl"), r"theirs\.jsonl: .*UTF-8"),
]


# Images and class folders


def classes(*change: Callable[[Path], Any], images: int = 4) -> Callable[[Path], list[str]]:
    """Class folders in which each function of the path of an image has put something else."""

    def make(folder: Path) -> list[str]:
        data = folder / "data"
        for name in ("normal", "tumour"):
            (data / name).mkdir(parents=True)
            for number in range(images):
                picture(data / name / f"{number}.png")
        for number, put in enumerate(change):
            put(data / "tumour" / f"odd{number}.png")
        return AUDIT

    return make


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_of(width: int, height: int, packed: bytes, *more: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _bytes(data: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(data)


def _saved(mode: str, format: str, **how: Any) -> Callable[[Path], Any]:
    def save(path: Path) -> None:
        Image.fromarray(patches(1)[0]).convert(mode).save(path, format, **how)

    return save


def _animated(path: Path) -> None:
    frames = [Image.fromarray(one) for one in patches(3)]
    frames[0].save(path, "PNG", save_all=True, append_images=frames[1:])


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\n%%EndComments\n(secret.bin) (r) file\nshowpage\n%%EOF\n"


def _corrupt(name: str, put: Callable[[Path], Any], why: str) -> Case:
    return Case(
        name, classes(put), "", code=0, says_out=rf"(?s)Corrupt patches in all: 1, such as\s+\S*odd0\.png:\s+.*{why}"
    )


def _wide(text: str) -> str:
    return text.replace(" ", r"\s+")


IMAGES = [
    _corrupt("a PNG bomb", _bytes(_png_of(19_000, 19_000, _deflated(19_000 * 57_001))), _wide("19000 x 19000")),
    _corrupt("a PNG of 100,000 x 100,000", _bytes(_png_of(100_000, 100_000, b"")), _wide("100000 x 100000")),
    _corrupt(
        "a PNG with a bomb in its text",
        _bytes(_png_of(96, 96, b"", _chunk(b"zTXt", b"a\0\0" + _deflated(2 << 30)))),
        _wide("cannot be decoded"),
    ),
    _corrupt("PostScript called PNG", _bytes(EPS), _wide("not an image")),
    _corrupt("a picture without bytes", _bytes(b""), _wide("not an image")),
    _corrupt(
        "a truncated PNG",
        lambda path: (picture(path), path.write_bytes(path.read_bytes()[:9000])),
        _wide("cannot be decoded"),
    ),
    _corrupt(
        "a truncated JPEG",
        lambda path: (_saved("RGB", "JPEG")(path), path.write_bytes(path.read_bytes()[:900])),
        _wide("cannot be decoded"),
    ),
    _corrupt("an animated PNG", _animated, _wide("contains 3 pictures")),
    _corrupt("a grey picture", _saved("L", "PNG"), "grey"),
    _corrupt("a picture of 16 bits", lambda path: Image.fromarray(np.zeros((96, 96), np.uint16)).save(path), "grey"),
    _corrupt(
        "a JPEG of another size",
        lambda path: Image.fromarray(patches(1)[0][:90]).save(path, "JPEG"),
        _wide("96 x 90 pixels"),
    ),
    Case(
        "CMYK, palette and alpha are taken as they look",
        classes(_saved("CMYK", "JPEG"), _saved("P", "PNG"), _saved("RGBA", "PNG")),
        "",
        code=0,
        says_out="11",
    ),
    _corrupt("a pipe among the pictures", os.mkfifo, _wide("not a regular file")),
    _corrupt("a link to nothing among the pictures", lambda path: path.symlink_to("/nowhere.png"), "such file"),
    _corrupt("a device among the pictures", lambda path: path.symlink_to("/dev/zero"), _wide("not a regular file")),
    Case(
        "folders that are links in a circle",
        classes(lambda path: path.with_suffix("").symlink_to("..")),
        "",
        code=0,
        says_out="8",
    ),
    Case(
        "a name with a line break", classes(lambda path: picture(path.with_name("a\nb.png"))), "", code=0, says_out="9"
    ),
    Case(
        "a name that is no text",
        classes(lambda path: picture(path).rename(os.fsdecode(os.fsencode(path.with_name("a")) + b"\xff.png"))),
        "",
        code=0,
        says_out=r"a\\udcff\.png",
    ),
    Case(
        "a folder that may not be read",
        classes(lambda path: (path.with_suffix("").mkdir(), path.with_suffix("").chmod(0))),
        r"cannot be read \(Permission denied\)",
        nobody=True,
    ),
    Case(
        "a picture that may not be read",
        classes(lambda path: picture(path).chmod(0)),
        "",
        code=0,
        nobody=True,
        says_out=r"Corrupt patches in all: 1",
    ),
]

CASES = [*HDF5, *PREDICT, *PARQUET, *TABLES, *IMAGES]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_it_is_refused_or_taken_as_what_it_is(case: Case, hostile: Hostile) -> None:
    hostile(case)

"""Maps, and the manifests beside them, that no scan has written: pickles, odd numbers, odd shapes, other types."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Case, Hostile, by_name

sys.path.append(str(Path(__file__).parents[1] / "slides"))

pytest.importorskip("tifffile")
pytest.importorskip("openslide")

from made_maps import blob
from scanned_batch import write_slide
from slide_files import tissue_picture

Make = Callable[[Path], list[str]]
Change = Callable[[dict[str, Any], Path], object]

ROWS, COLUMNS = 8, 10
LESIONS = ("lesions", "maps")
FROC = ("froc", "maps", "truth", "--out", "f")
OPERATE = ("operate", "maps", "truth", "--out", "b")


def batch(folder: Path) -> Path:
    """One slide and its map, as a scan leaves them; gives the map's folder."""
    (folder / "slides").mkdir()
    picture = tissue_picture(COLUMNS * 32, ROWS * 32)
    write_slide(folder / "slides" / "a.tif", folder / "maps" / "a", picture, blob(ROWS, COLUMNS, (2, 2, 5, 5)))
    (folder / "maps" / "a" / "lesions.json").unlink()
    (folder / "truth").mkdir()
    (folder / "truth" / "a.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    return folder / "maps" / "a"


def changed(change: Change, command: tuple[str, ...] = LESIONS) -> Make:
    """A map whose record was changed; the sum of its array is right again."""

    def make(folder: Path) -> list[str]:
        here = batch(folder)
        record = json.loads((here / "map.json").read_text())
        written = change(record, here)
        record = written if isinstance(written, (list, str, int)) else record
        if isinstance(record, dict) and "sha256" in record:
            record["sha256"] = hashlib.sha256((here / "map.npy").read_bytes()).hexdigest()
        text = record if isinstance(record, str) else json.dumps(record)
        (here / "map.json").write_text(text)
        return list(command)

    return make


def states(**values: Any) -> Change:
    return lambda record, here: record.update(values)


def of_slide(**values: Any) -> Change:
    return lambda record, here: record["slide"].update(values)


def array(content: np.ndarray, **options: Any) -> Change:
    def change(record: dict[str, Any], here: Path) -> None:
        with (here / "map.npy").open("wb") as file:
            np.save(file, content, **options)

    return change


def header(shape: str, descr: str = "'<f4'") -> Change:
    """An array whose header says this and that has a few bytes."""

    def change(record: dict[str, Any], here: Path) -> None:
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode().ljust(118 - 10 + 9) + b"\n"
        (here / "map.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(320))

    return change


class Opens:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("open('pwned', 'w').close()",)


def pickled(record: dict[str, Any], here: Path) -> None:
    (here / "map.npy").write_bytes(pickle.dumps(Opens()))


def pickled_objects(record: dict[str, Any], here: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([[Opens()]], object), allow_pickle=True)
    (here / "map.npy").write_bytes(file.getvalue())


def renamed(name: str, *command: str) -> Make:
    """A batch whose slide has this name."""

    def make(folder: Path) -> list[str]:
        here = batch(folder)
        record = json.loads((here / "map.json").read_text())
        record["slide"]["name"] = f"{name}.tif"
        (here / "map.json").write_text(json.dumps(record))
        here.rename(here.parent / name)
        return list(command)

    return make


def batch_and_pipe(folder: Path) -> None:
    batch(folder)
    os.mkfifo(folder / "p")


def viewed(write: Callable[[Path], object], *arguments: str) -> Make:
    def make(folder: Path) -> list[str]:
        write(folder)
        return ["view", "maps", "--no-browser", *arguments]

    return make


def in_manifest(text: str, place: str = "a", command: tuple[str, ...] = LESIONS) -> Make:
    """A manifest of the slide, or of the batch, that holds this."""

    def make(folder: Path) -> list[str]:
        batch(folder)
        (folder / "maps" / place / "manifest.json").write_text(text)
        return list(command)

    return make


SOUND = np.full((ROWS, COLUMNS), 0.5, np.float32)
DEEP = "[" * 100_000

DAMAGED = r"maps/a/map\.json: the map or its record is damaged"
NO_MANIFEST = "there are no scanned slides here"
LEAVES = ("maps/*",)


def refused(name: str, change: Change, says: str, command: tuple[str, ...] = LESIONS) -> Case:
    return Case(name, changed(change, command), f"{DAMAGED}.*{says}", leaves=LEAVES)


CASES = [
    refused("a pickle as map", pickled, "map.npy is no array"),
    refused("a map of objects", pickled_objects, "map.npy is no table of float32"),
    refused("a map of another shape", array(SOUND.T), "8 x 10 windows on 320 x 256 pixels"),
    refused("a header of 2^40 windows", header("(1048576, 1048576)"), "of the size that it states"),
    refused("a header that is a program", header("__import__('os').system('true')"), "map.npy is no array"),
    refused("probabilities above 1", array(SOUND * 5), "no probabilities"),
    refused("no stride", states(stride=0), "a stride of 0"),
    refused("a stride that is no number", states(stride=float("nan")), "a stride of nan"),
    refused("a threshold that is no number", states(threshold=float("nan")), "a threshold of nan"),
    refused("a short origin", states(origin=[16]), "IndexError"),
    refused("froc on a negative stride", states(stride=-32), "a stride of -32", FROC),
    refused("operate on a pickle", pickled, "map.npy is no array", OPERATE),
    Case("a record nested deeply", changed(lambda record, here: DEEP), "there is no map here", leaves=LEAVES),
    Case("a name of 250 bytes", renamed("s" * 250, *LESIONS), "", code=0, leaves=LEAVES),
    Case("a name of markup", renamed("<b>$HOME [x] {y}", *LESIONS), "", code=0, leaves=LEAVES),
    Case("view nothing", lambda folder: ["view", ""], "empty"),
    Case("view what is not there", viewed(lambda folder: None), "maps: there "),
    Case("view an empty folder", viewed(lambda folder: (folder / "maps").mkdir()), NO_MANIFEST),
    Case("view a file", viewed(lambda folder: (folder / "maps").write_text("no maps")), "maps: there "),
    Case("view a pipe", viewed(lambda folder: os.mkfifo(folder / "maps")), "maps: "),
    Case("view slides of a pipe", viewed(batch_and_pipe, "--slides", "p"), "p: "),
    *(
        Case(f"a manifest of {text[:20]}", in_manifest(text), NO_MANIFEST)
        for text in ("7", DEEP, '{"name": 7, "slide": [], "state": "done"}')
    ),
]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_maps(case: Case, hostile: Hostile) -> None:
    hostile(case)

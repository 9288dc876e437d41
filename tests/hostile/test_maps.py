"""Maps, and the manifests beside them, that no scan has written: pickles, odd numbers, odd shapes, other types."""

from __future__ import annotations

import hashlib
import io
import json
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

from made_maps import blob  # noqa: E402
from scanned_batch import write_slide  # noqa: E402
from slide_files import tissue_picture  # noqa: E402

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


def in_manifest(text: str, place: str = "a", command: tuple[str, ...] = LESIONS) -> Make:
    """A manifest of the slide, or of the batch, that holds this."""

    def make(folder: Path) -> list[str]:
        batch(folder)
        (folder / "maps" / place / "manifest.json").write_text(text)
        return list(command)

    return make


SOUND = np.full((ROWS, COLUMNS), 0.5, np.float32)
DEEP = "[" * 100_000
DIGITS = "1" + "0" * 5000

ARRAYS = [
    Case("a pickle as map", changed(pickled), "X"),
    Case("a map of objects", changed(pickled_objects), "X"),
    Case("a map by columns", changed(array(np.asfortranarray(SOUND))), "X"),
    Case("a map of doubles", changed(array(SOUND.astype(np.float64))), "X"),
    Case("a map of text", changed(array(SOUND.astype("U4"))), "X"),
    Case("a map of records", changed(array(np.zeros((ROWS, COLUMNS), "f4,f4"))), "X"),
    Case("a map of one dimension", changed(array(SOUND.ravel())), "X"),
    Case("a map of three dimensions", changed(array(SOUND[None])), "X"),
    Case("a map of no dimension", changed(array(np.float32(1))), "X"),
    Case("a map of nothing", changed(array(SOUND[:0])), "X"),
    Case("a map of another shape", changed(array(SOUND.T)), "X"),
    Case("probabilities above 1", changed(array(SOUND * 5)), "X"),
    Case("probabilities below 0", changed(array(-SOUND)), "X"),
    Case("probabilities without end", changed(array(SOUND * np.inf)), "X"),
    Case("a header of 2^40 windows", changed(header("(1048576, 1048576)")), "X"),
    Case("a header of negative windows", changed(header("(-8, -10)")), "X"),
    Case("a header that is no shape", changed(header("8")), "X"),
    Case("a header of nested brackets", changed(header("(" * 90)), "X"),
    Case("a header that is a program", changed(header("__import__('os').system('true')")), "X"),
    Case("an empty map", changed(lambda record, here: (here / "map.npy").write_bytes(b"") and None), "X"),
    Case("quality of another shape", changed(lambda record, here: (np.save(here / "quality.npy", np.zeros((1, 1), np.uint8)), record.update(quality_sha256=hashlib.sha256((here / "quality.npy").read_bytes()).hexdigest()), None)[2]), "X"),
    Case("quality without a reason", changed(lambda record, here: (np.save(here / "quality.npy", np.full((ROWS, COLUMNS), 200, np.uint8)), record.update(quality_sha256=hashlib.sha256((here / "quality.npy").read_bytes()).hexdigest()), None)[2]), "X"),
]

NUMBERS = [
    *(
        Case(f"a {key} of {value}"[:60], changed(states(**{key: value})), "X")
        for key, values in {
            "stride": (0, -32, float("nan"), float("inf"), 1e-300, 1e300, "a", None, [32], True, 10**400),
            "threshold": (float("nan"), -1, 2, None, "a"),
            "prior": (0, 1, float("nan"), -1),
            "mpp": (0, -1, float("nan"), 10**400),
            "origin": ([16], [], None, 16, [float("nan"), 16], [0, 0], {"0": 1}),
            "bundle": (None, 7),
            "engine": (None, []),
            "format": (2, True, "1", None, [1]),
        }.items()
        for value in values
    ),
    *(
        Case(f"a slide whose {key} is {value}"[:60], changed(of_slide(**{key: value})), "X")
        for key, values in {
            "width": (0, -1, 1e9, "a", None, True, 1 << 40, float("nan")),
            "mpp": (0, -1, float("nan"), "a", None),
            "name": (7, None, "../../a.tif", "[red]\u001b[31m"),
            "fingerprint": (7, ""),
            "bounds": ([1], [0, 0, "a", 1], 7, "abcd", [0.5, 0, 1, 1]),
            "more": (1,),
        }.items()
        for value in values
    ),
    *(
        Case(f"a record of {text[:20]}", changed(lambda record, here, text=text: text), "X")
        for text in ("7", "[]", "{}", '"a"', "null", DEEP, f'{{"format": {DIGITS}}}', "", "NaN")
    ),
    *(
        Case(f"{command[0]} on a stride of {value}", changed(states(stride=value), command), "X")
        for command in (FROC, OPERATE)
        for value in (0, float("nan"))
    ),
    Case("froc on a pickle", changed(pickled, FROC), "X"),
    Case("froc on a record nested deeply", changed(lambda record, here: DEEP, FROC), "X"),
]

MANIFESTS = [
    *(
        Case(f"a {what} manifest of {text[:20]}", in_manifest(text, place), "X")
        for what, place in (("slide's", "a"), ("batch's", "."))
        for text in ("7", "[]", "{}", "null", DEEP, f'{{"format": {DIGITS}}}', "", '{"format": 2}', '{"slide_operating_points": 7, "whole_slide_coordinates": 7}',
            '{"name": "a", "slide": 7, "state": "done"}', '{"name": "../b", "slide": "/etc/passwd", "state": "done"}', '{"name": 7, "slide": "a", "state": "done"}',
            '{"name": "a", "slide": "slides/a.tif", "state": "done", "windows": "a"}', '{"name": "/etc", "slide": "a", "state": "done"}')
    ),
]

CASES = [*ARRAYS, *NUMBERS, *MANIFESTS]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_maps(case: Case, hostile: Hostile) -> None:
    hostile(case)

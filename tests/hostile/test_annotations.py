"""Annotations: numbers beyond all bounds, a million regions, nesting, entities, and what is no annotation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Case, Hostile, by_name

pytest.importorskip("shapely")

Make = Callable[[Path], list[str]]

SQUARE = "[[0,0],[0,90],[90,90],[90,0],[0,0]]"
DIGITS = "1" + "0" * 5000
MILLION = 1_000_000


def text(content: str | bytes, name: str = "a.geojson", *arguments: str) -> Make:
    """Write a file of annotations and print what it contains."""

    def make(folder: Path) -> list[str]:
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        (folder / name).write_bytes(data)
        return ["annotations", name, *arguments]

    return make


def feature(geometry: str, properties: str = '{"classification": {"name": "Tumor"}}') -> str:
    return f'{{"type": "Feature", "geometry": {geometry}, "properties": {properties}}}'


def collection(*features: str, members: str = "") -> str:
    return f'{{"type": "FeatureCollection", {members} "features": [{",".join(features)}]}}'


def polygon(*rings: str) -> str:
    return f'{{"type": "Polygon", "coordinates": [{",".join(rings)}]}}'


def ring_with(x: str, square: str = SQUARE) -> str:
    return square.replace("90", x)


def drawn(ring: str) -> Make:
    return text(collection(feature(polygon(ring))))


def ncrf(x: str) -> Make:
    return text(f'{{"positive": [{{"name": "a", "vertices": {ring_with(x)}}}], "negative": []}}', "a.json")


def asap(x: str = "90", *, head: str = "", order: str = "1", name: str = "a", group: str = "Tumor") -> Make:
    points = "".join(
        f'<Coordinate Order="{order if number else 0}" X="{a}" Y="{b}"/>'
        for number, (a, b) in enumerate([("0", "0"), ("0", x), (x, x), (x, "0")])
    )
    return text(
        f'{head}<ASAP_Annotations><Annotations><Annotation Name="{name}" Type="Polygon" PartOfGroup="{group}">'
        f"<Coordinates>{points}</Coordinates></Annotation></Annotations></ASAP_Annotations>",
        "a.xml",
    )


def star(points: int) -> str:
    """A polygon whose sides all cross each other."""
    angles = range(points)
    turn = 2 * math.pi * (points // 2) / points
    ring = [[5000 + 4000 * math.cos(turn * i), 5000 + 4000 * math.sin(turn * i)] for i in [*angles, 0]]
    return json.dumps(ring)


def many(number: int) -> str:
    """As many squares beside each other."""
    side = 1000
    return collection(
        *(
            feature(polygon(json.dumps([[x, y], [x, y + 5], [x + 5, y + 5], [x + 5, y], [x, y]])))
            for x, y in ((10 * (i % side), 10 * (i // side)) for i in range(number))
        )
    )


def repeated(part: str, number: int, around: str = "{}") -> Callable[[], str]:
    return lambda: around.replace("{}", ",".join([part] * number) if part.startswith("{") else part * number)


def comb(teeth: int, *, lying: bool, slope: int = 0) -> str:
    """Long teeth on a short back: a valid outline that crosses one at right angles to it at every tooth."""
    ring: list[list[float]] = []
    for tooth in range(teeth):
        far, y = 8 * teeth, 8 * tooth
        ring += [[4, y], [far, y + slope], [far, y + slope + 4], [4, y + 4]]
    ring += [[0, 8 * teeth - 4], [0, 0], [4, 0]]
    return json.dumps(ring if lying else [[y, x] for x, y in ring])


def lazily(content: Callable[[], str], name: str = "a.geojson") -> Make:
    """As :func:`text`, for what is too large to make while tests are collected."""
    return lambda folder: text(content(), name)(folder)


ENTITIES = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
EXTERNAL = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'

BROKEN = r"Refused: a\.\w+: region '.*' has a (broken )?coordinate"
MANY = r"Refused: a\.\w+: has more than 100,000 regions\. Export the annotations alone"
OFTEN = r"Refused: a\.geojson: has regions that cross each other more than 100,000 times\."
JSON_ITSELF = r"Refused: a\.\w+: is not well-formed JSON"
XML_ITSELF = r"Refused: a\.xml: (is not well-formed XML|cannot be read as text)"
OTHER_KIND = r"Refused: a\.\w+: is neither QuPath's GeoJSON nor NCRF's JSON"
DOCTYPE = "declares a document type"
NO_SIGN = r"Refused: a\.\w+: (nothing with an area was left|none of the 1 regions has a class)"


ROOT = "<ASAP_Annotations><Annotations>{}</Annotations></ASAP_Annotations>"


def crossing(second: str) -> Make:
    properties = f'{{"classification": {{"name": "{second}"}}}}'
    upright = feature(polygon(comb(200, lying=False)), properties)
    return text(collection(feature(polygon(comb(200, lying=True))), upright))


def staircase(corners: int) -> str:
    return f"[{','.join(f'[{at},{at}],[{at + 1},{at}]' for at in range(corners // 2))},[0,9]]"


def sparse(path: Path, size: int) -> list[str]:
    with path.open("wb") as file:
        file.truncate(size)
    return ["annotations", path.name]


CASES = [
    Case("1e400 in GeoJSON", drawn(ring_with("1e400")), BROKEN),
    Case("NaN in NCRF", ncrf("NaN"), BROKEN),
    Case("5,000 digits in GeoJSON", drawn(ring_with(DIGITS)), JSON_ITSELF),
    Case("5,000 digits in ASAP", asap(DIGITS), BROKEN),
    Case("an order of 1e400", asap(order="1e400"), BROKEN),
    Case("an empty polygon", text(collection(feature(polygon("[]")))), NO_SIGN),
    Case("a star of many crossings", drawn(star(20_001)), "crosses itself more than 10,000 times"),
    Case("a ring that is an object", drawn('{"0": 1}'), BROKEN),
    Case("ten thousand regions", lazily(lambda: many(10_000)), "", code=0),
    Case("a sparse terabyte", lambda folder: sparse(folder / "a.json", 1 << 40), "has more than 134,217,728 bytes"),
    Case("a million GeoJSON regions", lazily(repeated(feature("null", "{}"), MILLION, collection("{}"))), MANY),
    Case("a million NCRF regions", lazily(repeated('{"vertices": []}', MILLION, '{"positive": [{}]}')), MANY),
    Case("a million ASAP regions", lazily(repeated("<Annotation/>", MILLION, ROOT), "a.xml"), MANY),
    Case("a million objects of no kind", lazily(repeated('{"":0}', 4 * MILLION, "[{}]")), "10,000,000 numbers, names"),
    Case("millions of elements", lazily(repeated("<a/>", 5 * MILLION, ROOT), "a.xml"), "4,000,000 elements"),
    Case("a million corners", lazily(lambda: collection(feature(polygon(staircase(MILLION))))), "1,000,000 corn"),
    Case("two combs across", crossing("Tumor"), OFTEN),
    Case("a comb across an exclusion", crossing("normal"), OFTEN),
    Case("slanting teeth", drawn(comb(2000, lying=True, slope=16_000)), "come near each other more than 5,000,000"),
    Case("lists nested deeply", text("[" * 200_000), "nested too deeply"),
    Case("elements nested deeply", text(f"<ASAP_Annotations>{'<a>' * 200_000}", "a.xml"), XML_ITSELF),
    Case("entities", asap(head=ENTITIES, name="&b;"), DOCTYPE),
    Case("an external entity", asap(head=EXTERNAL, name="&a;"), DOCTYPE, secret=b"root:"),
    Case("entities in UTF-16", text((ENTITIES + "<ASAP_Annotations/>").encode("utf-16"), "a.xml"), DOCTYPE),
    Case(
        "an encoding that is none",
        asap(head='<?xml version="1.0" encoding="zlib"?>'),
        "Refused: a.xml: cannot be read as text",
    ),
    Case("a list of lists", text('{"features": [[]]}'), OTHER_KIND),
    Case(
        "a class that is a number",
        text(collection(feature(polygon(SQUARE), '{"classification": {"name": {}}}'))),
        NO_SIGN,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_annotations(case: Case, hostile: Hostile) -> None:
    hostile(case)

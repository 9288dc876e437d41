"""Annotations: numbers beyond all bounds, a million regions, nesting, entities, and what is no annotation."""

from __future__ import annotations

import json
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
    import math

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


def million_of_asap() -> str:
    points = '<Coordinate Order="0" X="0" Y="0"/><Coordinate Order="1" X="0" Y="9"/><Coordinate Order="2" X="9" Y="9"/>'
    one = f'<Annotation Name="a" Type="Polygon" PartOfGroup="Tumor"><Coordinates>{points}</Coordinates></Annotation>'
    return f"<ASAP_Annotations><Annotations>{one * MILLION}</Annotations></ASAP_Annotations>"


def lazily(content: Callable[[], str], name: str = "a.geojson") -> Make:
    """As :func:`text`, for what is too large to make while tests are collected."""
    return lambda folder: text(content(), name)(folder)


ENTITIES = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
EXTERNAL = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>'

NUMBERS = [
    *(
        Case(f"{what} in {format}", make, "X")
        for what, x in (
            ("1e400", "1e400"),
            ("NaN", "NaN"),
            ("minus infinity", "-Infinity"),
            ("1e300", "1e300"),
            ("2^63", str(1 << 63)),
            ("5,000 digits", DIGITS),
            ("4,000 digits", DIGITS[:4000]),
            ("true", "true"),
            ("null", "null"),
            ("text", '"9"'),
            ("1e-400", "1e-400"),
        )
        for format, make in (("GeoJSON", drawn(ring_with(x))), ("NCRF", ncrf(x)))
    ),
    *(
        Case(f"{x[:9]} in ASAP", asap(x), "X")
        for x in ("1e400", "nan", "inf", "-1e300", DIGITS, "", "9,0,0", "٩٠", "0x10", "9_0", "1e-400")
    ),
    *(
        Case(f"an order of {order[:9]}", asap(order=order), "X")
        for order in ("1e400", "nan", "", "a", DIGITS, "-1", "1e300")
    ),
    Case(
        "bounds of 5,000 digits",
        text(
            collection(
                feature(polygon(SQUARE)),
                members=f'"sentinode": {{"coordinates": "bounds", "bounds": [0,0,{DIGITS[:4000]},1]}},',
            )
        ),
        "X",
    ),
    Case(
        "bounds that are negative",
        text(
            collection(
                feature(polygon(SQUARE)), members='"sentinode": {"coordinates": "bounds", "bounds": [-5,0,-1,1]},'
            )
        ),
        "X",
    ),
    Case(
        "bounds that are true",
        text(
            collection(
                feature(polygon(SQUARE)),
                members='"sentinode": {"coordinates": "bounds", "bounds": [true,true,true,true]},',
            )
        ),
        "X",
    ),
]

SHAPES = [
    Case("an empty polygon", text(collection(feature(polygon("[]")))), "X"),
    Case("a polygon without rings", text(collection(feature(polygon()))), "X"),
    Case("a polygon of one point", drawn("[[1,1],[1,1],[1,1],[1,1]]"), "X"),
    Case("a polygon that crosses itself", drawn("[[0,0],[90,90],[90,0],[0,90],[0,0]]"), "X"),
    Case("a star of a thousand crossings", drawn(star(1001)), "X"),
    Case("a star of a million crossings", drawn(star(20_001)), "X"),
    Case("a hole outside", text(collection(feature(polygon(SQUARE, SQUARE.replace("90", "-90"))))), "X"),
    Case("a hole that is all", text(collection(feature(polygon(SQUARE, SQUARE)))), "X"),
    Case("points of five numbers", drawn("[[0,0,1,2,3],[0,90,1,2,3],[90,90,1,2,3]]"), "X"),
    Case("points nested too deeply", drawn("[[[0,0],[0,90],[90,90]]]"), "X"),
    Case("points of different lengths", drawn("[[0,0],[0],[90,90]]"), "X"),
    Case("a ring that is an object", drawn('{"0": 1}'), "X"),
    Case("a ring that is a string", drawn('"ring"'), "X"),
    Case("a ring that is a number", drawn("7"), "X"),
]

MANY = [
    Case("a hundred thousand regions", lazily(lambda: many(100_000)), "X"),
    Case("a million regions", lazily(lambda: many(MILLION)), "X"),
    Case("a million regions of ASAP", lazily(million_of_asap, "a.xml"), "X"),
    Case(
        "a million names of classes",
        text(collection(feature(polygon(SQUARE), '{"classification": {"name": "' + "a:" * MILLION + '"}}'))),
        "X",
    ),
    Case(
        "a name of megabytes",
        text(
            collection(
                feature(polygon(SQUARE), '{"name": "' + "a" * 9_000_000 + '", "classification": {"name": "Tumor"}}')
            )
        ),
        "X",
    ),
    Case(
        "a class of megabytes",
        text(collection(feature(polygon(SQUARE), '{"classification": {"name": "' + "a" * 9_000_000 + '"}}'))),
        "X",
    ),
    Case(
        "a name with markup and escapes",
        text(
            collection(
                feature(polygon("[]"), '{"name": "[red]a[/x]\\u001b[31m\\ud800", "classification": {"name": "Tumor"}}')
            )
        ),
        "X",
    ),
    Case(
        "a class with markup and escapes",
        text(collection(feature(polygon(SQUARE), '{"classification": {"name": "[red]a[/x]\\u001b[31m\\ud800"}}'))),
        "X",
    ),
    Case("a sparse gigabyte", lambda folder: sparse(folder / "a.json", 1 << 30), "X"),
    Case("a sparse terabyte", lambda folder: sparse(folder / "a.json", 1 << 40), "X"),
]


def sparse(path: Path, size: int) -> list[str]:
    with path.open("wb") as file:
        file.truncate(size)
    return ["annotations", path.name]


DEEP = [
    Case("lists nested deeply", text("[" * 200_000), "X"),
    Case("objects nested deeply", text('{"a":' * 100_000 + "1" + "}" * 100_000), "X"),
    Case("lists nested 900 times", text("[" * 900 + "]" * 900), "X"),
    Case("coordinates nested deeply", drawn("[" * 900 + "1" + "]" * 900), "X"),
    Case(
        "children nested deeply",
        text(feature(polygon(SQUARE), '{"children": [' + feature("null", '{"children": [') * 200 + "]}}" * 200 + "]}")),
        "X",
    ),
    Case(
        "parent classes nested deeply",
        text(
            collection(
                feature(
                    polygon(SQUARE),
                    '{"classification": ' + '{"name": "a", "parentClass": ' * 900 + "null" + "}" * 900 + "}",
                )
            )
        ),
        "X",
    ),
    Case(
        "collections nested deeply",
        text(
            collection(feature('{"type": "GeometryCollection", "geometries": [' * 400 + polygon(SQUARE) + "]}" * 400))
        ),
        "X",
    ),
    Case(
        "elements nested deeply",
        text("<ASAP_Annotations>" + "<a>" * 200_000 + "</a>" * 200_000 + "</ASAP_Annotations>", "a.xml"),
        "X",
    ),
    Case("elements nested deeply and not closed", text("<ASAP_Annotations>" + "<a>" * 1_000_000, "a.xml"), "X"),
    Case(
        "groups in a circle",
        text(
            '<ASAP_Annotations><Annotations><Annotation Name="a" Type="Polygon" PartOfGroup="a"/></Annotations><AnnotationGroups><Group Name="a" PartOfGroup="b"/><Group Name="b" PartOfGroup="a"/></AnnotationGroups></ASAP_Annotations>',
            "a.xml",
        ),
        "X",
    ),
]

XML = [
    Case("entities", asap(head=ENTITIES, name="&b;"), "X"),
    Case("an external entity", asap(head=EXTERNAL, name="&a;"), "X", secret=b"root:"),
    Case("a document type in UTF-16", text((ENTITIES + "<ASAP_Annotations/>").encode("utf-16"), "a.xml"), "X"),
    Case("a document type in lower case", text("<!doctype a><ASAP_Annotations/>", "a.xml"), "X"),
    Case("an unknown entity", asap(name="&nothing;"), "X"),
    Case("an unknown encoding", asap(head='<?xml version="1.0" encoding="martian"?>'), "X"),
    Case("an encoding of a codec", asap(head='<?xml version="1.0" encoding="zlib"?>'), "X"),
    Case("an encoding of escapes", asap(head='<?xml version="1.0" encoding="unicode_escape"?>'), "X"),
    Case("an encoding of idna", asap(head='<?xml version="1.0" encoding="idna"?>'), "X"),
    Case("a zero in XML", asap(name="a\0b"), "X"),
    Case(
        "a million attributes",
        lazily(lambda: "<ASAP_Annotations " + " ".join(f'a{i}="1"' for i in range(MILLION)) + "/>", "a.xml"),
        "X",
    ),
    Case(
        "an include",
        text(
            '<ASAP_Annotations xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="/etc/passwd" parse="text"/></ASAP_Annotations>',
            "a.xml",
        ),
        "X",
        secret=b"root:",
    ),
]

KINDS = [
    *(
        Case(f"a file of {content[:20]}", text(content), "X")
        for content in (
            "1",
            "null",
            "true",
            '"text"',
            "[]",
            "{}",
            "[1]",
            "[null]",
            '{"features": 1}',
            '{"features": [[]]}',
            '{"type": 7, "features": []}',
            '{"type": ["Feature"]}',
            '{"type": {}, "geometry": 1}',
            '{"positive": 1}',
            '{"positive": [1]}',
            '{"positive": [{"vertices": [{}]}]}',
            '{"positive": [{"vertices": 5, "name": []}]}',
            "",
            "   ",
            "NaN",
            "{",
            "\0",
            "\ud800",
        )
    ),
    *(
        Case(f"properties {properties[:40]}", text(collection(feature(polygon(SQUARE), properties))), "X")
        for properties in (
            "7",
            "[]",
            '"a"',
            '{"classification": 7}',
            '{"classification": [7]}',
            '{"classification": {"names": {}}}',
            '{"classification": {"name": {}}}',
            '{"objectType": {}}',
            '{"objectType": ["annotation"]}',
            '{"name": {"a": [1]}, "classification": "Tumor"}',
            '{"children": 7, "classification": "Tumor"}',
            '{"children": [7], "classification": "Tumor"}',
        )
    ),
    *(
        Case(f"a geometry {geometry[:40]}", text(collection(feature(geometry))), "X")
        for geometry in (
            "null",
            "7",
            "[]",
            "{}",
            '{"type": {}}',
            '{"type": "Polygon"}',
            '{"type": "Polygon", "coordinates": 7}',
            '{"type": "MultiPolygon", "coordinates": [[[[]]]]}',
            '{"type": "MultiPolygon", "coordinates": [7]}',
            '{"type": "GeometryCollection", "geometries": 7}',
            '{"type": ["Polygon"], "coordinates": []}',
        )
    ),
    Case("a folder as annotations", lambda folder: [(folder / "a.xml").mkdir() or "annotations", "a.xml"], "X"),
    Case("noise as annotations", text(bytes(range(256)) * 99, "a.xml"), "X"),
]

CASES: list[Case] = [*NUMBERS, *SHAPES, *MANY, *DEEP, *XML, *KINDS]


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_annotations(case: Case, hostile: Hostile) -> None:
    hostile(case)

"""ASAP's XML, in which Camelyon16 and Camelyon17 are annotated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

import numpy as np

from sentinode.slides.reading.annotations.drawing import (
    NO_AREA,
    UNCLASSIFIED,
    Contents,
    Drawing,
    Malformed,
    Ring,
    listed,
    printable,
    region_name,
    require_countable,
    unknown_type,
)

ROOT = "ASAP_Annotations"

AREAS = frozenset({"polygon", "rectangle", "spline", "none", ""})
"""Types of annotation with an area, in lower case. A spline is taken as the polygon through its points, as ASAP's
own mask is; the type is missing, or 'None', where a script wrote the file."""

NO_AREAS = frozenset({"dot", "pointset", "measurement"})
"""Types without an area: points and rulers, however many points they have."""

DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
COMMA_SAID = "coordinates have a decimal comma, as in some languages, and were read that way."


def read_asap(root: Element) -> Contents:
    """The regions of an ASAP file.

    An annotation counts as its own group, or else as the nearest group around that one whose meaning is known.

    Raises:
        Malformed: a coordinate is broken, or the file holds what ASAP does not write.
    """
    annotations = list(root.iter("Annotation"))
    require_countable(len(annotations))
    if not annotations:
        _refuse_other_elements(root)
    around = _groups_around(root)
    comma = _has_decimal_comma(root)
    drawings = []
    for number, annotation in enumerate(annotations):
        name = region_name(annotation.get("Name"), number)
        kind = annotation.get("Type", "").strip()
        has_area = kind.lower() in AREAS
        ring = _ring(annotation, name, comma) if has_area else np.empty((0, 2))
        fault = NO_AREA if has_area or kind.lower() in NO_AREAS else unknown_type(kind)
        drawings.append(Drawing(name, _classes(annotation, around), [[ring]] if len(ring) else [], fault))
    return Contents(drawings, notes=(COMMA_SAID,) if comma else ())


def _refuse_other_elements(root: Element) -> None:
    """What lies in a file without annotations must be what ASAP writes: else it is no slide without tumour."""
    for part in root:
        for element in part.iter() if part.tag != "AnnotationGroups" else ():
            if element.tag != "Annotations":
                raise Malformed(f"has no <Annotation>, but a <{element.tag}>, which ASAP does not write.")


def _groups_around(root: Element) -> Mapping[str, str]:
    """The group that each group lies in."""
    around: dict[str, str] = {}
    for groups in root.iter("AnnotationGroups"):
        for group in groups:
            name, outer = (printable(group.get(key, "")) for key in ("Name", "PartOfGroup"))
            if around.setdefault(name, outer) != outer:
                raise Malformed(f"puts the group '{name}' into both '{around[name]}' and '{outer}'.")
    return around


def _classes(annotation: Element, around: Mapping[str, str]) -> tuple[str, ...]:
    """The annotation's group and those around it, from the inside; ASAP's 'None' is no group."""
    chain: list[str] = []
    group = printable(annotation.get("PartOfGroup", ""))
    while group and group != "None" and group not in chain:
        chain.append(group)
        group = around.get(group, "")
    return tuple(chain) or (UNCLASSIFIED,)


def _ring(annotation: Element, name: str, comma: bool) -> Ring:
    """The points in their stated order; in the file's where none states one."""
    points = list(annotation.iter("Coordinate"))
    ring = np.array(list(_numbers(points, name, comma)), np.float64).reshape(-1, 2)
    if all(point.get("Order") is None for point in points):
        return ring
    return ring[np.argsort([_place(point, name) for point in points], kind="stable")]


def _place(point: Element, name: str) -> int:
    order = point.get("Order")
    try:
        return int(float(order or ""))
    except (ValueError, OverflowError) as error:
        why = "some points have no order" if order is None else f"its order is '{printable(order)}'"
        raise Malformed(f"region '{name}' has a broken coordinate ({why}).") from error


def _numbers(points: list[Element], name: str, comma: bool) -> Iterator[tuple[float, float]]:
    for point in points:
        texts = [point.get(axis) for axis in "XY"]
        try:
            x, y = (float((text or "").replace(",", ".") if comma else text or "") for text in texts)
        except ValueError as error:
            wrong = ", ".join(f"{axis}='{printable(text)}'" for axis, text in zip("XY", texts, strict=True) if text)
            raise Malformed(f"region '{name}' has a broken coordinate ({wrong or 'no X and no Y'}).") from error
        yield x, y


def _has_decimal_comma(root: Element) -> bool:
    """Whether all fractions in the file have a decimal comma.

    Raises:
        Malformed: its commas might as well separate thousands.
    """
    with_comma = [text for text in _coordinates(root) if "," in text]
    if not with_comma:
        return False
    odd = [text for text in _coordinates(root) if "." in text or ("," in text and not DECIMAL_COMMA.fullmatch(text))]
    if odd:
        raise Malformed(f"has a broken coordinate (both points and commas, such as {listed([with_comma[0], odd[0]])}).")
    if all(len(text) - text.index(",") == 4 for text in with_comma):
        raise Malformed(f"has a broken coordinate ('{with_comma[0]}': a comma for decimals or for thousands?).")
    return True


def _coordinates(root: Element) -> Iterator[str]:
    return (point.get(axis, "").strip() for point in root.iter("Coordinate") for axis in "XY")

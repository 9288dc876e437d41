"""NCRF's JSON (Li and Ping 2018): lists of positive and negative regions, converted from ASAP's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentinode.slides.reading.annotations.drawing import Contents, Drawing, Malformed, region_name, require_countable
from sentinode.slides.reading.annotations.geojson import NO_GEOJSON, ring_of

LISTS = ("positive", "negative")


def read_ncrf(content: Mapping[str, Any]) -> Contents:
    """The regions of an NCRF file.

    Raises:
        Malformed: a list is none, or a region has no vertices.
    """
    drawings = []
    for group in LISTS:
        regions = content.get(group, [])
        if not isinstance(regions, list):
            raise Malformed(f"{NO_GEOJSON} ('{group}' is not a list).")
        for number, region in enumerate(regions):
            if not isinstance(region, dict) or not isinstance(region.get("vertices"), list):
                raise Malformed(f"{NO_GEOJSON} (number {number} of '{group}' has no list of vertices).")
            name = region_name(region.get("name"), number)
            ring = ring_of(region["vertices"], name)
            drawings.append(Drawing(name, (group,), [[ring]] if len(ring) else []))
            require_countable(len(drawings))
    return Contents(drawings)

"""Annotations of programs that Sentinode does not read, known by sight so that they are refused by name.

Some count nanometres from the slide's centre, from its lower edge, or in fractions of its width: read as pixels,
they would lie in the wrong place without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element


@dataclass(frozen=True)
class Program:
    """A program, and what is peculiar to its coordinates."""

    name: str
    remark: str = ""


XML = (
    (Program("Hamamatsu NDP.view", "its coordinates are nanometres from the slide's centre"), "ndpviewstate"),
    (Program("HALO"), "Vertices/V"),
    (Program("Aperio ImageScope"), "Vertices/Vertex"),
    (Program("Aperio ImageScope or HALO"), "Regions"),
    (Program("CVAT"), "image"),
    (Program("3DHISTECH's viewer"), "destination_list"),
    (Program("Pascal VOC"), "bndbox"),
)
"""Each program with an element that its XML holds."""

JSON = (
    (Program("Cytomine", "its coordinates count from the lower edge"), {"annotation", "callback"}),
    (Program("Cytomine", "its coordinates count from the lower edge"), {"location", "geometryCompression"}),
    (Program("Cytomine", "its coordinates count from the lower edge"), {"collection", "perPage"}),
    (Program("Sectra's PathologyCore", "its coordinates are fractions of the slide"), {"content", "slideId"}),
    (Program("V7 Darwin", "the JSON that dlup reads"), {"schema_ref", "item"}),
    (Program("V7 Darwin", "the JSON that dlup reads"), {"classes"}),
    (Program("the Digital Slide Archive"), {"elements"}),
    (Program("the Digital Slide Archive"), {"annotation", "_id"}),
    (Program("COCO"), {"images", "categories"}),
    (Program("LabelMe"), {"shapes", "imagePath"}),
    (Program("wholeslidedata"), {"index", "coordinates", "label"}),
    (Program("Annotorious"), {"target", "body"}),
)
"""Each program with keys that its JSON, or the first entry of its list, holds."""


def program_of_xml(root: Element) -> Program | None:
    """Whose XML this is, or None where that is not known."""
    if root.tag == "Annotations" and root.get("MicronsPerPixel"):
        return Program("Aperio ImageScope")
    return next((program for program, element in XML if root.find(f".//{element}") is not None), None)


def program_of_json(content: Any) -> Program | None:
    """Whose JSON this is, or None where that is not known; None for GeoJSON."""
    first = content[0] if isinstance(content, list) and content else content
    if not isinstance(first, dict):
        return None
    if "elements" in first.get("annotation", ()) and isinstance(first["annotation"], dict):
        return Program("the Digital Slide Archive")
    return next((program for program, keys in JSON if keys <= first.keys()), None)

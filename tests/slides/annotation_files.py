"""Files of annotations with known content, as each program writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Points = list[tuple[float, float]]


def polygon(*rings: Points) -> dict[str, Any]:
    """A GeoJSON polygon of an outline and holes."""
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]}


def feature(geometry: Any, kind: Any = "Tumor", **properties: Any) -> dict[str, Any]:
    """A QuPath annotation of a class, or of none."""
    classified = {} if kind is None else {"classification": {"name": kind, "color": [200, 0, 0]}}
    given = {"objectType": "annotation", **(classified if isinstance(kind, str) else {"classification": kind})}
    return {"type": "Feature", "geometry": geometry, "properties": {**given, **properties}}


def geojson(path: Path, *features: Any, **members: Any) -> Path:
    """A FeatureCollection."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}), encoding="utf-8")
    return path


def asap_file(path: Path, *annotations: tuple[str, str, str, Points], groups: dict[str, str] | None = None) -> Path:
    """An ASAP file of (name, type, group, points); ``groups`` says which group each lies in."""
    regions = "".join(
        f'<Annotation Name="{name}" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>'
        + "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(points))
        + "</Coordinates></Annotation>"
        for name, kind, group, points in annotations
    )
    tree = "".join(f'<Group Name="{name}" PartOfGroup="{outer}"/>' for name, outer in (groups or {}).items())
    path.write_text(
        f'<?xml version="1.0"?>\n<ASAP_Annotations><Annotations>{regions}</Annotations>'
        f"<AnnotationGroups>{tree}</AnnotationGroups></ASAP_Annotations>",
        encoding="utf-8",
    )
    return path

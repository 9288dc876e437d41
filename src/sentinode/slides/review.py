"""What a person says of a slide's lesions, kept beside its map.

``review.jsonl`` is the truth: one operation a line, with who and when, only ever appended to, under a lock. So two
windows, or two programs, on one slide lose nothing of each other's work, and undoing is an operation, too.
``review.geojson`` is made of it after each operation, whole or not at all: QuPath opens it, and
:func:`sentinode.slides.reading.annotations.read_annotations` reads it.

In that file accepted lesions and drawn tumour have classes that mean tumour; rejected ones and what was drawn as no
tumour are ``Normal``, which is cut out of it. Lesions that nobody has judged are ``Unreviewed``, so that a reader warns
of them and never takes them for normal.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

import shapely
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from shapely.affinity import translate
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Polygon, box, mapping, shape

from sentinode.atomic import output_error, output_errors, write_text
from sentinode.errors import OutputError, SlideError
from sentinode.leases import Hold, LeaseLost
from sentinode.locks import lock
from sentinode.slides.results.lesion_files import Frame, frame_of
from sentinode.slides.results.outputs import GEOJSON
from sentinode.slides.scanning.probability_map import SlideRecord

LOG, REVIEW, LOCK = "review.jsonl", "review.geojson", "review"

TUMOUR, NORMAL, UNSURE, UNREVIEWED = "Tumor", "Normal", "Unsure", "Unreviewed"
COLOURS = {TUMOUR: [213, 94, 0], NORMAL: [0, 158, 115], UNSURE: [204, 121, 167], UNREVIEWED: [120, 120, 130]}

LONGEST_COMMENT, MOST_POINTS, MOST_RINGS = 2000, 20_000, 1000
WIDEST_BRUSH_UM = 1000.0

Point = tuple[float, float]
Ring = Annotated[list[Point], Field(min_length=3)]
Label = Literal[
    "germinal centre",
    "sinus histiocytes",
    "blood vessel",
    "plasma cells",
    "benign inclusion",
    "necrosis",
    "artefact",
    "other tissue",
]

LABELS: tuple[str, ...] = get_args(Label)
"""What a region that is no tumour may be instead."""


class _Operation(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: UUID


class Judge(_Operation):
    """A lesion is accepted, rejected, perhaps with what it is instead, left unsure, or no longer judged.

    The log leaves out what is None, so a line without a verdict takes one back.
    """

    kind: Literal["judge"]
    lesion: str = Field(max_length=100)
    verdict: Literal["accepted", "rejected", "unsure"] | None = None  # the log leaves out what is None
    label: Label | None = None


class Comment(_Operation):
    """A remark on a lesion or a drawing; an empty one removes it."""

    kind: Literal["comment"]
    target: str = Field(max_length=100)
    text: str = Field(max_length=LONGEST_COMMENT)


class Draw(_Operation):
    """A region that was missed or is wrong: a polygon's corners, or a brush's path and radius, in level-0 pixels."""

    kind: Literal["draw"]
    meaning: Literal["tumour", "normal"]
    label: Label | None = None
    points: list[Point] = Field(min_length=1, max_length=MOST_POINTS)
    radius: float | None = Field(default=None, gt=0)


class Redraw(_Operation):
    """A drawing gets another outline, another meaning with its label, or both; what is None stays.

    ``rings`` holds every ring of the outline; by the even-odd rule they are the area.
    """

    kind: Literal["redraw"]
    drawing: str = Field(max_length=100)
    rings: list[Ring] | None = Field(default=None, min_length=1, max_length=MOST_RINGS)
    meaning: Literal["tumour", "normal"] | None = None
    label: Label | None = None

    @model_validator(mode="after")
    def _check_change(self) -> Redraw:
        if self.rings is None and self.meaning is None:
            raise ValueError("it changes nothing")
        if sum(len(ring) for ring in self.rings or ()) > MOST_POINTS:
            raise ValueError(f"it has more than {MOST_POINTS} corners")
        return self


class Erase(_Operation):
    """A drawing is removed."""

    kind: Literal["erase"]
    drawing: str = Field(max_length=100)


class Look(_Operation):
    """Whether somebody has looked at the whole slide."""

    kind: Literal["look"]
    whole: bool


class Undo(_Operation):
    """An earlier operation does not count; undoing an undoing brings it back."""

    kind: Literal["undo"]
    operation: UUID


Operation = Annotated[Judge | Comment | Draw | Redraw | Erase | Look | Undo, Field(discriminator="kind")]

_OPERATION: TypeAdapter[Judge | Comment | Draw | Redraw | Erase | Look | Undo] = TypeAdapter(Operation)


class Entry(BaseModel):
    """A line of the log.

    Attributes:
        time: UTC, ISO 8601.
        who: the reviewer.
        operation: what was done.
        lesion: the feature that was judged or remarked on, as it was then, in level-0 pixels of the whole slide.
        geometry: what was drawn, as valid polygons within the slide.
        bundle: fingerprint of the bundle whose map was looked at.
    """

    time: str
    who: str
    operation: Operation
    lesion: dict[str, Any] | None = None
    geometry: dict[str, Any] | None = None
    bundle: str = ""


@dataclass
class Judged:
    """What was said of a lesion."""

    feature: dict[str, Any]
    verdict: str | None = None
    label: str | None = None
    comment: str = ""
    who: str = ""
    time: str = ""


@dataclass
class Drawing:
    """What was drawn."""

    id: str
    meaning: str
    label: str | None
    geometry: dict[str, Any]
    comment: str = ""
    who: str = ""
    time: str = ""


@dataclass
class Review:
    """All that counts of a log.

    Attributes:
        revision: how many operations it holds; it grows with each.
        judged: by the lesion's identifier.
        drawings: by their identifiers, in the order of their times.
        whole: whether somebody has looked at the whole slide.
    """

    revision: int = 0
    judged: dict[str, Judged] = field(default_factory=dict)
    drawings: dict[str, Drawing] = field(default_factory=dict)
    whole: bool = False


def parse_operation(content: object) -> Judge | Comment | Draw | Redraw | Erase | Look | Undo:
    """An operation from JSON.

    Raises:
        SlideError: it is none.
    """
    try:
        return _OPERATION.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SlideError(f"this is no operation of a review ({where}: {first['msg']}).") from error


def read_review(folder: Path) -> Review:
    """The review of the map in ``folder``; an empty one where nobody has begun.

    Raises:
        SlideError: the log is damaged.
    """
    return _fold(_read_log(folder / LOG))


def reason_not_writable(folder: Path) -> str | None:
    """Why no review can be saved in ``folder``, or None where it can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return output_error(folder, error).what


def add_operation(
    folder: Path,
    operation: Judge | Comment | Draw | Redraw | Erase | Look | Undo,
    *,
    who: str,
    slide: SlideRecord,
    bundle: str,
) -> Review:
    """Append an operation to the review of the map in ``folder``, and write ``review.geojson`` again.

    An operation whose identifier the log holds already is not added again, so that a request may be repeated.

    Args:
        folder: the slide's, with its map and lesions.
        operation: what was done.
        who: the reviewer.
        slide: the map's slide.
        bundle: fingerprint of the map's bundle.

    Raises:
        SlideError: it speaks of a lesion, drawing or operation that there is not, or what was drawn has no area.
        OutputError: the folder cannot be written, or the disk is full.
    """
    # The lock comes first, because even its file cannot be made in a folder that is closed.
    if (reason := reason_not_writable(folder)) is not None:
        raise OutputError(
            f"the review cannot be saved: {reason}", where=folder, hint="Copy the maps to a folder of your own."
        )
    with output_errors(folder / LOG), lock(folder, LOCK) as hold:
        entries = _read_log(folder / LOG)
        if all(entry.operation.id != operation.id for entry in entries):
            entry = _entry(folder, operation, entries, who=who, slide=slide, bundle=bundle)
            _require_hold(hold, folder)
            _append(folder / LOG, entry)
            entries.append(entry)
        review = _fold(entries)
        write_geojson(folder, review, slide)
    return review


def _require_hold(hold: Hold, folder: Path) -> None:
    try:
        hold.require()
    except LeaseLost as error:
        raise OutputError(
            "the review was not saved: this computer stood still, and another has taken the folder over.",
            where=folder,
            hint="Do it again.",
        ) from error


def _entry(
    folder: Path,
    operation: Judge | Comment | Draw | Redraw | Erase | Look | Undo,
    entries: Sequence[Entry],
    *,
    who: str,
    slide: SlideRecord,
    bundle: str,
) -> Entry:
    review = _fold(entries)
    lesion, geometry = None, None
    if isinstance(operation, Judge):
        lesion = _lesion(folder, operation.lesion, review)
    elif isinstance(operation, Comment) and operation.target not in review.drawings:
        lesion = _lesion(folder, operation.target, review)
    elif isinstance(operation, Draw):
        geometry = mapping(_on_slide(_area_of(operation, slide), slide))
    elif isinstance(operation, Redraw | Erase) and operation.drawing not in review.drawings:
        raise SlideError("there is no such drawing: another window may have removed it.")
    elif isinstance(operation, Redraw) and operation.rings is not None:
        geometry = mapping(_on_slide(_even_odd(operation.rings), slide))
    elif isinstance(operation, Undo) and all(entry.operation.id != operation.operation for entry in entries):
        raise SlideError("there is no such operation to undo.")
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Entry(time=now, who=who, operation=operation, lesion=lesion, geometry=geometry, bundle=bundle)


def _lesion(folder: Path, identifier: str, review: Review) -> dict[str, Any]:
    """A lesion as the scan found it, or as it was when it was judged first."""
    for feature in read_lesions(folder):
        if feature["id"] == identifier:
            return feature
    if identifier in review.judged:
        return review.judged[identifier].feature
    raise SlideError("there is no such lesion: the slide may have been scanned again.")


def _area_of(operation: Draw, slide: SlideRecord) -> shapely.Geometry:
    """What was drawn, as a valid area."""
    if operation.radius is not None:
        if operation.radius * slide.mpp > WIDEST_BRUSH_UM:
            raise SlideError(f"a brush is at most {WIDEST_BRUSH_UM:g} um wide to each side.")
        line = LineString(operation.points * 2 if len(operation.points) == 1 else operation.points)
        return line.simplify(operation.radius / 20).buffer(operation.radius, quad_segs=6)
    if len(operation.points) < 3:
        raise SlideError("a polygon has three corners or more.")
    return _even_odd([operation.points])


def _even_odd(rings: Sequence[Sequence[Point]]) -> shapely.Geometry:
    """The area inside an odd number of rings, each made valid."""
    areas = [shapely.make_valid(Polygon(ring), method="structure", keep_collapsed=False) for ring in rings]
    return shapely.symmetric_difference_all(areas)


def _on_slide(area: shapely.Geometry, slide: SlideRecord) -> MultiPolygon:
    """An area as valid polygons, cut at the slide's border."""
    parts = _polygons(shapely.intersection(area, box(0, 0, slide.width, slide.height)))
    if not parts:
        raise SlideError("what was drawn has no area on the slide.")
    return MultiPolygon(parts)


def _polygons(area: shapely.Geometry) -> list[Polygon]:
    parts: list[Polygon] = []
    for part in shapely.get_parts(area):
        if isinstance(part, Polygon):
            parts += [part] if part.area > 0 else []
        elif isinstance(part, MultiPolygon | GeometryCollection):
            parts += _polygons(part)
    return parts


def read_lesions(folder: Path) -> list[dict[str, Any]]:
    """The features of a slide's ``lesions.geojson``, moved to level-0 pixels of the whole slide; none without it.

    Raises:
        SlideError: the file is damaged.
    """
    path = folder / GEOJSON
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        left, top = content.get("sentinode", {}).get("bounds", (0, 0))[:2]
        features: list[dict[str, Any]] = content["features"]
        if left or top:
            for feature in features:
                feature["geometry"] = mapping(translate(shape(feature["geometry"]), left, top))
        return [feature for feature in features if feature["id"] and feature["geometry"] and feature["properties"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
        raise SlideError(
            f"the lesions cannot be read ({type(error).__name__}).", where=path, hint="Write them again: "
            "sentinode lesions DIR."
        ) from error  # fmt: skip


def _read_log(path: Path) -> list[Entry]:
    """The entries of a log. A last line without its end was never confirmed to anyone, and is left out."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SlideError(f"the review cannot be read ({error.strerror}).", where=path) from error
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(Entry.model_validate_json(line))
        except ValidationError as error:
            raise SlideError(
                f"line {number} of the review's log is damaged.", where=path, hint="Mend or remove that line."
            ) from error
    return entries


def _append(path: Path, entry: Entry) -> None:
    line = entry.model_dump_json(exclude_none=True).encode() + b"\n"
    with path.open("a+b") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)  # what a crash left of a line
        try:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            file.truncate(whole)
            raise


def _fold(entries: Sequence[Entry]) -> Review:
    """What counts of the operations, from the first to the last."""
    review = Review(revision=len(entries))
    for entry in _standing(entries):
        _apply(review, entry)
    return review


def _standing(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that nobody has undone."""
    undone: set[UUID] = set()
    for entry in reversed(entries):
        if entry.operation.id not in undone and isinstance(entry.operation, Undo):
            undone.add(entry.operation.operation)
    return [entry for entry in entries if entry.operation.id not in undone]


def _apply(review: Review, entry: Entry) -> None:
    operation = entry.operation
    if isinstance(operation, Judge) and entry.lesion is not None:
        judged = review.judged.setdefault(operation.lesion, Judged(entry.lesion))
        judged.verdict, judged.label = operation.verdict, operation.label
        judged.who, judged.time = entry.who, entry.time
    elif isinstance(operation, Comment):
        target = review.drawings.get(operation.target) or (
            None if entry.lesion is None else review.judged.setdefault(operation.target, Judged(entry.lesion))
        )
        if target is not None:
            target.comment, target.who, target.time = operation.text, entry.who, entry.time
    elif isinstance(operation, Draw) and entry.geometry is not None:
        name = str(operation.id)
        review.drawings[name] = Drawing(
            name, operation.meaning, operation.label, entry.geometry, who=entry.who, time=entry.time
        )
    elif isinstance(operation, Redraw) and operation.drawing in review.drawings:
        drawing = review.drawings[operation.drawing]
        drawing.geometry = entry.geometry or drawing.geometry
        if operation.meaning is not None:
            drawing.meaning, drawing.label = operation.meaning, operation.label
        drawing.who, drawing.time = entry.who, entry.time
    elif isinstance(operation, Erase):
        review.drawings.pop(operation.drawing, None)
    elif isinstance(operation, Look):
        review.whole = operation.whole


@dataclass(frozen=True)
class ReviewedRegion:
    """A region of ``review.geojson``.

    Attributes:
        identifier: the lesion's or the drawing's.
        name: such as ``Lesion 1``.
        group: its class, such as ``Normal: Germinal centre``.
        area: valid polygons in level-0 pixels of the whole slide.
        metadata: ``review`` (accepted, rejected, unsure, unreviewed or drawn), the reviewer, the time, the comment.
        measurements: of the lesion, as the scan wrote them.
        locked: whether the scan outlined it, and not the reviewer.
    """

    identifier: str
    name: str
    group: str
    area: shapely.Geometry
    metadata: dict[str, str]
    measurements: Mapping[str, float]
    locked: bool

    @property
    def meaning(self) -> str | None:
        """``tumour`` or ``normal``; None where that is open: unsure, or not judged."""
        if self.group.partition(":")[0] == NORMAL:
            return "normal"
        return None if self.group in (UNSURE, UNREVIEWED) else "tumour"


def write_geojson(folder: Path, review: Review, slide: SlideRecord) -> None:
    """Write ``review.geojson``, in the coordinates of ``lesions.geojson``; remove it where nothing was said.

    Where regions of different meanings overlap, what was drawn counts before what the scan found, and what was drawn
    later before what was drawn earlier.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / REVIEW
    if not (review.drawings or review.whole or any(one.verdict or one.comment for one in review.judged.values())):
        with output_errors(path):
            path.unlink(missing_ok=True)
        return
    write_text(path, review_geojson(folder, review, slide))


def review_geojson(folder: Path, review: Review, slide: SlideRecord) -> str:
    """The content of ``review.geojson``."""
    lesions = read_lesions(folder)
    frame = _frame(folder, slide)
    left, top = frame.get("bounds", (0, 0))[:2]
    features = [_feature(region, left, top) for region in reviewed_regions(folder, review)]
    judged = sum(review.judged[one["id"]].verdict is not None for one in lesions if one["id"] in review.judged)
    about = {"slide": slide.name, "fingerprint": slide.fingerprint, "lesions": len(lesions), "judged": judged}
    member = {**frame, "review": {**about, "whole_slide_looked_at": review.whole}}
    head = f'{{"type": "FeatureCollection", "sentinode": {json.dumps(member)}, "features": [\n'
    return head + ",\n".join(json.dumps(one, allow_nan=False) for one in features) + "\n]}\n"


def reviewed_regions(folder: Path, review: Review) -> list[ReviewedRegion]:
    """The lesions and the drawings of the map in ``folder``, regions of different classes without their overlap.

    Raises:
        SlideError: the lesions' file is damaged.
    """
    return list(_apart(list(_regions(read_lesions(folder), review))))


def find_disagreements(folder: Path) -> list[str]:
    """What two reviewers of the map in ``folder`` say differently, a sentence each; the later one counts.

    Two verdicts on one lesion are compared, and regions of which one reviewer says tumour and another no tumour.

    Raises:
        SlideError: the log or the lesions' file is damaged.
    """
    entries = _standing(_read_log(folder / LOG))
    verdicts: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry.operation, Judge) and entry.lesion is not None:
            of_lesion = verdicts.setdefault(entry.operation.lesion, {})
            of_lesion.pop(entry.who, None)  # so that the order is that of the last verdicts
            if entry.operation.verdict is not None:
                of_lesion[entry.who] = entry.operation.verdict
            names[entry.operation.lesion] = str(entry.lesion["properties"].get("name") or "Lesion")
    found = [
        f"{names[lesion]}: " + ", then ".join(f"{verdict} by {who}" for who, verdict in of_lesion.items())
        for lesion, of_lesion in verdicts.items()
        if len(set(of_lesion.values())) > 1
    ]
    regions = [one for one in _regions(read_lesions(folder), read_review(folder)) if one.meaning is not None]
    for number, drawn in enumerate(regions):
        for other in regions[:number]:
            reviewers = other.metadata.get("reviewer", ""), drawn.metadata.get("reviewer", "")
            contradict = other.meaning != drawn.meaning and reviewers[0] != reviewers[1]
            if contradict and not drawn.locked and shapely.intersection(other.area, drawn.area).area > 0:
                found.append(
                    f"{other.name}, {other.meaning} by {reviewers[0]}, lies partly in {drawn.name} by {reviewers[1]}"
                )
    return found


def _frame(folder: Path, slide: SlideRecord) -> Frame:
    try:
        stated = json.loads((folder / GEOJSON).read_text(encoding="utf-8"))["sentinode"]["coordinates"]
    except (OSError, ValueError, KeyError, TypeError):
        stated = "bounds"
    return frame_of(slide, whole_slide_coordinates=stated == "slide")


def _regions(lesions: Sequence[Mapping[str, Any]], review: Review) -> Iterator[ReviewedRegion]:
    """Lesions that nobody has judged, lesions that somebody has, and drawings."""
    here = {feature["id"] for feature in lesions}
    for feature in lesions:
        yield _judged_region(review.judged.get(feature["id"]) or Judged(dict(feature)))
    for identifier, judged in review.judged.items():
        if identifier not in here and judged.verdict is not None:
            yield _judged_region(judged, of="an earlier scan")
    for drawing in review.drawings.values():
        group = TUMOUR if drawing.meaning == "tumour" else _normal(drawing.label)
        metadata = _metadata(drawing.who, drawing.time, drawing.comment, "drawn")
        yield ReviewedRegion(
            drawing.id, f"Drawn: {drawing.meaning}", group, shape(drawing.geometry), metadata, {}, False
        )


def _judged_region(judged: Judged, *, of: str = "") -> ReviewedRegion:
    properties = judged.feature["properties"]
    found = (properties.get("classification") or {}).get("name", TUMOUR)
    groups = {"accepted": found, "rejected": _normal(judged.label), "unsure": UNSURE}
    metadata = _metadata(judged.who, judged.time, judged.comment, judged.verdict or "unreviewed")
    return ReviewedRegion(
        identifier=judged.feature["id"],
        name=str(properties.get("name") or "Lesion"),
        group=groups[judged.verdict] if judged.verdict else UNREVIEWED,
        area=shape(judged.feature["geometry"]),
        metadata=metadata | ({"scan": of} if of else {}),
        measurements=properties.get("measurements") or {},
        locked=True,
    )


def _normal(label: str | None) -> str:
    """Such as ``Normal: Germinal centre``, which QuPath and our reader take for a kind of ``Normal``."""
    return f"{NORMAL}: {label.capitalize()}" if label else NORMAL


def _metadata(who: str, time: str, comment: str, verdict: str) -> dict[str, str]:
    stated = {"reviewer": who, "time": time, "comment": comment}
    return {"review": verdict} | {name: text for name, text in stated.items() if text}


def _apart(regions: Sequence[ReviewedRegion]) -> Iterator[ReviewedRegion]:
    """Each region without what a later one of another class covers, so that no exclusion eats what was drawn."""
    areas = [region.area for region in regions]
    tree = shapely.STRtree(areas)
    for number, region in enumerate(regions):
        later = [
            int(other)
            for other in tree.query(areas[number], predicate="intersects")
            if other > number and regions[int(other)].group != region.group and not regions[int(other)].locked
        ]
        parts = _polygons(areas[number])
        if later:
            rest = MultiPolygon(parts).difference(shapely.union_all([areas[other] for other in later]))
            parts = _polygons(rest)
        if parts:
            yield ReviewedRegion(**{**vars(region), "area": MultiPolygon(parts)})


def _feature(region: ReviewedRegion, left: float, top: float) -> dict[str, Any]:
    parts = [
        [[[round(x - left, 2), round(y - top, 2)] for x, y in ring.coords] for ring in (part.exterior, *part.interiors)]
        for part in _polygons(region.area)
    ]
    single = len(parts) == 1
    colour = COLOURS.get(region.group.partition(":")[0], COLOURS[TUMOUR])
    return {
        "type": "Feature",
        "id": region.identifier,
        "geometry": {"type": "Polygon" if single else "MultiPolygon", "coordinates": parts[0] if single else parts},
        "properties": {
            "objectType": "annotation",
            "name": region.name,
            "classification": {"name": region.group, "color": colour},
            "isLocked": region.locked,
            "measurements": dict(region.measurements),
            "metadata": region.metadata,
        },
    }

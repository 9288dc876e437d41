"""The folder of maps that is being looked at: which slides it holds, and what is known of each.

A request names a slide by an identifier that is looked up here. It never becomes a path.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from shapely.geometry import mapping

from sentinode.app.descriptions import (
    described_point,
    not_judged_of,
    resume_command,
    rings_of,
    uncertain_of,
    verdict_of,
)
from sentinode.errors import SentinodeError, SlideError
from sentinode.locks import is_locked
from sentinode.model.slide_operating_point import SlideOperatingPoint
from sentinode.names import printable
from sentinode.scoring.counts import CLASS_NAMES
from sentinode.slides.reading.fingerprint import fingerprint
from sentinode.slides.reading.folder import find_slides
from sentinode.slides.results.lesions import find_lesions
from sentinode.slides.results.outputs import GEOJSON, SMALL, TOTALS
from sentinode.slides.review import LOG as REVIEW_LOG
from sentinode.slides.review import Review, read_lesions, read_review
from sentinode.slides.scanning.manifest import (
    DONE,
    MANIFEST,
    RUNNING,
    TISSUE,
    SlideState,
    no_scan,
    read_class_names,
    read_points,
    read_state,
)
from sentinode.slides.scanning.probability_map import ARRAY, RECORD, ProbabilityMap, SlideRecord, open_map
from sentinode.slides.scanning.scores import LOG, PLAN, PartialMap, open_partial_map

T = TypeVar("T")

FRESH_S = 1.0
"""How long a listing of the folder serves for identifiers that it does not hold."""

MAPS_HELD = 4
"""Maps that are kept in memory."""

QUIET_S = 300.0
"""Where a lock cannot be tried, a scan counts as stopped if it has written nothing for so long."""


@dataclass(frozen=True)
class Item:
    """A slide's folder among the maps."""

    id: str
    name: str
    folder: Path


class Library:
    """A folder of maps, and where their slides lie. Use it from any thread.

    Args:
        maps: the ``--out`` folder of a scan, or one slide's folder in it.
        slides: folders and files to look for the slides in, beside the paths that the scan noted.

    Raises:
        SlideError: there is no map and no scan, or a path of ``slides`` is missing.
    """

    def __init__(self, maps: Path, slides: Iterable[Path] = ()) -> None:
        self.maps = maps.absolute()
        self.single = (self.maps / RECORD).is_file() or read_state(self.maps / MANIFEST) is not None
        self._elsewhere: dict[str, list[Path]] = {}
        slides = list(slides)
        for path in find_slides(slides) if slides else []:
            self._elsewhere.setdefault(path.name.casefold(), []).append(path)
        self._lock = threading.Lock()
        self._items: dict[str, Item] = {}
        self._listed = -math.inf
        self._parsed: dict[tuple[Path, str], tuple[object, Any]] = {}
        self._maps: dict[Path, tuple[object, ProbabilityMap]] = {}
        self._partial: dict[Path, tuple[object, PartialMap | None]] = {}
        self._outlines: dict[Path, tuple[object, dict[tuple[object, ...], list[Any]]]] = {}
        self._located: dict[str, tuple[object, Path]] = {}
        if not self.items() and not (self.maps / MANIFEST).is_file():  # a scan that has just begun has no slide yet
            raise no_scan(maps)

    def items(self) -> list[Item]:
        """Every slide that the folder holds now, by name."""
        folders = (
            {self.maps} if self.single else {path.parent for name in (RECORD, MANIFEST) for path in self._at(name)}
        )
        items = [Item(_identifier(folder.name), folder.name, folder) for folder in sorted(folders)]
        with self._lock:
            self._items = {item.id: item for item in items}
            self._listed = time.monotonic()
        return items

    def _at(self, name: str) -> list[Path]:
        return [path for path in self.maps.glob(f"*/{name}") if not path.parent.name.startswith(".")]

    def item(self, identifier: str) -> Item | None:
        """The slide of an identifier, or None where the folder holds none."""
        with self._lock:
            found = self._items.get(identifier)
            fresh = time.monotonic() - self._listed < FRESH_S
        if found is None and not fresh:
            self.items()
            with self._lock:
                found = self._items.get(identifier)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """What the page of all slides shows of each."""
        return [self._row(item) for item in self.items()]

    def _row(self, item: Item) -> dict[str, Any]:
        state, totals = self.state(item), self.totals(item)
        row: dict[str, Any] = {
            "id": item.id,
            "name": printable(item.name),
            "state": self.progress(item, state),
            "score": totals.get("score"),
            "category": totals.get("category"),
            "verdict": verdict_of(totals),
            "not_judged": not_judged_of(totals),
            "lesions": sum(count for count in (totals.get("lesions") or {}).values() if isinstance(count, int)),
            "largest_um": totals.get("largest_um"),
            "caution": described_point(totals).get("caution", ""),
            "small": any((item.folder / name).is_file() for name in (SMALL, TISSUE)),
        }
        try:
            review = self.review(item)
            # Verdicts on the lesions of an earlier scan say nothing of those that are there now.
            here = {feature["id"] for feature in self.lesions(item)} if review.judged else set()
        except SentinodeError as error:
            return row | {"judged": 0, "drawn": 0, "whole": False, "review_problem": str(error)}
        judged = sum(one.verdict is not None and name in here for name, one in review.judged.items())
        return row | {"judged": judged, "drawn": len(review.drawings), "whole": review.whole}

    def progress(self, item: Item, state: SlideState | None) -> dict[str, Any]:
        """How far the scan of a slide is.

        Returns:
            ``state``: ``done``, ``running``, ``stopped`` (it was begun, and nobody is at it), ``failed`` or ``absent``;
            with ``running`` and ``stopped`` the ``windows`` so far and how many are ``planned``, 0 as long as that is
            not known; ``reason`` of a failure; and ``resume``, the command with which a stopped scan goes on.
        """
        whole = (item.folder / RECORD).is_file()
        if state is None or (state.state == DONE and whole):
            return {"state": DONE if whole else "absent"}
        if state.state != RUNNING:
            return {"state": state.state, "reason": state.reason}
        partial = self.partial_map(item)
        windows, planned = (0, 0) if partial is None else (partial.windows, partial.planned)
        progress: dict[str, Any] = {"windows": windows, "planned": planned}
        if _is_at_work(item.folder):
            return {"state": RUNNING, **progress}
        return {"state": "stopped", **progress, "resume": resume_command(item.folder.parent, state)}

    def state(self, item: Item) -> SlideState | None:
        """The state that the scan noted."""
        return self._read(item.folder / MANIFEST, "state", lambda path: read_state(path), None)

    def totals(self, item: Item) -> dict[str, Any]:
        """``lesions.json``, whatever version wrote it; empty where it is missing or damaged."""
        return self._read(item.folder / TOTALS, "totals", _json_object, {})

    def review(self, item: Item) -> Review:
        """The review of a slide.

        Raises:
            SlideError: its log is damaged.
        """
        return self._read(item.folder / REVIEW_LOG, "review", lambda path: read_review(path.parent), Review())

    def lesions(self, item: Item) -> list[dict[str, Any]]:
        """The features of ``lesions.geojson`` in level-0 pixels of the whole slide.

        Raises:
            SlideError: the file is damaged.
        """
        return self._read(item.folder / GEOJSON, "lesions", lambda path: read_lesions(path.parent), [])

    def probability_map(self, item: Item) -> ProbabilityMap:
        """The map of a slide, of a scan on its way as far as it has come; the newest few are kept.

        Raises:
            SlideError: there is none, or it is damaged.
        """
        if not (item.folder / RECORD).is_file() and (partial := self.partial_map(item)) is not None:
            return partial.probability_map
        stamp = _stamp(item.folder / RECORD), _stamp(item.folder / ARRAY)
        return self._kept(self._maps, item.folder, stamp, open_map)

    def partial_map(self, item: Item) -> PartialMap | None:
        """The map of a scan on its way as far as it has come, or None where there is none."""
        stamp = _stamp(item.folder / PLAN), _stamp(item.folder / LOG)
        if None in stamp:
            return None
        return self._kept(self._partial, item.folder, stamp, open_partial_map)

    def _kept(self, kept: dict[Path, tuple[object, T]], folder: Path, stamp: object, load: Callable[[Path], T]) -> T:
        """What ``load`` makes of a folder, made once for each stamp; the newest few are kept."""
        with self._lock:
            held = kept.get(folder)
        if held is None or held[0] != stamp:
            held = stamp, load(folder)
        with self._lock:
            kept.pop(folder, None)
            kept[folder] = held
            while len(kept) > MAPS_HELD:
                del kept[next(iter(kept))]
        return held[1]

    def class_names(self, item: Item) -> tuple[str, str]:
        """What the bundle calls label 0 and label 1."""
        return self._read(
            item.folder.parent / MANIFEST, "classes", lambda path: read_class_names(path.parent), CLASS_NAMES
        )

    def point(self, item: Item) -> Mapping[str, Any]:
        """The operating point of a slide's lesions, or the one by which a scan on its way will find them; or empty."""
        totals = self.totals(item)
        if totals:
            point = totals.get("operating_point")
            return point if isinstance(point, Mapping) else {}
        try:
            points = self._read(item.folder.parent / MANIFEST, "points", lambda path: read_points(path.parent), None)
        except SentinodeError:
            return {}
        return {} if points is None else {"name": points.default, **points.point.model_dump(mode="json")}

    def uncertain(self, item: Item) -> list[dict[str, Any]]:
        """The regions that the scan calls uncertain, as the page lists them, with their outlines.

        The scan writes only where they are. So they are found again; where that gives others, as on files of another
        version, ``rings`` is empty.
        """
        regions = uncertain_of(self.totals(item))
        if not regions:
            return []
        stamp = _stamp(item.folder / RECORD), _stamp(item.folder / TOTALS)
        rings = self._kept(self._outlines, item.folder, stamp, lambda _: self._uncertain_rings(item))
        return [region | {"rings": rings.get(_place(region), [])} for region in regions]

    def _uncertain_rings(self, item: Item) -> dict[tuple[object, ...], list[Any]]:
        """The rings of each uncertain region, by its number and its place."""
        record = {name: value for name, value in self.point(item).items() if name != "name"}
        try:
            point = SlideOperatingPoint.model_validate(record)
            lesions = find_lesions(self.probability_map(item), point=point)
        except (SentinodeError, ValidationError):
            return {}
        found: dict[tuple[object, ...], list[Any]] = {}
        for region, outline in lesions.uncertain_outlines():
            x, y = (round(value, 1) for value in region.centroid)
            found[region.number, x, y] = rings_of(mapping(outline))
        return found

    def locate(self, item: Item, record: SlideRecord) -> Path:
        """The file that a map was made of, found by its content.

        Raises:
            SlideError: it is nowhere, or what lies there is another file or cannot be read.
        """
        with self._lock:
            known = self._located.get(item.id)
        if known is not None and known[0] == _stamp(known[1]) is not None:
            return known[1]
        state = self.state(item)
        candidates = [Path(state.slide)] if state is not None else []
        candidates += self._elsewhere.get(record.name.casefold(), [])
        present = [path for path in candidates if os.path.isfile(path)]  # noqa: PTH113
        for path in present:
            stamp = _stamp(path)
            if fingerprint(path) == record.fingerprint:
                with self._lock:
                    self._located[item.id] = stamp, path
                return path
        with self._lock:
            self._located.pop(item.id, None)
        if present:
            raise SlideError(
                "this is not the file that was scanned: it was replaced or changed since.",
                where=present[0],
                hint="Put the scanned file back, or scan it again with the same --out.",
            )
        raise SlideError(
            "the slide is not there.",
            where=candidates[0] if candidates else record.name,
            hint="Put it back, or name the folder that holds it with --slides.",
        )

    def _read(self, path: Path, what: str, parse: Callable[[Path], T], absent: T) -> T:
        """What a file holds, parsed once for each state of the file."""
        stamp = _stamp(path)
        if stamp is None:
            return absent
        with self._lock:
            held = self._parsed.get((path, what))
        if held is None or held[0] != stamp:
            held = stamp, parse(path)
            with self._lock:
                self._parsed[path, what] = held
        value: T = held[1]
        return value


def _is_at_work(folder: Path) -> bool:
    """Whether a process is scanning a slide that is noted as running."""
    locked = is_locked(folder.parent, folder.name)
    if locked is not None:
        return locked
    newest = max((stamp[0] for name in (LOG, PLAN, MANIFEST) if (stamp := _stamp(folder / name))), default=0)
    return time.time() - newest / 1e9 < QUIET_S


def _place(region: Mapping[str, Any]) -> tuple[object, ...]:
    return region["number"], region["centroid_x"], region["centroid_y"]


def _identifier(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file, or None where it cannot be reached."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

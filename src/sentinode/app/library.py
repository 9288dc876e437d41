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

from scipy.special import expit, logit

from sentinode.errors import SentinodeError, SlideError
from sentinode.model.slide_operating_point import LOG_ODDS_LIMIT
from sentinode.names import printable
from sentinode.slides.reading.fingerprint import fingerprint
from sentinode.slides.reading.folder import find_slides
from sentinode.slides.results.lesions import TRUNCATE
from sentinode.slides.results.outputs import GEOJSON, SMALL, TOTALS
from sentinode.slides.review import LOG as REVIEW_LOG
from sentinode.slides.review import Review, read_lesions, read_review
from sentinode.slides.scanning.manifest import DONE, MANIFEST, RUNNING, SlideState, read_state
from sentinode.slides.scanning.probability_map import ARRAY, RECORD, ProbabilityMap, SlideRecord, open_map

T = TypeVar("T")

FRESH_S = 1.0
"""How long a listing of the folder serves for identifiers that it does not hold."""

MAPS_HELD = 4
"""Maps that are kept in memory."""

SCORES = "scores.part"
"""The scores of a slide that is being scanned, as ``slides.batch`` names them; importing that would import PyTorch."""

SIGMA_UM = 32.0
"""Smoothing of a map whose lesions are of an earlier version and state none."""


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
        self.single = (self.maps / RECORD).is_file()
        self._elsewhere: dict[str, list[Path]] = {}
        slides = list(slides)
        for path in find_slides(slides) if slides else []:
            self._elsewhere.setdefault(path.name.casefold(), []).append(path)
        self._lock = threading.Lock()
        self._items: dict[str, Item] = {}
        self._listed = -math.inf
        self._parsed: dict[tuple[Path, str], tuple[object, Any]] = {}
        self._maps: dict[Path, tuple[object, ProbabilityMap]] = {}
        self._located: dict[str, tuple[object, Path]] = {}
        if not self.items():
            raise SlideError("there are no scanned slides here.", where=maps, hint="Name the --out folder of a scan.")

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
            "lesions": sum(count for count in (totals.get("lesions") or {}).values() if isinstance(count, int)),
            "largest_um": totals.get("largest_um"),
            "small": (item.folder / SMALL).is_file(),
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
        """How far the scan of a slide is: ``done``, ``running``, ``failed``, with the reason or the windows so far."""
        whole = (item.folder / RECORD).is_file()
        if state is None or (state.state == DONE and whole):
            return {"state": DONE if whole else "absent"}
        progress: dict[str, Any] = {"state": state.state, "reason": state.reason}
        if state.state == RUNNING:
            try:
                # 32 bytes of identity, then 4 for each score and 4 for each batch's sum.
                progress["windows"] = max(0, ((item.folder / SCORES).stat().st_size - 32) // 4)
            except OSError:
                progress["windows"] = 0
        return progress

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
        """The map of a slide; the newest few are kept.

        Raises:
            SlideError: there is none, or it is damaged.
        """
        stamp = _stamp(item.folder / RECORD), _stamp(item.folder / ARRAY)
        with self._lock:
            held = self._maps.get(item.folder)
        if held is None or held[0] != stamp:
            held = stamp, open_map(item.folder)
        with self._lock:
            self._maps.pop(item.folder, None)
            self._maps[item.folder] = held
            while len(self._maps) > MAPS_HELD:
                del self._maps[next(iter(self._maps))]
        return held[1]

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


def describe_lesions(features: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lesions as the page lists them, the highest score first: P(lesion), or else the highest P(tumour) in it."""
    lesions = []
    for number, feature in enumerate(features, start=1):
        properties = feature["properties"]
        measured = properties.get("measurements") or {}
        own = measured.get("P(lesion)")
        lesions.append(
            {
                "id": feature["id"],
                "name": printable(str(properties.get("name") or f"Lesion {number}")),
                "category": str((properties.get("classification") or {}).get("name", "")),
                "score": measured.get("Maximum P(tumour)") if own is None else own,
                "diameter_um": measured.get("Longest diameter (um)"),
                "area_mm2": measured.get("Area (mm2)"),
                "mean": measured.get("Mean P(tumour)"),
                "rings": rings_of(feature["geometry"]),
            }
        )
    return sorted(lesions, key=lambda lesion: -(lesion["score"] or 0.0))


def rings_of(geometry: Mapping[str, Any]) -> list[Any]:
    """Every ring of a polygon or of several; filled by the even-odd rule they are the area."""
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    return [ring for polygon in polygons for ring in polygon]


def outline_rule(totals: Mapping[str, Any], found: ProbabilityMap) -> dict[str, Any]:
    """How the scan outlined regions, so that the page can do the same.

    Returns:
        ``on``: the scale that is smoothed: ``probability``, moved until the threshold is one half, or ``log-odds`` at a
        prior of one half, held within ``limit``; ``sigma_um`` and ``reach`` of the Gaussian, the latter in standard
        deviations; and ``cut``, the probability on the map's own scale from which a window is inside.
    """
    point = totals.get("operating_point")
    try:
        if isinstance(point, Mapping):
            cut = expit(logit(float(point["grow"])) + logit(found.prior))
            sigma = float(point["scales_um"][0])
            return {"on": "log-odds", "limit": LOG_ODDS_LIMIT, "sigma_um": sigma, "reach": TRUNCATE, "cut": float(cut)}
        sigma = float(totals.get("sigma_um", SIGMA_UM))
    except (KeyError, IndexError, TypeError, ValueError):
        sigma = SIGMA_UM
    return {"on": "probability", "limit": None, "sigma_um": sigma, "reach": 4.0, "cut": found.threshold}


def verdict_of(totals: Mapping[str, Any]) -> str | None:
    """The sentence that sums a slide up, where the scan wrote one."""
    verdict = totals.get("verdict")
    if isinstance(verdict, Mapping):
        verdict = verdict.get("sentence") or verdict.get("text")
    return verdict if isinstance(verdict, str) and verdict.strip() else None


def uncertain_of(totals: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The regions that the scan calls uncertain, where it names any: where they are, how large, and their scores."""
    regions = totals.get("uncertain")
    wanted = ("number", "score", "diameter_um", "centroid_x", "centroid_y")
    return [
        {name: region[name] for name in wanted}
        for region in (regions if isinstance(regions, list) else [])
        if isinstance(region, Mapping) and all(isinstance(region.get(name), int | float) for name in wanted)
    ]


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

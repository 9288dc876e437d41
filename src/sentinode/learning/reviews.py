"""The reviewed slides of a folder of maps: what was said of each, by whom, and where its file lies."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely
from shapely.geometry import MultiPolygon

from sentinode.errors import DataError, SentinodeError, SlideError
from sentinode.slides.reading.fingerprint import fingerprint
from sentinode.slides.reading.folder import find_slides
from sentinode.slides.review import (
    LOG,
    REVIEW,
    Review,
    ReviewedRegion,
    find_disagreements,
    read_review,
    review_geojson,
    reviewed_regions,
)
from sentinode.slides.scanning.manifest import MANIFEST, read_state
from sentinode.slides.scanning.probability_map import RECORD, SlideRecord, open_map

ACCEPTED, MISSED = "accepted lesions", "drawn as tumour"
REJECTED, CLEARED = "rejected lesions", "drawn as no tumour"
KINDS = (ACCEPTED, MISSED, REJECTED, CLEARED)
"""What a patch of a review may come from."""


@dataclass(frozen=True)
class ReviewedSlide:
    """A slide that somebody has reviewed.

    Attributes:
        name: its folder among the maps.
        folder: that folder.
        path: the slide's file, of the content that was scanned.
        record: the slide as the map has it.
        regions: every lesion and every drawing, in level-0 pixels of the whole slide.
        whole: whether somebody has looked at the whole slide, every lesion is judged, and none is unsure. What lies
            outside tumour is then known to be none.
        reviewers: who reviewed it.
        geojson: the review as annotations.
        bundle: fingerprint of the bundle that made the map.
    """

    name: str
    folder: Path
    path: Path
    record: SlideRecord
    regions: tuple[ReviewedRegion, ...]
    whole: bool
    reviewers: tuple[str, ...]
    geojson: str
    bundle: str

    @property
    def has_tumour(self) -> bool:
        """Whether a lesion was accepted or drawn."""
        return any(region.meaning == "tumour" for region in self.regions)

    @property
    def has_normal(self) -> bool:
        """Whether something was said to be no tumour."""
        return any(region.meaning == "normal" for region in self.regions)

    def area(self, meaning: str | None) -> MultiPolygon:
        """All regions of ``tumour``, of ``normal``, or, with None, those that are unsure or not judged."""
        areas = [region.area for region in self.regions if region.meaning == meaning]
        united = shapely.union_all(areas) if areas else MultiPolygon()
        return MultiPolygon([part for part in shapely.get_parts(united) if part.geom_type == "Polygon"])


@dataclass(frozen=True)
class Reviews:
    """All that was reviewed in a folder of maps.

    Attributes:
        slides: the reviewed slides, by name.
        unreviewed: the names of the scanned slides that nobody has reviewed.
        left_out: the names of the reviewed slides that the user left out.
        disagreements: what two reviewers say differently, a sentence each.
    """

    slides: tuple[ReviewedSlide, ...]
    unreviewed: tuple[str, ...]
    left_out: tuple[str, ...]
    disagreements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the slides and of what was said: the same while nothing is reviewed again."""
        digest = hashlib.sha256()
        for slide in self.slides:
            digest.update(f"{slide.name} {slide.record.fingerprint} {slide.whole}\n{slide.geojson}\n".encode())
        return digest.hexdigest()


def kind_of(region: ReviewedRegion) -> str | None:
    """What a region of a review is to a lesson: one of ``KINDS``, or None where it teaches nothing."""
    if region.meaning is None:
        return None
    kinds = (MISSED, ACCEPTED) if region.meaning == "tumour" else (CLEARED, REJECTED)
    return kinds[region.locked]


def read_reviews(maps: Path, *, elsewhere: Iterable[Path] = (), without: Sequence[str] = ()) -> Reviews:
    """Read the reviews beside the maps of a scan.

    Args:
        maps: the ``--out`` folder of the scan.
        elsewhere: files and folders to look for the slides in, beside the paths that the scan noted.
        without: names of slides that are left out.

    Raises:
        SlideError: there are no maps; a map, a review or its lesions are damaged; reviewed slides are gone or were
            changed; a review is of another slide than the map beside it; or a slide is there twice.
        DataError: nobody has reviewed a slide, or no slide has one of the names in ``without``.
    """
    folders = sorted(record.parent for record in maps.glob(f"*/{RECORD}") if not record.parent.name.startswith("."))
    if not folders:
        raise SlideError("there are no maps here.", where=maps, hint="Name the --out folder of 'sentinode scan'.")
    _require_known(without, folders)
    reviews = {folder: read_review(folder) for folder in folders if folder.name not in without}
    reviewed = [folder for folder, review in reviews.items() if _says_something(review)]
    if not reviewed:
        raise DataError(
            f"nobody has judged a lesion, drawn a region or looked at a whole slide, on any of {len(reviews)} slides.",
            where=maps,
            hint="Review some slides first: sentinode view MAPS",
        )
    by_name = _files(elsewhere)
    slides, faults = [], []
    for folder in reviewed:
        try:
            slides.append(_read(folder, reviews[folder], by_name))
        except SlideError as error:
            faults.append(f"{folder.name}: {error.what}")
    if faults:
        raise SlideError(
            f"{len(faults)} of {len(reviewed)} reviewed slides cannot be used:\n  " + "\n  ".join(faults),
            where=maps,
            hint="Put the slides back, name the folder that holds them with --slides, or leave a slide out with "
            "--without NAME.",
        )
    _refuse_copies(slides)
    return Reviews(
        slides=tuple(slides),
        unreviewed=tuple(folder.name for folder in reviews if folder not in reviewed),
        left_out=tuple(without),
        disagreements=tuple(f"{slide.name}: {one}" for slide in slides for one in find_disagreements(slide.folder)),
    )


def _require_known(without: Sequence[str], folders: Sequence[Path]) -> None:
    if unknown := sorted(set(without) - {folder.name for folder in folders}):
        raise DataError(
            f"no slide here is called {', '.join(unknown)}.",
            where="--without",
            hint=f"The slides are called like their folders, such as {folders[0].name}.",
        )


def _refuse_copies(slides: Sequence[ReviewedSlide]) -> None:
    """Refuse one slide under two names: one could teach and the other be held back."""
    seen: dict[str, str] = {}
    for slide in slides:
        other = seen.setdefault(slide.record.fingerprint, slide.name)
        if other != slide.name:
            raise SlideError(
                f"'{other}' and '{slide.name}' are the same slide: one could teach, and the other be compared on.",
                where=slide.path,
                hint=f"Leave one out: --without {slide.name}",
            )


def _says_something(review: Review) -> bool:
    return bool(review.whole or review.drawings or any(one.verdict is not None for one in review.judged.values()))


def _files(elsewhere: Iterable[Path]) -> dict[str, list[Path]]:
    """The slides at further places by their file names."""
    found: dict[str, list[Path]] = {}
    places = list(elsewhere)
    for path in find_slides(places) if places else []:
        found.setdefault(path.name.casefold(), []).append(path)
    return found


def _read(folder: Path, review: Review, elsewhere: Mapping[str, list[Path]]) -> ReviewedSlide:
    scanned = open_map(folder)
    _require_same_slide(folder, scanned.slide)
    regions = tuple(reviewed_regions(folder, review))
    people = {one.who for one in review.judged.values()} | {one.who for one in review.drawings.values()}
    return ReviewedSlide(
        name=folder.name,
        folder=folder,
        path=_locate(folder, scanned.slide, elsewhere),
        record=scanned.slide,
        regions=regions,
        whole=review.whole and all(region.meaning is not None for region in regions),
        reviewers=tuple(sorted(people - {""})),
        geojson=review_geojson(folder, review, scanned.slide),
        bundle=scanned.bundle,
    )


def _require_same_slide(folder: Path, slide: SlideRecord) -> None:
    """Refuse a review that was written for another slide: the file was replaced, and scanned again."""
    try:
        stated = json.loads((folder / REVIEW).read_text(encoding="utf-8"))["sentinode"]["review"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if stated != slide.fingerprint:
        raise SlideError(
            "its review is of another file: the slide was replaced and scanned again.",
            where=folder,
            hint=f"Remove {LOG} and {REVIEW}, and review it again.",
        )


def _locate(folder: Path, record: SlideRecord, elsewhere: Mapping[str, list[Path]]) -> Path:
    """The file that a map was made of, found by its content."""
    state = read_state(folder / MANIFEST)
    places = ([Path(state.slide)] if state is not None else []) + elsewhere.get(record.name.casefold(), [])
    present = [path for path in places if os.path.isfile(path)]  # noqa: PTH113
    for path in present:
        if _content(path) == record.fingerprint:
            return path
    if present:
        raise SlideError(f"{present[0]} is not the file that was scanned: it was replaced or changed since.")
    raise SlideError(f"its file {places[0] if places else record.name} is not there.")


def _content(path: Path) -> str | None:
    try:
        return fingerprint(path)
    except SentinodeError:
        return None

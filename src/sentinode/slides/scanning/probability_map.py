"""The map of a slide: a calibrated probability for each window of a grid, and all that is needed to place it.

A map is three files in the slide's folder: ``map.npy`` (float32), ``quality.npy`` (uint8: which windows cannot be
judged) and ``map.json`` (everything else, with the SHA-256 of both arrays). Maps of earlier versions have no
``quality.npy``, and all of their tissue counts as assessable. None holds a time, a path or a pickle, so the same scan
writes the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinode.atomic import whole_file, write_text
from sentinode.errors import SlideError
from sentinode.model.slide_operating_point import ReadingName
from sentinode.slides.scanning.quality import Quality

FORMAT = 1
ARRAY, QUALITY, RECORD = "map.npy", "quality.npy", "map.json"
_EMPTY = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class SlideRecord:
    """Which slide a map belongs to.

    Attributes:
        name: the slide's file name, without its folder.
        width: level-0 pixels from left to right.
        height: level-0 pixels from top to bottom.
        mpp: microns per level-0 pixel.
        fingerprint: digest of the slide's content, the same wherever the file lies.
        bounds: left, top, width and height, in level-0 pixels, of the part that the scanner filled, to which
            QuPath crops the slide; None where the file states none.
    """

    name: str
    width: int
    height: int
    mpp: float
    fingerprint: str
    bounds: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class ProbabilityMap:
    """P(tumour) over a slide.

    The window in row r and column c is centred ``(origin[0] + c * stride, origin[1] + r * stride)`` level-0
    pixels from the slide's upper left corner. The origin is half a stride, so each window stands for the
    ``stride`` x ``stride`` square around its centre, and the squares cover the slide without gap or overlap.

    Attributes:
        probability: float32 (rows, columns) in [0, 1]: temperature-scaled, then corrected to ``prior``; NaN
            where there is no tissue.
        stride: level-0 pixels from one window's centre to the next, in x and in y.
        origin: (x, y) of the first window's centre in level-0 pixels.
        mpp: microns per pixel at which the classifier saw the windows: the bundle's, or that of the slide's own
            level which is within half a percent of it. Level 0's is ``slide_mpp``.
        threshold: the bundle's operating point, carried through the same correction as the probabilities.
        prior: the share of tumour among windows of tissue that the probabilities assume.
        slide: the slide.
        bundle: fingerprint of the bundle.
        engine: what computed the map, such as ``torch cpu float32``; with `` dense`` at its end, by dense reading.
        quality: uint8 (rows, columns), a :class:`Quality` for each window, and 0 where there is no tissue; None where
            it was not measured, in maps of earlier versions.
    """

    probability: NDArray[np.float32]
    stride: float
    origin: tuple[float, float]
    mpp: float
    threshold: float
    prior: float
    slide: SlideRecord
    bundle: str
    engine: str
    quality: NDArray[np.uint8] | None = None

    @property
    def tissue(self) -> NDArray[np.bool_]:
        """bool (rows, columns), True where the map has a probability."""
        return ~np.isnan(self.probability)

    @property
    def assessable(self) -> NDArray[np.bool_]:
        """bool (rows, columns), True where there is tissue that can be judged."""
        return self.tissue if self.quality is None else self.tissue & (self.quality == Quality.ASSESSABLE)

    @property
    def unassessable(self) -> dict[str, float]:
        """The share of the tissue that cannot be judged, by reason: those that occur, the largest first."""
        tissue = self.tissue
        if self.quality is None or not tissue.any():
            return {}
        counts = np.bincount(self.quality[tissue], minlength=len(Quality))
        shares = {reason.label: float(counts[reason] / tissue.sum()) for reason in Quality if reason and counts[reason]}
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    @property
    def reading(self) -> ReadingName:
        """How the windows were read."""
        return reading_of(self.engine)

    @property
    def slide_mpp(self) -> float:
        """Microns per level-0 pixel: ``stride * slide_mpp`` is the distance of two windows in microns."""
        return self.slide.mpp

    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x of each column and y of each row, the windows' centres in level-0 pixels."""
        rows, columns = self.probability.shape
        x, y = (start + self.stride * np.arange(n) for start, n in zip(self.origin, (columns, rows), strict=True))
        return np.asarray(x, np.float64), np.asarray(y, np.float64)

    def at(self, x: float, y: float) -> float:
        """P(tumour) of the window whose square holds the level-0 point (x, y); NaN where there is none."""
        row, column = int(y // self.stride), int(x // self.stride)
        rows, columns = self.probability.shape
        return float(self.probability[row, column]) if 0 <= row < rows and 0 <= column < columns else float("nan")


def reading_of(engine: str) -> ReadingName:
    """How a map's windows were read, by what computed it."""
    return "dense" if engine.endswith(" dense") else "patch"


def write_map(folder: Path, probability_map: ProbabilityMap) -> None:
    """Write a map into ``folder``; the record comes last, so that a folder with a record has a whole map.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    array = _write_array(folder / ARRAY, np.ascontiguousarray(probability_map.probability, dtype="<f4"))
    record = {"format": FORMAT, "sha256": array}
    if probability_map.quality is not None:
        record["quality_sha256"] = _write_array(folder / QUALITY, np.ascontiguousarray(probability_map.quality))
    record |= record_of(probability_map)
    write_text(folder / RECORD, json.dumps(record, indent=2, allow_nan=False) + "\n")


def record_of(probability_map: ProbabilityMap) -> dict[str, Any]:
    """Everything of a map but its arrays, for JSON."""
    fields = asdict(replace(probability_map, probability=_EMPTY, quality=None))
    return {name: value for name, value in fields.items() if name not in ("probability", "quality")}


def map_of(
    record: Mapping[str, Any], probability: NDArray[np.float32], quality: NDArray[np.uint8] | None
) -> ProbabilityMap:
    """The map of a record of :func:`record_of` and its arrays.

    Raises:
        KeyError, TypeError, ValueError, IndexError, AttributeError: the record is damaged.
    """
    return ProbabilityMap(
        probability=probability,
        quality=quality,
        stride=float(record["stride"]),
        origin=(float(record["origin"][0]), float(record["origin"][1])),
        mpp=float(record["mpp"]),
        threshold=float(record["threshold"]),
        prior=float(record["prior"]),
        slide=_slide_record(record["slide"]),
        bundle=str(record["bundle"]),
        engine=str(record["engine"]),
    )


def _write_array(file: Path, array: NDArray[Any]) -> str:
    """Write an array, and return the SHA-256 of the file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    with whole_file(file) as staged:
        staged.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def open_map(folder: str | Path) -> ProbabilityMap:
    """Open the map that ``sentinode scan`` wrote into ``folder``: a slide's own folder below ``--out``.

    Raises:
        SlideError: there is no map, it was changed since it was written, or a newer version wrote it.
    """
    folder = Path(folder)
    try:
        record: Mapping[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        array = (folder / ARRAY).read_bytes()
        measured = isinstance(record, dict) and "quality_sha256" in record
        quality = (folder / QUALITY).read_bytes() if measured else None
    except (OSError, ValueError) as error:
        raise SlideError(
            f"there is no map here ({error.__class__.__name__}).",
            where=folder,
            hint="Name the folder of one slide inside the --out folder of 'sentinode scan'.",
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        stated = record.get("format") if isinstance(record, dict) else None
        raise SlideError(
            f"the map has format {stated!r}, and this version reads format {FORMAT}.",
            where=folder / RECORD,
            hint="Update sentinode, or scan the slide again.",
        )
    for file, content, name in ((ARRAY, array, "sha256"), (QUALITY, quality, "quality_sha256")):
        if content is not None and record.get(name) != hashlib.sha256(content).hexdigest():
            raise SlideError(
                "the array is not the one that the record describes.",
                where=folder / file,
                hint="It was changed or only partly copied: copy it again, or scan the slide again.",
            )
    try:
        return _loaded(record, array, quality)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise SlideError(
            f"the map's record is damaged ({type(error).__name__}: {error}).",
            where=folder / RECORD,
            hint="Copy it again, or scan the slide again.",
        ) from error


def _loaded(record: Mapping[str, Any], array: bytes, quality: bytes | None) -> ProbabilityMap:
    probability = np.load(io.BytesIO(array), allow_pickle=False)
    codes = None if quality is None else np.load(io.BytesIO(quality), allow_pickle=False)
    if codes is not None and (codes.shape != probability.shape or codes.dtype != np.uint8):
        raise ValueError(f"{QUALITY} has the shape {codes.shape}, and {ARRAY} {probability.shape}")
    return map_of(record, probability, codes)


def slide_of(folder: Path) -> SlideRecord:
    """The slide of the map in ``folder``, without reading the map itself.

    Raises:
        SlideError: as for :func:`open_map`.
    """
    try:
        return _slide_record(json.loads((folder / RECORD).read_text(encoding="utf-8"))["slide"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return open_map(folder).slide  # which says what is wrong


def _slide_record(record: Mapping[str, Any]) -> SlideRecord:
    bounds = record.get("bounds")
    return SlideRecord(**{**record, "bounds": None if bounds is None else tuple(bounds)})

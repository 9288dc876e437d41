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
import math
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
RECORD_BYTES, ARRAY_BYTES = 1 << 20, 1 << 29
"""Bytes of a record and of an array at most: 134 million windows, where a slide seldom has one."""

UNSOUND = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What a record or an array raises that no scan has written."""

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
        OverflowError: a number of it is beyond all bounds.
    """
    found = ProbabilityMap(
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
    _require_sound(found)
    return found


def _require_sound(found: ProbabilityMap) -> None:
    """Refuse numbers that no scan writes, and an array of another shape than the slide and the stride make."""
    slide, (rows, columns) = found.slide, found.probability.shape
    sides, stride = (slide.width, slide.height), found.stride
    fits = stride > 0 and all(abs(n - side / stride) < 1.001 for n, side in zip((columns, rows), sides, strict=True))
    for holds, what in (
        (
            all(isinstance(side, int) and side > 0 for side in sides),
            f"a slide of {slide.width} x {slide.height} pixels",
        ),
        (math.isfinite(found.stride) and found.stride > 0, f"a stride of {found.stride:g}"),
        (all(start == found.stride / 2 for start in found.origin), f"an origin of {found.origin}"),
        (0 < found.mpp < math.inf and 0 < slide.mpp < math.inf, f"{found.mpp:g} and {slide.mpp:g} microns per pixel"),
        (0 <= found.threshold <= 1, f"a threshold of {found.threshold:g}"),
        (0 < found.prior < 1, f"a prior of {found.prior:g}"),
        (fits, f"{columns} x {rows} windows on {slide.width} x {slide.height} pixels"),
    ):
        if not holds:
            raise ValueError(f"it states {what}")


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
    record, files = _read_files(folder)
    try:
        return _loaded(record, files)
    except UNSOUND as error:
        raise SlideError(
            f"the map or its record is damaged ({type(error).__name__}: {error}).",
            where=folder / RECORD,
            hint="Copy it again, or scan the slide again.",
        ) from error


def _read_record(folder: Path) -> Mapping[str, Any]:
    """The record of a map.

    Raises:
        SlideError: there is none, or a newer version wrote it.
    """
    try:
        text = _bytes(folder / RECORD, RECORD_BYTES)
        record: Mapping[str, Any] = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise SlideError(
            f"there is no map here ({error.__class__.__name__}).",
            where=folder,
            hint="Name the folder of one slide inside the --out folder of 'sentinode scan'.",
        ) from error
    stated = record.get("format") if isinstance(record, dict) else None
    if stated != FORMAT or isinstance(stated, bool):
        raise SlideError(
            f"the map has format {repr(stated)[:40]}, and this version reads format {FORMAT}.",
            where=folder / RECORD,
            hint="Update sentinode, or scan the slide again.",
        )
    return record


def _read_files(folder: Path) -> tuple[Mapping[str, Any], dict[str, bytes]]:
    """A map's record, and the content of its arrays, which are those that the record describes."""
    record = _read_record(folder)
    files: dict[str, bytes] = {}
    for file, name in ((ARRAY, "sha256"), (QUALITY, "quality_sha256")):
        if file == QUALITY and name not in record:
            continue
        try:
            content = _bytes(folder / file, ARRAY_BYTES)
        except (OSError, ValueError) as error:
            raise SlideError(
                f"there is no map here ({error.__class__.__name__}).",
                where=folder,
                hint="Name the folder of one slide inside the --out folder of 'sentinode scan'.",
            ) from error
        if record.get(name) != hashlib.sha256(content).hexdigest():
            raise SlideError(
                "the array is not the one that the record describes.",
                where=folder / file,
                hint="It was changed or only partly copied: copy it again, or scan the slide again.",
            )
        files[file] = content
    return record, files


def _bytes(file: Path, limit: int) -> bytes:
    """The content of a file of a map.

    Raises:
        ValueError: it is larger than any such file.
    """
    with file.open("rb") as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{file.name} has more than {limit:,} bytes")
    return content


def _loaded(record: Mapping[str, Any], files: Mapping[str, bytes]) -> ProbabilityMap:
    probability = _array_of(files[ARRAY], "<f4", ARRAY)
    codes = _array_of(files[QUALITY], "|u1", QUALITY) if QUALITY in files else None
    if codes is not None and codes.shape != probability.shape:
        raise ValueError(f"{QUALITY} has the shape {codes.shape}, and {ARRAY} {probability.shape}")
    if codes is not None and codes.size and codes.max() >= len(Quality):
        raise ValueError(f"{QUALITY} holds {codes.max()}, which is no reason")
    if not (np.isnan(probability) | ((probability >= 0) & (probability <= 1))).all():
        raise ValueError(f"{ARRAY} holds numbers that are no probabilities")
    return map_of(record, probability, codes)


def _array_of(content: bytes, dtype: str, name: str) -> NDArray[Any]:
    """The two-dimensional array of an npy file of this type, whose header is checked before anything is allocated.

    Raises:
        ValueError: it holds something else, a pickle among it.
    """
    file, of_numpy = io.BytesIO(content), np.lib.format
    try:
        version = of_numpy.read_magic(file)
        read_header = of_numpy.read_array_header_1_0 if version == (1, 0) else of_numpy.read_array_header_2_0
        shape, by_columns, stored = read_header(file)
    # A header is Python's text, and fails in as many ways as that can.
    except Exception as error:
        raise ValueError(f"{name} is no array of numpy") from error
    size = math.prod(shape) * stored.itemsize
    if stored.str != dtype or len(shape) != 2 or min(shape) < 0 or size != len(content) - file.tell():
        raise ValueError(f"{name} is no table of {np.dtype(dtype).name} of the size that it states")
    array = np.frombuffer(content, stored, offset=file.tell())
    return np.array(array.reshape(shape, order="F" if by_columns else "C"), order="C")


def slide_of(folder: Path) -> SlideRecord:
    """The slide of the map in ``folder``, without reading the map itself.

    Raises:
        SlideError: as for :func:`open_map`.
    """
    try:
        return _slide_record(_read_record(folder)["slide"])
    except UNSOUND:
        return open_map(folder).slide  # which says what is wrong


def _slide_record(record: Mapping[str, Any]) -> SlideRecord:
    bounds = record.get("bounds")
    slide = SlideRecord(**{**record, "bounds": None if bounds is None else tuple(bounds)})
    if not isinstance(slide.name, str) or not isinstance(slide.fingerprint, str):
        raise TypeError("the name and the fingerprint of a slide are text")
    if slide.bounds is not None and not (len(slide.bounds) == 4 and all(type(side) is int for side in slide.bounds)):
        raise ValueError("the bounds of a slide are four whole numbers")
    return slide

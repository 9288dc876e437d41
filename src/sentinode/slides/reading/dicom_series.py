"""Which DICOM files make one slide: the instances of a series, and those of them that show the tissue."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sentinode.errors import SlideError
from sentinode.regular import require_regular

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of VL Whole Slide Microscopy Image Storage."""

DEFLATED = "1.2.840.10008.1.2.1.99"
"""The transfer syntax of a file that is deflated as a whole."""

META_START = 144
"""Where the file's own header goes on after it has stated its length."""

MAX_INFLATED = 1 << 28
"""Bytes that a deflated file may inflate to, since all of them are in memory at once."""

_LAST_TAG = 0x00480007  # TotalPixelMatrixRows: what a series is chosen by stands before it in a file
_TIFF_HEADS = (b"II", b"MM")


@dataclass(frozen=True)
class Instance:
    """What the header of a DICOM file says of its place in a series.

    Attributes:
        path: the file.
        sop_class: UID of its SOP class, such as :data:`WHOLE_SLIDE`.
        uid: its SOP instance UID.
        series: UID of its series.
        kind: what it shows by the third value of ImageType: ``VOLUME``, ``LABEL``, ``OVERVIEW``, ``THUMBNAIL``; empty
            where the file does not say.
        pyramid: UID of its pyramid; empty where the file does not say.
        width, height: size of its whole matrix in pixels.
        whole: UID that the parts of a concatenation share; its own UID if it is not a part.
        part, parts: its number among the parts, from 1, and how many there are; 0 where the file does not say.
    """

    path: Path
    sop_class: str
    uid: str
    series: str
    kind: str
    pyramid: str
    width: int
    height: int
    whole: str
    part: int
    parts: int

    @property
    def is_whole_slide(self) -> bool:
        return self.sop_class == WHOLE_SLIDE

    @property
    def what(self) -> str:
        """What it is, in words, if it shows no tissue."""
        from pydicom.uid import UID

        return self.kind if self.is_whole_slide else UID(self.sop_class).name


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does. One that is both TIFF and DICOM is what its ending says."""
    require_regular(path)
    with path.open("rb") as file:
        head = file.read(132)
    both = head[:2] in _TIFF_HEADS and path.suffix.lower() in (".tif", ".tiff")
    return head[128:] == b"DICM" and not both


def read_instance(path: Path) -> Instance | None:
    """What a file's header says of its place in a series; None if it is no DICOM, or its header cannot be read."""
    with suppress(OSError):
        status = path.stat()
        return _read_instance(path, status.st_size, status.st_mtime_ns)
    return None


# A folder may hold thousands of instances, and each slide in it looks for those of its own series.
@lru_cache(maxsize=1 << 17)
def _read_instance(path: Path, size: int, modified: int) -> Instance | None:
    from pydicom.filereader import read_partial

    try:
        if not is_dicom(path):
            return None
        _require_inflatable(path)
        with path.open("rb") as file:
            header = read_partial(file, stop_when=lambda tag, vr, length: tag > _LAST_TAG)
        image_type = header.get("ImageType")
        values = [image_type] if isinstance(image_type, str) else list(image_type or [])
        uid = str(header.get("SOPInstanceUID") or path)
        sop_class = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
        if not sop_class:
            return None
        return Instance(
            path=path,
            sop_class=str(sop_class),
            uid=uid,
            series=str(header.get("SeriesInstanceUID", "")),
            kind=str(values[2]).strip().upper() if len(values) > 2 else "",
            pyramid=str(header.get("PyramidUID") or ""),
            width=_number(header, "TotalPixelMatrixColumns"),
            height=_number(header, "TotalPixelMatrixRows"),
            whole=str(header.get("ConcatenationUID") or header.get("SOPInstanceUIDOfConcatenationSource") or uid),
            part=_number(header, "InConcatenationNumber"),
            parts=_number(header, "InConcatenationTotalNumber"),
        )
    except OSError:
        raise
    # The library fails in its own ways on a damaged header.
    except Exception:
        return None


def _require_inflatable(path: Path) -> None:
    """Refuse a deflated file that would fill the memory, before it is inflated as a whole.

    Raises:
        ValueError: it would.
    """
    from pydicom.filereader import read_file_meta_info

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return
    inflating, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(META_START + meta.FileMetaInformationGroupLength)
        data = file.read(MAX_INFLATED)
    while data and not inflating.eof:
        inflated += len(inflating.decompress(data, 1 << 20))
        if inflated > MAX_INFLATED:
            raise ValueError(f"it inflates to more than {MAX_INFLATED:,} bytes")
        data = inflating.unconsumed_tail


def _number(header: Any, keyword: str) -> int:
    return int(header.get(keyword) or 0)


def slide_files(path: Path) -> list[Path]:
    """The files that hold a slide, its finest level first: of a DICOM series those of all levels, whichever is named.

    Any other file stands for itself, and so does an instance whose series is refused: opening it says why.
    """
    with suppress(SlideError, OSError):
        if is_dicom(path):
            return [part.path for level in find_levels(path) for part in level]
    return [path]


def slide_file(path: Path) -> Path:
    """The file that stands for a slide: the first of :func:`slide_files`."""
    return slide_files(path)[0]


def find_levels(path: Path) -> list[tuple[Instance, ...]]:
    """The levels of the slide that a DICOM file belongs to, the finest first.

    The other instances of its series lie in the same folder. Each level is one instance, or the parts of a
    concatenation in their order.

    Raises:
        SlideError: the header cannot be read, the file is no whole-slide image, or its series shows no tissue, shows
            several slides, or lacks a part.
    """
    named = read_instance(path)
    if named is None:
        raise SlideError(
            "the slide is damaged: its DICOM header cannot be read.", where=path, hint="Copy or export it again."
        )
    if not named.is_whole_slide:
        raise SlideError(
            f"this is a DICOM file of the kind '{named.what}', not a whole-slide image.",
            where=path,
            hint="Name a file of the slide's own series.",
        )
    return levels_of_slide(named, _same_series(named))


def _same_series(named: Instance) -> list[Instance]:
    """The whole-slide instances of a series in its folder, in the order of their names."""
    files = sorted(file for file in named.path.parent.iterdir() if file.is_file()) if named.series else [named.path]
    found = (read_instance(file) for file in files)
    return [one for one in found if one is not None and one.is_whole_slide and one.series == named.series]


def levels_of_slide(named: Instance, series: Sequence[Instance]) -> list[tuple[Instance, ...]]:
    """As :func:`find_levels`, from the instances of a series that are known already."""
    volumes = _of_one_pyramid(named, tissue_instances(series))
    if not volumes:
        kinds = ", ".join(sorted({one.kind for one in series}))
        raise SlideError(
            f"its series has no picture of the tissue, only {kinds}.",
            where=named.path,
            hint="Copy the files of ImageType VOLUME into the same folder.",
        )
    levels: dict[str, dict[str, Instance]] = {}
    for one in volumes:
        levels.setdefault(one.whole, {}).setdefault(one.uid, one)  # a second copy of a file adds nothing
    finest_first = sorted(levels.values(), key=lambda parts: -max(one.width for one in parts.values()))
    return [_in_order(list(parts.values())) for parts in finest_first]


def tissue_instances(series: Iterable[Instance]) -> list[Instance]:
    """The instances that show tissue: VOLUME; where none says VOLUME, those that do not say what they show."""
    series = list(series)
    return [one for one in series if one.kind == "VOLUME"] or [one for one in series if not one.kind]


def _of_one_pyramid(named: Instance, volumes: list[Instance]) -> list[Instance]:
    """The volumes of the named instance's pyramid; all of them, unless the series states several pyramids."""
    pyramids = {one.pyramid for one in volumes} - {""}
    if len(pyramids) < 2:
        return volumes
    if named.pyramid not in pyramids:
        raise SlideError(
            f"its series holds {len(pyramids)} pyramids, and this file does not say which is its own.",
            where=named.path,
            hint="Name a file of the pyramid that you mean.",
        )
    return [one for one in volumes if one.pyramid == named.pyramid]


def _in_order(parts: list[Instance]) -> tuple[Instance, ...]:
    """The parts of a concatenation by their numbers.

    Raises:
        SlideError: one is missing.
    """
    parts.sort(key=lambda one: (one.part, one.path.name))
    total = max(max(one.parts for one in parts), parts[-1].part)
    missing = sorted(set(range(1, total + 1)) - {one.part for one in parts})
    if missing:
        names = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise SlideError(
            f"its frames are spread over {total} files (a DICOM concatenation), and part {names} is missing.",
            where=parts[0].path,
            hint="Copy all files of the series into one folder.",
        )
    return tuple(parts)

"""Small DICOM slides with known pixels, written when a test asks for them.

:func:`write_dicom` writes one instance; a folder of them with one series is a slide. ``change`` alters its header
before it is saved, so that a test says in one line what is odd about its file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import UID

Pixels = NDArray[np.uint8]
Frame = NDArray[np.uint8] | NDArray[np.uint16]

MPP = 0.972

ENCAPSULATED_UNCOMPRESSED = UID("1.2.840.10008.1.2.1.98")


def jpeg(frame: Frame) -> bytes:
    """YCbCr with a JFIF marker, as most scanners write."""
    return imagecodecs.jpeg8_encode(frame, level=95, subsampling="444", outcolorspace="YCBCR")


def jpeg_rgb(frame: Frame) -> bytes:
    """RGB, with an Adobe marker that says so."""
    return imagecodecs.jpeg8_encode(frame, level=95, subsampling="444", colorspace="RGB", outcolorspace="RGB")


def without_marker(code: Callable[[Frame], bytes]) -> Callable[[Frame], bytes]:
    """As ``code``, with nothing in the stream that tells its colours."""

    def coded(frame: Frame) -> bytes:
        return code(frame).replace(b"Adobe", b"Never").replace(b"JFIF", b"NONE")

    return coded


def jpeg2000(frame: Frame, *, mct: bool = True, lossless: bool = True) -> bytes:
    quality = {"reversible": True} if lossless else {"level": 60}
    bits = {"bitspersample": 12} if frame.dtype == np.uint16 else {}
    stream = imagecodecs.jpeg2k_encode(frame, codecformat="j2k", mct=mct, **quality, **bits)
    return bytes(stream[: stream.rfind(b"\xff\xd9") + 2])  # old versions leave what is no part of the stream behind it


def rle(frame: Frame) -> bytes:
    rows, columns, samples = frame.shape
    bits = frame.dtype.itemsize * 8
    return RLELosslessEncoder.encode(
        frame,
        rows=rows,
        columns=columns,
        samples_per_pixel=samples,
        bits_allocated=bits,
        bits_stored=bits,
        pixel_representation=0,
        photometric_interpretation="RGB",
        number_of_frames=1,
        transfer_syntax_uid=pydicom.uid.ExplicitVRLittleEndian,
        planar_configuration=0,
        encoding_plugin="pydicom",
    )


def uncompressed(frame: Frame) -> bytes:
    return frame.tobytes()


def write_dicom(
    path: Path,
    picture: Frame,
    *,
    tile: int = 64,
    order: str = "TILED_FULL",
    mpp: float = MPP,
    syntax: UID = pydicom.uid.JPEGBaseline8Bit,
    colours: str = "YBR_FULL_422",
    code: Callable[[Frame], bytes] = jpeg,
    kind: str | None = "VOLUME",
    series: str = "2.25.1",
    uid: str | None = None,
    part: tuple[int, int] = (1, 1),
    frames_of_part: slice = slice(None),
    fragments: int = 1,
    table: str = "basic",
    change: Callable[[Dataset], object] = lambda header: None,
) -> Path:
    """One instance of a DICOM slide.

    Args:
        path: the file.
        picture: uint8 or uint16 (height, width, 3), as the frames are to hold it.
        tile: side of a frame.
        order: ``TILED_FULL`` (by rows), ``TILED_SPARSE`` (backwards, with positions, and without the first tile),
            ``positions`` (so too, and unstated), ``rows`` or ``columns`` (unstated).
        code: makes a frame's bytes, which the header says are ``colours`` in ``syntax``.
        kind: third value of ImageType; None for none.
        uid: of the instance; made up from the file's name if it is None.
        part: number among the parts of a concatenation, and how many there are.
        frames_of_part: those of the frames that this part has.
        fragments: in how many pieces each frame is stored.
        table: where the frames begin is said in a ``basic`` or an ``extended`` table, or in ``none``.
        change: what else to do to the header.
    """
    height, width = picture.shape[:2]
    places = _places(-(-width // tile), -(-height // tile), order)
    padding = ((0, -height % tile), (0, -width % tile), (0, 0))
    padded = np.pad(picture, padding, constant_values=np.iinfo(picture.dtype).max)
    cut = [np.ascontiguousarray(padded[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]) for x, y in places]
    chosen = list(range(len(places)))[frames_of_part]
    header = _header(path, picture, tile, mpp, colours, kind, series, uid)
    header.NumberOfFrames = len(chosen)
    if order.startswith("TILED"):
        header.DimensionOrganizationType = order
    if order in ("TILED_SPARSE", "positions"):
        header.PerFrameFunctionalGroupsSequence = [
            placed(places[number][0] * tile + 1, places[number][1] * tile + 1) for number in chosen
        ]
    if part[1] > 1:
        header.ConcatenationUID, header.ConcatenationFrameOffsetNumber = f"{series}.9", chosen[0]
        header.InConcatenationNumber, header.InConcatenationTotalNumber = part
    _store(header, [code(cut[number]) for number in chosen], syntax, fragments, table)
    change(header)
    header.save_as(path, enforce_file_format=True)
    return path


def _places(columns: int, rows: int, order: str) -> Sequence[tuple[int, int]]:
    by_rows = [(column, row) for row in range(rows) for column in range(columns)]
    if order in ("TILED_SPARSE", "positions"):
        return by_rows[:0:-1]
    return sorted(by_rows) if order == "columns" else by_rows


def _header(
    path: Path, picture: Frame, tile: int, mpp: float, colours: str, kind: str | None, series: str, uid: str | None
) -> Dataset:
    height, width = picture.shape[:2]
    bits = picture.dtype.itemsize * 8
    header = Dataset()
    header.SOPClassUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage
    header.SOPInstanceUID = uid or f"{series}.{int.from_bytes(path.stem.encode()[-12:], 'big')}"
    header.SeriesInstanceUID, header.StudyInstanceUID = series, "2.25.2"
    if kind is not None:
        header.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
    header.Rows = header.Columns = tile
    header.TotalPixelMatrixColumns, header.TotalPixelMatrixRows = width, height
    header.SamplesPerPixel, header.PhotometricInterpretation = 3, colours
    header.BitsAllocated = header.BitsStored = bits
    header.HighBit, header.PixelRepresentation, header.PlanarConfiguration = bits - 1, 0, 0
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [mpp / 1e3, mpp / 1e3]
    shared.PixelMeasuresSequence = [measures]
    header.SharedFunctionalGroupsSequence = [shared]
    return header


def placed(column: int, row: int) -> Dataset:
    """The functional groups of a frame whose upper left pixel lies there, counted from 1."""
    position, group = Dataset(), Dataset()
    position.ColumnPositionInTotalImagePixelMatrix, position.RowPositionInTotalImagePixelMatrix = column, row
    group.PlanePositionSlideSequence = [position]
    return group


def _store(header: Dataset, coded: list[bytes], syntax: UID, fragments: int, table: str) -> None:
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    if syntax in pydicom.uid.UncompressedTransferSyntaxes:
        data = b"".join(coded)
        header.add_new("PixelData", "OW" if header.BitsAllocated == 16 else "OB", data + b"\0" * (len(data) % 2))
        return
    if table == "extended":
        data, header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths = encapsulate_extended(coded)
    else:
        data = encapsulate(coded, fragments_per_frame=fragments, has_bot=table == "basic")
    header.add_new("PixelData", "OB", data)
    header["PixelData"].is_undefined_length = True

"""The map as a DICOM parametric map, in the slide's own coordinates.

Part 3 of the standard, A.75, says what such an object holds. highdicom makes the same one, with one cost: it reads the
modules of the whole standard first, which holds 290 MiB until the process ends. Tests compare ours with it.
"""

from __future__ import annotations

import hashlib
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.misc import is_dicom
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, ParametricMapStorage, VLWholeSlideMicroscopyImageStorage
from pydicom.valuerep import DSfloat

from sentinode.atomic import whole_file
from sentinode.slides.reading.dicom_header import slide_orientation, slide_origin
from sentinode.slides.scanning.probability_map import ProbabilityMap

TILE = 256

NO_TISSUE = -1.0
"""Stored where the map has no value: DICOM's float pixels are numbers, and the header names this one as padding."""

UNDATED = "19000101"
"""DICOM demands a content date; the source's serves where there is one, for output must not depend on the hour."""

_EMPTY = (
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "PositionReferenceIndicator",
    "ContainerTypeCodeSequence",
    "IssuerOfTheContainerIdentifierSequence",
    "SpecimenDescriptionSequence",
)
"""What DICOM wants named even where nothing is known."""

_TAKEN_OVER = (
    *_EMPTY,
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "PatientID",
    "ContentDate",
    "SpecificCharacterSet",
    "ContainerIdentifier",
)
"""What the map has from a DICOM slide, where that states it."""

_PLACE = ("FrameOfReferenceUID", "ImageOrientationSlide", "TotalPixelMatrixOriginSequence")
"""What says where a slide's picture lies on the glass: the map has all of it, or none."""


def write_parametric_map(path: Path, slide: Path, probability_map: ProbabilityMap) -> None:
    """Write P(tumour) as a tiled parametric map (Parametric Map Storage, float pixels).

    For a DICOM slide the map belongs to its study and refers to it as the source; where the slide states how its
    picture lies on the glass, the map lies in the same frame of reference. For any other slide it stands in a study
    of its own. Where no place is known, the coordinates start at the slide's corner. Identifiers derive from content,
    and no time is written.

    Args:
        path: the file to write.
        slide: the slide's file.
        probability_map: its map.

    Raises:
        OutputError: the file cannot be written or the disk is full.
    """
    content = hashlib.sha256(probability_map.probability.tobytes()).hexdigest()
    slide_id, bundle = probability_map.slide.fingerprint, probability_map.bundle
    identity = f"{slide_id}/{bundle}/{probability_map.stride}/{probability_map.prior}/{content}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pydicom's, on what slides in the wild get wrong
        is_dicom_slide = slide.is_file() and is_dicom(slide)
        stated = pydicom.dcmread(slide, stop_before_pixels=True) if is_dicom_slide else Dataset()
        source = _source(stated, probability_map)
        made = Dataset()
        made.update(_subject(source))
        made.update(_description(probability_map, identity))
        made.update(_image(source, probability_map))
        if is_dicom_slide:
            made.update(_reference(source))
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        with whole_file(path) as staged:
            made.save_as(staged, enforce_file_format=True)


def _source(stated: Dataset, probability_map: ProbabilityMap) -> Dataset:
    """What the map has from its slide: what the slide states, and the rest made up."""
    slide, stem = probability_map.slide, Path(probability_map.slide.name).stem[:64]
    source = Dataset()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        setattr(source, keyword, _uid(f"{keyword}/{slide.fingerprint}"))
    for keyword in _EMPTY:
        setattr(source, keyword, "")
    source.PatientID = source.ContainerIdentifier = stem
    source.SpecificCharacterSet = "ISO_IR 192"
    source.ContentDate, source.ContentTime = UNDATED, "000000"
    source.ImageOrientationSlide = [1, 0, 0, 0, 1, 0]
    source.TotalPixelMatrixOriginSequence = [_at(slide.mpp / 2000, slide.mpp / 2000)]
    has_place = slide_origin(stated) is not None and slide_orientation(stated) is not None
    for keyword in (*_TAKEN_OVER, *(_PLACE if has_place else ())):
        if keyword in stated and stated[keyword].value not in (None, ""):
            setattr(source, keyword, stated[keyword].value)
    for keyword in ("StudyDate", "ContentDate"):  # written 2021-01-07 by some, where DICOM has 20210107
        digits = "".join(c for c in str(source[keyword].value) if c.isdigit())
        setattr(source, keyword, digits if len(digits) == 8 else UNDATED if keyword == "ContentDate" else "")
    return source


def _subject(source: Dataset) -> Dataset:
    """Whose map it is: patient, study, specimen, and the date of the content."""
    subject = Dataset()
    for element in source:
        if element.keyword not in (*_PLACE, "SeriesInstanceUID", "SOPInstanceUID"):
            subject.add(element)
    subject.FrameOfReferenceUID = source.FrameOfReferenceUID
    subject.ReferringPhysicianName = ""
    return subject


def _description(probability_map: ProbabilityMap, identity: str) -> Dataset:
    """What the object is, what made it, and what its numbers mean."""
    described = Dataset()
    described.SOPClassUID, described.SOPInstanceUID = ParametricMapStorage, _uid(f"instance/{identity}")
    described.SeriesInstanceUID, described.SeriesNumber = _uid(f"series/{identity}"), 1
    described.InstanceNumber, described.Modality = 1, "OT"
    described.Manufacturer, described.ManufacturerModelName = "Sentinode", probability_map.bundle[:16]
    described.SoftwareVersions = probability_map.engine[:64]
    described.DeviceSerialNumber = probability_map.bundle[:64]
    described.ContentLabel = "MAP"
    described.ContentDescription = "P(tumour). For research, not for diagnosis."
    described.ContentQualification = "RESEARCH"
    described.AcquisitionContextSequence = []
    dimensions = Dataset()
    dimensions.DimensionOrganizationUID = _uid(f"dimensions/{identity}")
    described.DimensionOrganizationSequence = [dimensions]
    described.DimensionOrganizationType = "TILED_FULL"
    return described


def _image(source: Dataset, probability_map: ProbabilityMap) -> Dataset:
    """The pixels, and how they are to be shown and placed."""
    image = Dataset()
    tiles = _tiles(np.nan_to_num(probability_map.probability, nan=NO_TISSUE).astype("<f4"))
    image.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
    image.SamplesPerPixel, image.PhotometricInterpretation, image.BitsAllocated = 1, "MONOCHROME2", 32
    image.NumberOfFrames, image.Rows, image.Columns = len(tiles), TILE, TILE
    image.TotalPixelMatrixRows, image.TotalPixelMatrixColumns = probability_map.probability.shape
    image.TotalPixelMatrixFocalPlanes = 1
    image.TotalPixelMatrixOriginSequence = [_at(*_corner(source, probability_map))]
    image.ImageOrientationSlide = [DSfloat(float(value), auto_format=True) for value in source.ImageOrientationSlide]
    image.PixelPresentation, image.PresentationLUTShape = "MONOCHROME", "IDENTITY"
    image.LossyImageCompression, image.BurnedInAnnotation = "00", "NO"
    image.RecognizableVisualFeatures = "NO"
    image.SharedFunctionalGroupsSequence = [_shared_groups(image.ImageType, probability_map)]
    image.FloatPixelPaddingValue = NO_TISSUE
    image.FloatPixelData = tiles.tobytes()
    return image


def _tiles(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The tiles of a picture, row by row, (n, TILE, TILE); 0 beyond its edges."""
    rows, columns = (-(-side // TILE) for side in pixels.shape)
    whole = np.zeros((rows * TILE, columns * TILE), pixels.dtype)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    return whole.reshape(rows, TILE, columns, TILE).swapaxes(1, 2).reshape(-1, TILE, TILE)


def _shared_groups(image_type: Any, probability_map: ProbabilityMap) -> Dataset:
    """What holds for each tile: the size of a pixel, how bright it is shown, and what its value means."""
    measures, window, values, kind, shared = (Dataset() for _ in range(5))
    spacing = DSfloat(probability_map.stride * probability_map.slide_mpp / 1000, auto_format=True)
    measures.PixelSpacing, measures.SliceThickness = [spacing, spacing], 0.001
    window.WindowCenter, window.WindowWidth = 0.5, 1.0
    values.RescaleIntercept, values.RescaleSlope, values.RescaleType = 0.0, 1.0, "US"
    kind.FrameType = image_type
    shared.PixelMeasuresSequence = [measures]
    shared.FrameVOILUTSequence = [window]
    shared.PixelValueTransformationSequence = [values]
    shared.ParametricMapFrameTypeSequence = [kind]
    shared.RealWorldValueMappingSequence = [_mapping()]
    return shared


def _at(x: float, y: float, z: float | None = None) -> Dataset:
    place = Dataset()
    place.XOffsetInSlideCoordinateSystem = DSfloat(x, auto_format=True)
    place.YOffsetInSlideCoordinateSystem = DSfloat(y, auto_format=True)
    if z is not None:
        place.ZOffsetInSlideCoordinateSystem = DSfloat(z, auto_format=True)
    return place


def _corner(source: Dataset, probability_map: ProbabilityMap) -> tuple[float, float, float]:
    """The centre of the map's first window in millimetres of the slide's coordinates."""
    start = source.TotalPixelMatrixOriginSequence[0]
    corner = np.array([start.XOffsetInSlideCoordinateSystem, start.YOffsetInSlideCoordinateSystem, 0.0], np.float64)
    along, down = np.reshape(np.asarray(source.ImageOrientationSlide, np.float64), (2, 3))
    # Origins are the centres of pixels: the slide's first one lies at (0.5, 0.5) in level-0 pixels.
    x, y = (np.asarray(probability_map.origin) - 0.5) * probability_map.slide_mpp / 1000
    place = corner + x * along + y * down
    return float(place[0]), float(place[1]), float(place[2])


def _mapping() -> Dataset:
    """What a stored value means."""
    quantity, mapping = Dataset(), Dataset()
    quantity.ValueType = "CODE"
    quantity.ConceptNameCodeSequence = [_coded(codes.SCT.Quantity)]
    quantity.ConceptCodeSequence = [_coded(codes.DCM.ProbabilityOfCancer)]
    mapping.LUTLabel = "P(tumour)"
    mapping.LUTExplanation = "Calibrated probability of tumour; -1 where there is no tissue"
    mapping.MeasurementUnitsCodeSequence = [_coded(codes.UCUM.NoUnits)]
    mapping.DoubleFloatRealWorldValueFirstValueMapped = NO_TISSUE
    mapping.DoubleFloatRealWorldValueLastValueMapped = 1.0
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 1.0, 0.0
    mapping.QuantityDefinitionSequence = [quantity]
    return mapping


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _reference(source: Dataset) -> Dataset:
    """To the slide, where that is a DICOM object."""
    instance, series, reference = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = VLWholeSlideMicroscopyImageStorage
    instance.ReferencedSOPInstanceUID = source.SOPInstanceUID
    series.SeriesInstanceUID, series.ReferencedInstanceSequence = source.SeriesInstanceUID, [instance]
    reference.ReferencedSeriesSequence, reference.SourceImageSequence = [series], [instance]
    return reference


def _uid(content: str) -> str:
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'sentinode/{content}').int}"

"""The map as a DICOM parametric map, in the slide's own coordinates."""

from __future__ import annotations

import hashlib
import uuid
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.misc import is_dicom
from pydicom.sr.codedict import codes
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

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
        made = hd.pm.ParametricMap(
            source_images=[source],
            pixel_array=np.nan_to_num(probability_map.probability, nan=NO_TISSUE).astype(np.float32),
            series_instance_uid=_uid(f"series/{identity}"),
            series_number=1,
            sop_instance_uid=_uid(f"instance/{identity}"),
            instance_number=1,
            manufacturer="Sentinode",
            manufacturer_model_name=probability_map.bundle[:16],
            software_versions=probability_map.engine[:64],
            device_serial_number=probability_map.bundle[:64],
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[_mapping()],
            voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.5, window_width=1.0)],
            content_description="P(tumour). For research, not for diagnosis.",
            pixel_measures=_measures(probability_map.stride * probability_map.slide_mpp),
            plane_orientation=hd.PlaneOrientationSequence("SLIDE", source.ImageOrientationSlide),
            plane_positions=[hd.PlanePositionSequence("SLIDE", _corner(source, probability_map), (1, 1))],
            dimension_organization_type="TILED_FULL",
            tile_pixel_array=True,
            tile_size=(TILE, TILE),
        )
    made.FloatPixelPaddingValue = NO_TISSUE
    _settle(made, source, identity)
    if not is_dicom_slide:
        _forget(made)
    with whole_file(path) as staged, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        made.save_as(staged, enforce_file_format=True)


def _source(stated: Dataset, probability_map: ProbabilityMap) -> Dataset:
    """The header that highdicom derives the map's from: what the slide states, and the rest made up."""
    slide, stem = probability_map.slide, Path(probability_map.slide.name).stem[:64]
    source = Dataset()
    source.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        setattr(source, keyword, _uid(f"{keyword}/{slide.fingerprint}"))
    for keyword in _EMPTY:
        setattr(source, keyword, "")
    source.PatientID = source.ContainerIdentifier = stem
    source.SpecificCharacterSet = "ISO_IR 192"
    source.ContentDate, source.ContentTime = UNDATED, "000000"
    source.ImageOrientationSlide = [1, 0, 0, 0, 1, 0]
    source.TotalPixelMatrixOriginSequence = [_at(slide.mpp / 2000, slide.mpp / 2000)]
    source.TotalPixelMatrixColumns, source.TotalPixelMatrixRows = slide.width, slide.height
    source.NumberOfFrames = 1
    source.Columns, source.Rows = slide.width, slide.height
    source.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    has_place = slide_origin(stated) is not None and slide_orientation(stated) is not None
    for keyword in (*_TAKEN_OVER, *(_PLACE if has_place else ())):
        if keyword in stated and stated[keyword].value not in (None, ""):
            setattr(source, keyword, stated[keyword].value)
    for keyword in ("StudyDate", "ContentDate"):  # written 2021-01-07 by some, where DICOM has 20210107
        digits = "".join(c for c in str(source[keyword].value) if c.isdigit())
        setattr(source, keyword, digits if len(digits) == 8 else UNDATED if keyword == "ContentDate" else "")
    spacing = Dataset()
    spacing.PixelMeasuresSequence = _measures(slide.mpp)
    source.SharedFunctionalGroupsSequence = [spacing]
    return source


def _measures(mpp: float) -> hd.PixelMeasuresSequence:
    return hd.PixelMeasuresSequence(pixel_spacing=(mpp / 1000, mpp / 1000), slice_thickness=0.001)


def _at(x: float, y: float) -> Dataset:
    place = Dataset()
    place.XOffsetInSlideCoordinateSystem, place.YOffsetInSlideCoordinateSystem = x, y
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


def _mapping() -> hd.pm.RealWorldValueMapping:
    return hd.pm.RealWorldValueMapping(
        lut_label="P(tumour)",
        lut_explanation="Calibrated probability of tumour; -1 where there is no tissue",
        unit=codes.UCUM.NoUnits,
        value_range=(NO_TISSUE, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.ProbabilityOfCancer,
    )


def _settle(made: Dataset, source: Dataset, identity: str) -> None:
    """Put content in place of the hours and random identifiers that highdicom wrote."""
    made.ContentDate, made.ContentTime = source.ContentDate, source.ContentTime
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime"):
        if keyword in made:
            delattr(made, keyword)
    for equipment in made.get("ContributingEquipmentSequence", ()):
        del equipment.ContributionDateTime
    for item in (*made.DimensionOrganizationSequence, *made.get("DimensionIndexSequence", ())):
        item.DimensionOrganizationUID = _uid(f"dimensions/{identity}")


def _forget(made: Dataset) -> None:
    """Drop references to a source that is no DICOM object."""
    for keyword in ("ReferencedSeriesSequence", "SourceImageSequence"):
        if keyword in made:
            delattr(made, keyword)
    for group in (*made.SharedFunctionalGroupsSequence, *made.get("PerFrameFunctionalGroupsSequence", ())):
        if "DerivationImageSequence" in group:
            del group.DerivationImageSequence


def _uid(content: str) -> str:
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'sentinode/{content}').int}"

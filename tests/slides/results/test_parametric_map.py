"""The map as a DICOM parametric map, in the coordinates of its slide."""

import dataclasses
import importlib
import subprocess
import sys
import time

import numpy as np
import pydicom
import pytest
from made_maps import MPP, made_map

from sentinode.slides.results.parametric_map import NO_TISSUE, write_parametric_map

highdicom = pytest.importorskip("highdicom", reason="highdicom has no wheels for this Python")
importlib.import_module("highdicom.pm")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def probability_map():
    probability = np.random.default_rng(0).random((300, 270), np.float32)
    probability[:40] = np.nan
    return made_map(probability)


@pytest.fixture
def written(tmp_path, probability_map):
    path = tmp_path / "map.dcm"
    write_parametric_map(path, tmp_path / "slide.tif", probability_map)
    return path


def test_it_holds_the_map(written, probability_map):
    image = highdicom.imread(written)
    stored = image.get_total_pixel_matrix()
    np.testing.assert_array_equal(stored, np.nan_to_num(probability_map.probability, nan=NO_TISSUE))
    assert image.FloatPixelPaddingValue == NO_TISSUE
    assert image.SOPClassUID == pydicom.uid.ParametricMapStorage
    assert image.DimensionOrganizationType == "TILED_FULL"
    measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.PixelSpacing == pytest.approx([32 * MPP / 1000] * 2)


def test_a_slide_that_is_no_dicom_is_not_referred_to(written):
    made = pydicom.dcmread(written)
    assert "ReferencedSeriesSequence" not in made
    assert "SourceImageSequence" not in made
    assert "DerivationImageSequence" not in str(made)


def test_the_same_map_gives_the_same_bytes_at_another_hour(tmp_path, probability_map):
    for name in ("a.dcm", "b.dcm"):
        write_parametric_map(tmp_path / name, tmp_path / "slide.tif", probability_map)
        time.sleep(1.1)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()


def test_another_map_of_the_slide_is_another_instance_in_the_same_frame_of_reference(tmp_path, probability_map):
    other = dataclasses.replace(probability_map, probability=probability_map.probability / 2)
    for name, one in (("a.dcm", probability_map), ("b.dcm", other)):
        write_parametric_map(tmp_path / name, tmp_path / "slide.tif", one)
    first, second = (pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert first.StudyInstanceUID == second.StudyInstanceUID


def a_dicom_slide(path):
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.SOPClassUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage
    header.SOPInstanceUID, header.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
    header.StudyInstanceUID, header.FrameOfReferenceUID = "1.2.3.3", "1.2.3.4"
    header.PatientID, header.StudyDate = "patient", "20210107"
    header.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    start = pydicom.Dataset()
    start.XOffsetInSlideCoordinateSystem, start.YOffsetInSlideCoordinateSystem = 20.0, 40.0
    header.TotalPixelMatrixOriginSequence = [start]
    header.save_as(path, enforce_file_format=True)
    return path


def test_a_dicom_slide_is_the_source_and_gives_study_frame_and_coordinates(tmp_path, probability_map):
    write_parametric_map(tmp_path / "map.dcm", a_dicom_slide(tmp_path / "slide.dcm"), probability_map)
    made = pydicom.dcmread(tmp_path / "map.dcm")
    assert (made.StudyInstanceUID, made.FrameOfReferenceUID) == ("1.2.3.3", "1.2.3.4")
    assert (made.PatientID, made.StudyDate) == ("patient", "20210107")
    (series,) = made.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.2"
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.3.1"
    # Columns go down in y and rows down in x; the first window's centre is 15.5 pixels from the first pixel's.
    away = 15.5 * MPP / 1000
    (corner,) = made.TotalPixelMatrixOriginSequence
    assert float(corner.XOffsetInSlideCoordinateSystem) == pytest.approx(20 - away)
    assert float(corner.YOffsetInSlideCoordinateSystem) == pytest.approx(40 - away)


def made_by_highdicom(written, probability_map):
    """The object that highdicom makes of the same map for the same slide."""
    source = pydicom.Dataset()
    for keyword in (
        "StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
        "StudyDate", "StudyTime", "FrameOfReferenceUID", "PositionReferenceIndicator", "ContainerIdentifier",
        "ContainerTypeCodeSequence", "IssuerOfTheContainerIdentifierSequence", "SpecimenDescriptionSequence",
        "SpecificCharacterSet", "ImageOrientationSlide",
    ):  # fmt: skip
        setattr(source, keyword, written[keyword].value)
    source.SOPClassUID = pydicom.uid.VLWholeSlideMicroscopyImageStorage
    (reference,) = written.ReferencedSeriesSequence
    source.SeriesInstanceUID = reference.SeriesInstanceUID
    source.SOPInstanceUID = reference.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    source.TotalPixelMatrixOriginSequence = written.TotalPixelMatrixOriginSequence
    source.Rows, source.Columns = probability_map.slide.height, probability_map.slide.width
    source.TotalPixelMatrixRows, source.TotalPixelMatrixColumns = source.Rows, source.Columns
    source.NumberOfFrames, source.ImageType = 1, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared, step = pydicom.Dataset(), probability_map.stride * probability_map.slide_mpp / 1000
    shared.PixelMeasuresSequence = highdicom.PixelMeasuresSequence((MPP / 1000, MPP / 1000), slice_thickness=0.001)
    source.SharedFunctionalGroupsSequence = [shared]
    codes = pydicom.sr.codedict.codes
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="P(tumour)",
        lut_explanation="Calibrated probability of tumour; -1 where there is no tissue",
        unit=codes.UCUM.NoUnits,
        value_range=(NO_TISSUE, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=codes.DCM.ProbabilityOfCancer,
    )
    (corner,) = written.TotalPixelMatrixOriginSequence
    return highdicom.pm.ParametricMap(
        [source],
        np.nan_to_num(probability_map.probability, nan=NO_TISSUE),
        written.SeriesInstanceUID,
        1,
        written.SOPInstanceUID,
        1,
        "Sentinode",
        written.ManufacturerModelName,
        written.SoftwareVersions,
        written.DeviceSerialNumber,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_description=written.ContentDescription,
        pixel_measures=highdicom.PixelMeasuresSequence((step, step), slice_thickness=0.001),
        plane_orientation=highdicom.PlaneOrientationSequence("SLIDE", written.ImageOrientationSlide),
        plane_positions=[highdicom.PlanePositionSequence("SLIDE", list(corner_of(corner)), (1, 1))],
        dimension_organization_type="TILED_FULL",
        tile_pixel_array=True,
        tile_size=(256, 256),
    )


def corner_of(item):
    return (float(item[f"{axis}OffsetInSlideCoordinateSystem"].value) for axis in "XYZ")


def test_it_is_what_highdicom_makes_of_the_map(tmp_path, probability_map):
    write_parametric_map(tmp_path / "map.dcm", a_dicom_slide(tmp_path / "slide.dcm"), probability_map)
    ours = pydicom.dcmread(tmp_path / "map.dcm")
    theirs = made_by_highdicom(ours, probability_map)
    assert theirs.FloatPixelData == ours.FloatPixelData
    # The hour, its own name, and what it does not write: our padding value.
    for made in (ours, theirs):
        for keyword in (
            "ContributingEquipmentSequence", "InstanceCreationDate", "InstanceCreationTime", "ContentDate",
            "ContentTime", "FloatPixelPaddingValue", "DimensionOrganizationSequence",
        ):  # fmt: skip
            made.pop(keyword, None)
    assert described(ours) == described(theirs)


def described(made):
    """Every element in words, and numbers as numbers."""
    return [
        (element.keyword, np.atleast_1d(element.value).tolist() if element.VR == "DS" else str(element.value or ""))
        for element in made.iterall()
        if element.VR != "SQ"
    ]


def test_it_is_written_without_the_standard_in_memory():
    """highdicom reads 22 MB of JSON to write a file, and keeps 290 MiB until the process ends."""
    command = "import sentinode.slides.results.parametric_map, sys; assert 'highdicom' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True)


def without_origin(header):
    header.TotalPixelMatrixOriginSequence = [pydicom.Dataset()]


def with_no_origins(header):
    header.TotalPixelMatrixOriginSequence = []


def without_orientation(header):
    del header.ImageOrientationSlide


@pytest.mark.parametrize("change", [without_origin, with_no_origins, without_orientation])
def test_a_dicom_slide_that_does_not_say_where_it_lies_gives_no_frame_of_reference(tmp_path, probability_map, change):
    slide = a_dicom_slide(tmp_path / "slide.dcm")
    header = pydicom.dcmread(slide)
    change(header)
    header.save_as(slide)
    write_parametric_map(tmp_path / "map.dcm", slide, probability_map)
    made = pydicom.dcmread(tmp_path / "map.dcm")
    assert made.StudyInstanceUID == "1.2.3.3"
    assert made.FrameOfReferenceUID != "1.2.3.4"
    assert made.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == "1.2.3.1"
    # The coordinates start at the slide's corner: columns go right in x, and rows go down in y.
    (corner,) = made.TotalPixelMatrixOriginSequence
    assert float(corner.XOffsetInSlideCoordinateSystem) == pytest.approx(16 * MPP / 1000)
    assert float(corner.YOffsetInSlideCoordinateSystem) == pytest.approx(16 * MPP / 1000)


@pytest.mark.real
@pytest.mark.parametrize("series", ["CMU-1-Small-Region", "CMU-1-Small-Region-J2K"])
def test_the_real_series_without_an_origin_has_a_map(shared, tmp_path, probability_map, series):
    for slide in (shared / "slides" / "containers" / series).iterdir():
        write_parametric_map(tmp_path / "map.dcm", slide, probability_map)
        made, source = pydicom.dcmread(tmp_path / "map.dcm"), pydicom.dcmread(slide, stop_before_pixels=True)
        assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID


@pytest.mark.real
def test_the_real_dicom_slide_is_referred_to_in_spite_of_its_broken_header(shared, tmp_path, probability_map):
    slide = shared / "slides" / "small_dicom.dcm"
    write_parametric_map(tmp_path / "map.dcm", slide, probability_map)
    made, source = pydicom.dcmread(tmp_path / "map.dcm"), pydicom.dcmread(slide, stop_before_pixels=True)
    assert made.StudyInstanceUID == source.StudyInstanceUID
    assert made.StudyDate == "20210107"
    (series,) = made.ReferencedSeriesSequence
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID

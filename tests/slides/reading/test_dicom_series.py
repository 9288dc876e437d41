"""Which files of DICOM make one slide: any of a series stands for its VOLUME instances, and a LABEL is no slide."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_files import MPP, uncompressed, write_dicom
from pydicom import uid
from pydicom.dataset import Dataset
from slide_files import halved, tissue_picture, write_tiff

from sentinode.errors import SlideError
from sentinode.slides.reading.dicom_series import is_dicom, slide_file
from sentinode.slides.reading.folder import find_slides, name_slides
from sentinode.slides.reading.slide import fingerprint, open_slide

PICTURE = tissue_picture(320, 256)
LABEL = np.full((90, 70, 3), (200, 30, 60), np.uint8)
RAW = {"syntax": uid.ExplicitVRLittleEndian, "colours": "RGB", "code": uncompressed}


def write_series(folder: Path, *, series: str = "2.25.1", ending: str = ".dcm") -> Path:
    """A label, an overview and three levels, so named that the finest comes neither first nor last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture, mpp, kind in (
        ("a", LABEL, 20.0, "LABEL"),
        ("b", halved(PICTURE, 1), 2 * MPP, "VOLUME"),
        ("c", PICTURE, MPP, "VOLUME"),
        ("d", halved(PICTURE, 2), 4 * MPP, "VOLUME"),
        ("e", np.hstack([LABEL, LABEL]), MPP, "OVERVIEW"),
        ("f", halved(PICTURE, 2), 4 * MPP, "THUMBNAIL"),
    ):
        write_dicom(folder / f"{name}{ending}", picture, mpp=mpp, kind=kind, series=series, **RAW)
    return folder


@pytest.mark.parametrize("name", "abcdef")
def test_any_file_of_a_series_stands_for_the_whole_pyramid(tmp_path: Path, name: str) -> None:
    folder = write_series(tmp_path)
    with open_slide(folder / f"{name}.dcm") as slide:
        assert slide.path == folder / "c.dcm"
        assert [(level.width, level.height) for level in slide.levels] == [(320, 256), (160, 128), (80, 64)]
        assert [level.downsample for level in slide.levels] == [1, 2, 4]
        assert slide.mpp == pytest.approx(MPP)
        np.testing.assert_array_equal(slide.region(0, 0, 320, 256, MPP), PICTURE)
        np.testing.assert_array_equal(slide.region(0, 0, 80, 64, 4 * MPP), halved(PICTURE, 2))


@pytest.mark.parametrize("name", "abcdef")
def test_a_slide_is_known_by_its_finest_instance_whichever_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_series(tmp_path)
    with open_slide(folder / f"{name}.dcm") as slide:
        assert slide.fingerprint == fingerprint(folder / f"{name}.dcm") == fingerprint(folder / "c.dcm")
    before = fingerprint(folder / "a.dcm")
    write_dicom(folder / "c.dcm", 255 - PICTURE, **RAW)
    assert fingerprint(folder / "a.dcm") != before


def test_a_level_that_lies_alone_is_read_at_its_own_resolution(tmp_path: Path) -> None:
    with open_slide(write_dicom(tmp_path / "b.dcm", halved(PICTURE, 1), mpp=2 * MPP, **RAW)) as slide:
        assert slide.mpp == pytest.approx(2 * MPP)


def test_instances_of_other_series_and_other_files_in_the_folder_do_not_count(tmp_path: Path) -> None:
    folder = write_series(tmp_path)
    write_dicom(folder / "0.dcm", tissue_picture(640, 512, seed=1), mpp=MPP / 2, series="2.25.2", **RAW)
    (folder / "notes.txt").write_text("DICM")
    (folder / "c.dcm.json").write_text("{}")
    with open_slide(folder / "b.dcm") as slide:
        assert (slide.width, slide.height) == (320, 256)


@pytest.mark.parametrize("kinds", [["LABEL"], ["OVERVIEW"], ["LABEL", "OVERVIEW", "THUMBNAIL"], ["LOCALIZER"]])
def test_a_series_without_tissue_is_refused_by_name(tmp_path: Path, kinds: list[str]) -> None:
    paths = [write_dicom(tmp_path / f"{kind}.dcm", LABEL, kind=kind, **RAW) for kind in kinds]
    for path in paths:
        with pytest.raises(SlideError, match=f"no picture of the tissue, only {', '.join(sorted(kinds))}"):
            open_slide(path)


def test_an_image_that_does_not_say_what_it_shows_is_taken_where_no_other_says_volume(tmp_path: Path) -> None:
    unsaid = write_dicom(tmp_path / "a.dcm", PICTURE, kind=None, **RAW)
    write_dicom(tmp_path / "label.dcm", LABEL, kind="LABEL", **RAW)
    with open_slide(unsaid) as slide:
        assert (slide.width, slide.height) == (320, 256)
    write_dicom(tmp_path / "b.dcm", halved(PICTURE, 1), mpp=2 * MPP, **RAW)
    with open_slide(unsaid) as slide:
        assert (slide.width, slide.height) == (160, 128)


def test_image_types_of_converters_do_not_matter_beyond_the_third_value(tmp_path: Path) -> None:
    def misspelt(header: Dataset) -> None:
        header.ImageType = ["ORGINAL", "PRIMARY", "VOLUME", "RESAMPLED"]

    write_dicom(tmp_path / "a.dcm", PICTURE, change=misspelt, **RAW)
    write_dicom(tmp_path / "b.dcm", halved(PICTURE, 1), mpp=2 * MPP, **RAW)
    with open_slide(tmp_path / "b.dcm") as slide:
        assert (slide.width, slide.height) == (320, 256)


def other_class(header: Dataset) -> None:
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = uid.ParametricMapStorage


def test_a_dicom_file_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "map.dcm", PICTURE, change=other_class, **RAW)
    with pytest.raises(SlideError, match="of the kind 'Parametric Map Storage', not a whole-slide image"):
        open_slide(path)


def test_a_damaged_header_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cut.dcm"
    path.write_bytes(write_dicom(tmp_path / "slide.dcm", PICTURE, **RAW).read_bytes()[:140])
    with pytest.raises(SlideError, match="damaged"):
        open_slide(path)


def test_a_second_copy_of_a_file_adds_nothing(tmp_path: Path) -> None:
    folder = write_series(tmp_path)
    shutil.copy(folder / "c.dcm", folder / "c (copy).dcm")
    with open_slide(folder / "c.dcm") as slide:
        assert len(slide.levels) == 3


def test_two_pictures_of_one_resolution_are_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PICTURE, **RAW)
    write_dicom(tmp_path / "b.dcm", PICTURE[:128], **RAW)
    with pytest.raises(SlideError, match=r"several pictures of one resolution, a.dcm with 320 x 256 .* b.dcm with 320"):
        open_slide(tmp_path / "a.dcm")


def turned(header: Dataset) -> None:
    header.ImageOrientationSlide = [-1, 0, 0, 0, -1, 0]


def begins_at(x: float, y: float) -> Callable[[Dataset], None]:
    def change(header: Dataset) -> None:
        header.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
        origin = Dataset()
        origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = x, y
        header.TotalPixelMatrixOriginSequence = [origin]

    return change


@pytest.mark.parametrize("other", [turned, begins_at(21, 40)])
def test_levels_from_another_place_of_the_glass_are_refused(tmp_path: Path, other: Callable[[Dataset], None]) -> None:
    write_dicom(tmp_path / "a.dcm", PICTURE, change=begins_at(20, 40), **RAW)
    write_dicom(tmp_path / "b.dcm", halved(PICTURE, 1), mpp=2 * MPP, change=other, **RAW)
    with pytest.raises(SlideError, match=r"b.dcm lies elsewhere than a.dcm, or is turned"):
        open_slide(tmp_path / "a.dcm")


def test_levels_whose_first_pixels_centres_differ_lie_in_one_place(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", PICTURE, change=begins_at(20, 40), **RAW)
    off = 0.5 * MPP / 1000
    write_dicom(tmp_path / "b.dcm", halved(PICTURE, 1), mpp=2 * MPP, change=begins_at(20 - off, 40 - off), **RAW)
    with open_slide(tmp_path / "a.dcm") as slide:
        assert len(slide.levels) == 2


def of_pyramid(number: int) -> Callable[[Dataset], None]:
    return lambda header: setattr(header, "PyramidUID", f"2.25.9{number}")


def test_of_several_pyramids_in_a_series_the_named_one_is_read(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a0.dcm", PICTURE, change=of_pyramid(1), **RAW)
    write_dicom(tmp_path / "a1.dcm", halved(PICTURE, 1), mpp=2 * MPP, change=of_pyramid(1), **RAW)
    write_dicom(tmp_path / "b0.dcm", 255 - PICTURE[:128], change=of_pyramid(2), **RAW)
    label = write_dicom(tmp_path / "label.dcm", LABEL, kind="LABEL", **RAW)
    with open_slide(tmp_path / "a1.dcm") as slide:
        assert [(level.width, level.height) for level in slide.levels] == [(320, 256), (160, 128)]
    with open_slide(tmp_path / "b0.dcm") as slide:
        assert [(level.width, level.height) for level in slide.levels] == [(320, 128)]
    with pytest.raises(SlideError, match="holds 2 pyramids"):
        open_slide(label)
    assert find_slides([tmp_path]) == [tmp_path / "a0.dcm", tmp_path / "b0.dcm"]


# Concatenations: the frames of one instance in several files


@pytest.mark.parametrize("order", ["TILED_FULL", "TILED_SPARSE"])
@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "a", "b")])
def test_the_parts_of_a_concatenation_are_joined(tmp_path: Path, order: str, names: tuple[str, str, str]) -> None:
    for number, (name, frames) in enumerate(zip(names, (slice(0, 7), slice(7, 9), slice(9, None)), strict=True), 1):
        write_dicom(tmp_path / f"{name}.dcm", PICTURE, order=order, part=(number, 3), frames_of_part=frames, **RAW)
    write_dicom(tmp_path / "0.dcm", halved(PICTURE, 1), mpp=2 * MPP, **RAW)
    expected = PICTURE.copy()
    if order == "TILED_SPARSE":
        expected[:64, :64] = 255
    with open_slide(tmp_path / "b.dcm") as slide:
        assert slide.path == tmp_path / f"{names[0]}.dcm"
        assert len(slide.levels) == 2
        np.testing.assert_array_equal(slide.region(0, 0, 320, 256, MPP), expected)


def test_the_fingerprint_of_a_concatenation_covers_all_its_parts(tmp_path: Path) -> None:
    for number, frames in enumerate((slice(0, 10), slice(10, None)), start=1):
        write_dicom(tmp_path / f"{number}.dcm", PICTURE, part=(number, 2), frames_of_part=frames, **RAW)
    before = fingerprint(tmp_path / "1.dcm")
    write_dicom(tmp_path / "2.dcm", 255 - PICTURE, part=(2, 2), frames_of_part=slice(10, None), **RAW)
    assert fingerprint(tmp_path / "1.dcm") != before


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_concatenation_that_lacks_a_part_is_refused(tmp_path: Path, missing: int, stated: bool) -> None:
    def unstated(header: Dataset) -> None:
        del header.InConcatenationTotalNumber

    for number, frames in enumerate((slice(0, 7), slice(7, 9), slice(9, None)), start=1):
        if number != missing:
            path = write_dicom(
                tmp_path / f"{number}.dcm",
                PICTURE,
                part=(number, 3),
                frames_of_part=frames,
                change=(lambda header: None) if stated else unstated,
                **RAW,
            )
    with pytest.raises(SlideError, match=f"part {missing} is missing" if stated or missing < 3 else "damaged"):
        open_slide(path)


# Folders


def test_of_each_series_in_a_folder_the_finest_instance_is_the_slide(tmp_path: Path) -> None:
    write_series(tmp_path / "one", series="2.25.1")
    write_series(tmp_path / "two", series="2.25.2")
    write_tiff(tmp_path / "three.tif", PICTURE)
    found = find_slides([tmp_path])
    assert found == [tmp_path / "one" / "c.dcm", tmp_path / "three.tif", tmp_path / "two" / "c.dcm"]
    assert len(name_slides(found)) == 3


@pytest.mark.parametrize("name", ["a", "b", "c", "f"])
def test_a_named_file_of_a_series_is_the_same_slide(tmp_path: Path, name: str) -> None:
    folder = write_series(tmp_path)
    assert find_slides([folder / f"{name}.dcm", folder / "b.dcm", folder]) == [folder / "c.dcm"]
    assert list(name_slides(find_slides([folder / f"{name}.dcm"]))) == ["c"]


@pytest.mark.parametrize("ending", ["", ".dicom", ".DCM", ".1234567"])
def test_dicom_is_found_by_its_content_where_files_have_no_ending(tmp_path: Path, ending: str) -> None:
    write_series(tmp_path, ending=ending)
    (tmp_path / "README").write_text("no slide")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    assert find_slides([tmp_path]) == [tmp_path / f"c{ending}"]
    with open_slide(tmp_path / f"a{ending}") as slide:
        assert len(slide.levels) == 3


def test_a_series_without_tissue_is_named_as_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "slide", series="2.25.1")
    (tmp_path / "label").mkdir()
    write_dicom(tmp_path / "label" / "label.dcm", LABEL, kind="LABEL", series="2.25.2", **RAW)
    write_dicom(tmp_path / "label" / "overview.dcm", LABEL, kind="OVERVIEW", series="2.25.2", **RAW)
    assert find_slides([tmp_path]) == [tmp_path / "slide" / "c.dcm"]
    told = capsys.readouterr().err
    assert (
        f"{tmp_path / 'label' / 'label.dcm'}: left out, because its series shows no tissue, only LABEL, OVERVIEW."
        in told
    )
    assert "slide" not in told.replace(str(tmp_path), "")


def test_dicom_files_of_other_kinds_are_named_as_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path)
    for name in ("map.dcm", "another"):
        write_dicom(tmp_path / name, PICTURE, change=other_class, **RAW)
    assert find_slides([tmp_path]) == [tmp_path / "c.dcm"]
    assert "DICOM files that are not slides, of the kind 'Parametric Map Storage' (2)." in capsys.readouterr().err


def test_what_is_wrong_with_a_series_is_left_to_its_scan_to_say(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(write_dicom(tmp_path / "slide.dcm", PICTURE, **RAW).read_bytes()[:140])
    part = write_dicom(tmp_path / "part.dcm", PICTURE, part=(1, 2), frames_of_part=slice(0, 3), series="2.25.2", **RAW)
    write_dicom(tmp_path / "coarse.dcm", halved(PICTURE, 1), mpp=2 * MPP, series="2.25.2", **RAW)
    assert find_slides([tmp_path]) == sorted([damaged, part, tmp_path / "slide.dcm"])
    assert find_slides([part]) == [part]


@pytest.mark.parametrize(("name", "expected"), [("both.tif", False), ("both.tiff", False), ("both.dcm", True)])
def test_a_file_that_is_tiff_and_dicom_is_what_its_ending_says(tmp_path: Path, name: str, expected: bool) -> None:
    (tmp_path / name).write_bytes(b"II*\0" + b"\0" * 124 + b"DICM")
    assert is_dicom(tmp_path / name) is expected


def test_any_other_file_stands_for_itself(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "slide.tif", PICTURE)
    assert slide_file(path) == path
    assert slide_file(tmp_path / "gone.svs") == tmp_path / "gone.svs"


def test_a_deflated_file_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"syntax": uid.DeflatedExplicitVRLittleEndian, "colours": "RGB", "code": uncompressed}
    path = write_dicom(tmp_path / "a.dcm", PICTURE, **options)
    with open_slide(path) as slide:
        assert slide.width == 320
    monkeypatch.setattr("sentinode.slides.reading.dicom_series.MAX_INFLATED", 1000)
    other = write_dicom(tmp_path / "b.dcm", PICTURE, series="2.25.7", **options)
    with pytest.raises(SlideError, match="its DICOM header cannot be read"):
        open_slide(other)

"""Maps held against annotations: which region touches which lesion, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from made_maps import MPP, asap, blob, made_map, made_point, square

from sentinode.errors import AnnotationError, SlideError
from sentinode.evaluation.annotated_slides import annotated_slide, read_annotated_slides
from sentinode.slides.reading.annotations import Annotations, read_annotations
from sentinode.slides.scanning.probability_map import write_map

CUT = made_point()


def against(tmp_path, probability, *polygons):
    truth = read_annotations(asap(tmp_path / "a.xml", *polygons))
    return annotated_slide("s", made_map(probability), truth, CUT)


def test_a_region_that_touches_a_lesion_grown_by_one_window_is_of_it(tmp_path):
    """The lesion covers the windows 10 to 12; the regions end one, two and three windows before it."""
    for gap, touches in ((0, True), (1, False), (2, False)):
        slide = against(tmp_path, blob(30, 30, (10, 4, 13, 10 - gap)), square(320, 320, 96))
        assert slide.touches.tolist() == [[touches]], gap


def test_a_lesion_is_as_long_as_its_longest_diameter(tmp_path):
    slide = against(tmp_path, blob(60, 60, (5, 5, 8, 8)), square(320, 320, 96), square(1000, 1000, 300))
    assert slide.lesion_um == pytest.approx([96 * np.sqrt(2) * MPP, 300 * np.sqrt(2) * MPP])
    assert slide.positive and not slide.is_lesion.any()
    assert slide.diameter_um == pytest.approx([3 * 32 * np.sqrt(2) * MPP])


def test_areas_nearer_than_75_um_are_one_lesion(tmp_path):
    for gap, count in ((60, 1), (90, 2)):
        slide = against(tmp_path, blob(60, 60), square(320, 320, 96), square(416 + gap, 320, 96))
        assert len(slide.lesion_um) == count, gap


def test_one_region_may_touch_several_lesions_and_one_lesion_several_regions(tmp_path):
    probability = blob(60, 60, (10, 10, 13, 40), (20, 10, 23, 12), (20, 16, 23, 18))
    slide = against(tmp_path, probability, square(320, 320, 96), square(1100, 320, 96), square(320, 640, 260))
    assert slide.touches.tolist() == [[True, True, False], [False, False, True], [False, False, True]]


def test_a_lesion_that_holds_no_centre_of_a_pixel_is_still_there(tmp_path):
    slide = against(tmp_path, blob(30, 30, (10, 10, 12, 12)), square(340, 340, 1))
    assert slide.touches.tolist() == [[True]]


def test_a_lesion_at_the_border_of_the_slide_is_found(tmp_path):
    slide = against(tmp_path, blob(30, 30, (27, 27, 30, 30)), square(900, 900, 200))
    assert slide.touches.tolist() == [[True]]


def a_batch(tmp_path, *names, **others):
    maps, truth = tmp_path / "maps", tmp_path / "truth"
    truth.mkdir()
    for name in names:
        write_map(maps / name, made_map(blob(60, 60, (10, 10, 30, 30)), **others))
        asap(truth / f"{name}.xml", *([square(320, 320, 640)] if name.startswith("ill") else []))
    return maps, truth


def read(maps, truth, **options):
    return read_annotated_slides(maps, truth, CUT, bundle="b" * 64, show=False, **options)


def test_a_folder_is_read_and_its_fingerprint_is_of_maps_and_truth(tmp_path):
    maps, truth = a_batch(tmp_path, "ill", "well")
    found = read(maps, truth)
    assert [(slide.name, slide.positive) for slide in found.slides] == [("ill", True), ("well", False)]
    assert found.window_um == pytest.approx(32 * MPP)
    assert read(maps, truth).fingerprint == found.fingerprint
    asap(truth / "ill.xml", square(320, 320, 600))
    assert read(maps, truth).fingerprint != found.fingerprint


def test_maps_of_another_bundle_are_refused(tmp_path):
    maps, truth = a_batch(tmp_path, "ill")
    with pytest.raises(SlideError, match="another bundle made this map"):
        read_annotated_slides(maps, truth, CUT, bundle="c" * 64, show=False)


def test_maps_of_several_strides_are_refused_and_of_several_priors_are_not(tmp_path):
    maps, truth = a_batch(tmp_path, "ill", "well")
    write_map(maps / "well", made_map(blob(60, 60), prior=0.01))
    assert len(read(maps, truth).slides) == 2
    write_map(maps / "well", made_map(blob(20, 20), stride=96.0))
    with pytest.raises(SlideError, match=r"every 31\.1 um in ill, every 93\.3 um in well(.|\n)*one --stride"):
        read(maps, truth)


def test_annotations_of_a_slide_without_a_map_are_refused(tmp_path):
    maps, truth = a_batch(tmp_path, "ill")
    asap(truth / "another.xml")
    with pytest.raises(AnnotationError, match=r"matches no slide: 'another\.xml'(.|\n)*Scan those slides"):
        read(maps, truth)


def test_a_map_without_annotations_is_refused_unless_that_means_normal(tmp_path):
    maps, truth = a_batch(tmp_path, "ill", "well")
    (truth / "well.xml").unlink()
    with pytest.raises(AnnotationError, match="no annotations for 1 of 2 slides"):
        read(maps, truth)
    assert [slide.positive for slide in read(maps, truth, absent_is_normal=True).slides] == [True, False]


def test_annotations_outside_the_slide_are_refused(tmp_path):
    maps, truth = a_batch(tmp_path, "ill")
    asap(truth / "ill.xml", square(50_000, 320, 640))
    with pytest.raises(AnnotationError, match="outside the slide of 1920 x 1920"):
        read(maps, truth)


def test_the_two_slides_of_camelyon16_that_do_not_count_are_left_out(tmp_path):
    maps, truth = a_batch(tmp_path, "ill", "test_114")
    found = read(maps, truth)
    assert found.left_out == ("test_114",) and len(found.slides) == 1


def test_a_folder_without_maps_is_refused(tmp_path):
    with pytest.raises(SlideError, match="no maps here"):
        read(tmp_path, tmp_path)


def test_a_slide_that_cannot_be_assessed_has_no_hottest_window():
    nothing = made_map(np.full((9, 9), np.nan))
    slide = annotated_slide("s", nothing, Annotations(Path("none"), ()), CUT)
    assert np.isnan(slide.hottest[0]) and len(slide.features) == 0 and not slide.positive

"""The official lesions of Camelyon16's test slides, under the rule of its evaluation."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from sentinode.evaluation import froc
from sentinode.evaluation.froc import Tumours, tumours_within
from sentinode.slides.reading.annotations import read_annotations

SLIDE_MPP = 0.243
BEYOND = 1 << 18
"""Pixels to a side, more than any slide has: the files do not say how large their slides are."""


def tumours(shared: Path, slide: str) -> Tumours:
    truth = read_annotations(shared / "annotations" / "c16_test" / f"{slide}.json")
    return tumours_within(truth, BEYOND, BEYOND, SLIDE_MPP)


@pytest.mark.real
@pytest.mark.parametrize(
    ("slide", "regions", "counted"),
    [
        ("test_001", 6, 3),
        ("test_004", 2, 1),
        ("test_008", 5, 2),
        ("test_027", 1, 1),  # has an exclusion
        ("test_033", 2, 2),  # reaches to x = 181,500
        ("test_038", 4, 4),
        ("test_116", 3, 1),
    ],
)
def test_a_slides_regions(shared: Path, slide: str, regions: int, counted: int) -> None:
    found = tumours(shared, slide)
    assert (found.count, found.count - len(found.ignored)) == (regions, counted)


@pytest.mark.real
@pytest.mark.slow
def test_all_48_slides_in_bounded_memory(shared: Path) -> None:
    """226, and 219 without test_021: the sensitivities in NCRF's issues 54 and 53 are multiples of 1/226 and 1/219."""
    slides = sorted(path.stem for path in (shared / "annotations" / "c16_test").glob("*.json"))
    tracemalloc.start()
    try:
        found = {slide: tumours(shared, slide) for slide in slides}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    counted = {slide: one.count - len(one.ignored) for slide, one in found.items()}
    assert len(slides) == 48
    assert sum(one.count for one in found.values()) == 496
    assert sum(counted.values()) == 226
    assert counted["test_021"] == 7  # reaches to y = 195,313
    held = sum(one.labels.nbytes for one in found.values())
    assert peak - held < 400 * 2**20


def test_a_pixel_of_the_mask_is_the_first_of_those_that_it_stands_for(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    # Level-0 pixels 32 to 47 of both axes: they hold the first pixel of the second mask pixel, and not its centre.
    file.write_text(
        '{"positive": [{"name": "a", "vertices": [[32, 32], [47, 32], [47, 47], [32, 47]]}], "negative": []}'
    )
    found = tumours_within(read_annotations(file), 6400, 6400, SLIDE_MPP)
    assert found.count == 1
    row, column = np.nonzero(found.labels)
    assert (row.mean() + found.corner[1], column.mean() + found.corner[0]) == pytest.approx((2.6, 2.6), abs=0.7)


@given(
    mask=arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 12)), elements=st.sampled_from([0, 0, 0, 0, 1])),
    reach=st.floats(0.5, 9),
    band=st.integers(1, 16),
)
@settings(deadline=None)
def test_growing_in_bands_is_growing_at_once(mask: NDArray[np.uint8], reach: float, band: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(froc, "BAND", band)
        near = froc._near(mask, reach)
    at_once = ndimage.distance_transform_edt(mask == 0) < reach if mask.any() else np.zeros(mask.shape, np.bool_)
    np.testing.assert_array_equal(near, at_once)


@given(near=arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_holes_are_filled_as_scipy_fills_them(near: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(froc._filled(near), ndimage.binary_fill_holes(near))


def test_far_coordinates_make_a_mask_around_the_tumour_alone(tmp_path: Path) -> None:
    file = tmp_path / "far.json"
    x, y = 990_000_000, 900_000_000  # no canvas could hold all that lies before it
    corners = [[x, y], [x + 3200, y], [x + 3200, y + 3200], [x, y + 3200]]
    vertices = ", ".join(str(corner) for corner in corners)
    file.write_text(f'{{"positive": [{{"name": "a", "vertices": [{vertices}]}}], "negative": []}}', "utf-8")
    found = tumours_within(read_annotations(file), 1 << 30, 1 << 30, SLIDE_MPP)
    assert found.count == 1
    assert found.labels.size < 200 * 200
    assert found.at(np.array([x + 1600.0]), np.array([y + 1600.0])).tolist() == [1]
    assert found.at(np.array([x - 9000.0]), np.array([y + 1600.0])).tolist() == [0]

"""A probability map: what it says, and that it survives being written and read."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinode.errors import SlideError
from sentinode.slides.scanning.probability_map import ProbabilityMap, SlideRecord, open_map, write_map
from sentinode.slides.scanning.quality import Quality


def a_map(rows: int = 3, columns: int = 5, stride: float = 64.0) -> ProbabilityMap:
    probability = np.linspace(0, 1, rows * columns, dtype=np.float32).reshape(rows, columns)
    probability[0, 0] = np.nan
    return ProbabilityMap(
        probability=probability,
        stride=stride,
        origin=(stride / 2, stride / 2),
        mpp=0.972,
        threshold=0.31,
        prior=0.05,
        slide=SlideRecord("slide.svs", 300, 190, 0.486, "ab" * 32),
        bundle="cd" * 32,
        engine="torch cpu float32",
    )


def test_a_map_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = a_map()
    write_map(tmp_path, written)
    read = open_map(tmp_path)
    np.testing.assert_array_equal(read.probability, written.probability)
    assert read.probability.dtype == np.float32
    for name in ("stride", "origin", "mpp", "threshold", "prior", "slide", "bundle", "engine"):
        assert getattr(read, name) == getattr(written, name)


def with_quality() -> ProbabilityMap:
    quality = np.zeros((3, 5), np.uint8)
    quality[0, :2] = Quality.FOLD  # the first of them is no tissue
    quality[1, :3] = Quality.OUT_OF_FOCUS
    return replace(a_map(), quality=quality)


def test_the_quality_of_the_windows_is_kept_beside_the_probabilities(tmp_path: Path) -> None:
    written = with_quality()
    write_map(tmp_path, written)
    read = open_map(tmp_path)
    assert read.quality is not None and read.quality.dtype == np.uint8
    np.testing.assert_array_equal(read.quality, written.quality)
    np.testing.assert_array_equal(read.probability, written.probability)
    np.testing.assert_array_equal(np.load(tmp_path / "quality.npy"), written.quality)


def test_what_cannot_be_judged_is_a_share_of_the_tissue_by_reason() -> None:
    probability_map = with_quality()
    assert probability_map.unassessable == {"out of focus": pytest.approx(3 / 14), "fold": pytest.approx(1 / 14)}
    assert list(probability_map.unassessable) == ["out of focus", "fold"]
    assert probability_map.assessable.sum() == 14 - 4
    assert not probability_map.assessable[0, 0] and not probability_map.assessable[1, 0]


def test_where_quality_was_not_measured_all_tissue_counts_as_assessable() -> None:
    probability_map = a_map()
    assert probability_map.quality is None and probability_map.unassessable == {}
    np.testing.assert_array_equal(probability_map.assessable, probability_map.tissue)
    nothing = replace(
        probability_map, probability=np.full((3, 5), np.nan, np.float32), quality=np.zeros((3, 5), np.uint8)
    )
    assert nothing.unassessable == {} and not nothing.assessable.any()


def test_quality_that_was_changed_lost_or_has_another_shape_is_refused(tmp_path: Path) -> None:
    write_map(tmp_path / "a", with_quality())
    array = bytearray((tmp_path / "a" / "quality.npy").read_bytes())
    array[-1] ^= 1
    (tmp_path / "a" / "quality.npy").write_bytes(array)
    with pytest.raises(SlideError, match="not the one that the record describes"):
        open_map(tmp_path / "a")
    (tmp_path / "a" / "quality.npy").unlink()
    with pytest.raises(SlideError, match="no map here"):
        open_map(tmp_path / "a")
    write_map(tmp_path / "b", replace(a_map(), quality=np.zeros((5, 3), np.uint8)))
    with pytest.raises(SlideError, match="shape"):
        open_map(tmp_path / "b")


def test_a_map_without_quality_does_not_take_that_of_an_earlier_scan(tmp_path: Path) -> None:
    write_map(tmp_path, with_quality())
    write_map(tmp_path, a_map())
    assert open_map(tmp_path).quality is None


def test_the_same_map_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_map(tmp_path / name, a_map())
    for file in ("map.npy", "map.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_windows_without_tissue_are_nan_and_the_rest_is_tissue() -> None:
    probability_map = a_map()
    assert not probability_map.tissue[0, 0]
    assert probability_map.tissue.sum() == probability_map.probability.size - 1


@given(st.integers(0, 2), st.integers(0, 4), st.floats(8, 700))
def test_the_centre_of_a_window_finds_the_window(row: int, column: int, stride: float) -> None:
    probability_map = a_map(stride=stride)
    x, y = probability_map.centres()
    found = probability_map.at(x[column], y[row])
    np.testing.assert_equal(np.float32(found), probability_map.probability[row, column])


def test_a_point_outside_the_map_has_no_probability() -> None:
    probability_map = a_map()
    assert (
        np.isnan(probability_map.at(-1, 5))
        and np.isnan(probability_map.at(5, 3 * 64))
        and np.isnan(probability_map.at(5 * 64, 5))
    )


def test_a_folder_without_a_map_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no map here") as error:
        open_map(tmp_path)
    assert "sentinode scan" in str(error.value)


def test_a_changed_array_is_refused(tmp_path: Path) -> None:
    write_map(tmp_path, a_map())
    array = bytearray((tmp_path / "map.npy").read_bytes())
    array[-1] ^= 1
    (tmp_path / "map.npy").write_bytes(array)
    with pytest.raises(SlideError, match="not the one that the record describes"):
        open_map(tmp_path)


def test_a_map_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    write_map(tmp_path, a_map())
    record = json.loads((tmp_path / "map.json").read_text())
    (tmp_path / "map.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(SlideError, match="format 99"):
        open_map(tmp_path)


def test_a_map_of_an_earlier_version_still_opens() -> None:
    """It states no bounds of the slide."""
    probability_map = open_map(Path(__file__).parent / "stored" / "format_1")
    assert probability_map.slide == SlideRecord("early.svs", 128, 96, 0.972, "5" * 64, bounds=None)
    assert (probability_map.stride, probability_map.origin) == (32.0, (16.0, 16.0))
    assert (probability_map.threshold, probability_map.prior) == (0.3, 0.05)
    assert probability_map.quality is None
    expected = [[0.1, 0.2, np.nan, 0.9], [np.nan, 0.5, 0.6, 0.7], [0.05, 0.04, 0.03, 0.02]]
    np.testing.assert_array_equal(probability_map.probability, np.array(expected, np.float32))


@pytest.mark.parametrize(
    "damage", [{"stride": None}, {"origin": [1]}, {"slide": None}, {"slide": {"name": "a"}}, {"prior": "much"}]
)
def test_a_record_that_is_not_whole_is_refused(tmp_path: Path, damage: dict[str, object]) -> None:
    write_map(tmp_path, a_map())
    record = json.loads((tmp_path / "map.json").read_text())
    (tmp_path / "map.json").write_text(json.dumps(record | damage))
    with pytest.raises(SlideError, match="record is damaged"):
        open_map(tmp_path)


@pytest.mark.parametrize("content", ["[]", "1", "{}"])
def test_so_is_a_record_of_something_else(tmp_path: Path, content: str) -> None:
    write_map(tmp_path, a_map())
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(SlideError, match="has format None"):
        open_map(tmp_path)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ({"stride": 0}, "a stride of 0"),
        ({"stride": -64}, "a stride of -64"),
        ({"stride": float("nan")}, "a stride of nan"),
        ({"stride": 32, "origin": [16, 16]}, "5 x 3 windows on 300 x 190 pixels"),
        ({"origin": [0, 0]}, "an origin of"),
        ({"mpp": 0}, "0 and 0.486 microns per pixel"),
        ({"threshold": float("nan")}, "a threshold of nan"),
        ({"threshold": 2}, "a threshold of 2"),
        ({"prior": 1}, "a prior of 1"),
        ({"stride": 10**400}, "OverflowError"),
    ],
)
def test_numbers_that_no_scan_writes_are_refused(tmp_path: Path, damage: dict[str, object], why: str) -> None:
    write_map(tmp_path, a_map())
    record = json.loads((tmp_path / "map.json").read_text())
    (tmp_path / "map.json").write_text(json.dumps(record | damage))
    with pytest.raises(SlideError, match=why):
        open_map(tmp_path)


def replaced(folder: Path, content: bytes) -> None:
    """Put another array into a map, with its right sum."""
    (folder / "map.npy").write_bytes(content)
    record = json.loads((folder / "map.json").read_text())
    record["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "map.json").write_text(json.dumps(record))


def saved(array: np.ndarray, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04N.",  # a pickle
        saved(np.array([[None]], object), allow_pickle=True),
        saved(np.zeros((3, 5))),
        saved(np.zeros(15, np.float32)),
        saved(np.zeros((5, 3), np.float32)),
        saved(np.full((3, 5), 7, np.float32)),
        saved(np.zeros((3, 5), np.float32))[:-1],
        saved(np.zeros((3, 5), np.float32)).replace(b"(3, 5), }" + b" " * 12, b"(1048576, 1048576), }"),
        saved(np.zeros((3, 5), np.float32)).replace(b"(3, 5), }  ", b"(-3, -5), }"),
    ],
    ids=range(10),
)
def test_an_array_that_is_no_table_of_probabilities_is_refused(tmp_path: Path, content: bytes) -> None:
    write_map(tmp_path, a_map())
    replaced(tmp_path, content)
    with pytest.raises(SlideError, match="damaged"):
        open_map(tmp_path)


def test_an_array_by_columns_is_the_same_map(tmp_path: Path) -> None:
    write_map(tmp_path, a_map())
    replaced(tmp_path, saved(np.asfortranarray(a_map().probability)))
    np.testing.assert_array_equal(open_map(tmp_path).probability, a_map().probability)

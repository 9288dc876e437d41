"""Scanning one slide: where the windows lie, what they become, and that a stopped scan goes on."""

from __future__ import annotations

import errno
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.special import expit, logit
from slide_files import tissue_picture, write_tiff
from stand_in import StandInBundle, StandInEngine

from sentinode.errors import BundleError, OutputError, SlideError
from sentinode.model.bundle import Bundle, Reading
from sentinode.model.engines import TorchEngine, open_engine
from sentinode.model.readings import find_halo
from sentinode.slides.reading.slide import Slide, open_slide
from sentinode.slides.scanning import dense, scores
from sentinode.slides.scanning import scan as scanning
from sentinode.slides.scanning.probability_map import ProbabilityMap, record_of, write_map
from sentinode.slides.scanning.quality import Quality
from sentinode.slides.scanning.scan import lay_grid, prior_shift, scan_slide, score_part
from sentinode.slides.scanning.scores import LOG, PLAN, PartialMap, Scores, join_scores, open_partial_map
from sentinode.slides.scanning.tissue import Tissue, find_tissue

PICTURE = tissue_picture(1000, 760, seed=5)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    return open_slide(write_tiff(tmp_path_factory.mktemp("slide") / "slide.tif", PICTURE, levels=3))


@pytest.fixture(scope="module")
def tissue(slide: Slide) -> Tissue:
    return find_tissue(slide)


def scan(slide: Slide, tissue: Tissue, engine: StandInEngine | None = None, **options: object) -> ProbabilityMap:
    return scan_slide(slide, tissue, StandInBundle(), engine or StandInEngine(), show=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("stride", [32, 96, 50, 33])
def test_each_probability_is_that_of_the_window_around_its_centre(slide: Slide, tissue: Tissue, stride: int) -> None:
    probability_map = scan(slide, tissue, stride=stride, prior=0.5)
    assert probability_map.probability.shape == (-(-760 // stride), -(-1000 // stride))
    assert probability_map.stride == pytest.approx(stride) and probability_map.origin == pytest.approx(
        (stride / 2, stride / 2)
    )
    canvas = np.pad(PICTURE, ((200, 200), (200, 200), (0, 0)), constant_values=255)
    for row, column in np.argwhere(probability_map.tissue):
        top, left = (math.floor((i + 0.5) * stride - 48) + 200 for i in (row, column))
        window = canvas[top : top + 96, left : left + 96]
        expected = StandInEngine().probabilities(window[None])[0]
        assert probability_map.probability[row, column] == pytest.approx(expected, abs=2e-6)


def test_only_tissue_has_a_probability(slide: Slide, tissue: Tissue) -> None:
    probability_map = scan(slide, tissue, stride=32)
    np.testing.assert_array_equal(
        probability_map.tissue, tissue.cells(*probability_map.probability.shape, probability_map.stride)
    )
    assert 0.05 < probability_map.tissue.mean() < 0.8


def test_a_finer_slide_gives_the_map_of_the_same_tissue(tmp_path: Path, slide: Slide, tissue: Tissue) -> None:
    fine = PICTURE.repeat(2, 0).repeat(2, 1)
    with open_slide(write_tiff(tmp_path / "fine.tif", fine, mpp=0.486)) as finer:
        probability_map, other = scan(slide, tissue, stride=96), scan(finer, find_tissue(finer), stride=96)
    assert other.stride == pytest.approx(192) and other.slide_mpp == pytest.approx(0.486)
    both = probability_map.tissue & other.tissue
    assert both.sum() > 0.9 * probability_map.tissue.sum()
    np.testing.assert_allclose(probability_map.probability[both], other.probability[both], atol=0.03)


def windows(slide: Slide, stride: int = 32) -> np.ndarray:
    """Every window of a slide but the last row's and column's: uint8 (rows, columns, 96, 96, 3)."""
    grid = lay_grid(slide, 0.972, stride)
    places = [(row, column) for row in range(grid.rows - 1) for column in range(grid.columns - 1)]
    boxes = [grid.box(slice(row, row + 1), slice(column, column + 1), 96) for row, column in places]
    return np.stack(list(slide.regions(boxes, grid.mpp))).reshape(grid.rows - 1, grid.columns - 1, 96, 96, 3)


@pytest.mark.parametrize("more", [(1, 0), (0, 1), (1, 1)])
def test_a_slide_with_a_pixel_more_gives_the_same_windows_and_the_same_map(
    tmp_path: Path, more: tuple[int, int]
) -> None:
    fine = tissue_picture(1600, 1280, seed=5)
    odd = np.pad(fine, ((0, more[1]), (0, more[0]), (0, 0)), mode="edge")
    with (
        open_slide(write_tiff(tmp_path / "even.tif", fine, mpp=0.486, levels=3)) as one,
        open_slide(write_tiff(tmp_path / "odd.tif", odd, mpp=0.486, levels=3)) as other,
    ):
        seen, seen_of_odd = windows(one), windows(other)
        np.testing.assert_array_equal(seen_of_odd[:19, :24], seen[:19, :24])
        probability_map, of_odd = scan(one, find_tissue(one)), scan(other, find_tissue(other))
    assert of_odd.stride == probability_map.stride == 64
    assert of_odd.mpp == probability_map.mpp == pytest.approx(0.972)
    np.testing.assert_array_equal(of_odd.probability[:20, :25], probability_map.probability)


@pytest.mark.parametrize("mpp", [0.972376, 0.9765, 0.4848, 0.2425])
def test_windows_are_copies_of_whole_pixels_where_a_level_has_their_resolution_to_half_a_percent(
    tmp_path: Path, mpp: float
) -> None:
    times = round(0.972 / mpp)
    fine = PICTURE.repeat(times, 0).repeat(times, 1)
    with open_slide(write_tiff(tmp_path / "slide.tif", fine, mpp=mpp, levels=3)) as slide:
        grid = lay_grid(slide, 0.972, 32)
        assert grid.stride == pytest.approx(32 * times, rel=1e-12)
        seen = windows(slide)
        probability_map = scan(slide, find_tissue(slide))
    canvas = np.pad(PICTURE, ((200, 200), (200, 200), (0, 0)), constant_values=255)
    for row, column in np.ndindex(*seen.shape[:2]):
        top, left = 32 * row + 16 - 48 + 200, 32 * column + 16 - 48 + 200
        np.testing.assert_array_equal(seen[row, column], canvas[top : top + 96, left : left + 96])
    # The map says what was done: its windows' resolution is the level's, and its stride is whole pixels of it.
    assert probability_map.mpp == pytest.approx(times * mpp) and probability_map.stride == pytest.approx(32 * times)
    assert probability_map.slide.mpp == pytest.approx(mpp)


def test_the_same_pixels_give_the_same_map_whether_a_slide_states_0972_or_nearly_so(
    tmp_path: Path, slide: Slide
) -> None:
    with open_slide(write_tiff(tmp_path / "nearly.tif", PICTURE, mpp=0.972376, levels=3)) as nearly:
        tissue = find_tissue(nearly)
        np.testing.assert_array_equal(scan(nearly, tissue).probability, scan(slide, tissue).probability)


def test_beyond_half_a_percent_windows_are_resampled_to_the_bundles_resolution(tmp_path: Path) -> None:
    with open_slide(write_tiff(tmp_path / "slide.tif", PICTURE, mpp=0.98)) as slide:
        grid = lay_grid(slide, 0.972, 32)
        assert grid.mpp == 0.972 and grid.stride == pytest.approx(32 * 0.972 / 0.98)


def test_the_real_engine_scores_windows_as_it_scores_patches(slide: Slide, tissue: Tissue, bundle: Bundle) -> None:
    engine = open_engine(bundle, device="cpu", precision="float32")
    probability_map = scan_slide(slide, tissue, bundle, engine, stride=96, prior=bundle.card.prior, show=False)
    row, column = np.argwhere(probability_map.tissue)[3]
    patch = slide.region(column * 96, row * 96, 96, 96, 0.972)
    assert probability_map.probability[row, column] == pytest.approx(engine.probabilities(patch[None])[0], abs=1e-5)
    assert probability_map.engine == "torch cpu float32" and probability_map.bundle == bundle.fingerprint


def test_the_prior_moves_probabilities_and_threshold_alike(slide: Slide, tissue: Tissue) -> None:
    half, rare = scan(slide, tissue, prior=0.5), scan(slide, tissue, prior=0.01)
    some = half.tissue
    assert half.threshold == pytest.approx(0.4)
    assert rare.threshold < half.threshold
    np.testing.assert_array_equal(half.probability[some] >= half.threshold, rare.probability[some] >= rare.threshold)
    odds = [p / (1 - p) for p in (half.probability[some].astype(float), rare.probability[some].astype(float))]
    np.testing.assert_allclose(odds[1], odds[0] / 99, rtol=1e-3)


def test_the_prior_that_was_trained_with_corrects_nothing() -> None:
    assert prior_shift(0.3, 0.3) == 0


def test_a_slide_smaller_than_a_patch_has_one_window(tmp_path: Path) -> None:
    small = np.full((60, 70, 3), (190, 110, 170), np.uint8)
    small[:8] = 245
    with open_slide(write_tiff(tmp_path / "small.tif", small, tile=None)) as slide:
        probability_map = scan(slide, Tissue(np.ones((8, 9), bool), 8.0, 7.776, small), stride=96)
    assert probability_map.probability.shape == (1, 1) and np.isfinite(probability_map.probability).all()


def test_a_slide_without_tissue_is_refused_in_words(tmp_path: Path) -> None:
    empty = np.full((300, 300, 3), 243, np.uint8)
    with (
        open_slide(write_tiff(tmp_path / "empty.tif", empty)) as slide,
        pytest.raises(SlideError, match="no stained tissue"),
    ):
        scan(slide, find_tissue(slide))


def test_a_slide_that_is_too_coarse_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "coarse.tif", PICTURE, mpp=1.6)
    with open_slide(path) as slide, pytest.raises(SlideError, match="too coarse"):
        lay_grid(slide, 0.972, 32)
    with open_slide(path, mpp=1.4) as slide:
        assert lay_grid(slide, 0.972, 32).stride == pytest.approx(32 * 0.972 / 1.4)


def test_an_answer_that_is_not_a_number_is_not_passed_on(slide: Slide, tissue: Tissue) -> None:
    class Broken(StandInEngine):
        def margins(self, images: np.ndarray) -> np.ndarray:
            return np.full(len(images), np.nan, np.float32)

    with pytest.raises(BundleError, match="not a number"):
        scan(slide, tissue, Broken())


# Stopping and going on


class Stops(StandInEngine):
    """Fails after some batches, as a power cut would."""

    left = 5

    def margins(self, images: np.ndarray) -> np.ndarray:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return super().margins(images)


def assert_is_a_part(partial: PartialMap | None, whole: ProbabilityMap, windows: int) -> None:
    """What can be seen of a scan on its way is the map that it ends with, as far as it has come."""
    assert partial is not None and (partial.windows, partial.planned) == (windows, whole.tissue.sum())
    seen = partial.probability_map
    assert seen.tissue.sum() == windows and not (seen.tissue & partial.pending).any()
    np.testing.assert_array_equal(seen.tissue | partial.pending, whole.tissue)
    np.testing.assert_array_equal(seen.probability[seen.tissue], whole.probability[seen.tissue])
    assert seen.quality is not None and whole.quality is not None
    np.testing.assert_array_equal(seen.quality[seen.tissue], whole.quality[seen.tissue])
    assert record_of(seen) == record_of(whole)


@pytest.mark.parametrize("torn", [0, 1, 35, 84])
def test_a_stopped_scan_goes_on_with_the_same_batches_and_ends_the_same(
    tmp_path: Path, slide: Slide, tissue: Tissue, torn: int
) -> None:
    whole, log = scan(slide, tissue), tmp_path / "scores.part"
    assert open_partial_map(tmp_path) is None
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), log=log)
    data = log.read_bytes()
    log.write_bytes(data[: len(data) - torn])  # a record of 16 scores and qualities is 84 bytes
    done = 5 if torn == 0 else 4
    partial = open_partial_map(tmp_path)
    engine = StandInEngine()
    resumed = scan(slide, tissue, engine, log=log)
    np.testing.assert_array_equal(resumed.probability, whole.probability)
    assert_is_a_part(partial, whole, 16 * done)
    assert sum(engine.sizes) == whole.tissue.sum() - 16 * done
    assert set(engine.sizes[:-1]) == {16}


@pytest.mark.parametrize(
    ("name", "content"), [(PLAN, b"no plan"), (PLAN, b""), (PLAN, None), (LOG, None), (PLAN, b"PK\x03\x04 cut off")]
)
def test_a_damaged_or_missing_file_of_a_scan_on_its_way_shows_nothing_and_costs_nothing(
    tmp_path: Path, slide: Slide, tissue: Tissue, name: str, content: bytes | None
) -> None:
    log = tmp_path / LOG
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), log=log)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert open_partial_map(tmp_path) is None
    np.testing.assert_array_equal(scan(slide, tissue, log=log).probability, scan(slide, tissue).probability)


def test_scores_of_another_plan_are_not_shown(tmp_path: Path, slide: Slide, tissue: Tissue) -> None:
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), log=tmp_path / LOG)
    data = (tmp_path / LOG).read_bytes()
    (tmp_path / LOG).write_bytes(bytes(32) + data[32:])
    partial = open_partial_map(tmp_path)
    assert partial is not None and partial.windows == 0 and not partial.probability_map.tissue.any()


def test_the_log_of_another_scan_is_not_used(tmp_path: Path, slide: Slide, tissue: Tissue) -> None:
    log = tmp_path / "scores.part"
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), log=log, stride=48)
    engine = StandInEngine()
    probability_map = scan(slide, tissue, engine, log=log, stride=32)
    assert sum(engine.sizes) == probability_map.tissue.sum()


def test_a_flipped_bit_in_the_log_is_scored_again(tmp_path: Path, slide: Slide, tissue: Tissue) -> None:
    log = tmp_path / "scores.part"
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), log=log)
    data = bytearray(log.read_bytes())
    data[32 + 84 + 10] ^= 4  # in the second record
    log.write_bytes(data)
    engine = StandInEngine()
    resumed = scan(slide, tissue, engine, log=log)
    np.testing.assert_array_equal(resumed.probability, scan(slide, tissue).probability)
    assert sum(engine.sizes) == resumed.tissue.sum() - 16


@pytest.mark.parametrize("how", ["says so", "takes a part"])
def test_a_full_disk_half_way_is_told_and_the_scan_can_go_on(
    tmp_path: Path, slide: Slide, tissue: Tissue, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    log, written = tmp_path / "scores.part", []

    class Full(scores._Log):
        def append(self, margins: np.ndarray, quality: np.ndarray) -> None:
            if len(written) == 3:
                monkeypatch.setattr(self, "_file", FullDisk())
            written.append(len(margins))
            super().append(margins, quality)

    class FullDisk:
        def write(self, data: bytes) -> int:
            if how == "says so":
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(data) - 10

        def close(self) -> None:
            pass

    monkeypatch.setattr(scores, "_Log", Full)
    with pytest.raises(OutputError, match="disk is full"):
        scan(slide, tissue, log=log)
    monkeypatch.undo()
    engine = StandInEngine()
    probability_map = scan(slide, tissue, engine, log=log)
    assert sum(engine.sizes) == probability_map.tissue.sum() - 48


# What cannot be judged


def half_blurred(path: Path) -> Path:
    picture = PICTURE.copy()
    soft = ndimage.gaussian_filter(picture[:, 500:].astype(np.float32), (3, 3, 0))
    picture[:, 500:] = np.rint(soft).astype(np.uint8)
    return write_tiff(path, picture, levels=3)


@pytest.mark.parametrize("reading", ["patch", "dense"])
@pytest.mark.parametrize("stride", [32, 96, 33])
def test_windows_out_of_focus_are_marked_and_keep_their_probability(tmp_path: Path, stride: int, reading: str) -> None:
    with open_slide(half_blurred(tmp_path / "slide.tif")) as slide:
        found = scan(slide, find_tissue(slide), stride=stride, reading=reading)
    assert found.quality is not None and not found.quality[~found.tissue].any()
    x, _ = found.centres()
    sharp, soft = found.tissue & (x < 440), found.tissue & (x > 560)
    assert sharp.sum() > 5 and soft.sum() > 5
    assert found.assessable[sharp].all()
    assert (found.quality[soft] == Quality.OUT_OF_FOCUS).mean() > 0.9
    assert np.isfinite(found.probability[soft]).all()
    assert 0.1 < found.unassessable["out of focus"] < 0.9


@pytest.mark.parametrize("reading", ["patch", "dense"])
@pytest.mark.parametrize("torn", [0, 1, 30])
def test_a_stopped_scan_ends_with_the_same_quality(tmp_path: Path, torn: int, reading: str) -> None:
    log = tmp_path / "scores.part"
    with open_slide(half_blurred(tmp_path / "slide.tif")) as slide:
        tissue, first = find_tissue(slide), StandInEngine()
        whole = scan(slide, tissue, first, reading=reading)
        with pytest.raises(KeyboardInterrupt):
            scan(slide, tissue, Stops(), reading=reading, log=log)
        log.write_bytes(log.read_bytes()[: -torn or None])
        engine = StandInEngine()
        resumed = scan(slide, tissue, engine, reading=reading, log=log)
    assert whole.quality is not None and 0 < whole.unassessable["out of focus"] < 1
    assert 0 < sum(engine.sizes) < sum(first.sizes)
    for one, other in ((tmp_path / "one", whole), (tmp_path / "other", resumed)):
        write_map(one, other)
    for file in ("map.npy", "quality.npy", "map.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_log_of_a_version_without_quality_is_begun_anew(
    tmp_path: Path, slide: Slide, tissue: Tissue, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "scores.part"
    monkeypatch.setattr(scanning, "LOG_FORMAT", 1)
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), log=log)
    monkeypatch.undo()
    engine = StandInEngine()
    found = scan(slide, tissue, engine, log=log)
    assert sum(engine.sizes) == found.tissue.sum()


def own_bundle(**card: object) -> StandInBundle:
    stand_in = StandInBundle()
    return StandInBundle(card=stand_in.card.model_copy(update=card))


def test_windows_of_another_size_are_read_at_the_bundles_resolution(slide: Slide, tissue: Tissue) -> None:
    bundle = own_bundle(patch_size=60, label_region=60, mpp=2 * slide.mpp)
    probability_map = scan_slide(slide, tissue, bundle, StandInEngine(), prior=0.5, show=False)  # type: ignore[arg-type]
    # Where the label covers the whole patch, windows lie half a patch apart.
    assert probability_map.stride == pytest.approx(60)
    canvas = np.pad(PICTURE, ((200, 200), (200, 200), (0, 0)), constant_values=255)
    row, column = np.argwhere(probability_map.tissue)[0]
    top, left = (round((i + 0.5) * 60 - 60) + 200 for i in (row, column))
    window = canvas[top : top + 120, left : left + 120].reshape(60, 2, 60, 2, 3).mean((1, 3)).round().astype(np.uint8)
    expected = StandInEngine().probabilities(window[None])[0]
    assert probability_map.probability[row, column] == pytest.approx(expected, abs=0.02)


def test_a_bundle_of_unknown_resolution_scans_nothing(slide: Slide, tissue: Tissue) -> None:
    bundle = own_bundle(patch_size=60, label_region=60, mpp=None)
    with pytest.raises(BundleError, match="microns per pixel of this bundle are unknown"):
        scan_slide(slide, tissue, bundle, StandInEngine(), show=False)  # type: ignore[arg-type]


# Dense reading


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stride=st.integers(20, 150), tile=st.integers(50, 1200), streams=st.integers(1, 3))
def test_a_dense_map_is_that_of_patch_by_patch_whatever_the_stride_the_tiles_and_the_threads(
    slide: Slide, tissue: Tissue, stride: int, tile: int, streams: int
) -> None:
    engine = StandInEngine(tile=tile, block=1300, streams=streams)
    dense = scan(slide, tissue, engine, reading="dense", stride=stride)
    np.testing.assert_array_equal(dense.probability, scan(slide, tissue, stride=stride).probability)


def test_the_map_says_how_it_was_read(slide: Slide, tissue: Tissue) -> None:
    densely, by_patch = scan(slide, tissue, reading="dense"), scan(slide, tissue)
    assert (densely.engine, densely.reading) == ("stand-in cpu float32 dense", "dense")
    assert (by_patch.engine, by_patch.reading) == ("stand-in cpu float32", "patch")


@pytest.mark.parametrize("place", [3, -10], ids=["a score", "a quality"])
def test_a_flipped_bit_in_the_log_of_a_dense_scan_is_computed_again(
    tmp_path: Path, slide: Slide, tissue: Tissue, place: int
) -> None:
    whole, log = scan(slide, tissue, reading="dense"), tmp_path / "scores.part"
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), reading="dense", log=log)
    data = bytearray(log.read_bytes())
    data[32 + place if place > 0 else place] ^= 4  # in the first record, or at the end of the last
    log.write_bytes(data)
    resumed = scan(slide, tissue, reading="dense", log=log)
    assert resumed.probability.tobytes() == whole.probability.tobytes()
    assert resumed.quality is not None and whole.quality is not None
    assert resumed.quality.tobytes() == whole.quality.tobytes()


def test_a_dense_map_has_the_calibration_of_dense_reading(slide: Slide, tissue: Tissue) -> None:
    own = Reading(temperature=3.0, offset=1.0, threshold=0.3, prior=0.4, halo=24)
    bundle = own_bundle(readings={"dense": own})
    densely = scan_slide(slide, tissue, bundle, StandInEngine(), reading="dense", prior=0.4, show=False)  # type: ignore[arg-type]
    by_patch = scan(slide, tissue, prior=0.5)
    some = densely.tissue
    margins = 1.5 * logit(by_patch.probability[some].astype(float))
    np.testing.assert_allclose(densely.probability[some], expit((margins + 1) / 3), atol=1e-4)
    assert densely.threshold == pytest.approx(0.3)


@pytest.mark.parametrize("torn", [0, 1, 7])
def test_a_stopped_dense_scan_goes_on_tile_by_tile_and_ends_the_same(
    tmp_path: Path, slide: Slide, tissue: Tissue, torn: int
) -> None:
    whole, log = scan(slide, tissue, reading="dense"), tmp_path / "scores.part"
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), reading="dense", log=log)
    log.write_bytes(log.read_bytes()[: -torn or None])
    engine = StandInEngine()
    resumed = scan(slide, tissue, engine, reading="dense", log=log)
    assert resumed.probability.tobytes() == whole.probability.tobytes()
    assert len(engine.sizes) > 0
    first = StandInEngine()
    scan(slide, tissue, first, reading="dense")
    assert engine.sizes == first.sizes[5 if torn == 0 else 4 :]


@pytest.mark.parametrize("reading", ["patch", "dense"])
@pytest.mark.parametrize("count", [1, 2, 5, 1000])
def test_parts_that_are_scored_apart_make_the_same_map_and_nothing_is_computed_again(
    slide: Slide, tissue: Tissue, count: int, reading: str
) -> None:
    whole, last = scan(slide, tissue, reading=reading), StandInEngine()
    parts = [
        score_part(slide, tissue, StandInBundle(), StandInEngine(), (number, count), reading=reading)  # type: ignore[arg-type]
        for number in (range(count) if count < 1000 else (0, 1, 500, 999))
    ]
    if count == 1000:  # more than there are batches: some are empty
        assert min(len(part.margins) for part in parts) == 0
        return
    made = scan(slide, tissue, last, reading=reading, scores=join_scores(parts))
    assert record_of(made) == record_of(whole) and not last.sizes
    assert made.probability.tobytes() == whole.probability.tobytes() and np.array_equal(made.quality, whole.quality)


def test_known_scores_go_on_where_the_log_ends_and_those_of_another_scan_are_ignored(
    slide: Slide, tissue: Tissue, tmp_path: Path
) -> None:
    def part(number: int, **options: object) -> Scores:
        return score_part(slide, tissue, StandInBundle(), StandInEngine(), (number, 2), **options)  # type: ignore[arg-type]

    whole, log, engine, first = scan(slide, tissue), tmp_path / "scores.part", StandInEngine(), part(0)
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), log=log)
    made = scan(slide, tissue, engine, log=log, scores=first)
    assert made.probability.tobytes() == whole.probability.tobytes()
    assert sum(engine.sizes) == int(whole.tissue.sum()) - len(first.margins) > 0
    dark = replace(part(0, stride=96), margins=np.full(10**6, 9, np.float32))
    assert scan(slide, tissue, scores=dark).probability.tobytes() == whole.probability.tobytes()
    assert join_scores([first, dark]) is None


def test_the_log_of_the_other_reading_is_not_used(tmp_path: Path, slide: Slide, tissue: Tissue) -> None:
    log = tmp_path / "scores.part"
    with pytest.raises(KeyboardInterrupt):
        scan(slide, tissue, Stops(), log=log)
    assert np.array_equal(
        scan(slide, tissue, reading="dense", log=log).probability, scan(slide, tissue).probability, equal_nan=True
    )


def test_the_map_of_a_real_network_does_not_depend_on_the_tiles(
    slide: Slide, tissue: Tissue, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Margins within 0.02, which is what the halo is chosen for; the same tiles give the same bytes."""
    engine = TorchEngine(bundle, device="cpu", precision="float32")
    halo = find_halo(engine, slide.region(300, 300, 96, 96, 0.972)[None])
    readings = {"dense": Reading(temperature=1.0, threshold=0.5, halo=halo)}
    measured = Bundle(bundle.path, bundle.card.model_copy(update={"readings": readings}))

    def margins(tile: int) -> np.ndarray:
        engine.tile, engine.block = tile, 2000
        found = scan_slide(slide, tissue, measured, engine, reading="dense", prior=0.5, show=False)
        return logit(found.probability[found.tissue].astype(float))

    monkeypatch.setattr(dense, "HALOS", 0)
    large = margins(1500)
    np.testing.assert_array_equal(large, margins(1500))
    for tile in (100, 300):
        np.testing.assert_allclose(margins(tile), large, atol=0.03)

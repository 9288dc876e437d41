"""FROC as Camelyon16's script defines it, and as MONAI computes it."""

import dataclasses
import json
import math
import time

import numpy as np
import pytest
import shapely
import tifffile
from annotation_files import asap_file, feature, geojson, polygon
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_maps import asap, blob, made_map, made_point, square
from scipy import ndimage
from scipy.special import expit, logit
from skimage import measure

from sentinode.errors import AnnotationError, SlideError
from sentinode.evaluation.froc import (
    FALSE_POSITIVES,
    Detections,
    SlideResult,
    Tumours,
    at_even_prior,
    compare,
    evaluate_froc,
    froc_curve,
    grown,
    longest_axes,
    reported,
    score_slide,
    sensitivities,
    summarise,
    suppress,
    tumours_on,
    write_froc,
)
from sentinode.model.slide_operating_point import GENERAL, ChosenOn, SlideOperatingPoints
from sentinode.slides.reading.annotations import rasterise, read_annotations
from sentinode.slides.results.lesions import find_lesions
from sentinode.slides.scanning.manifest import MANIFEST, POINTS
from sentinode.slides.scanning.probability_map import write_map


def as_float32(*values):
    """The numbers nearest to some that float32 holds; old versions of Hypothesis put no others into an array."""
    return np.float32(values).tolist()


def slides(tmp_path, seed=0, count=4, side=96, mask_mpp=7.776):
    """Maps and truth on one grid: large, small and close tumours, hits and false alarms."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        truth = np.zeros((side, side), np.uint8)
        for _ in range(rng.integers(0 if i else 1, 4)):
            y, x = rng.integers(5, side - 35, 2)
            height, width = rng.integers(1, 30, 2)
            truth[y : y + height, x : x + width] = 1
        noise = ndimage.gaussian_filter(rng.normal(size=truth.shape), 2) * 6
        probability = 1 / (1 + np.exp(-(noise + 1.5 * truth - 1)))
        yield i, truth, probability.astype(np.float32)


def ours(samples, mask_mpp, box, threshold=0.5):
    results = []
    for i, truth, probability in samples:
        detections = suppress(probability, threshold=threshold, box=box)
        labels, ignored = grown(truth, mask_mpp)
        under = labels[detections.row, detections.column]
        results.append(compare(str(i), detections, under, Tumours(labels, ignored), score=0.5))
    return results


def monais(samples, tmp_path, mask_mpp, box, threshold=0.5, level=0):
    from monai.apps.pathology.metrics import LesionFROC  # seconds to import, so only here

    data = []
    for i, truth, probability in samples:
        np.save(tmp_path / f"{i}.npy", probability)
        with tifffile.TiffWriter(tmp_path / f"{i}.tif") as tif:
            for step in [2**k for k in range(level, -1, -1)]:
                finer = np.repeat(np.repeat(truth, step, 0), step, 1)
                tif.write(
                    np.dstack([finer] * 3),
                    tile=(96, 96),
                    photometric="rgb",
                    compression="zlib",
                    subfiletype=int(step < 2**level),
                )
        data.append(
            {
                "prob_map": str(tmp_path / f"{i}.npy"),
                "tumor_mask": str(tmp_path / f"{i}.tif"),
                "level": level,
                "pixel_spacing": mask_mpp / 2**level,
            }
        )
    return LesionFROC(data, nms_box_size=box, nms_prob_threshold=threshold, image_reader_name="OpenSlide").evaluate()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("seed", "mask_mpp", "box", "threshold", "level"),
    [(0, 7.776, 8, 0.5, 0), (1, 7.776, 5, 0.3, 1), (2, 31.104, 3, 0.5, 0), (3, 15.552, 24, 0.7, 2)],
)
def test_the_figure_equals_monais(tmp_path, seed, mask_mpp, box, threshold, level):
    samples = list(slides(tmp_path, seed))
    results = ours(samples, mask_mpp, box, threshold)
    assert any(len(slide.false) for slide in results)
    assert any(slide.targets for slide in results)
    expected = monais(samples, tmp_path, mask_mpp, box, threshold, level)
    assert summarise(results).froc.value == pytest.approx(expected, abs=1e-6)


def at_prior(even, prior, stride=32.0):
    """A map of these probabilities as a scan with another prior writes it: in float32, the threshold moved, too."""
    shift = logit(prior)
    moved = expit(logit(np.asarray(even, np.float64)) + shift).astype(np.float32)
    return made_map(moved, stride=stride, threshold=float(expit(logit(0.6) + shift)), prior=prior)


def write_samples(folder, samples, prior=0.5):
    """Maps and annotations of samples: windows of 8 level-0 pixels, and each pixel of the truth a square of 8."""
    maps, truth = folder / "maps", folder / "truth"
    truth.mkdir(parents=True)
    for i, mask, probability in samples:
        (maps / f"s{i}").mkdir(parents=True)
        write_map(maps / f"s{i}", at_prior(probability, prior, stride=8.0))
        rows, columns = np.nonzero(mask)
        boxes = shapely.union_all(shapely.box(columns, rows, columns + 1, rows + 1))
        rings = [list(part.exterior.coords) for part in shapely.get_parts(boxes) if not part.is_empty]
        asap(truth / f"s{i}.xml", *([(8 * x, 8 * y) for x, y in ring] for ring in rings))
    return maps, truth


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_folders_of_maps_and_annotations_give_monais_figure_too(tmp_path):
    """The same through polygons on a slide: windows of 8 level-0 pixels, and the mask on their grid."""
    samples = list(slides(tmp_path, seed=5))
    maps, truth = write_samples(tmp_path, samples)
    result = evaluate_froc(maps, truth, box_um=8 * 7.776, mask_mpp=7.776, show=False)
    assert result.parameters["nms_box_windows"] == [8]
    assert result.froc.value == pytest.approx(monais(samples, tmp_path, 7.776, 8), abs=1e-6)


@given(
    arrays(np.float32, (7, 9), elements=st.sampled_from(as_float32(0, 0.5, 0.6, 0.7, 0.7, 0.9, float("nan")))),
    st.integers(1, 5),
)
def test_suppression_takes_the_highest_again_and_again(probability, box):
    left = np.nan_to_num(probability)
    expected = []
    while left.max() > 0.5:
        row, column = np.unravel_index(left.argmax(), left.shape)
        expected.append((row, column))
        before, after = box // 2, box - box // 2
        left[max(0, row - before) : row + after, max(0, column - before) : column + after] = 0
    kept = suppress(probability, threshold=0.5, box=box)
    assert list(zip(kept.row, kept.column, strict=True)) == expected


def test_suppression_of_every_window_of_a_large_map_takes_seconds():
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1792, 768)), 3)
    began = time.process_time()
    assert len(suppress(expit(noise).astype(np.float32), threshold=0, box=24).row) > 1000
    assert time.process_time() - began < 5


priors = st.floats(1e-6, 0.95)


@settings(deadline=None)
@given(
    arrays(np.float32, (24, 30), elements=st.sampled_from(as_float32(0.001, 0.3, 0.5, 0.5001, 0.7, 0.9, 0.999))), priors
)
def test_a_slides_detections_are_the_same_at_any_prior(tmp_path_factory, even, prior):
    annotations = read_annotations(asap(tmp_path_factory.mktemp("a") / "a.xml", square(96, 96, 300)))
    results = [
        score_slide("s", at_prior(even, p), annotations, threshold=0.5, box=3, mask_mpp=7.776) for p in (0.5, prior)
    ]
    np.testing.assert_allclose(results[1].false, results[0].false, rtol=1e-4)
    np.testing.assert_allclose(results[1].found, results[0].found, rtol=1e-4)
    assert results[1].score == pytest.approx(results[0].score, rel=1e-3)


@pytest.mark.parametrize("prior", [1e-6, 0.001, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("threshold", [None, 0.2, 0.0])
def test_the_figures_are_the_same_at_any_prior(tmp_path, prior, threshold):
    """Once 0.767 at a prior of one half and 0.200 at 0.05, because the threshold stayed where it was."""
    given_threshold = {} if threshold is None else {"threshold": threshold}
    figures = []
    for p in (0.5, prior):
        maps, truth = write_samples(tmp_path / f"at{p}", slides(tmp_path, seed=5, count=6), p)
        result = evaluate_froc(maps, truth, box_um=60, show=False, **given_threshold)
        figures.append((result.froc, result.sensitivity, result.slide_auc))
    assert figures[0] == figures[1]
    assert 0 < figures[0][0].value < 1


@pytest.mark.parametrize("prior", [0, 1, -0.5, float("nan")])
def test_a_map_whose_prior_is_no_share_is_refused(tmp_path, prior):
    annotations = read_annotations(asap(tmp_path / "a.xml", square(96, 96, 300)))
    with pytest.raises(SlideError, match="states a prior of"):
        score_slide("s", made_map(blob(20, 20), prior=prior), annotations, threshold=0.5, box=3)


@given(arrays(np.float32, 40, elements=st.floats(0, 1, width=32)), priors)
def test_moving_to_another_prior_and_back_keeps_the_order(even, prior):
    moved = expit(logit(even.astype(np.float64)) + logit(prior)).astype(np.float32)
    back = at_even_prior(moved, prior)
    order = np.argsort(even, kind="stable")
    assert (np.diff(back[order]) >= 0).all()
    np.testing.assert_allclose(back, even, rtol=2e-5, atol=1e-9)
    assert np.isnan(at_even_prior([np.nan], prior)).all()


@given(arrays(np.bool_, (12, 12)))
def test_the_longest_axis_is_scikit_images(mask):
    labels, count = ndimage.label(mask)
    expected = [region.axis_major_length for region in measure.regionprops(labels)]
    np.testing.assert_allclose(longest_axes(labels, count), expected, atol=1e-9)


def test_tumours_are_grown_by_37_um_and_filled():
    mask = np.zeros((60, 60), np.uint8)
    mask[20:40, 20:40] = 1
    mask[25:35, 25:35] = 0
    labels, ignored = grown(mask, mask_mpp=10.0)
    assert ignored == ()
    assert labels[30, 30] == 1
    assert np.flatnonzero(labels[30]).tolist() == list(range(17, 43))  # 3 pixels are nearer than 3.75


def test_neighbours_that_grow_together_are_one_target():
    mask = np.zeros((40, 80), np.uint8)
    mask[10:30, 10:30] = mask[10:30, 34:54] = 1
    assert grown(mask, mask_mpp=10.0)[0].max() == 1


def test_what_is_under_275_um_is_neither_target_nor_false():
    mask = np.zeros((60, 60), np.uint8)
    mask[30, 30:35] = 1
    labels, ignored = grown(mask, mask_mpp=10.0)
    assert ignored == (1,)
    seen = Detections(np.array([0.9, 0.8], np.float32), np.array([30, 5]), np.array([32, 5]))
    result = compare("s", seen, labels[seen.row, seen.column], Tumours(labels, ignored), 0.9)
    assert result.targets == 0
    assert result.false.tolist() == [pytest.approx(0.8)]


def test_a_part_of_the_mask_gives_the_regions_of_the_whole(tmp_path):
    probability_map = made_map(blob(100, 140))
    annotations = read_annotations(asap(tmp_path / "a.xml", square(700, 600, 900), square(-20, 2500, 500)))
    part = tumours_on(probability_map, annotations)
    before = (part.downsample - 1) / 2  # a mask's pixel is the first of those that it stands for
    size = (round(probability_map.slide.height / part.downsample), round(probability_map.slide.width / part.downsample))
    whole = rasterise(annotations.area, size, part.downsample, origin=(-before, -before))
    labels, ignored = grown(whole, 7.776)
    left, top = part.corner
    rows, columns = part.labels.shape
    assert part.ignored == ignored
    np.testing.assert_array_equal(part.labels > 0, labels[top : top + rows, left : left + columns] > 0)
    assert np.count_nonzero(part.labels) == np.count_nonzero(labels)
    x, y = np.array([1000.0, 10.0, 1e6, 3000.0]), np.array([1000.0, 2600.0, 0.0, 100.0])
    assert (part.at(x, y) > 0).tolist() == [True, True, False, False]


def result(name, false, found, ignored=0, score=0.5):
    return SlideResult(name, np.array(false, np.float32), np.array(found, np.float32), ignored, score)


def test_the_curve_by_hand():
    """Two slides, two tumours (one missed), false positives at 0.9 and 0.6; the lowest is no threshold."""
    curve = froc_curve([result("a", [0.9], [0.8, 0.0]), result("b", [0.6], [])])
    np.testing.assert_allclose(curve, [[1, 0.5], [0.5, 0.5], [0.5, 0], [0, 0]])
    np.testing.assert_allclose(sensitivities(curve), [0, 0.5, 0.5, 0.5, 0.5, 0.5])


def test_the_scripts_quirk_is_kept_and_said():
    """Where nothing is missed or ignored, the lowest probability is a real detection, and yet no threshold."""
    summary = summarise([result("a", [], [0.9])])
    assert summary.froc.value == 0
    assert "follow the script" in summary.warnings[0]


def test_figures_that_do_not_exist_are_null_and_said():
    summary = summarise([result("a", [0.9], []), result("b", [], [])])
    content = json.loads(json.dumps(summary.as_dict(), allow_nan=False))
    assert content["froc"] == {"value": None, "low": None, "high": None}
    assert content["slide_auc"]["value"] is None
    assert "no slide has a tumour" in content["warnings"][0]


def test_an_interval_that_would_rest_on_one_slide_is_left_out_and_few_slides_are_said_to_be_few():
    summary = summarise([result("ill", [0.2], [0.9, 0.1], score=0.9), *(result(str(i), [0.3], []) for i in range(5))])
    assert summary.slide_auc.value == 1
    assert math.isnan(summary.slide_auc.low) and math.isnan(summary.slide_auc.high)
    assert any("6 slides, 1 of them with tumour" in warning for warning in summary.warnings)


def test_fifty_slides_of_each_kind_need_no_caution():
    many = [result(str(i), [0.3], [0.5, 0.0] if i % 2 else [], score=i % 7) for i in range(100)]
    assert summarise(many).warnings == ()


def test_the_interval_is_wider_where_slides_are_fewer():
    def width(count):
        rng = np.random.default_rng(3)
        slides = [result(str(i), rng.random(4), rng.random(2) * (rng.random(2) < 0.6)) for i in range(count)]
        froc = summarise(slides).froc
        return froc.high - froc.low

    assert width(8) > 2 * width(80) > 0


def test_the_interval_holds_the_figure_and_repeats():
    rng = np.random.default_rng(0)
    slides = [result(str(i), rng.random(5), rng.random(i % 3), score=rng.random() + (i % 3 > 0)) for i in range(30)]
    first, again = (summarise(slides) for _ in range(2))
    assert first.froc == again.froc
    assert first.froc.low < first.froc.value < first.froc.high
    assert first.slide_auc.low <= first.slide_auc.value <= first.slide_auc.high


def a_batch(tmp_path, *names):
    maps, truth = tmp_path / "maps", tmp_path / "truth"
    truth.mkdir()
    for name in names:
        (maps / name).mkdir(parents=True)
        write_map(maps / name, made_map(blob(60, 60, (10, 10, 30, 30))))
    return maps, truth


def test_the_two_slides_of_camelyon16_that_do_not_count_are_left_out(tmp_path):
    maps, truth = a_batch(tmp_path, "Test_049", "test_114", "test_001", "test_002")
    asap(truth / "test_001.xml", square(320, 320, 640))
    summary = evaluate_froc(maps, truth, absent_is_normal=True, show=False)
    assert summary.left_out == ("Test_049", "test_114")
    assert [slide.name for slide in summary.slides] == ["test_001", "test_002"]
    assert summary.as_dict()["tumours"] == 1
    assert summary.slides[0].found.tolist() == [pytest.approx(0.95)]
    assert len(summary.slides[1].false) > 0


def test_a_missing_truth_is_refused_unless_it_means_normal(tmp_path):
    maps, truth = a_batch(tmp_path, "a", "b")
    asap(truth / "a.xml", square(320, 320, 640))
    with pytest.raises(AnnotationError, match=r"no annotations for 1 of 2 slides: b(.|\n)*--absent-is-normal"):
        evaluate_froc(maps, truth, show=False)


def test_a_file_of_another_spelling_is_found(tmp_path):
    maps, truth = a_batch(tmp_path, "a", "b")
    asap(truth / "A.XML", square(320, 320, 640))
    asap(truth / "b.tif.xml")
    summary = evaluate_froc(maps, truth, absent_is_normal=True, show=False)
    assert [slide.targets for slide in summary.slides] == [1, 0]
    assert summary.as_dict()["without_tumour"] == {"by_file": 1, "by_absence": 0}


def test_silence_is_normal_only_where_nothing_speaks(tmp_path):
    maps, truth = a_batch(tmp_path, "tumor_001", "tumor_002", "normal_001")
    asap(truth / "tumor_001.xml", square(320, 320, 640))
    asap(truth / "tumor_2.xml", square(320, 320, 640))
    with pytest.raises(AnnotationError, match=r"'tumor_2\.xml' looks like that of 'tumor_002'"):
        evaluate_froc(maps, truth, absent_is_normal=True, show=False)
    (truth / "tumor_2.xml").rename(truth / "tumor_002.xml")
    asap(truth / "tumor_003.xml", square(320, 320, 640))
    summary = evaluate_froc(maps, truth, absent_is_normal=True, show=False)
    assert summary.as_dict()["without_tumour"] == {"by_file": 0, "by_absence": 1}
    assert summary.warnings[0] == "1 annotation file matches no slide: 'tumor_003.xml'."


@pytest.mark.parametrize("absent_is_normal", [False, True])
def test_a_file_of_which_only_a_dot_is_left_is_no_slide_without_tumour(tmp_path, absent_is_normal):
    maps, truth = a_batch(tmp_path, "a", "b")
    asap(truth / "a.xml", square(320, 320, 640))
    asap_file(truth / "b.xml", ("x", "Dot", "Tumor", [(300, 300)]))
    with pytest.raises(AnnotationError, match="nothing with an area was left"):
        evaluate_froc(maps, truth, absent_is_normal=absent_is_normal, show=False)


def test_a_tumour_smaller_than_a_pixel_of_the_mask_does_not_make_a_slide_normal(tmp_path):
    maps, truth = a_batch(tmp_path, "a", "b")
    asap(truth / "b.xml")
    for corner in [(100.5, 100.5), (1919, 1919), (-1.9, 700), (0, 0)]:
        asap(truth / "a.xml", square(*corner, 2))
        a, b = evaluate_froc(maps, truth, show=False).slides
        assert (len(a.found), a.targets, a.ignored) == (1, 0, 1)
        assert len(b.found) == 0


def test_how_annotations_are_read_can_be_named(tmp_path):
    maps, truth = a_batch(tmp_path, "a")
    geojson(truth / "a.geojson", feature(polygon(square(80, 80, 160)), "Carcinoma"))
    with pytest.raises(AnnotationError, match="--tumour-class"):
        evaluate_froc(maps, truth, show=False)
    summary = evaluate_froc(maps, truth, tumour_classes=["carcinoma"], scale=4, show=False)
    assert summary.slides[0].found.tolist() == [pytest.approx(0.95)]


def test_what_qupath_drew_is_moved_by_the_slides_bounds(tmp_path):
    maps, truth = a_batch(tmp_path, "a", "b")
    cropped = made_map(blob(60, 60, (10, 10, 30, 30)))
    bounds = (200, 260, 1600, 1600)
    write_map(maps / "a", dataclasses.replace(cropped, slide=dataclasses.replace(cropped.slide, bounds=bounds)))
    geojson(truth / "a.geojson", feature(polygon(square(320 - 200, 320 - 260, 640))))
    asap(truth / "b.xml")
    summary = evaluate_froc(maps, truth, show=False)
    assert summary.slides[0].found.tolist() == [pytest.approx(0.95)]
    assert "a: coordinates were taken to count from the corner of the slide's bounds" in summary.warnings[0]
    geojson(truth / "a.geojson", feature(polygon(square(320, 320, 640))))
    whole = evaluate_froc(maps, truth, whole_slide_coordinates=True, show=False)
    assert whole.froc == summary.froc
    np.testing.assert_array_equal(whole.slides[0].false, summary.slides[0].false)


def test_a_folder_without_maps_is_refused(tmp_path):
    with pytest.raises(SlideError, match="no maps here"):
        evaluate_froc(tmp_path, tmp_path, show=False)


def test_truth_of_another_slide_is_refused(tmp_path):
    maps, truth = a_batch(tmp_path, "a")
    asap(truth / "a.xml", square(50_000, 320, 640))
    with pytest.raises(AnnotationError, match="outside the slide of 1920 x 1920"):
        evaluate_froc(maps, truth, show=False)


@pytest.mark.parametrize(
    "wrong", [{"box_um": 0}, {"mask_mpp": -1}, {"threshold": float("nan")}, {"threshold": 1.5}, {"threshold": -0.1}]
)
def test_arguments_that_make_no_sense_are_refused(tmp_path, wrong):
    with pytest.raises(SlideError, match="makes no sense"):
        evaluate_froc(tmp_path, tmp_path, show=False, **wrong)


def test_only_slides_that_do_not_count_is_refused(tmp_path):
    maps, truth = a_batch(tmp_path, "test_114")
    with pytest.raises(SlideError, match="no slide to score"):
        evaluate_froc(maps, truth, show=False)


def test_what_the_operating_point_reports_is_held_against_the_same_truth(tmp_path):
    """A lesion in a tumour, one in a tumour too small to count, one outside; and a tumour that is missed."""
    probability_map = made_map(blob(100, 100, (10, 10, 22, 22), (40, 40, 42, 42), (70, 70, 74, 74)))
    annotations = read_annotations(
        asap(tmp_path / "a.xml", square(320, 320, 400), square(1280, 1280, 40), square(2400, 320, 400))
    )
    tumours = tumours_on(probability_map, annotations)
    assert (tumours.count, len(tumours.ignored)) == (3, 1)
    assert reported(find_lesions(probability_map, point=made_point()), tumours) == (1, 1)
    assert reported(find_lesions(probability_map, point=made_point(reach=0.99)), tumours) == (0, 0)


def test_the_maps_operating_point_is_on_the_chart_and_in_the_record(tmp_path):
    maps, truth = a_batch(tmp_path, "a", "b")
    asap(truth / "a.xml", square(320, 320, 640))
    asap(truth / "b.xml")
    records = []
    for reach in (0.5, 0.99):
        points = SlideOperatingPoints(points={"specific": made_point(reach=reach)}, default="specific")
        (maps / MANIFEST).write_text(json.dumps({POINTS: points.model_dump(mode="json")}))
        write_froc(tmp_path / "out", evaluate_froc(maps, truth, show=False))
        records.append(json.loads((tmp_path / "out" / "froc.json").read_text()))
    assert [record["operating_point"] for record in records] == [
        {"false_lesions_per_slide": 0.5, "sensitivity": 1},
        {"false_lesions_per_slide": 0, "sensitivity": 0},
    ]
    assert records[0]["parameters"]["operating_point"]["name"] == "specific"
    assert records[0]["froc"] == records[1]["froc"]
    assert [slide["reported_false"] for slide in records[0]["per_slide"]] == [0, 1]
    assert "as reported" in (tmp_path / "out" / "froc.svg").read_text()


def test_the_files_name_the_parameters_and_repeat_byte_for_byte(tmp_path):
    maps, truth = a_batch(tmp_path, "a", "b")
    asap(truth / "a.xml", square(320, 320, 640))
    asap(truth / "b.xml")
    for out in ("one", "two"):
        write_froc(tmp_path / out, evaluate_froc(maps, truth, show=False))
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert files.keys() == {"froc.json", "froc.csv", "froc.svg"}
    parameters = json.loads(files["froc.json"])["parameters"]
    assert (parameters["nms_threshold"], parameters["nms_box_windows"]) == (0.5, [24])
    assert list(FALSE_POSITIVES) == parameters["false_positives_per_slide"]


def test_maps_that_the_operating_point_was_not_chosen_on_are_cautioned_once(tmp_path):
    maps, truth = a_batch(tmp_path, "a", "b")
    for name in ("a", "b"):
        asap(truth / f"{name}.xml")
    chosen_on = ChosenOn(description="built slides", slides=9, positive=4, negative=5, lesions=7, window_um=93.3)
    points = GENERAL.model_copy(
        update={"points": {"balanced": GENERAL.point.model_copy(update={"chosen_on": chosen_on})}}
    )
    (maps / "manifest.json").write_text(json.dumps({"slide_operating_points": points.model_dump(mode="json")}))
    (caution,) = (warning for warning in evaluate_froc(maps, truth, show=False).warnings if "chosen on" in warning)
    assert caution.startswith(
        "slide operating point 'balanced', 2 of 2 slides: It was chosen on maps with a window every"
    )

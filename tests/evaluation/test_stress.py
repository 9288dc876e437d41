"""Stress curves: what is disturbed, what stays, and what is left on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sentinode.errors import DataError
from sentinode.evaluation.scanner_colours import estimate_stain
from sentinode.evaluation.stress import DISTURBANCES, METRICS, SCANNER, StressPoint, _fall, stress, weakest_point
from sentinode.model.bundle import Bundle
from sentinode.patches import open_data

PATCH = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8).repeat(1, 0))


@pytest.mark.parametrize(("name", "level"), [(name, level) for name, d in DISTURBANCES.items() for level in d.levels])
def test_each_level_changes_a_patch_and_keeps_its_size(name: str, level: float) -> None:
    disturbed = DISTURBANCES[name].apply(PATCH, level)
    assert disturbed.size == PATCH.size and disturbed.mode == "RGB"
    assert not np.array_equal(np.asarray(disturbed), np.asarray(PATCH))


@pytest.mark.parametrize("name", ["stain", "hue", "brightness", "magnification"])
def test_the_untouched_level_leaves_a_patch_nearly_as_it_is(name: str) -> None:
    disturbance = DISTURBANCES[name]
    gap = np.asarray(disturbance.apply(PATCH, disturbance.untouched), int) - np.asarray(PATCH, int)
    assert np.abs(gap).mean() < 2  # HSV in bytes rounds


def test_a_magnified_patch_keeps_its_centre_in_the_centre() -> None:
    dot = np.zeros((96, 96, 3), np.uint8)
    dot[44:52, 44:52] = 255
    for level in DISTURBANCES["magnification"].levels:
        seen = np.asarray(DISTURBANCES["magnification"].apply(Image.fromarray(dot), level), float)[..., 0]
        rows, cols = (np.average(np.arange(96), weights=seen.sum(axis)) for axis in (1, 0))
        assert (rows, cols) == (pytest.approx(47.5, abs=0.1), pytest.approx(47.5, abs=0.1))
        assert seen.sum() == pytest.approx(dot[..., 0].sum() * level**2, rel=0.1)


def test_it_leaves_a_record_and_a_picture_and_the_same_again(bundle: Bundle, generated: Path, tmp_path: Path) -> None:
    points = stress(bundle, generated, "valid", tmp_path / "a", count=40, resamples=5, show=False)
    record = json.loads((tmp_path / "a" / "stress.json").read_text())
    assert record["patches"] == 40 and len(record["points"]) == len(points)
    for name, disturbance in DISTURBANCES.items():
        levels = [point.level for point in points if point.disturbance == name]
        assert levels == [disturbance.untouched, *disturbance.levels]
    hospitals = [point.label for point in points if point.disturbance == SCANNER]
    assert hospitals == ["own", "centre 0", "centre 1", "centre 2", "centre 3", "centre 4"]
    assert record["weakest_point"] == weakest_point(points)
    page = (tmp_path / "a" / "stress.html").read_text("utf-8")
    assert record["weakest_point"] in page and "lossless" in page and "centre 4" in page
    assert all(0 <= point.figures["auc"][0] <= 1 and set(point.figures) == set(METRICS) for point in points)
    assert Image.open(tmp_path / "a" / "stress.png").width > 600
    stress(bundle, generated, "valid", tmp_path / "b", count=40, resamples=5, show=False)
    assert (tmp_path / "a" / "stress.json").read_bytes() == (tmp_path / "b" / "stress.json").read_bytes()


def test_intervals_are_by_slide_where_slides_are_known(bundle: Bundle, generated: Path, tmp_path: Path) -> None:
    stress(bundle, generated, "valid", tmp_path, count=60, show=False)
    record = json.loads((tmp_path / "stress.json").read_text())
    assert record["interval"].startswith("95 % by slide: jackknife over")
    assert record["warnings"][0].startswith("Only ")


def test_a_class_on_one_slide_has_no_interval_and_is_drawn(bundle: Bundle, generated: Path, tmp_path: Path) -> None:
    patches = open_data(generated, show=False)["valid"]
    rows = [f"{id},{'one' if label else id}\n" for id, label in zip(patches.ids, patches.labels, strict=True)]
    (tmp_path / "map.csv").write_text("id,slide\n" + "".join(rows))
    data = open_data(generated, slide_map=tmp_path / "map.csv", show=False)
    points = stress(bundle, data, "valid", tmp_path / "out", count=60, show=False)
    assert all(point.figures["auc"][1:] == (None, None) for point in points)
    assert (tmp_path / "out" / "stress.png").exists()


def test_patches_of_one_class_are_refused(bundle: Bundle, generated: Path, tmp_path: Path) -> None:
    data = open_data(generated, show=False)
    data["valid"].labels[:] = 1
    with pytest.raises(DataError, match="one class only"):
        stress(bundle, data, "valid", tmp_path / "out", show=False)
    assert not (tmp_path / "out").exists()


def test_patches_without_tissue_are_scored_without_the_stain_of_others(
    bundle: Bundle, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(images: np.ndarray) -> None:
        estimate_stain(np.full_like(images, 250))

    monkeypatch.setattr("sentinode.evaluation.stress.estimate_stain", refuse)
    points = stress(bundle, generated, "valid", tmp_path, count=20, resamples=2, show=False)
    assert SCANNER not in {point.disturbance for point in points}
    assert "too little stained tissue" in (tmp_path / "stress.json").read_text()


def point(name: str, level: float, accuracy: float, fall: tuple[float, float, float], usual: bool) -> StressPoint:
    figures = {"auc": (accuracy, 0.0, 1.0), "accuracy": (accuracy, 0.0, 1.0), "nll": (0.3, 0.2, 0.4)}
    return StressPoint(name, level, figures, f"{level:g}", usual, fall)


def test_the_weakest_point_is_the_largest_fall_among_usual_levels() -> None:
    points = [
        point("blur", 0, 0.9, (0, 0, 0), False),
        point("blur", 1, 0.8, (0.1, 0.05, 0.15), True),
        point("blur", 3, 0.5, (0.4, 0.3, 0.5), False),
        point("hue", 0, 0.9, (0, 0, 0), False),
        point("hue", 0.05, 0.85, (0.05, 0.01, 0.09), True),
    ]
    told = weakest_point(points)
    assert "blur 1. The accuracy falls from 0.900 to 0.800, by 0.100 (0.050 to 0.150)" in told
    assert weakest_point(points[::-1][:2][::-1]).count("hue 0.05") == 1


def test_a_fall_that_chance_may_explain_is_no_weakness() -> None:
    points = [point("hue", 0, 0.9, (0, 0, 0), False), point("hue", 0.05, 0.88, (0.02, -0.01, 0.05), True)]
    assert weakest_point(points).startswith("No change that is usual between scanners lowers the accuracy by more")


def test_a_fall_is_measured_on_the_same_patches() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(400) < 0.9
    after = before & (rng.random(400) < 0.95)
    value, low, high = _fall(before, after, None)
    assert value == pytest.approx(before.mean() - after.mean())
    assert low is not None and high is not None and 0 < low < value < high < 0.08  # unpaired it would reach below 0
    assert _fall(before, before, None)[0] == 0
    slides = np.repeat([f"s{at}" for at in range(8)], 50)
    by_slide = _fall(before, after, slides)
    order = rng.permutation(400)
    assert by_slide == pytest.approx(_fall(before[order], after[order], slides[order]))


def test_defocus_keeps_the_light_and_spreads_a_point_over_a_disc() -> None:
    dot = np.zeros((96, 96, 3), np.uint8)
    dot[48, 48] = 255
    seen = np.asarray(DISTURBANCES["defocus"].apply(Image.fromarray(dot), 2.0), float)[..., 0]
    assert seen.sum() == pytest.approx(255, rel=0.05)
    assert seen[48, 48] == pytest.approx(255 / (np.pi * 4), rel=0.05) and seen[48, 51] == 0

"""Models compared from the table to the page."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentinode.errors import DataError
from sentinode.evaluation.comparing import compare
from sentinode.evaluation.comparison_tables import as_latex, as_markdown
from sentinode.evaluation.disagreements import disagreements, refuse_other_patches
from sentinode.evaluation.evaluating_predictions import evaluate_predictions
from sentinode.evaluation.forest import Line, forest
from sentinode.patches import PatchSet
from sentinode.scoring import Predictions, with_threshold


def models(n: int = 300, noise: tuple[float, ...] = (0.2, 2.5), seed: int = 0, **more: Any) -> list[Predictions]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n).astype(np.uint8)
    evidence = rng.normal(2.0 * labels - 1, 1)
    ids = np.arange(n).astype(str)
    return [
        Predictions(f"model <{at}>", ids, labels, 1 / (1 + np.exp(-evidence - rng.normal(0, one, n))), **more)
        for at, one in enumerate(noise)
    ]


def patches(predictions: Predictions) -> PatchSet:
    """Images of some of the patches, by ids as the official data has them."""
    images = np.random.default_rng(0).integers(256, size=(40, 8, 8, 3), dtype=np.uint8)
    ids = np.array([f"test/{row:06d}" for row in range(40)])
    return PatchSet(images, predictions.labels[:40], ids, "test", Path("data"), "official")


def test_all_files_are_written_and_hold_the_same_numbers(tmp_path: Path) -> None:
    found = compare(models(), tmp_path, resamples=50, non_inferior=("auc", 0.01), show=False)
    names = {path.name for path in tmp_path.iterdir()}
    tables = {"models.csv", "pairs.csv", "table.md", "table.tex"}
    assert names == tables | {"comparison.svg", "comparison.json", "report.html", "verdict.txt"}
    record = json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    with (tmp_path / "pairs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(record["differences"]) == 10
    assert float(rows[0]["difference"]) == pytest.approx(found.paired.of("auc")[0].value)
    assert record["differences"][0]["one"] == "model <0>"
    assert record["non_inferiority"][0]["shown"] is False
    assert (tmp_path / "verdict.txt").read_text("utf-8").splitlines() == list(found.verdicts)
    assert found.verdicts[0].startswith("model <0> has a higher AUC than model <1>: +0.")
    assert found.verdicts[1].startswith("It is not shown that model <1> is not inferior to model <0> in AUC")


def test_the_page_escapes_names_and_says_each_verdict(tmp_path: Path) -> None:
    found = compare(models(noise=(0.2, 0.5, 0.9)), tmp_path, resamples=50, show=False)
    page = found.report.read_text("utf-8")
    assert "model <0>" not in page
    assert page.count("after Holm&#39;s correction for 3 pairs") >= 3
    assert "No images are at hand" in page


def test_no_difference_is_not_called_one(tmp_path: Path) -> None:
    pair = models(60, noise=(0.5, 0.5))
    (sentence,) = compare(pair, tmp_path, resamples=50, show=False).verdicts
    assert sentence.startswith("No difference in AUC between model <0> and model <1> is shown")


def test_from_two_slides_nothing_is_claimed(tmp_path: Path) -> None:
    slides = np.repeat(["a", "b"], 150)
    (sentence,) = compare(models(slides=slides), tmp_path, resamples=50, show=False).verdicts
    assert "cannot be said from 2 slides" in sentence


def test_one_class_alone_is_said(tmp_path: Path) -> None:
    pair = [
        Predictions(name, np.array(["a", "b"]), np.ones(2, np.uint8), np.array(p))
        for name, p in (("a", [0.2, 0.9]), ("b", [0.6, 0.7]))
    ]
    found = compare(pair, tmp_path, resamples=30, show=False)
    assert found.verdicts == ("a and b cannot be compared by AUC: it is undefined for these patches.",)
    json.loads((tmp_path / "comparison.json").read_text("utf-8"))
    assert "undefined" in found.report.read_text("utf-8")


def test_shared_patches_alone_are_told(tmp_path: Path) -> None:
    one, other = models()
    fewer = other.rows(np.arange(200))
    with pytest.raises(DataError, match="200 are shared by all"):
        compare([one, fewer], tmp_path, show=False)
    found = compare([one, fewer], tmp_path, shared_only=True, resamples=30, show=False)
    assert "100 of 300 patches of model <0> are left out." in found.warnings


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"models": models()[:1]}, "two models or more"),
        ({"models": [models()[0]] * 2}, "two models are called 'model <0>'"),
        ({"valid": models(seed=1)[:1]}, "2 models and 1 sets of predictions for other patches"),
        ({"metric": "area"}, "no metric 'area'"),
        ({"valid": models()}, "300 of these patches are also among those that are scored"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        compare(**{"models": models(), "out": tmp_path, "show": False, **change})
    assert not list(tmp_path.iterdir())


class TestThresholds:
    def test_they_are_chosen_on_other_patches(self) -> None:
        test, valid = models(seed=0)[0], models(seed=1)[0]
        found = with_threshold(test, valid, "balanced_accuracy")
        assert found.threshold is not None
        assert found.rule == "balanced_accuracy, on 300 other patches"

    def test_the_one_that_the_predictions_bring_is_kept_and_else_it_is_one_half(self) -> None:
        assert with_threshold(models(threshold=0.3, rule="f1, on valid")[0]).threshold == 0.3
        found = with_threshold(models()[0])
        assert (found.threshold, found.rule) == (0.5, "fixed; none was chosen on other patches")

    def test_the_same_patches_are_refused_also_by_another_model(self) -> None:
        one, other = models()
        with pytest.raises(DataError, match="looks better than it is"):
            with_threshold(one, other)

    def test_one_class_is_refused(self) -> None:
        valid = models(seed=1)[0]
        with pytest.raises(DataError, match="one class"):
            with_threshold(models()[0], valid.rows(np.flatnonzero(valid.labels == 1)))


class TestDisagreements:
    def test_each_is_right_for_one_alone_and_the_surest_come_first(self) -> None:
        pair = [with_threshold(one) for one in models()]
        found = disagreements(pair, 0, 1)
        for one in found:
            row = int(one.id)
            assert (pair[one.right].probabilities[row] >= 0.5) == pair[0].labels[row]
            assert (pair[1 - one.right].probabilities[row] >= 0.5) != pair[0].labels[row]
        apart = [abs(a - b) for a, b in (one.probabilities for one in found if one.right == 0)]
        assert apart == sorted(apart, reverse=True)
        assert len(apart) == 6

    def test_images_are_found_by_the_number_at_the_end_of_their_ids(self, tmp_path: Path) -> None:
        pair = models()
        found = compare(pair, tmp_path, patches=patches(pair[0]), resamples=30, show=False)
        page = found.report.read_text("utf-8")
        assert page.count("data:image/png;base64") == len(disagreements(found.models, 0, 1, patches(pair[0])))

    def test_images_of_other_patches_are_refused(self) -> None:
        one = models()[0]
        with pytest.raises(DataError, match="another label"):
            refuse_other_patches(one, patches(models(seed=3)[0]))
        with pytest.raises(DataError, match="none of the 40 predictions is of these patches"):
            refuse_other_patches(one.rows(np.arange(100, 140)), patches(one))


class TestEvaluatePredictions:
    def test_the_same_files_as_for_a_bundle_are_written(self, tmp_path: Path) -> None:
        test, valid = models(seed=0)[0], models(seed=1)[0]
        found = evaluate_predictions(test, tmp_path, valid=valid, resamples=50, show=False)
        assert {path.name for path in tmp_path.iterdir()} == {
            *("metrics.json", "predictions.parquet", "roc.svg", "pr.svg", "reliability.svg", "report.html"),
            *("operating.svg", "decision.svg", "selective.svg", "conformal.svg"),
        }
        page = found.report.read_text("utf-8")
        assert "DeLong" in page and "model &lt;0&gt;" in page
        assert json.loads((tmp_path / "metrics.json").read_text("utf-8"))["threshold"] == found.scores.threshold

    def test_the_wrong_class_is_suspected(self, tmp_path: Path) -> None:
        one = models()[0]
        wrong = Predictions("wrong", one.ids, one.labels, 1 - one.probabilities)
        found = evaluate_predictions(wrong, tmp_path, resamples=50, show=False)
        assert "may be those of the other class" in " ".join(found.warnings)

    def test_one_class_alone_is_scored_as_far_as_it_goes(self, tmp_path: Path) -> None:
        one = models()[0]
        found = evaluate_predictions(one.rows(np.flatnonzero(one.labels == 1)), tmp_path, resamples=20, show=False)
        assert "are of one class" in found.report.read_text("utf-8")


def test_tables_escape_what_their_language_means() -> None:
    rows = [["a|b", "50 %"], ["x_y & z", "p < 1"]]
    assert as_markdown(rows).splitlines()[0] == r"| a\|b | 50 % |"
    latex = as_latex(rows, "r^2")
    assert r"50 \%" in latex and r"x\_y \& z & p $<$ 1 \\" in latex and r"r\textasciicircum{}2" in latex


def test_a_forest_of_nothing_defined_still_draws() -> None:
    svg = forest("t", "x", [Line("a <b>", float("nan"), float("nan"), float("nan"))], [0.0])
    assert "a &lt;b&gt;" in svg and "nan" not in svg

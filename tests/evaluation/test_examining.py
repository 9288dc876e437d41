import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from sentinode.errors import DataError
from sentinode.evaluation.evaluating_predictions import evaluate_predictions
from sentinode.evaluation.examination_figures import examination_figures
from sentinode.evaluation.examining import examine, parse_guarantee
from sentinode.evaluation.report import trust
from sentinode.scoring import Predictions


def predictions(n: int, seed: int, *, shift: float = 0.0, slides: int = 0) -> Predictions:
    """Of a model that is right on average where ``shift`` is 0."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.5).astype(np.uint8)
    probabilities = expit(2 * rng.normal(np.where(labels == 1, 1, -1) + shift, 1))
    named = np.array([f"s{seed}-{row % slides}" for row in range(n)]) if slides else None
    return Predictions("model", np.array([f"{seed}-{row}" for row in range(n)]), labels, probabilities, named)


@pytest.mark.parametrize(("ece", "words"), [(0.037, "no more than"), (0.04, "more than")])
def test_what_chance_gives_is_the_interval_that_decides(ece: float, words: str) -> None:
    """An ECE above the middle of it is no more than chance gives, so the middle alone would seem to contradict."""
    floor = {"value": 0.025, "low": 0.014, "high": 0.0385}
    told = trust({"ece": {"value": ece}, "ece_floor": floor, "guarantee": {"refused": "no valid"}})
    assert told.endswith(f", {words} chance gives a perfectly calibrated model (0.014 to 0.038).")


def test_with_valid_everything_is_there_and_metrics_json_holds_it(tmp_path: Path) -> None:
    valid, test = predictions(400, 1, slides=50), predictions(300, 2, slides=20)
    found = evaluate_predictions(test, tmp_path, valid=valid, resamples=20, guarantee="0.9@0.9", show=False)
    written = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert written == found.as_dict()
    assert written["calibrators"][0]["method"] == "none"
    assert written["best_calibrator"] in {one["method"] for one in written["calibrators"]}
    assert written["guarantee"]["unit"] == "slide"
    assert written["guarantee"]["n"] == 50
    assert len(written["conformal"]) == 6
    for name in ("operating", "decision", "selective", "conformal"):
        assert (tmp_path / f"{name}.svg").read_text("utf-8").startswith("<svg")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<details") >= 9
    assert trust(written) in page
    for heading in (
        "Where the calibration error comes from",
        "Ways to calibrate",
        "With a guarantee",
        "Conformal sets",
    ):
        assert heading in page


def test_without_valid_the_page_says_what_it_lacks(tmp_path: Path) -> None:
    found = evaluate_predictions(predictions(100, 2), tmp_path, resamples=20, show=False)
    assert found.examination.calibrators == () and found.examination.best is None
    assert "--valid" in found.as_dict()["guarantee"]["refused"]
    assert not (tmp_path / "operating.svg").exists()
    assert (tmp_path / "report.html").read_text("utf-8").count("Name them with") == 3


def test_a_shift_is_told_as_such_and_a_broken_guarantee_too() -> None:
    found = examine(predictions(2000, 2, shift=-0.7), 0.5, predictions(2000, 1))
    told = " ".join(found.diagnosis)
    assert "more than chance" in told and "too low by" in told
    assert found.kept is not None
    assert "further below 0.95 than chance explains" in found.kept.sentence
    assert found.as_dict()["guarantee"]["test"]["kept"] is False


def test_on_patches_like_those_of_valid_the_guarantee_is_kept() -> None:
    found = examine(predictions(2000, 2), 0.5, predictions(2000, 1))
    assert found.kept is not None
    assert "Test kept it" in found.kept.sentence
    assert "within what chance" in found.diagnosis[0]


class TestTooLittle:
    def test_a_guarantee_that_was_asked_for_is_refused_with_the_number_that_is_needed(self) -> None:
        valid = predictions(40, 1)
        with pytest.raises(DataError, match="45 are needed"):
            examine(predictions(50, 2), 0.5, valid, "0.95@0.9")
        assert "45 are needed" in examine(predictions(50, 2), 0.5, valid).refused

    def test_it_needs_valid(self) -> None:
        with pytest.raises(DataError, match="other patches"):
            examine(predictions(50, 2), 0.5, None, "0.95@0.9")

    def test_two_slides_alone(self) -> None:
        found = examine(predictions(50, 2, slides=2), 0.5, predictions(60, 1, slides=2))
        assert "2 slides with a positive patch; 45 are needed" in found.refused
        json.dumps(found.as_dict(), allow_nan=False)

    def test_one_slide_alone(self) -> None:
        found = examine(predictions(50, 2, slides=1), 0.5, predictions(60, 1, slides=1))
        json.dumps(found.as_dict(), allow_nan=False)
        examination_figures(found)

    @pytest.mark.parametrize("label", [0, 1])
    def test_one_class_alone(self, label: int) -> None:
        test = predictions(60, 2)
        test = replace(test, labels=np.full(60, label, np.uint8))
        found = examine(test, 0.5, predictions(200, 1))
        json.dumps(found.as_dict(), allow_nan=False)
        assert len(examination_figures(found)) == 4
        with pytest.raises(DataError, match="one class"):
            examine(predictions(60, 3), 0.5, test)

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_constant_probabilities(self, value: float) -> None:
        test, valid = (
            replace(one, probabilities=np.full(len(one), value)) for one in (predictions(80, 2), predictions(99, 1))
        )
        found = examine(test, 0.5, valid)
        json.dumps(found.as_dict(), allow_nan=False)
        assert len(examination_figures(found)) == 4

    def test_a_single_patch(self) -> None:
        found = examine(predictions(1, 2), 0.5)
        json.dumps(found.as_dict(), allow_nan=False)
        examination_figures(found)


def test_valid_that_holds_patches_of_test_is_refused() -> None:
    with pytest.raises(DataError, match="also among those"):
        examine(predictions(100, 2), 0.5, predictions(100, 2))


def test_valid_of_other_classes_is_refused() -> None:
    test = replace(predictions(100, 2), class_names=("benign", "malignant"))
    with pytest.raises(DataError, match="and on valid"):
        examine(test, 0.5, replace(predictions(100, 1), class_names=("left", "right")))


@pytest.mark.parametrize("text", ["", "much", "1@0.9", "0.9@2", "nan@0.9", "0.9@nan"])
def test_a_guarantee_that_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="is not a recall and a confidence"):
        parse_guarantee(text)


@pytest.mark.real
def test_real_predictions_of_a_public_model(shared: Path) -> None:
    from sentinode.evaluation.prediction_files import read_predictions

    whole = read_predictions(shared / "predictions/pcam_test_resnet50_tta.parquet")
    rows = np.random.default_rng(0).permutation(len(whole))
    found = examine(whole.rows(rows[:3000]), 0.5, whole.rows(rows[3000:6000]))
    assert found.kept is not None
    assert found.kept.recall.high > 0.95
    assert found.calibration.equal_mass > 0.01

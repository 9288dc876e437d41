import errno
import html
import json
import os
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn import metrics as sklearn
from stand_in_ray import StandInRay, install

from sentinode.errors import BundleError, DataError, OutputError
from sentinode.evaluation import Evaluation, evaluate, evaluating, margins
from sentinode.evaluation.evaluating import predict_labelled
from sentinode.model.bundle import Bundle
from sentinode.patches import open_data
from sentinode.scoring import METRICS

CHARTS = {"pr.svg", "reliability.svg", "roc.svg", "decision.svg", "selective.svg"}
WRITTEN = {"metrics.json", "predictions.parquet", "report.html", *CHARTS}


@pytest.fixture(scope="module")
def evaluation(bundle: Bundle, generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    out = tmp_path_factory.mktemp("evaluations") / "test"
    return evaluate(bundle, generated, "test", out, resamples=50, device="cpu", show=False)


def class_folders(root: Path, *folders: str, count: int = 4) -> Path:
    """Class folders of noise."""
    rng = np.random.default_rng(0)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{folder.replace('/', '-')}-{number}.png")
    return root


def test_it_leaves_these_files_and_nothing_else(evaluation: Evaluation) -> None:
    assert {file.name for file in evaluation.path.iterdir()} == WRITTEN


def test_metrics_json_has_every_figure_three_times_with_its_interval(evaluation: Evaluation) -> None:
    text = (evaluation.path / "metrics.json").read_text("utf-8")
    written = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert written == evaluation.as_dict()
    for table in (written, written["at_half"], written["uncalibrated"]):
        for name in METRICS:
            assert set(table[name]) == {"value", "low", "high"}
            assert table[name]["low"] <= table[name]["value"] <= table[name]["high"]
        assert set(table["confusion"]) == {"tp", "fp", "tn", "fn"}
        assert sum(table["confusion"].values()) == table["n"] == 128
    assert written["at_half"]["threshold"] == 0.5


def test_the_figures_follow_from_the_predictions_beside_them(evaluation: Evaluation) -> None:
    table = pq.read_table(evaluation.path / "predictions.parquet")
    assert table.column_names == ["id", "label", "probability", "slide"]
    labels, probabilities = table["label"].to_numpy(), table["probability"].to_numpy()
    scores = evaluation.as_dict()
    assert scores["auc"]["value"] == pytest.approx(sklearn.roc_auc_score(labels, probabilities))
    assert scores["nll"]["value"] == pytest.approx(sklearn.log_loss(labels, probabilities.astype(float)), rel=1e-5)
    called = probabilities.astype(float) >= scores["threshold"]
    assert scores["f1"]["value"] == pytest.approx(sklearn.f1_score(labels, called))


def test_the_stored_threshold_is_used_on_calibrated_probabilities(evaluation: Evaluation, bundle: Bundle) -> None:
    assert evaluation.scores.threshold == bundle.card.threshold
    margin = np.log(evaluation.probabilities / (1 - evaluation.probabilities.astype(float)))
    raw = 1 / (1 + np.exp(-margin * bundle.card.temperature))
    assert evaluation.uncalibrated.brier.value == pytest.approx(np.mean((raw - evaluation.labels) ** 2), rel=1e-4)


def test_temperature_scaling_moves_no_patch_across_the_threshold(evaluation: Evaluation) -> None:
    assert evaluation.uncalibrated.confusion == evaluation.scores.confusion
    assert evaluation.uncalibrated.auc.value == pytest.approx(evaluation.scores.auc.value, abs=1e-6)


def test_intervals_are_by_slide_where_slides_are_known(evaluation: Evaluation) -> None:
    assert evaluation.scores.resampled == "slide"
    assert evaluation.about["data"]["slides"] > 1
    assert not any("too narrow" in warning for warning in evaluation.warnings)


def test_a_toy_is_called_a_toy(evaluation: Evaluation) -> None:
    assert any("toy" in warning.lower() for warning in evaluation.warnings)
    assert "toy" in evaluation.report.read_text("utf-8")


@pytest.mark.parametrize(("split", "word"), [("train", "was trained on"), ("valid", "were chosen on")])
def test_patches_that_the_model_has_seen_are_pointed_out(
    bundle: Bundle, generated: Path, tmp_path: Path, split: str, word: str
) -> None:
    seen = evaluate(bundle, generated, split, tmp_path, resamples=2, show=False)
    assert word in seen.warnings[0]


def test_warnings_go_to_standard_error(
    bundle: Bundle, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(bundle, generated, "valid", tmp_path, resamples=2)
    printed = capsys.readouterr()
    assert "were chosen on" in " ".join(printed.err.split())
    assert printed.out == ""


@pytest.mark.parametrize("name", ["roc", "pr", "reliability", "decision", "selective"])
def test_each_curve_is_a_drawing_of_its_own(evaluation: Evaluation, name: str) -> None:
    root = ElementTree.fromstring((evaluation.path / f"{name}.svg").read_text("utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find(".//{http://www.w3.org/2000/svg}style") is not None


def test_predictions_for_valid_choose_operating_points_and_calibrations(
    bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    data = open_data(generated, show=False)
    valid = predict_labelled(bundle, data, "valid", show=False)
    found = evaluate(bundle, data, "test", tmp_path, resamples=2, valid=valid, guarantee="0.5@0.9", show=False)
    assert found.examination.points and found.examination.conformal and found.examination.kept
    assert {"operating.svg", "conformal.svg"} <= {file.name for file in tmp_path.iterdir()}
    assert "--guarantee 0.5@0.9" in found.about["command"]


class Links(HTMLParser):
    """Collects what a page would fetch, and its words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")]
        assert tag not in ("script", "link", "iframe")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_report_is_one_file_that_needs_no_network(evaluation: Evaluation) -> None:
    page = evaluation.report.read_text("utf-8")
    links = Links(page)
    assert links.fetched
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links.fetched)
    assert "@import" not in page
    assert "url(" not in page


def test_the_report_says_once_that_it_is_for_research(evaluation: Evaluation) -> None:
    words = " ".join(Links(evaluation.report.read_text("utf-8")).words)
    assert words.count("not for diagnosis") == 1


def test_the_report_holds_the_verdict_the_recipe_and_the_command(evaluation: Evaluation) -> None:
    words = " ".join(" ".join(Links(evaluation.report.read_text("utf-8")).words).split())
    assert "On 128 generated test patches the model ranks a tumour patch above a normal one" in words
    assert "batch_size" in words
    assert evaluation.about["command"] in words
    assert "Veeling" not in words  # no yardstick for a toy


def test_the_same_command_gives_the_same_figures(
    evaluation: Evaluation, bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    again = evaluate(bundle, generated, "test", tmp_path, resamples=50, device="cpu", show=False)
    assert again.scores == evaluation.scores


def test_a_cluster_writes_the_same_files_although_a_worker_dies(
    evaluation: Evaluation, bundle: Bundle, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margins, "PATCHES", 64)
    ray = install(StandInRay([{"CPU": 1.0}, {"CPU": 1.0}], dies={3}.__contains__), monkeypatch)
    out = tmp_path / "test"
    found = evaluate(bundle, generated, "test", out, resamples=50, device="cpu", cluster="auto", show=False)
    assert len(ray.actors) == 3
    assert found.about["command"] == evaluation.about["command"].replace(str(evaluation.path), str(out))
    assert {file.name for file in out.iterdir()} == WRITTEN
    for file in out.iterdir():
        content = file.read_bytes().replace(str(out).encode(), str(evaluation.path).encode())
        content = content.replace(found.about["created"].encode(), evaluation.about["created"].encode())
        assert content == (evaluation.path / file.name).read_bytes(), file.name


def test_the_symmetries_change_the_probabilities_and_are_told(
    evaluation: Evaluation, bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    averaged = evaluate(bundle, generated, "test", tmp_path, tta=True, resamples=2, show=False)
    assert averaged.about["tta"] is True
    assert "--tta" in averaged.about["command"]
    assert not np.allclose(averaged.probabilities, evaluation.probabilities)


def test_data_without_splits_takes_those_that_training_dealt(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folders(tmp_path / "data", "normal", "tumour")
    names = open_data(folder, show=False).assignment()
    dealt = {name: "test" if at in (1, 2, 6) else "train" for at, name in enumerate(sorted(names))}
    monkeypatch.setattr(Bundle, "assignment", lambda self: dealt)
    found = evaluate(bundle, folder, "test", tmp_path / "out", resamples=2, show=False)
    assert sorted(found.ids) == sorted(name for name, split in dealt.items() if split == "test")


def test_patches_from_elsewhere_are_scored_whole(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folders(tmp_path / "data", "normal", "tumour")
    names = sorted(open_data(folder, show=False).assignment())
    monkeypatch.setattr(Bundle, "assignment", lambda self: {"elsewhere": "train"})
    found = evaluate(bundle, folder, "all", tmp_path / "out", resamples=2, show=False)
    assert sorted(found.ids) == names
    assert found.report.read_text("utf-8").count("all split") == 0
    assert f"On {len(names)} patches the model ranks" in found.report.read_text("utf-8")
    assert "--split all" in found.about["command"]
    assert not any("have the ids" in warning for warning in found.warnings)


def test_names_that_training_knew_are_counted_among_them(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folders(tmp_path / "data", "normal", "tumour")
    names = sorted(open_data(folder, show=False).assignment())
    monkeypatch.setattr(Bundle, "assignment", lambda self: dict.fromkeys(names[:3], "train"))
    found = evaluate(bundle, folder, "all", tmp_path / "out", resamples=2, show=False)
    assert any(warning.startswith("3 of these patches have the ids") for warning in found.warnings)


def test_one_class_only_is_said_and_does_not_crash(bundle: Bundle, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", "train/normal", "train/tumour", "test/normal")
    found = evaluate(bundle, folder, "test", tmp_path / "out", resamples=5, show=False)
    written = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    assert written["auc"] == {"value": None, "low": None, "high": None}
    assert written["undefined"]["auc"] == "one class only"
    assert "AUC is undefined: one class only." in found.warnings
    assert "one class only" in found.report.read_text("utf-8")


def test_by_patch_the_interval_is_said_to_be_too_narrow(bundle: Bundle, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", "train/normal", "train/tumour", "test/normal", "test/tumour")
    found = evaluate(bundle, folder, "test", tmp_path / "out", resamples=5, show=False)
    assert found.scores.resampled == "patch"
    assert any("too narrow" in warning for warning in found.warnings)


def slides_by_file(data: Path, out: Path, slide_of: Callable[[int, str], str | None]) -> Path:
    """A slide map of test: patch n is of the slide ``slide_of(n, id)``, and has no row where that is None."""
    ids = open_data(data, show=False)["test"].ids.tolist()
    rows = [f"{id},{slide}\n" for number, id in enumerate(ids) if (slide := slide_of(number, id)) is not None]
    out.write_text("id,slide\n" + "".join(rows))
    return out


class TestASlideMap:
    def test_a_few_slides_are_said_in_the_terminal_the_report_and_the_json(
        self, bundle: Bundle, generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = slides_by_file(generated, tmp_path / "map.csv", lambda number, _: f"slide {number % 12}")
        found = evaluate(bundle, generated, "test", tmp_path / "out", slide_map=table)
        written = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
        assert written["interval"] == "95 % by slide: jackknife over 12 slides, Student's t"
        assert written["data"]["slides"] == written["slides"] == 12
        (few,) = [warning for warning in written["warnings"] if warning.startswith("Only 12 slides:")]
        assert few in " ".join(capsys.readouterr().err.split())
        report = html.unescape(found.report.read_text("utf-8"))
        assert few in report
        assert written["interval"] in report

    def test_ten_named_patches_are_refused_and_nothing_is_left(
        self, bundle: Bundle, generated: Path, tmp_path: Path
    ) -> None:
        table = slides_by_file(generated, tmp_path / "map.csv", lambda number, _: "one" if number < 10 else None)
        with pytest.raises(DataError, match="names 10 of the 128 patches of test, and not the other 118"):
            evaluate(bundle, generated, "test", tmp_path / "out", slide_map=table, show=False)
        assert not (tmp_path / "out").exists()

    def test_slides_that_it_leaves_empty_are_counted_everywhere(
        self, bundle: Bundle, generated: Path, tmp_path: Path
    ) -> None:
        table = slides_by_file(
            generated, tmp_path / "map.csv", lambda number, _: f"s{number % 3}" if number < 10 else ""
        )
        found = evaluate(bundle, generated, "test", tmp_path / "out", slide_map=table, show=False)
        written = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
        assert written["interval"].startswith("95 % by slide for 10 of 128 patches, the others by patch (too narrow)")
        assert (written["slides"], written["without_slide"]) == (3, 118)
        assert any(warning.startswith("118 of 128 patches have no known slide") for warning in written["warnings"])
        assert "3, and 118 patches whose slide is unknown" in found.report.read_text("utf-8")

    def test_a_class_on_one_slide_has_no_interval_and_says_so(
        self, bundle: Bundle, generated: Path, tmp_path: Path
    ) -> None:
        labels = open_data(generated, show=False)["test"].labels
        table = slides_by_file(
            generated, tmp_path / "map.csv", lambda number, _: "all tumour" if labels[number] else f"s{number % 20}"
        )
        found = evaluate(bundle, generated, "test", tmp_path / "out", slide_map=table, show=False)
        written = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
        assert written["auc"]["value"] is not None
        assert written["auc"]["low"] is None
        why = "it depends on one slide: without that slide there is one class only"
        assert f"AUC has no interval: {why}." in found.warnings


def test_a_bundle_of_an_earlier_version_has_no_method_for_valid_and_its_report_is_made(
    bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    valid = {name: value for name, value in bundle.card.metrics["valid"].items() if name != "interval"}
    earlier = Bundle(bundle.path, bundle.card.model_copy(update={"metrics": {"valid": valid}}))
    assert evaluate(earlier, generated, "test", tmp_path, resamples=2, show=False).report.exists()


def test_a_split_that_is_not_there_is_refused(bundle: Bundle, generated: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split 'exam'"):
        evaluate(bundle, generated, "exam", tmp_path / "out", show=False)
    assert not (tmp_path / "out").exists()


def test_a_rule_without_a_stored_threshold_names_those_that_have_one(
    bundle: Bundle, generated: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"It stores .*accuracy"):
        evaluate(bundle, generated, "test", tmp_path, rule="acuracy", show=False)


def test_a_place_below_a_file_is_refused(bundle: Bundle, generated: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        evaluate(bundle, generated, "test", tmp_path / "file" / "out", show=False)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_place_that_not_even_root_can_write_is_refused(bundle: Bundle, generated: Path) -> None:
    with pytest.raises(OutputError):
        evaluate(bundle, generated, "test", "/proc/sentinode", show=False)


def test_a_full_disk_leaves_the_results_of_the_run_before(
    bundle: Bundle, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(bundle, generated, "test", tmp_path, resamples=2, show=False)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(evaluating, "write_predictions", full)
    with pytest.raises(OutputError, match="disk is full"):
        evaluate(bundle, generated, "valid", tmp_path, resamples=2, show=False)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.real
@pytest.mark.parametrize("toy", [True, False])
def test_real_patches_bring_the_published_yardstick_unless_the_model_is_a_toy(
    bundle: Bundle, shared: Path, tmp_path: Path, toy: bool
) -> None:
    model = Bundle(bundle.path, bundle.card.model_copy(update={"toy": toy}))
    test = shared / "pcam" / "test.parquet"
    found = evaluate(model, test, "test", tmp_path, resamples=5, show=False)
    assert found.scores.n == 1000
    assert any("toy" in warning for warning in found.warnings) == toy
    assert ("Veeling et al. (2018)" in found.report.read_text("utf-8")) != toy

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sentinode.errors import DataError, OutputError
from sentinode.patches import SPLITS, open_data
from sentinode.patches.synthetic import draw_tissue, generate, synthesise


def test_the_files_are_those_of_the_official_format(generated):
    assert sorted(path.name for path in generated.iterdir()) == sorted(
        ["SYNTHETIC.json"]
        + [f"camelyonpatch_level_2_split_{s}_{e}" for s in SPLITS for e in ("x.h5", "y.h5", "meta.csv")]
    )
    assert json.loads((generated / "SYNTHETIC.json").read_text())["toy"] is True


def test_half_of_each_split_is_tumour_and_no_slide_is_in_two(generated):
    data = open_data(generated)
    slides = [set(data[split].slides) for split in SPLITS]
    assert all(data[split].labels.mean() == 0.5 for split in SPLITS)
    assert len(set.union(*slides)) == sum(map(len, slides))
    assert all(slide.startswith("camelyon16_test_") for slide in slides[2])


def test_the_meta_csv_agrees_with_the_labels(generated):
    with (generated / "camelyonpatch_level_2_split_train_meta.csv").open() as file:
        rows = list(csv.DictReader(file))
    labels = open_data(generated)["train"].labels
    assert [row["center_tumor_patch"] == "True" for row in rows] == (labels == 1).tolist()
    beside = [row["tumor_patch"] == "True" and row["center_tumor_patch"] == "False" for row in rows]
    assert 0.1 < np.mean(beside) < 0.4  # tumour that the label does not speak of


def test_the_same_seed_writes_the_same_patches(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        synthesise(tmp_path / name, train=8, valid=4, test=4, seed=seed, show=False)
    first, again, other = (open_data(tmp_path / name)["train"].fingerprint() for name in "abc")
    assert first == again != other


def test_they_look_stained_with_haematoxylin_and_eosin_each_slide_in_its_own_way():
    tissue = draw_tissue(12, np.random.default_rng(0))
    batch = generate(96, tissue, np.random.default_rng(1))
    red, green, blue = batch.images.mean(axis=(0, 1, 2))
    assert green < red
    assert green < blue
    of_slide = np.stack([batch.images[batch.slides == slide].mean(axis=(0, 1, 2)) for slide in range(12)])
    assert of_slide.std(axis=0).min() > 4


def test_the_mean_colour_does_not_give_the_label_away(generated):
    data = open_data(generated)

    def colours(split):
        return data[split].images[:].mean(axis=(1, 2))

    model = LogisticRegression(max_iter=1000).fit(colours("train"), data["train"].labels)
    assert roc_auc_score(data["test"].labels, model.decision_function(colours("test"))) < 0.8


def test_the_centre_decides_the_label():
    tissue = draw_tissue(1, np.random.default_rng(0))
    batch = generate(256, tissue, np.random.default_rng(1))
    texture = batch.images[:, 32:64, 32:64].astype(float).std(axis=(1, 2)).mean(axis=1)
    beside = batch.images[:, :24].astype(float).std(axis=(1, 2)).mean(axis=1)
    seen, unseen = (abs(roc_auc_score(batch.labels, t) - 0.5) for t in (texture, beside))
    assert seen > 0.2
    assert seen > unseen


def test_generated_patches_may_be_replaced_and_nothing_else(tmp_path):
    sizes = {"train": 4, "valid": 4, "test": 4, "show": False}
    synthesise(tmp_path / "toy", **sizes)
    synthesise(tmp_path / "toy", **{**sizes, "train": 6})
    assert len(open_data(tmp_path / "toy")["train"]) == 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="holds other files"):
        synthesise(tmp_path / "mine", **sizes)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="valid needs at least one patch"):
        synthesise(tmp_path / "toy", valid=0)

"""The page of probes: every figure of the table is the probes', and probes of other patches do not stand on it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sentinode.errors import DataError
from sentinode.experiments.features_file import Embeddings
from sentinode.experiments.probe_page import write_probes
from sentinode.experiments.probing import probe


def test_it_has_the_figures_of_each_backbone(features: Embeddings, tmp_path: Path) -> None:
    probes = [
        probe(replace(features, about={"backbone": name}), labels=(10, 0), draws=2, resamples=10, show=False)
        for name in ("one", "<two>")
    ]
    page = write_probes(tmp_path, probes).read_text("utf-8")
    with (tmp_path / "probe.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["backbone"], row["labels of each class"], row["split"]) for row in rows[:3]] == [
        ("one", "10", "valid"),
        ("one", "10", "test"),
        ("one", "all", "valid"),
    ]
    assert rows[1]["AUC"] == f"{probes[0].spread(10, 'test').mean:.4f}"
    assert rows[1]["AUC"] in page
    assert "&lt;two&gt;" in page
    assert "<two>" not in page
    assert json.loads((tmp_path / "probe.json").read_text("utf-8"))["probes"][1] == probes[1].as_dict()


def test_probes_of_other_patches_are_refused(features: Embeddings, tmp_path: Path) -> None:
    other = replace(features, about={"backbone": "b", "data": {"fingerprint": {"train": "other"}}})
    probes = [probe(each, resamples=1, show=False) for each in (features, other)]
    with pytest.raises(DataError, match="of other patches"):
        write_probes(tmp_path, probes)

"""Embedding: every patch gets its features, an interrupted run goes on, and other features are not overwritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentinode.errors import OutputError
from sentinode.experiments import embedding
from sentinode.experiments.backbone import open_backbone
from sentinode.experiments.embedding import embed
from sentinode.experiments.features_file import read_embeddings
from sentinode.patches import PatchData


@pytest.fixture(autouse=True)
def same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights, the same each time."""
    import torch

    def opened(*words: Any, **options: Any) -> Any:
        torch.manual_seed(0)
        return open_backbone(*words, **options)

    monkeypatch.setattr(embedding, "open_backbone", opened)


def made(data: PatchData, out: Path, **options: Any) -> Any:
    return embed(data, out, backbone="test_resnet", weights="none", batch_size=20, show=False, **options)


def test_every_patch_has_its_features_and_all_that_is_known_of_it(few: PatchData, file: Path) -> None:
    given = made(few, file)
    back = read_embeddings(file)
    np.testing.assert_array_equal(back.features, given.features)
    for split in few.splits:
        part, patches = back.of(split), few[split]
        np.testing.assert_array_equal(part.ids, patches.ids)
        np.testing.assert_array_equal(part.labels, patches.labels)
        np.testing.assert_array_equal(part.slides, patches.slides)
    assert back.about["backbone"] == "test_resnet"
    assert back.about["geometry"]["size"] == 96
    assert back.about["data"]["toy"]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_killed_run_goes_on_and_computes_nothing_twice(
    few: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(few, tmp_path / "whole.npz")
    monkeypatch.setattr(embedding, "SAVED_EVERY", 1)
    batches, computed = embedding._batches, []

    def killed(*words: Any) -> Any:
        for number, batch in enumerate(batches(*words)):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(embedding, "_batches", killed)
    with pytest.raises(KeyboardInterrupt):
        made(few, tmp_path / "cut.npz")
    assert not (tmp_path / "cut.npz").exists()

    def counted(*words: Any) -> Any:
        for batch in batches(*words):
            computed.append(len(batch))
            yield batch

    monkeypatch.setattr(embedding, "_batches", counted)
    resumed = made(few, tmp_path / "cut.npz")
    assert 0 < sum(computed) < len(whole)
    np.testing.assert_allclose(resumed.features, whole.features, atol=1e-5)


def test_a_finished_file_is_kept_and_other_features_do_not_overwrite_it(few: PatchData, file: Path) -> None:
    made(few, file)
    before = file.stat().st_mtime_ns
    made(few, file)
    assert file.stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="other features"):
        made(few, file, pooling="max")
    with pytest.raises(OutputError, match="other features"):
        made(few, file, splits=["train"])

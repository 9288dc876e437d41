"""Neighbours: the training patches that the network takes for most alike, computed once, and copies named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sentinode.errors import DataError
from sentinode.model import neighbours
from sentinode.model.bundle import Bundle
from sentinode.model.neighbours import Neighbour, TrainingPatches, disagreements
from sentinode.model.site_reference import FeatureReader
from sentinode.patches import open_data
from sentinode.patches.synthetic import synthesise


@pytest.fixture(scope="module")
def known(bundle: Bundle, generated: Path) -> TrainingPatches:
    return TrainingPatches(bundle, generated, device="cpu", show=False)


def test_a_training_patch_is_its_own_nearest_and_a_copy(known: TrainingPatches) -> None:
    patches = known.patches
    found = known.nearest(patches.images[7:8][0], 3)
    assert found[0].id == patches.ids[7] and found[0].copy
    assert found[0].distance == pytest.approx(0, abs=1e-5)
    assert found[0].label == patches.class_names[patches.labels[7]]
    assert patches.slides is not None and found[0].slide == patches.slides[7]
    np.testing.assert_array_equal(found[0].pixels, patches.images[7:8][0])
    distances = [one.distance for one in found]
    assert distances == sorted(distances) and len(found) >= 3


def test_a_mirrored_training_patch_is_found_as_a_copy(known: TrainingPatches) -> None:
    found = known.nearest(np.ascontiguousarray(known.patches.images[3:4][0][:, ::-1]), 5)
    assert [one.id for one in found if one.copy] == [known.patches.ids[3]]


def test_a_patch_unlike_any_has_no_copy(known: TrainingPatches) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    assert not any(one.copy for one in known.nearest(noise, 2))


def test_features_are_computed_once_and_a_damaged_cache_is_made_again(
    bundle: Bundle, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = TrainingPatches(bundle, generated, device="cpu", cache=tmp_path, show=False)
    (kept,) = (tmp_path / "neighbours").iterdir()
    calls = []
    looked = FeatureReader.look
    monkeypatch.setattr(FeatureReader, "look", lambda self, batches: calls.append(1) or looked(self, batches))
    TrainingPatches(bundle, generated, device="cpu", cache=tmp_path, show=False)
    assert not calls
    kept.write_bytes(kept.read_bytes()[:200])
    again = TrainingPatches(bundle, generated, device="cpu", cache=tmp_path, show=False)
    assert len(calls) == 1
    np.testing.assert_array_equal(again._features, first._features)


def test_the_network_is_loaded_once_for_all_patches(
    bundle: Bundle, generated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    loaded = Bundle.classifier
    monkeypatch.setattr(Bundle, "classifier", lambda self, *words: loads.append(1) or loaded(self, *words))
    known = TrainingPatches(bundle, generated, device="cpu", show=False)
    for row in range(3):
        known.nearest(known.patches.images[row : row + 1][0], 2)
    assert len(loads) == 1


def test_a_killed_computation_leaves_nothing_behind(
    bundle: Bundle, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_words: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FeatureReader, "look", killed)
    with pytest.raises(KeyboardInterrupt):
        TrainingPatches(bundle, generated, device="cpu", cache=tmp_path, show=False)
    assert not list((tmp_path / "neighbours").iterdir())


def test_data_without_train_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    synthesise(tmp_path, train=16, valid=16, test=16, show=False)
    for file in tmp_path.iterdir():
        if "train" in file.name:
            file.unlink()
    with pytest.raises(DataError, match="train"):
        TrainingPatches(bundle, tmp_path, device="cpu", show=False)


def test_patches_of_another_geometry_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    for name, colour in (("normal", "pink"), ("tumour", "purple")):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (64, 64), colour).save(tmp_path / "train" / name / f"{number}.png")
    with pytest.raises(DataError, match="trained on other patches"):
        TrainingPatches(bundle, tmp_path, device="cpu", show=False)


def test_an_empty_train_split_is_refused(bundle: Bundle, generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Emptied:
        splits = ("train",)

        def __getitem__(self, split: str) -> object:
            return open_data(generated, show=False)[split].subset([])

    monkeypatch.setattr(neighbours, "open_data", lambda *_words, **_options: Emptied())
    with pytest.raises(DataError, match="empty"):
        TrainingPatches(bundle, generated, device="cpu", show=False)


def neighbour(id: str, label: str, copy: bool) -> Neighbour:
    return Neighbour(id, label, "", 0.1, copy, np.zeros((96, 96, 3), np.uint8))


def test_copies_whose_label_is_another_are_named() -> None:
    alike = (neighbour("a", "normal", True), neighbour("b", "tumour", True), neighbour("c", "normal", False))
    wrong, both = disagreements("tumour", alike)
    assert "near-duplicate a of train has the label normal" in wrong and "called tumour" in wrong
    assert both.endswith("both labels: a, b.")


def test_neighbours_that_are_no_copies_may_have_any_label() -> None:
    assert disagreements("tumour", (neighbour("a", "normal", False), neighbour("b", "tumour", True))) == ()

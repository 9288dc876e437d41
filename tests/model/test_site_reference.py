"""What a bundle keeps of valid for site checks: numbers of a few patches, written beside the weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

import sentinode
from sentinode.errors import BundleError, DataError
from sentinode.model.bundle import Bundle, with_file
from sentinode.model.engines import open_engine
from sentinode.model.site_reference import REFERENCE, look, make_reference, read_reference, write_reference
from sentinode.patches import open_data


def test_training_writes_it_and_it_holds_valid(bundle: Bundle, generated: Path) -> None:
    reference, valid = read_reference(bundle), open_data(generated, show=False)["valid"]
    assert np.array_equal(reference.labels, valid.labels)
    assert reference.slides is not None and len(np.unique(reference.slides)) == len(np.unique(valid.slides))
    assert reference.features.std(0, ddof=1) == pytest.approx(1, rel=1e-3)  # along the main directions
    margins = open_engine(bundle, device="cpu", precision="float32").margins(valid.images[:])
    assert reference.margins == pytest.approx(margins, abs=1e-3)


def test_the_same_patches_lie_where_the_reference_has_them(bundle: Bundle, generated: Path) -> None:
    images = open_data(generated, show=False)["valid"].images[:]
    reference = read_reference(bundle)
    seen = look(bundle, [images[:100], images[100:]])
    assert reference.along(seen.features) == pytest.approx(reference.features, abs=1e-3)


def test_writing_it_again_changes_nothing_else(bundle: Bundle, generated: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "copy")
    (tmp_path / "copy" / REFERENCE).unlink()
    with pytest.raises(BundleError, match="keeps nothing of its valid patches"):
        read_reference(Bundle(tmp_path / "copy", bundle.card))
    again = write_reference(Bundle(tmp_path / "copy", bundle.card), open_data(generated, show=False)["valid"])
    assert sentinode.load(again.path).fingerprint == bundle.fingerprint
    assert read_reference(again).features == pytest.approx(read_reference(bundle).features, abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"margins": np.full(128, np.nan, np.float32)},
        {"margins": np.zeros(127, np.float32)},
        {"labels": np.full(128, 2, np.int64)},
        {"features": np.zeros((128, 3), np.float32)},
        {"centre": np.zeros((0,), np.float64)},
        {"appearance": np.zeros((128, 7), np.float32)},
        {"slides": np.zeros(5, np.int64)},
        {"directions": np.zeros(7, np.int32)},
        b"no tensors",
    ],
)
def test_a_reference_that_does_not_fit_together_is_refused(
    bundle: Bundle, change: dict[str, np.ndarray] | bytes, tmp_path: Path
) -> None:
    shutil.copytree(bundle.path, tmp_path / "copy")
    held = load_file(tmp_path / "copy" / REFERENCE)
    content = change if isinstance(change, bytes) else save({**held, **change})
    odd = with_file(Bundle(tmp_path / "copy", bundle.card), REFERENCE, content)
    with pytest.raises(BundleError, match=r"reference\.safetensors cannot be read"):
        read_reference(odd)


def test_too_few_patches_or_one_class_are_refused(bundle: Bundle, generated: Path) -> None:
    valid = open_data(generated, show=False)["valid"]
    with pytest.raises(DataError, match="at least 50 patches of both classes; here are 20"):
        write_reference(bundle, valid.subset(np.arange(20)))
    with pytest.raises(DataError, match="both classes"):
        write_reference(bundle, valid.subset(np.flatnonzero(valid.labels == 1)))


def test_features_that_never_change_have_no_direction() -> None:
    from sentinode.model.site_reference import Seen

    rng = np.random.default_rng(0)
    features = np.zeros((60, 5), np.float32)
    features[:, :2] = rng.normal(size=(60, 2))
    seen = Seen(features, features[:, 0], np.zeros((60, 6), np.float32))
    reference = make_reference(seen, np.arange(60) % 2, np.array([""] * 60))
    assert reference.features.shape == (60, 2) and reference.slides is None

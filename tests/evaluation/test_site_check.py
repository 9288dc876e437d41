"""A site check: the bundle's own kind of patches gives no alarm, other ones do, and the words say which."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sentinode.cli import app
from sentinode.errors import BundleError, DataError
from sentinode.evaluation import site_check
from sentinode.evaluation.site_check import DISTRUST, SAME, check_site, compare
from sentinode.model.bundle import Bundle
from sentinode.model.site_reference import REFERENCE, Reference, Seen, look, read_reference
from sentinode.patches import open_data
from sentinode.scoring import drift


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "PERMUTATIONS", 399)


@pytest.fixture(scope="module")
def images(generated: Path) -> np.ndarray:
    return np.asarray(open_data(generated, show=False)["valid"].images[:])


def halves(reference: Reference, seed: int) -> tuple[Reference, np.ndarray]:
    """Half of the reference, and the rows of the other half: two samples of one distribution."""
    order = np.random.default_rng(seed).permutation(len(reference.labels))
    mine, others = order[::2], order[1::2]
    kept = {name: getattr(reference, name)[mine] for name in ("features", "margins", "labels", "appearance")}
    return Reference(reference.centre, reference.directions, slides=None, **kept), others


def test_patches_like_the_bundles_own_give_no_alarm(bundle: Bundle, images: np.ndarray) -> None:
    seen, reference = look(bundle, [images]), read_reference(bundle)
    alarms = 0
    for seed in range(12):
        known, rows = halves(reference, seed)
        site = Seen(seen.features[rows], seen.margins[rows], seen.appearance[rows])
        alarms += compare(bundle, known, site, seed=seed).verdict != SAME
    assert alarms <= 1  # one in a hundred is stated


def test_the_order_of_the_patches_does_not_matter(bundle: Bundle, images: np.ndarray) -> None:
    seen, reference = look(bundle, [images]), read_reference(bundle)
    turned = Seen(seen.features[::-1], seen.margins[::-1], seen.appearance[::-1])
    assert compare(bundle, reference, seen).as_dict() == compare(bundle, reference, turned).as_dict()


def test_dark_patches_are_called_darker_and_not_to_be_trusted(bundle: Bundle, images: np.ndarray) -> None:
    found = compare(bundle, read_reference(bundle), look(bundle, [images // 3]))
    assert found.verdict == DISTRUST
    assert "darker" in found.sentences[0] and "Do not trust the threshold here." in found.sentences[1]
    assert found.looks["brightness"] < -1 and found.features.p <= 0.01


def test_nothing_seen_says_that_this_proves_nothing(bundle: Bundle, generated: Path) -> None:
    found = check_site(bundle, [generated], labelled=True, split="valid", show=False)
    assert found.verdict == SAME and found.by_slide
    assert "does not prove" in found.sentences[1]
    assert found.labelled is not None and "AUC" in found.sentences[-1] and "on valid" in found.sentences[-1]
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_command_takes_unlabelled_images_and_counts_the_unreadable(
    bundle: Bundle, images: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    for row, image in enumerate(images[:60]):
        Image.fromarray(image).save(tmp_path / "site" / f"{row:03d}.png")
    Image.fromarray(images[0][:50]).save(tmp_path / "site" / "small.png")
    (tmp_path / "map.csv").write_text("id,slide\n" + "".join(f"{row:03d},s{row % 3}\n" for row in range(60)))
    words = ["check-site", str(bundle.path), str(tmp_path / "site"), "--slides", str(tmp_path / "map.csv"), "--json"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 3, answer.output
    found = json.loads(answer.stdout)
    assert (found["patches"], found["slides"], found["labelled"]) == (60, 3, None)
    assert "1 patches could not be read" in found["warnings"][0] and "50" in found["failures"][0][1]
    assert "3 slides only" in found["warnings"][1]


def test_too_few_patches_are_refused(bundle: Bundle, images: np.ndarray, tmp_path: Path) -> None:
    for row in range(3):
        Image.fromarray(images[row]).save(tmp_path / f"{row}.png")
    with pytest.raises(DataError, match="at least 50 patches; 3 could be read"):
        check_site(bundle, [tmp_path], show=False)


def test_patches_of_another_size_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    Image.new("RGB", (224, 224)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match=r"0 could be read.*224 x 224 pixels"):
        check_site(bundle, [tmp_path], show=False)


def test_a_bundle_without_a_reference_names_the_command_that_adds_it(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "copy")
    (tmp_path / "copy" / REFERENCE).unlink()
    with pytest.raises(BundleError, match="sentinode check BUNDLE DATA"):
        check_site(Bundle(tmp_path / "copy", bundle.card), [tmp_path], show=False)


def test_labels_of_one_class_give_no_auc_and_no_alarm_by_themselves(bundle: Bundle, images: np.ndarray) -> None:
    reference = read_reference(bundle)
    seen, rows = look(bundle, [images]), np.flatnonzero(reference.labels == 0)
    site = Seen(seen.features[rows], seen.margins[rows], seen.appearance[rows])
    found = compare(bundle, reference, site, np.zeros(len(rows), np.uint8))
    assert found.share < 0.3 and found.verdict == SAME
    assert "AUC undefined (one class only)" in found.sentences[-1]


def test_many_patches_are_thinned_and_that_is_told(
    bundle: Bundle, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_check, "MOST", 60)
    found = compare(bundle, read_reference(bundle), look(bundle, [images]))
    assert found.patches == 60 and "60 of 128 patches were compared" in found.warnings[0]

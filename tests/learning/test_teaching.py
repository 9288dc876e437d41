"""A review makes a new bundle and an answer whether it is better; no slide that was held back teaches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_maps import made_point
from reviewed_maps import judge, review, reviewed_batch, scanned_slide, write_batch_of

from sentinode.errors import BundleError, DataError, Interrupted, OutputError, SentinodeError
from sentinode.learning import Learned, learn, teaching
from sentinode.learning.comparison import FALSE, FOUND, REVIEWED, VALID
from sentinode.model.bundle import Bundle, load, with_card
from sentinode.patches import open_data
from sentinode.patches.synthetic import synthesise
from sentinode.training import loop

QUICK = ("training.batch_size=16",)


@pytest.fixture(scope="module")
def maps(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reviewed_batch(tmp_path_factory.mktemp("reviewed"), bundle, whole=(0, 1, 2, 3))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    synthesise(folder, train=64, valid=32, test=8, slides=4, show=False)
    return folder


def taught(maps: Path, out: Path, bundle: Bundle, **options: Any) -> Learned:
    return learn(maps, out, **{"start_from": bundle, "settings": QUICK, "per_slide": 20, "show": False, **options})


@pytest.fixture(scope="module")
def with_data(maps: Path, bundle: Bundle, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    return taught(maps, tmp_path_factory.mktemp("with") / "run", bundle, data=few)


@pytest.fixture(scope="module")
def alone(maps: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    return taught(maps, tmp_path_factory.mktemp("alone") / "run", bundle)


def blue(patches: Any) -> set[int]:
    """Which slides the patches are of, by the blue of their tissue."""
    images = patches.images[np.arange(len(patches))]
    return {round((float(np.median(image[..., 2])) - 150) / 8) for image in images}


def test_the_new_bundle_says_what_taught_it(with_data: Learned, bundle: Bundle, few: Path) -> None:
    card = load(with_data.page.parent).card
    assert card.made_from is not None and card.made_from.fingerprint == bundle.fingerprint
    assert card.taught is not None and card.taught == with_data.lesson
    assert len(card.taught.slides) == 4 and len(card.taught.held_out) == 2
    assert set(card.taught.slides) | set(card.taught.held_out) == {f"s{number}" for number in range(6)}
    assert set(card.taught.patches) == {"accepted lesions", "rejected lesions"}
    assert (card.taught.with_data, card.taught.reviewers) == (few.name, 1)


@pytest.mark.parametrize("how", ["with_data", "alone"])
def test_no_slide_that_was_held_back_gives_a_patch_to_the_training(how: str, request: pytest.FixtureRequest) -> None:
    learned: Learned = request.getfixturevalue(how)
    held = {int(name[1:]) for name in learned.lesson.held_out}
    assert len(held) == 2
    for folder in (learned.page.parent / "patches").iterdir():
        if folder.name.endswith("-annotations") or folder.name == "held-out":
            continue
        data = open_data(folder, show=False)
        for split in data.splits:
            assert not blue(data[split]) & held, f"{folder.name}, {split}"


def test_it_compares_both_bundles_on_slides_held_back_and_on_valid(with_data: Learned) -> None:
    changes = {change.name: change for change in with_data.changes}
    assert set(changes) == {FALSE, FOUND, VALID, REVIEWED}
    assert changes[FALSE].old == 2, "the rejected lesions of two slides"
    assert changes[FOUND].old == 2
    assert (changes[VALID].n, changes[VALID].unit) == (32, "patches")
    assert not changes[REVIEWED].decides
    assert {slide.name for slide in with_data.slides} == set(with_data.lesson.held_out)
    assert with_data.verdict.name in ("helped", "harmed", "mixed", "cannot be told")


def test_the_page_and_the_json_say_the_same(with_data: Learned) -> None:
    record = json.loads((with_data.page.parent / "learned.json").read_text("utf-8"))
    assert record == json.loads(json.dumps(with_data.as_dict()))
    page = with_data.page.read_text("utf-8")
    assert with_data.verdict.sentence in page.replace("&#39;", "'") and "not for diagnosis" in page


def test_without_the_original_patches_a_replay_sample_joins_and_other_slides_check(alone: Learned) -> None:
    lesson = alone.lesson
    assert len(lesson.slides) == 3 and len(lesson.checked_on) == 1 and lesson.with_data is None
    assert any(kind.startswith("normal ") for kind in lesson.patches)
    mixed = open_data(alone.page.parent / "patches" / "mixed", show=False)
    assert blue(mixed["valid"]) == {int(lesson.checked_on[0][1:])}
    labels = mixed["train"].labels
    assert 0 < labels.sum() <= len(labels) / 2 + 1
    assert {change.name for change in alone.changes} == {FALSE, FOUND, REVIEWED}


def test_the_slide_operating_points_are_carried_over(maps: Path, bundle: Bundle, few: Path, tmp_path: Path) -> None:
    points = {"balanced": made_point(scales_um=(32.0,), reach=0.4)}
    copy = with_card(bundle, bundle.card.model_copy(update={"slide_operating_points": points}), tmp_path / "pointed")
    new = taught(maps, tmp_path / "run", copy, data=few, hold_out=0)
    point = new.bundle.card.slide_operating_points["balanced"]
    assert (point.reach, point.scales_um) == (0.4, (32.0,))
    assert "carried over, and not chosen for this bundle" in str(point.chosen_on) and not point.reached
    assert not new.slides and {change.name for change in new.changes} == {VALID}


def test_patches_of_ones_own_can_be_compared_on(maps: Path, bundle: Bundle, few: Path, tmp_path: Path) -> None:
    learned = taught(maps, tmp_path / "run", bundle, valid=few, hold_out=2)
    assert not learned.lesson.checked_on and VALID in {change.name for change in learned.changes}


def test_a_run_that_was_stopped_goes_on_and_a_finished_one_is_only_read(
    maps: Path, bundle: Bundle, few: Path, tmp_path: Path, with_data: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def stop(run: Any, learner: Any) -> None:
        run.save(learner)
        raise Interrupted("stopped", where=out, hint="--resume in place of --from")

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="same command with --resume"):
        patch.setattr(loop, "save_or_stop", stop)
        taught(maps, out, bundle, data=few)
    with pytest.raises(OutputError, match="already contains a run"):
        taught(maps, out, bundle, data=few)
    learned = taught(maps, out, bundle, data=few, resume=True)
    assert learned.bundle.fingerprint == with_data.bundle.fingerprint, "as if it had never stopped"
    assert learned.as_dict()["changes"] == with_data.as_dict()["changes"]
    assert learned.bundle.card.taught == with_data.lesson
    monkeypatch.setattr(teaching, "train", None)
    assert taught(maps, out, bundle, data=few, resume=True).as_dict() == learned.as_dict()


def test_a_run_that_was_killed_before_its_card_was_whole_finishes_it(
    maps: Path, bundle: Bundle, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data": few, "hold_out": 0}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(teaching, "with_card", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        taught(maps, tmp_path / "run", bundle, **options)
    assert load(tmp_path / "run").card.taught is None
    weights = load(tmp_path / "run").fingerprint
    learned = taught(maps, tmp_path / "run", bundle, resume=True, **options)
    assert learned.bundle.card.taught is not None and learned.bundle.fingerprint == weights


def test_a_run_does_not_go_on_with_another_review_or_other_options(
    maps: Path, bundle: Bundle, few: Path, with_data: Learned, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"begun otherwise \(.*seed differ"):
        taught(maps, with_data.page.parent, bundle, data=few, seed=3, resume=True)
    copy = tmp_path / "maps"
    shutil.copytree(maps, copy)
    judge(copy / "s0", 2, "unsure")
    with pytest.raises(DataError, match=r"begun otherwise \(review differ"):
        taught(copy, with_data.page.parent, bundle, data=few, resume=True)


def test_a_bundle_that_did_not_make_the_maps_is_noted_and_scans_the_slides_held_back(
    maps: Path, with_data: Learned, few: Path, tmp_path: Path
) -> None:
    other = taught(maps, tmp_path / "run", with_data.bundle, data=few)
    assert any("Another bundle than --from made the maps of 6" in note for note in other.notes)
    assert len(list((tmp_path / "run" / "held-out" / "old").glob("*/map.npy"))) == 2


@pytest.fixture
def unreviewed(bundle: Bundle, tmp_path: Path) -> Path:
    maps = write_batch_of(tmp_path / "maps", bundle)
    for number in range(4):
        scanned_slide(maps, f"s{number}", bundle, number)
    return maps


def refused(error: type[SentinodeError], match: str, maps: Path, bundle: Bundle, **options: Any) -> None:
    out = maps.parent / "run"
    with pytest.raises(error, match=match):
        taught(maps, out, bundle, **options)
    assert not (out / "bundle").exists()


def test_a_review_that_cannot_teach_is_refused(unreviewed: Path, bundle: Bundle, few: Path) -> None:
    refused(DataError, "nobody has judged a lesion", unreviewed, bundle)
    for folder in sorted(unreviewed.glob("s*")):
        review(folder, kind="look", whole=True)
    refused(DataError, "nothing was accepted, rejected or drawn", unreviewed, bundle, data=few)
    for folder in sorted(unreviewed.glob("s*")):
        judge(folder, 2, "rejected")
    refused(DataError, "learns to find less", unreviewed, bundle, valid=few)


def test_rejected_lesions_alone_teach_beside_the_original_patches_with_a_note(
    unreviewed: Path, bundle: Bundle, few: Path, tmp_path: Path
) -> None:
    for folder in sorted(unreviewed.glob("s*")):
        judge(folder, 2, "rejected")
    learned = taught(unreviewed, tmp_path / "run", bundle, data=few)
    assert any("only tumour in this lesson" in note for note in learned.notes)
    assert set(learned.lesson.patches) == {"rejected lesions"}


def test_too_few_slides_and_patches_of_another_geometry_are_refused(
    unreviewed: Path, bundle: Bundle, few: Path, tmp_path: Path
) -> None:
    for name in ("s0", "s1", "s2"):
        judge(unreviewed / name, 1, "accepted")
    refused(DataError, r"3 slides are reviewed(.|\n)*--hold-out 0", unreviewed, bundle, data=few)
    judge(unreviewed / "s3", 1, "accepted")
    network = bundle.card.architecture.model_copy(update={"side": 128})
    geometry = {"format": 2, "patch_size": 128, "label_region": 64}
    coarse = bundle.card.model_copy(update={**geometry, "architecture": network})
    other = with_card(bundle, coarse, tmp_path / "coarse")
    refused(DataError, "96", unreviewed, other, data=few)
    nowhere = with_card(bundle, bundle.card.model_copy(update={"format": 2, "mpp": None}), tmp_path / "nowhere")
    refused(BundleError, "microns per pixel", unreviewed, nowhere, data=few)


def test_two_reviewers_who_disagree_are_named(unreviewed: Path, bundle: Bundle, few: Path, tmp_path: Path) -> None:
    for folder in sorted(unreviewed.glob("s*")):
        judge(folder, 1, "accepted")
        judge(folder, 2, "rejected")
    judge(unreviewed / "s1", 2, "accepted", who="ben")
    learned = taught(unreviewed, tmp_path / "run", bundle, data=few)
    assert any("s1: Lesion 2: rejected by ada, then accepted by ben" in note for note in learned.notes)
    assert learned.lesson.disagreements == 1

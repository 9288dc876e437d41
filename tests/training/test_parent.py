"""Training that goes on from a bundle: what it takes over, what the new card says, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from warm_processes import Warm

import sentinode
from sentinode.errors import BundleError, DataError, Interrupted, OutputError, RecipeError, SentinodeError
from sentinode.model.bundle import Bundle, save
from sentinode.patches import PatchData, open_data
from sentinode.patches.synthetic import synthesise
from sentinode.recipes import Recipe, load_recipe
from sentinode.training import learner, loop, train
from sentinode.training.parent import open_parent, recipe_from

SETTINGS = ("training.batch_size=16", "training.ema=0.9")


def weights(bundle: Bundle) -> dict[str, torch.Tensor]:
    return load_file(bundle.path / "weights.safetensors")


@pytest.fixture(scope="module")
def trained_on(bundle: Bundle, data: PatchData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that goes on from the bundle; leave it as it is."""
    out = tmp_path_factory.mktemp("trained_on") / "run"
    train(data, out, start_from=bundle.path, settings=SETTINGS, show=False)
    return out


def test_it_takes_one_pass_at_a_tenth_of_the_bundles_learning_rate(bundle: Bundle) -> None:
    recipe = recipe_from(open_parent(bundle), None, [])
    assert recipe.training.epochs == 1
    assert recipe.training.head_epochs == 0
    assert recipe.optimizer.lr == pytest.approx(bundle.card.recipe["optimizer"]["lr"] / 10)
    kept = bundle.card.recipe["augment"]
    assert recipe.augment.model_dump(mode="json") == kept


def test_keys_of_its_recipe_can_be_overridden(bundle: Bundle) -> None:
    recipe = recipe_from(open_parent(bundle), None, ["optimizer.lr=1e-6", "training.epochs=3", "model.dropout=0.3"])
    assert (recipe.optimizer.lr, recipe.training.epochs, recipe.model.dropout) == (1e-6, 3, 0.3)


def test_a_recipe_of_ones_own_counts_as_it_is_written(bundle: Bundle, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[optimizer]\nlr = 2e-5\n[training]\nepochs = 2\n", encoding="utf-8")
    recipe = recipe_from(open_parent(bundle), mine, [])
    assert (recipe.optimizer.lr, recipe.training.epochs) == (2e-5, 2)
    assert recipe.model.backbone == "test_resnet"  # the bundle's, not the default of recipes
    whole = load_recipe("quick", ["model.backbone=test_resnet", "training.epochs=2"])
    assert recipe_from(open_parent(bundle), whole, []).training.epochs == 2


def test_it_begins_from_the_bundles_weights(bundle: Bundle, data: PatchData, tmp_path: Path) -> None:
    still = ("optimizer.lr=1e-10", "optimizer.name=sgd", "training.ema=0", "operating_point.calibration=temperature")
    new = train(data, tmp_path / "run", start_from=bundle, settings=[*SETTINGS, *still], show=False)
    for name, value in weights(bundle).items():
        if value.is_floating_point() and "running" not in name:  # batch norms go on averaging
            torch.testing.assert_close(weights(new)[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_its_card_says_what_it_was_made_from(bundle: Bundle, trained_on: Path) -> None:
    new = sentinode.load(trained_on)
    assert new.card.made_from is not None
    assert new.card.made_from.name == bundle.card.name
    assert new.card.made_from.fingerprint == bundle.fingerprint != new.fingerprint
    assert bundle.card.name in new.card.initial_weights
    assert bundle.card.initial_weights in new.card.initial_weights
    assert new.card.architecture == bundle.card.architecture
    assert new.card.geometry == bundle.card.geometry
    told = subprocess.run(
        [sys.executable, "-m", "sentinode", "bundle", str(new.path)], capture_output=True, text=True, check=True
    )
    assert f"trained on from the bundle {bundle.card.name} ({bundle.fingerprint[:12]})" in told.stdout


def test_a_bundle_made_from_a_toy_is_a_toy(bundle: Bundle, data: PatchData, tmp_path: Path) -> None:
    assert bundle.card.toy
    data.toy = False
    try:
        assert train(data, tmp_path / "run", start_from=bundle, settings=SETTINGS, show=False).card.toy
    finally:
        data.toy = True


def test_the_licence_of_the_bundle_goes_along(bundle: Bundle, data: PatchData, tmp_path: Path) -> None:
    card = bundle.card.model_copy(update={"licence": "CC BY-NC 4.0."})
    licensed = save(tmp_path / "licensed", bundle.classifier(), card)
    new = train(data, tmp_path / "run", start_from=licensed, settings=SETTINGS, show=False)
    assert "CC BY-NC 4.0." in new.card.licence


def test_the_bundled_model_is_named_by_a_word() -> None:
    assert open_parent("packaged").card.name == sentinode.load().card.name


@pytest.mark.usefixtures("warm_workers")
def test_two_processes_go_on_from_it(bundle: Bundle, data: PatchData, tmp_path: Path) -> None:
    new = train(data, tmp_path / "run", start_from=bundle, settings=SETTINGS, device="cpu", devices=2, show=False)
    assert new.card.made_from is not None


def test_a_run_that_was_killed_goes_on_without_the_bundle(
    bundle: Bundle, data: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*SETTINGS, "training.checkpoint_minutes=0", "training.epochs=2"]
    whole = train(data, tmp_path / "whole", start_from=bundle, settings=settings, show=False)
    steps = 0
    step = learner.Learner.train_step

    def killed_at_the_third(self: learner.Learner, *given: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise OutputError("the power is gone.")
        return step(self, *given)

    monkeypatch.setattr(learner.Learner, "train_step", killed_at_the_third)
    with pytest.raises(OutputError, match="power"):
        train(data, tmp_path / "cut", start_from=bundle, settings=settings, show=False)
    monkeypatch.undo()
    gone_on = train(data, tmp_path / "cut", resume=True, show=False)
    assert gone_on.card.made_from == whole.card.made_from
    assert gone_on.card.initial_weights == whole.card.initial_weights
    assert gone_on.card.recipe == whole.card.recipe
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(gone_on)[name], value, atol=0, rtol=0, msg=name)


def test_ctrl_c_says_how_to_go_on(
    bundle: Bundle, data: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = loop.record_step

    def stop_soon(run: Any, *given: Any) -> None:
        run.stopping.set()
        record(run, *given)

    monkeypatch.setattr(loop, "record_step", stop_soon)
    with pytest.raises(Interrupted, match="--resume in place of --from"):
        train(data, tmp_path / "run", start_from=bundle, settings=SETTINGS, show=False)


def test_a_run_without_a_checkpoint_is_not_resumed_from_nothing(
    bundle: Bundle, data: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise OutputError("the power is gone.")

    monkeypatch.setattr(learner.Learner, "train_step", killed)
    with pytest.raises(OutputError, match="power"):
        train(data, tmp_path / "run", start_from=bundle, settings=SETTINGS, show=False)
    monkeypatch.undo()
    with pytest.raises(RecipeError, match="neither a bundle nor a checkpoint"):
        train(data, tmp_path / "run", resume=True, show=False)
    assert train(data, tmp_path / "run", start_from=bundle, settings=SETTINGS, show=False).card.made_from is not None


def test_the_recipe_of_such_a_run_alone_is_refused(
    bundle: Bundle, trained_on: Path, data: PatchData, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="went on from a bundle"):
        train(data, tmp_path / "other", recipe=trained_on / "recipe.toml", show=False)
    again = train(data, tmp_path / "again", recipe=trained_on / "recipe.toml", start_from=bundle, show=False)
    assert again.card.recipe == sentinode.load(trained_on).card.recipe


def test_a_damaged_note_of_the_bundle_is_refused(trained_on: Path, data: PatchData, tmp_path: Path) -> None:
    shutil.copytree(trained_on, tmp_path / "run")
    (tmp_path / "run" / "parent.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        train(data, tmp_path / "run", resume=True, show=False)


@pytest.mark.parametrize(
    ("also", "reason"),
    [
        ({"resume": True}, "needs no bundle"),
        ({"weights": "none"}, "gives the initial weights"),
        ({"settings": ["model.weights=imagenet"]}, "gives the initial weights"),
        ({"module": torch.nn.Identity()}, "gives the network"),
        ({"settings": ["model.backbone=resnet18"]}, "resnet18.*test_resnet"),
        ({"settings": ["model.side=128"]}, "model.side = 128.*has 96"),
        ({"settings": ["model.pooling=max"]}, "model.pooling"),
        ({"settings": ["model.stride=16"]}, "model.stride"),
        ({"settings": ["model.hidden=[8]"]}, "model.hidden"),
        ({"recipe": "small"}, "model.backbone"),
        ({"recipe": Recipe.model_validate({"model": {"backbone": "resnet18"}})}, "model.backbone"),
    ],
)
def test_what_contradicts_the_bundle_is_refused(
    bundle: Bundle, data: PatchData, tmp_path: Path, also: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SentinodeError, match=reason):
        train(data, tmp_path / "run", start_from=bundle, show=False, **also)
    assert not (tmp_path / "run").exists()


def test_a_side_of_0_and_the_patches_own_are_one(bundle: Bundle) -> None:
    assert recipe_from(open_parent(bundle), None, ["model.side=0"]).model.side == 96


class Own(torch.nn.Module):
    """The smallest network that learns something."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(images.float().mean((1, 2)) / 255)
        return logits


def test_a_bundle_of_ones_own_class_is_refused(data: PatchData, tmp_path: Path) -> None:
    recipe = load_recipe("quick", ["training.epochs=1"])
    own = train(data, tmp_path / "own", recipe=recipe, module=Own, show=False)
    with pytest.raises(BundleError, match="class of its author's"):
        train(data, tmp_path / "run", start_from=own, show=False)
    assert not (tmp_path / "run").exists()


def folders(root: Path, names: tuple[str, str], size: int = 96, each: int = 20) -> Path:
    """Class folders of flat pictures."""
    for shade, name in zip((120, 60), names, strict=True):
        (root / name).mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", (size, size), (shade + number, shade, shade)).save(root / name / f"{name}{number}.png")
    return root


def test_patches_of_another_size_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = folders(tmp_path / "large", ("normal", "tumour"), size=128)
    with pytest.raises(DataError, match="128 x 128 pixels, not 96 x 96"):
        train(path, tmp_path / "run", start_from=bundle, show=False)
    with pytest.raises(DataError, match="128 x 128 pixels, not 96 x 96"):
        train(open_data(path, show=False), tmp_path / "run", start_from=bundle, show=False)
    assert not (tmp_path / "run").exists()


def test_patches_of_another_resolution_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = folders(tmp_path / "fine", ("normal", "tumour"))
    with pytest.raises(DataError, match=r"0\.5 microns per pixel, not 0\.972"):
        train(path, tmp_path / "run", start_from=bundle, mpp=0.5, show=False)


def test_classes_of_other_names_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = folders(tmp_path / "lung", ("aca", "n"))
    with pytest.raises(DataError, match="their names do not tell which is positive"):
        train(path, tmp_path / "run", start_from=bundle, show=False)
    opened = open_data(path, positive=["aca"], show=False)
    own = folders(tmp_path / "own", ("a", "b"))
    parent = train(
        own,
        tmp_path / "parent",
        recipe="quick",
        settings=["model.backbone=test_resnet", "model.weights=none", "training.epochs=1", "training.batch_size=16"],
        positive=["b"],
        mpp=0.5,
        label_region=96,
        show=False,
    )
    with pytest.raises(DataError, match=r"a\b"):
        train(path, tmp_path / "run", start_from=parent, show=False)
    assert not (tmp_path / "run").exists()
    # What the bundle was told of its classes and of its patches need not be told again, nor on resuming.
    settings = ["training.batch_size=16"]
    new = train(own, tmp_path / "new", start_from=parent, settings=settings, show=False)
    assert (new.card.class_names, new.card.positive, new.card.geometry) == (["a", "b"], ["b"], parent.card.geometry)
    assert train(own, tmp_path / "new", resume=True, show=False).card.positive == ["b"]
    assert opened.class_names == ("n", "aca")


def test_patches_that_the_bundle_was_trained_on_are_not_dealt_to_valid(tmp_path: Path) -> None:
    path = folders(tmp_path / "data", ("normal", "tumour"), each=40)
    settings = ["model.backbone=test_resnet", "model.weights=none", "training.epochs=1", "training.batch_size=16"]
    parent = train(path, tmp_path / "parent", recipe="quick", settings=settings, show=False)
    with pytest.raises(DataError, match="was trained on"):
        train(path, tmp_path / "run", start_from=parent, settings=["split.seed=1"], show=False)
    same = train(path, tmp_path / "same", start_from=parent, settings=["training.batch_size=16"], show=False)
    assert same.assignment() == parent.assignment()


def test_the_command_goes_on_from_a_bundle_and_refuses_with_two(bundle: Bundle, tmp_path: Path) -> None:
    synthesise(tmp_path / "data", train=40, valid=20, test=20, slides=4, show=False)
    command = ["train", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--from", str(bundle.path), "--json"]
    refused = Warm(tmp_path, *command, "--weights", "none")
    assert refused.wait() == 2
    assert "--weights" in refused.stderr
    done = Warm(tmp_path, *command)
    assert done.wait() == 0, done.stderr
    assert json.loads(done.stdout)["made_from"]["fingerprint"] == bundle.fingerprint
    assert "Going on from the bundle" in done.stderr

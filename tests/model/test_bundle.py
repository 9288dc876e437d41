"""A bundle holds all that is needed to use a model, and notices when it has been changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from odd_bundles import NETWORKS, odd_bundle
from pydantic import ValidationError

import sentinode
from sentinode.errors import BundleError, OutputError
from sentinode.model.bundle import (
    ASSIGNMENT,
    CHECKSUMS,
    FORMAT,
    Architecture,
    Bundle,
    Card,
    Threshold,
    json_ready,
    load,
    save,
    state_slide_points,
    with_card,
)
from sentinode.model.classifier import build_classifier
from sentinode.model.slide_operating_point import GENERAL


class Brightness(torch.nn.Module):
    """A network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.float().mean((1, 2, 3)) * self.scale
        return torch.stack([-mean, mean], 1)


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return shutil.copytree(bundle.path, tmp_path / "copy")


def card(**changes: object) -> Card:
    point = Threshold(value=0.4, rule="accuracy", chosen_on="valid", n=10)
    base = {
        "name": "x",
        "created": "2026-01-01T00:00:00+00:00",
        "versions": {},
        "architecture": Architecture(kind="custom", class_name="tests.Brightness", source="class Brightness: ..."),
        "thresholds": {"accuracy": point},
        "threshold_rule": "accuracy",
    }
    return Card(**base | changes)


def test_a_bundle_says_what_it_is(bundle: Bundle) -> None:
    assert (bundle.card.patch_size, bundle.card.mpp, bundle.card.class_names) == (96, 0.972, ["normal", "tumour"])
    assert bundle.card.toy
    assert 0 < bundle.card.threshold < 1
    assert {"accuracy", "balanced_accuracy", "half"} <= bundle.card.thresholds.keys()
    assert bundle.card.thresholds["half"].value == 0.5
    assert bundle.card.metrics["valid"]["auc"]["low"] <= bundle.card.metrics["valid"]["auc"]["value"]
    assert len(bundle.card.data["fingerprint"]["train"]) == 64
    assert bundle.card.versions["sentinode"] == sentinode.__version__
    assert "not for diagnosis" in bundle.card.intended_use


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.01, 1.0000000000000002])
def test_a_threshold_is_a_number_from_0_to_1(value: float) -> None:
    with pytest.raises(ValidationError):
        Threshold(value=value, rule="accuracy", chosen_on="valid", n=10)


def test_who_may_read_the_card_may_read_the_weights(run: Path) -> None:
    card, weights = ((run / "bundle" / name).stat().st_mode for name in ("card.json", "weights.safetensors"))
    assert card == weights


def test_a_network_that_enlarges_its_patches_does_so_when_it_is_loaded(tmp_path: Path) -> None:
    network = build_classifier("test_resnet", side=128, stride=16)[0].eval()
    described = Architecture(backbone="test_resnet", side=128, stride=16)
    loaded = save(tmp_path / "bundle", network, card(architecture=described)).classifier()
    images = torch.randint(256, (2, 96, 96, 3), dtype=torch.uint8)
    torch.testing.assert_close(loaded(images), network(images))


def test_a_bundle_loads_from_its_folder_or_its_run(run: Path) -> None:
    assert load(run).path == load(run / "bundle").path


def test_a_loaded_network_answers_as_the_saved_one(bundle: Bundle) -> None:
    images = torch.randint(0, 256, (4, 96, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        first, second = (load(bundle.path).classifier()(images) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json", CHECKSUMS])
def test_a_changed_byte_is_noticed(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    place = content.index(b"toy") if name == "card.json" else len(content) // 2
    content[place] ^= 1
    (copy / name).write_bytes(bytes(content))
    with pytest.raises(BundleError):
        load(copy)


def test_a_card_that_was_edited_is_noticed(copy: Path) -> None:
    text = (copy / "card.json").read_text("utf-8")
    (copy / "card.json").write_text(text.replace('"toy": true', '"toy": false'), "utf-8")
    with pytest.raises(BundleError, match=r"card\.json has changed"):
        load(copy)


@pytest.mark.parametrize("name", ["weights.safetensors", CHECKSUMS])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        load(copy)


def test_a_newer_bundle_asks_for_an_update(copy: Path) -> None:
    tables = json.loads((copy / "card.json").read_text("utf-8")) | {"format": FORMAT + 1}
    (copy / "card.json").write_text(json.dumps(tables), "utf-8")
    with pytest.raises(BundleError, match=f"has format {FORMAT + 1}") as caught:
        load(copy)
    assert "Update Sentinode" in (caught.value.hint or "")


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "1"}', '{"format": 1}'])
def test_a_card_that_is_none_is_refused(copy: Path, content: str) -> None:
    (copy / "card.json").write_text(content, "utf-8")
    with pytest.raises(BundleError):
        load(copy)


def test_a_place_without_a_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here") as caught:
        load(tmp_path)
    assert "sentinode train" in (caught.value.hint or "")


def test_a_network_of_ones_own_is_named_and_never_imported(tmp_path: Path) -> None:
    save(tmp_path / "mine", Brightness(), card())
    with pytest.raises(BundleError, match=r"tests\.Brightness") as caught:
        load(tmp_path / "mine").classifier()
    assert "module=" in (caught.value.hint or "")
    for module in (Brightness, Brightness(), lambda: Brightness()):
        network = load(tmp_path / "mine", module=module).classifier()
        assert network(torch.ones(1, 96, 96, 3, dtype=torch.uint8)).tolist() == [[-2, 2]]


def test_weights_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "mine", Brightness(), card())
    with pytest.raises(BundleError, match="do not fit"):
        load(tmp_path / "mine", module=torch.nn.Linear(2, 2)).classifier()


@pytest.mark.parametrize("name", ["weights of NaN", "another stride", "a tensor of another name"])
def test_an_odd_network_is_refused(name: str, tmp_path: Path) -> None:
    change, says = NETWORKS[name]
    odd = load(odd_bundle(tmp_path, change))
    with pytest.raises(BundleError, match=says) as caught:
        odd.classifier()
    assert "\n" not in caught.value.what


def test_a_gigantic_network_is_refused_before_it_is_allocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights would have 4 GB. Whatever memory a layer takes, it takes as parameters."""
    made: list[int] = []
    keep = torch.nn.Module.register_parameter

    def counted(self: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        keep(self, name, parameter)
        made.append(0 if parameter is None else parameter.numel())

    monkeypatch.setattr(torch.nn.Module, "register_parameter", counted)
    with pytest.raises(BundleError, match="more parameters than the file has numbers"):
        load(odd_bundle(tmp_path, NETWORKS["a gigantic backbone"][0])).classifier()
    assert sum(made) < 60_000_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"metrics": {"valid": {"auc": 0.9}}},
        {"threshold_rule": "missing"},
        {"class_names": ["one", "one"]},
        {"name": "two\nlines"},
        {"temperature": float("nan")},
        {"architecture": Architecture(kind="custom", class_name="x").model_copy(update={"stride": 7})},
    ],
)
def test_no_card_is_written_that_could_not_be_opened(wrong: dict[str, object], bundle: Bundle, tmp_path: Path) -> None:
    odd = card().model_copy(update=wrong)
    with pytest.raises(BundleError, match=r"card\.json"):
        save(tmp_path / "new", Brightness(), odd)
    with pytest.raises(BundleError, match=r"card\.json"):
        with_card(bundle, odd, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_splits_that_training_drew_are_kept(tmp_path: Path) -> None:
    assignment = {"a": "train", "b, with a comma": "test", "ü": "valid"}
    kept = save(tmp_path / "mine", Brightness(), card(), assignment=assignment)
    assert (kept.path / ASSIGNMENT).exists()
    assert load(kept.path).assignment() == assignment


def test_the_same_bundle_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(tmp_path / name, Brightness(), card(), assignment={"a": "train"})
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_values_are_made_fit_for_json() -> None:
    value = {"a": np.float32(1.5), "b": np.arange(2), "c": float("nan"), "d": (np.int64(3), None)}
    assert json_ready(value) == {"a": 1.5, "b": [0, 1], "c": None, "d": [3, None]}


def test_slide_operating_points_go_into_a_copy_whose_weights_are_the_same(bundle: Bundle, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in bundle.path.iterdir()}
    assert bundle.card.slide_points is None
    points = GENERAL.model_copy(update={"default": "specific"})
    copied = load(state_slide_points(bundle, points, tmp_path / "new").path)
    assert copied.card.slide_points == points
    assert copied.fingerprint == bundle.fingerprint
    assert {file.name: file.read_bytes() for file in bundle.path.iterdir()} == before
    rest = {"slide_operating_points", "slide_operating_point"}
    assert copied.card.model_dump(exclude=rest) == bundle.card.model_dump(exclude=rest)
    with pytest.raises(OutputError, match="is not overwritten"):
        state_slide_points(bundle, points, tmp_path / "new")


@pytest.mark.parametrize(
    "wrong",
    [
        {"slide_operating_points": {"balanced": {"grow": 2}}},
        {"slide_operating_points": {"lenient": GENERAL.point.model_dump(mode="json")}},
        {"slide_operating_points": {"specific": GENERAL.point.model_dump(mode="json")}},
    ],
)
def test_a_card_with_slide_operating_points_that_make_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        card(**wrong)

"""Frozen backbones: what they give, where they come from, and what is refused by name."""

from __future__ import annotations

import json
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import errors as hub
from safetensors.torch import save_file

from sentinode.errors import BundleError, RecipeError, WeightsError
from sentinode.experiments.backbone import open_backbone
from sentinode.geometry import PCAM
from sentinode.model.bundle import Bundle, load


def patches(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, *PCAM.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_features_are_those_of_timm() -> None:
    frozen = open_backbone("test_resnet", PCAM, weights="none")
    net = frozen.network.classifier.backbone  # type: ignore[union-attr]
    config = net.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    planes = (patches().permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.inference_mode():
        torch.testing.assert_close(frozen.network(patches()), net(planes), atol=1e-4, rtol=1e-4)
    assert frozen.dimension == net.num_features
    assert frozen.side == 96


def test_a_network_of_one_size_gets_that_size_or_the_one_asked_for() -> None:
    assert open_backbone("test_vit", PCAM, weights="none").side == 160
    frozen = open_backbone("test_vit", PCAM, weights="none", side=96)
    assert (frozen.side, frozen.network(patches()).shape) == (96, (3, frozen.dimension))


def test_a_pooling_of_ours_is_that_of_the_feature_map() -> None:
    own = open_backbone("test_resnet", PCAM, weights="none")
    both = open_backbone("test_resnet", PCAM, weights="none", pooling="avgcentre")
    assert both.dimension == 2 * own.dimension


def test_a_bundle_gives_what_its_head_gets() -> None:
    bundle = load()
    frozen = open_backbone(bundle.path, PCAM)
    network = bundle.classifier()
    with torch.inference_mode():
        expected = network.head[0](network.features(patches()))  # type: ignore[operator,index]
        torch.testing.assert_close(frozen.network(patches()), expected)
    assert frozen.name == bundle.card.name


def test_weights_from_a_file_and_from_a_folder(tmp_path: Path) -> None:
    net = timm.create_model("test_resnet")
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    from_file = open_backbone("test_resnet", PCAM, weights=tmp_path / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 1000, "pretrained_cfg": net.pretrained_cfg}
    (tmp_path / "config.json").write_text(json.dumps(config))
    from_folder = open_backbone(tmp_path, PCAM)
    assert from_file.digest == from_folder.digest
    assert open_backbone("test_resnet", PCAM, weights="none").digest != from_file.digest


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("resnet5O", {}, "did you mean"),
        ("test_resnet", {"pooling": "median"}, "no pooling 'median'"),
        ("test_resnet", {"weights": "none", "side": 48}, "would be reduced"),
        ("test_vit", {"weights": "none", "side": 100}, "multiple of 16"),
        ("test_resnet", {"weights": "none", "options": ["colour=1"]}, "does not take these options"),
        ("test_resnet", {"weights": "none", "options": ["num_classes=3"]}, "not an option"),
        ("packaged", {"weights": "none"}, "own weights"),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        open_backbone(name, PCAM, **options)


def test_files_and_folders_that_are_no_backbone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="neither a bundle"):
        open_backbone(tmp_path, PCAM)
    (tmp_path / "w.pth").write_bytes(b"weights")
    with pytest.raises(RecipeError, match="does not say which network"):
        open_backbone(tmp_path / "w.pth", PCAM)
    with pytest.raises(WeightsError, match="weights"):
        open_backbone("test_resnet", PCAM, weights=tmp_path / "w.pth")


class _Answer:
    """What the hub's errors ask of an answer."""

    headers: dict[str, str] = {}  # noqa: RUF012
    request = None
    status_code = 401


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (hub.GatedRepoError, "gated"),
        (hub.RepositoryNotFoundError, "no such model"),
        (hub.LocalEntryNotFoundError, "cannot be reached"),
        (hub.OfflineModeIsEnabled, "cannot be reached"),
        (urllib.error.URLError, "cannot be reached"),
        (KeyError, "cannot be had"),
    ],
)
def test_the_hub_s_errors_are_said_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, raised: type[Exception], told: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        error = raised.__new__(raised)
        Exception.__init__(error, "401 Client Error")
        raise RuntimeError("wrapped") from error

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(WeightsError, match=told) as refused:
        open_backbone("hf-hub:someone/model", PCAM)
    if raised is hub.GatedRepoError:
        assert "huggingface.co/someone/model" in str(refused.value)
        assert "HF_TOKEN" in str(refused.value)


def test_a_network_without_one_vector_for_each_patch_has_no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    class Map(torch.nn.Conv2d):
        """Gives a map, as a segmentation network does."""

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Map(3, 4, 3))
    with pytest.raises(RecipeError, match="gives no features"):
        open_backbone("resnet50", PCAM, weights="none")


def test_a_bundle_of_an_author_s_own_network_has_no_known_backbone() -> None:
    bundle = load()
    card = bundle.card.model_copy(
        update={"architecture": bundle.card.architecture.model_copy(update={"kind": "custom", "class_name": "Mine"})}
    )
    own = Bundle(bundle.path, card, torch.nn.Identity())
    own.classifier = lambda device="cpu": torch.nn.Identity()  # type: ignore[method-assign]
    with pytest.raises(BundleError, match="no backbone"):
        open_backbone(own, PCAM)

"""The classifier takes uint8 patches, normalises inside and answers two logits; weights load without running code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet

from sentinode.errors import RecipeError, WeightsError
from sentinode.geometry import PatchGeometry
from sentinode.model import classifier as classifiers
from sentinode.model.bundle import load
from sentinode.model.classifier import POOLINGS, Pool, at_most, build_classifier, read_tensors


def patches(count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 96, 96, 3), dtype=torch.uint8)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_any_backbone_with_any_pooling_gives_two_logits(backbone: str, pooling: str) -> None:
    network = build_classifier(backbone, pooling=pooling, hidden=[8], dropout=0.1)[0].eval()
    assert network(patches()).shape == (2, 2)


@pytest.mark.parametrize("backbone", ["resnet18", "test_vit"])
def test_patches_can_be_enlarged_for_the_backbone(backbone: str) -> None:
    usual, large = (build_classifier(backbone, pooling="avgcentre", side=side)[0].eval() for side in (96, 128))
    small, big = (network.features(patches()).shape[2:] for network in (usual, large))
    assert [round(side * 128 / 96) for side in small] == list(big)
    assert large(patches()).shape == (2, 2)


@pytest.mark.parametrize("backbone", ["resnet18", "test_efficientnet", "test_convnext"])
def test_a_backbone_can_end_at_a_finer_feature_map(backbone: str, tmp_path: Path) -> None:
    whole = build_classifier(backbone)[0]
    save_file(whole.backbone.state_dict(), tmp_path / "whole.safetensors")
    ended = build_classifier(backbone, stride=16, weights=tmp_path / "whole.safetensors")[0].eval()
    assert ended.features(patches()).shape[2:] == (6, 6)
    assert ended(patches()).shape == (2, 2)
    kept = ended.backbone.state_dict()
    assert 0 < len(kept) < len(whole.backbone.state_dict())
    assert all(torch.equal(value, whole.backbone.state_dict()[key]) for key, value in kept.items())


def test_a_convnext_ends_there_with_every_version_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm before 1.0.31 leaves the norm after the last stage, and 1.0.12 ends a stage sooner."""
    prune, wanted = ConvNeXt.prune_intermediate_layers, build_classifier("test_convnext", stride=16)[0]

    def prune_as_before(net: ConvNeXt, indices: list[int]) -> object:
        norm, stages = net.head.norm, net.stages
        kept = prune(net, indices)
        net.head.norm, net.stages = norm, stages[: indices[0]]
        return kept

    monkeypatch.setattr(ConvNeXt, "prune_intermediate_layers", prune_as_before)
    network = build_classifier("test_convnext", stride=16)[0].eval()
    assert network.features(patches()).shape[2:] == (6, 6)
    assert set(network.state_dict()) == set(wanted.state_dict())


@pytest.mark.parametrize("left", [True, False])
def test_an_efficientnet_ends_there_with_every_version_of_timm(left: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm before 1.0.30 leaves the convolution after the last stage where later ones remove it."""
    prune = EfficientNet.prune_intermediate_layers

    def prune_as_before(net: EfficientNet, indices: list[int]) -> object:
        last = net.conv_head, net.bn2
        kept = prune(net, indices)
        if left:
            net.conv_head, net.bn2 = last
        return kept

    monkeypatch.setattr(EfficientNet, "prune_intermediate_layers", prune_as_before)
    network = build_classifier("tf_efficientnet_lite0", side=128, stride=16)[0]
    assert network(torch.zeros(1, 96, 96, 3, dtype=torch.uint8)).shape == (1, 2)
    assert set(network.state_dict()) == set(load().classifier().state_dict())


@pytest.mark.parametrize("backbone", ["test_vit", "p4m_resnet"])
def test_a_backbone_that_cannot_end_there_says_so(backbone: str) -> None:
    with pytest.raises(RecipeError, match="cannot end at a stride of 16"):
        build_classifier(backbone, stride=16)


def test_scaling_and_normalisation_happen_inside() -> None:
    network = build_classifier("test_resnet")[0]
    white = network.normalise(torch.full((1, 96, 96, 3), 255, dtype=torch.uint8))
    config = network.backbone.pretrained_cfg
    expected = (1 - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    torch.testing.assert_close(white[0, :, 0, 0], expected)


def test_the_centre_is_pooled_by_the_share_that_it_covers() -> None:
    board = torch.zeros(1, 1, 3, 3)
    board[0, 0, 1, 1] = 9
    assert Pool("centre")(board).item() == pytest.approx(9)
    assert Pool("avgcentre")(board).tolist() == [[1, 9]]
    fine = torch.zeros(1, 1, 12, 12)
    fine[0, 0, 4:8, 4:8] = 1  # exactly the 32 of 96 pixels
    assert Pool("centre")(fine).item() == pytest.approx(1)


def test_an_unknown_backbone_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'resnet5"):
        build_classifier("resnet5O")


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_weights_come_from_a_file_whatever_wraps_them(tmp_path: Path, ending: str, prefix: str) -> None:
    source = timm.create_model("test_resnet")
    tensors = {prefix + key: value.contiguous() for key, value in source.state_dict().items()}
    path = tmp_path / f"w{ending}"
    save_file(tensors, path) if ending == ".safetensors" else torch.save({"state_dict": tensors}, path)
    network, origin = build_classifier("test_resnet", weights=path)
    assert torch.equal(network.backbone.state_dict()["conv1.0.weight"], source.state_dict()["conv1.0.weight"])
    assert path.name in origin


def test_torchvisions_resnet_fits_timms(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    source = resnet18(weights=None)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    network, _ = build_classifier("resnet18", weights=tmp_path / "resnet18.pth")
    x = torch.randn(1, 3, 96, 96)
    expected = torch.nn.Sequential(*list(source.eval().children())[:-2])(x)
    torch.testing.assert_close(network.eval().backbone(x), expected)


class Trap:
    """Pickled, this would touch a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_holds_more_than_tensors_is_refused_unopened(tmp_path: Path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "ran")}, tmp_path / "evil.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    for name in ("evil.pth", "plain.pkl"):
        with pytest.raises(WeightsError, match="more than tensors"):
            read_tensors(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cut.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{", "cannot be read as weights"),
        ("page.safetensors", b"<!DOCTYPE html><html>not found</html>", "cannot be read as weights"),
        ("empty.pth", b"", "cannot be read as weights"),
    ],
)
def test_damaged_weights_are_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        read_tensors(tmp_path / name)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="belong to another network"):
        build_classifier("test_convnext", weights=tmp_path / "other.safetensors")
    tensors = timm.create_model("test_resnet").state_dict()
    tensors["conv1.0.weight"] = torch.zeros(1, 3, 3, 3)
    save_file(tensors, tmp_path / "shape.safetensors")
    with pytest.raises(WeightsError, match="has the shape"):
        build_classifier("test_resnet", weights=tmp_path / "shape.safetensors")
    with pytest.raises(WeightsError, match="no such weights file"):
        build_classifier("test_resnet", weights=tmp_path / "none.pth")


def test_without_a_network_the_error_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    real = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: object) -> torch.nn.Module:
        if pretrained:
            raise ConnectionError("the network is unreachable")
        return real(name, **options)

    def no_torchvision(net: torch.nn.Module, name: str) -> str:
        raise ConnectionError("nor is this")

    monkeypatch.setattr(classifiers.timm, "create_model", offline)
    monkeypatch.setattr(classifiers, "_from_torchvision", no_torchvision)
    with pytest.raises(WeightsError) as caught:
        build_classifier("test_resnet", weights="imagenet")
    assert "the network is unreachable" in caught.value.what
    assert "--weights FILE" in (caught.value.hint or "")
    assert "--weights none" in (caught.value.hint or "")


@pytest.mark.real
def test_the_real_weights_load_after_decoding(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError):  # as they are published, they are a codebook and codes
        build_classifier("resnet50", weights=shared / "weights" / "resnet50_pqf.pth")


@pytest.mark.parametrize(("backbone", "size"), [("test_resnet", 64), ("test_vit", 224), ("resnet10t", 100)])
def test_patches_of_another_size_are_taken_as_they_are(backbone: str, size: int) -> None:
    geometry = PatchGeometry(size, None, size)
    network = build_classifier(backbone, pooling="avgcentre", geometry=geometry)[0].eval()
    assert (network.side, network.geometry) == (size, geometry)
    assert network(torch.zeros(2, size, size, 3, dtype=torch.uint8)).shape == (2, 2)
    assert network.head[0].pooling == "avg"  # type: ignore[index]


@pytest.mark.parametrize("region", [1, 31, 32, 48, 95])
@pytest.mark.parametrize("cells", [3, 7, 12])
def test_the_shares_of_the_centre_add_up_to_one(region: int, cells: int) -> None:
    pool = Pool("centre", PatchGeometry(96, 0.972, region))
    assert pool(torch.ones(1, 1, cells, cells)).item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("backbone", "size", "unit"), [("p4m_resnet", 100, 32), ("p4m_resnet", 224 + 16, 32), ("test_vit", 100, 16)]
)
def test_a_size_that_a_backbone_would_cut_off_is_refused_by_name(backbone: str, size: int, unit: int) -> None:
    with pytest.raises(RecipeError, match=f"'{backbone}' cannot take {size} x {size} pixels") as caught:
        build_classifier(backbone, geometry=PatchGeometry(size, None, size))
    assert caught.value.hint is not None
    assert f"model.side={-(-size // unit) * unit}" in caught.value.hint


def test_patches_are_never_reduced() -> None:
    with pytest.raises(RecipeError, match="patches of 224 x 224 pixels would be reduced to 96 x 96"):
        build_classifier("test_resnet", side=96, geometry=PatchGeometry(224, None, 224))


def test_a_network_is_given_up_as_soon_as_it_has_too_many_parameters() -> None:
    with pytest.raises(OverflowError), at_most(10_000):
        build_classifier("test_vit")
    with at_most(10_000_000):
        assert build_classifier("test_vit")
    with pytest.raises(RecipeError), at_most(10_000_000):
        build_classifier("none_such")
    assert build_classifier("test_vit")  # outside, nothing is counted

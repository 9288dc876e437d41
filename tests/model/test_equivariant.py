"""Group convolutions: what turning a patch does, and does not, change."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from sentinode.augmentation.symmetries import SYMMETRIES
from sentinode.augmentation.transforms import symmetry
from sentinode.errors import WeightsError
from sentinode.model import equivariant
from sentinode.model.classifier import POOLINGS, build_classifier
from sentinode.model.equivariant import FieldConv, FieldNorm, P4MResNet


def turned(maps: torch.Tensor, k: int) -> torch.Tensor:
    """A symmetry of feature maps (B, C, H, W)."""
    return symmetry(maps.movedim(1, -1), k).movedim(-1, 1)


def random_statistics(network: torch.nn.Module) -> torch.nn.Module:
    """Norms that have seen data, and differ from the identity."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, FieldNorm):
            for tensor in (module.running_mean, module.bias):
                torch.nn.init.normal_(tensor, std=0.3)
            for tensor in (module.running_var, module.weight):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return random_statistics(P4MResNet(fields=(2, 2, 3, 4), depths=(1, 1, 2)))


@pytest.mark.parametrize(("size", "stride", "image"), [(3, 1, False), (1, 1, False), (6, 2, True), (3, 1, True)])
@pytest.mark.parametrize("k", range(SYMMETRIES))
def test_turning_the_input_turns_each_field_and_permutes_its_orientations(
    size: int, stride: int, image: bool, k: int
) -> None:
    torch.manual_seed(0)
    conv = FieldConv(2, 3, size, stride=stride, image=image)
    first = FieldConv(3, 2, 3, image=True)
    x = torch.randn(1, 2 if image else 3, 12, 12)

    def fields(x: torch.Tensor) -> torch.Tensor:
        return conv(x if image else first(x)).unflatten(1, (3, SYMMETRIES))

    original, moved = fields(x), fields(turned(x, k))
    for field in range(3):
        expected = turned(original[:, field], k)
        matches = [
            [torch.allclose(moved[:, field, g], expected[:, h], atol=1e-5) for h in range(SYMMETRIES)]
            for g in range(SYMMETRIES)
        ]
        assert torch.tensor(matches).sum(0).tolist() == [1] * SYMMETRIES
        assert torch.tensor(matches).sum(1).tolist() == [1] * SYMMETRIES


@pytest.mark.parametrize("k", range(SYMMETRIES))
def test_the_features_turn_with_the_patch(network: torch.nn.Module, k: int) -> None:
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(network(turned(x, k)), turned(network(x), k), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_logits_of_a_patch_do_not_depend_on_how_it_lies(pooling: str) -> None:
    torch.manual_seed(0)
    classifier, _ = build_classifier("p4m_resnet", pooling=pooling)
    random_statistics(classifier)
    images = torch.randint(256, (1, 96, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        logits = torch.cat([classifier(symmetry(images, k)) for k in range(SYMMETRIES)])
    torch.testing.assert_close(logits, logits[:1].expand_as(logits), atol=1e-4, rtol=1e-4)


def test_as_plain_convolutions_it_is_the_same_function(network: P4MResNet) -> None:
    x = torch.randn(2, 3, 96, 96)
    plain = copy.deepcopy(network).as_convolutions()
    assert not [m for m in plain.modules() if isinstance(m, FieldConv | FieldNorm)]
    with torch.inference_mode():
        torch.testing.assert_close(plain(x), network(x), atol=1e-4, rtol=1e-4)


def test_training_moves_the_statistics_of_a_whole_field() -> None:
    norm = FieldNorm(2).train()
    x = torch.randn(4, 2 * SYMMETRIES, 5, 5) + 3
    norm(x)
    expected = 0.1 * x.unflatten(1, (2, SYMMETRIES)).mean((0, 2, 3, 4))
    torch.testing.assert_close(norm.running_mean, expected)


def test_timm_knows_it_by_name_and_it_is_small() -> None:
    assert timm.is_model(equivariant.p4m_resnet.__name__)
    count = sum(parameter.numel() for parameter in P4MResNet().parameters())
    assert 4 * count < 5_000_000


def test_it_has_no_imagenet_weights_and_says_so() -> None:
    with pytest.raises(WeightsError, match="p4m_resnet"):
        build_classifier("p4m_resnet", weights="imagenet")

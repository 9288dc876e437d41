"""An engine answers as the network does, from any number of threads."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame

from sentinode.errors import BundleError, DeviceError
from sentinode.geometry import PatchGeometry
from sentinode.model.bundle import Bundle, save
from sentinode.model.classifier import Classifier, build_classifier
from sentinode.model.dense import lattice_of
from sentinode.model.engines import open_engine
from sentinode.model.engines.torch_engine import fold_batch_norms, with_fixed_padding

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 96, 96, 3), dtype=np.uint8)


def test_margins_are_the_networks_logits_and_probabilities_their_calibration(bundle: Bundle) -> None:
    engine = open_engine(bundle, device="cpu", precision="float32")
    with torch.inference_mode():
        logits = bundle.classifier()(torch.from_numpy(IMAGES)).numpy()
    margins = logits[:, 1] - logits[:, 0]
    np.testing.assert_allclose(engine.margins(IMAGES), margins, atol=1e-3)
    expected = 1 / (1 + np.exp(-margins / bundle.card.temperature))
    np.testing.assert_allclose(engine.probabilities(IMAGES), expected, atol=1e-4)
    assert engine.name == "torch cpu float32"


def test_a_batch_of_none_or_one_or_out_of_order_is_answered(bundle: Bundle) -> None:
    engine = open_engine(bundle, device="cpu", precision="float32")
    assert engine.probabilities(IMAGES[:0]).shape == (0,)
    whole = engine.probabilities(IMAGES)
    np.testing.assert_allclose(engine.probabilities(IMAGES[::-1])[::-1], whole, atol=1e-6)
    np.testing.assert_allclose(engine.probabilities(IMAGES[2:3]), whole[2:3], atol=1e-6)


def test_the_symmetries_averaged_make_the_answer_invariant(bundle: Bundle) -> None:
    engine = open_engine(bundle, device="cpu", precision="float32", tta=True)
    np.testing.assert_allclose(engine.margins(IMAGES), engine.margins(np.rot90(IMAGES, 1, (1, 2))), atol=1e-3)
    np.testing.assert_allclose(engine.margins(IMAGES), engine.margins(IMAGES[:, ::-1]), atol=1e-3)


def test_bfloat16_stays_near_float32(bundle: Bundle) -> None:
    exact = open_engine(bundle, device="cpu", precision="float32").probabilities(IMAGES)
    rounded = open_engine(bundle, device="cpu", precision="bfloat16").probabilities(IMAGES)
    np.testing.assert_allclose(rounded, exact, atol=0.05)


def test_threads_get_the_answers_to_their_own_questions(bundle: Bundle) -> None:
    engine = open_engine(bundle, device="cpu", precision="float32")
    expected = engine.probabilities(IMAGES)
    with ThreadPoolExecutor(4) as pool:
        for i, answer in enumerate(pool.map(lambda i: engine.probabilities(IMAGES[i % 6 : i % 6 + 1]), range(24))):
            np.testing.assert_allclose(answer, expected[i % 6 : i % 6 + 1], atol=1e-6)


@pytest.mark.parametrize("backbone", ["resnet18", "test_convnext", "test_vit", "test_efficientnet"])
def test_folding_batch_norms_changes_the_speed_and_not_the_answer(backbone: str) -> None:
    network = build_classifier(backbone, pooling="avgcentre")[0]
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    network.eval()
    images = torch.from_numpy(IMAGES)
    with torch.inference_mode():
        before = network(images)
        folded = fold_batch_norms(network)
        torch.testing.assert_close(folded(images), before, atol=1e-3, rtol=1e-3)
    if backbone == "resnet18":
        assert isinstance(folded, Classifier)
        assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]


@pytest.mark.parametrize("stride", [16, 32])
def test_the_padding_of_tensorflows_convolutions_is_fixed_without_changing_any_answer(stride: int) -> None:
    network = build_classifier("tf_efficientnet_lite0", side=128, stride=stride)[0].eval()
    fixed = with_fixed_padding(copy.deepcopy(network))
    assert any(isinstance(module, Conv2dSame) for module in network.modules())
    assert not any(isinstance(module, Conv2dSame) for module in fixed.modules())
    assert isinstance(fixed, Classifier)
    unit = lattice_of(network).unit
    with torch.inference_mode():
        for height, width in ((96, 96), (96 + unit, 96 + 3 * unit), (192, 96)):
            region = torch.from_numpy(RNG.integers(0, 256, (1, height, width, 3), dtype=np.uint8))
            torch.testing.assert_close(fixed.features(region), network.features(region), atol=0, rtol=0)
    folded = fold_batch_norms(fixed)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_padding_that_depends_on_the_size_is_left_to_the_network() -> None:
    """At 90 pixels cells lie otherwise in patches and in regions."""
    network = build_classifier("tf_efficientnet_lite0", geometry=PatchGeometry(90, 1.0, 90))[0].eval()
    images = torch.from_numpy(np.ascontiguousarray(IMAGES[:, :90, :90]))
    with torch.inference_mode():
        torch.testing.assert_close(with_fixed_padding(copy.deepcopy(network))(images), network(images))


def test_a_device_that_is_not_there_is_refused(bundle: Bundle) -> None:
    with pytest.raises(DeviceError):
        open_engine(bundle, device="cuda:99")


@pytest.mark.parametrize("kind", ["torch", "openvino"])
@pytest.mark.parametrize("value", [1e9, 1e11])
def test_a_network_whose_answer_is_no_number_is_refused(
    bundle: Bundle, tmp_path: Path, kind: str, value: float
) -> None:
    network = bundle.classifier()
    with torch.no_grad():  # each number is one that a bundle may have; what they make is beyond float32
        for parameter in network.parameters():
            parameter.fill_(value)
    broken = save(tmp_path / "bundle", network, bundle.card)
    with pytest.raises(BundleError, match="not a number"):
        open_engine(broken, kind=kind, device="cpu").probabilities(np.zeros((2, 96, 96, 3), np.uint8))

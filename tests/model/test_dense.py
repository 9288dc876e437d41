"""Dense reading: windows pooled from a region's feature map are what the patches' own maps pool to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sentinode.errors import BundleError
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.model.classifier import POOLINGS, Head, Pool, build_classifier
from sentinode.model.dense import feature_views, lattice_of, window_margins, with_surroundings
from sentinode.model.lattice import Lattice, check_region

MAP = torch.from_numpy(np.random.default_rng(0).random((2, 5, 20, 17), dtype=np.float32))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_window_that_begins_at_a_cell_is_pooled_as_a_patch(pooling: str) -> None:
    pool = Pool(pooling)
    tops, lefts = np.array([0.0, 3.0, 12.0]), np.array([1.0, 9.0])
    windows = pool.windows(MAP, tops, lefts, 8)
    assert windows.shape == (2, 3, 2, 5 * pool.widening)
    for i, top in enumerate(tops.astype(int)):
        for j, left in enumerate(lefts.astype(int)):
            expected = pool(MAP[:, :, top : top + 8, left : left + 8])
            torch.testing.assert_close(windows[:, i, j], expected, rtol=1e-5, atol=1e-6)


def test_an_average_takes_cells_on_a_windows_border_by_their_share() -> None:
    ramp = torch.arange(10.0).view(1, 1, 1, 10).expand(1, 1, 10, 10)
    averages = Pool("avg").windows(ramp, np.array([0.5]), np.array([0.0, 0.25, 5.5]), 4)[0, 0, :, 0]
    # Cells of a ramp: the middle of the window, less the half by which a cell's number lies before its middle.
    np.testing.assert_allclose(averages, [1.5, 1.8125, 7.0], atol=0.07)
    whole = torch.ones(1, 1, 10, 10)
    np.testing.assert_allclose(
        Pool("centre").windows(whole, np.array([1.3]), np.array([0.7]), 8).detach(), 1, rtol=1e-6
    )


def test_the_maximum_takes_the_cells_from_the_nearest_whole_place_on() -> None:
    ramp = torch.arange(10.0).view(1, 1, 1, 10).expand(1, 1, 10, 10)
    maxima = Pool("max").windows(ramp, np.array([0.0]), np.array([0.2, 0.8, 5.9]), 4)[0, 0, :, 0]
    np.testing.assert_array_equal(maxima, [3, 4, 9])


@pytest.mark.parametrize(
    ("size", "cells", "unit"), [(96, 8, 12), (96, 3, 32), (96, 10, 48), (224, 7, 32), (100, 3, 100)]
)
def test_regions_are_whole_numbers_of_cells_and_of_pixels(size: int, cells: int, unit: int) -> None:
    lattice = Lattice(size, cells)
    assert lattice.unit == unit
    assert lattice.unit * cells % size == 0
    assert (lattice.down(unit + 1), lattice.up(unit + 1), lattice.down(-1)) == (unit, 2 * unit, -unit)
    check_region(np.zeros((unit, 3 * unit, 3), np.uint8), lattice)
    with pytest.raises(ValueError, match="whole units"):
        check_region(np.zeros((unit, unit + 1, 3), np.uint8), lattice)


@pytest.mark.parametrize(
    ("backbone", "options", "cells"),
    [
        ("test_resnet", {}, 3),
        ("test_resnet", {"stride": 16}, 6),
        ("test_resnet", {"side": 128, "stride": 16}, 8),
        ("test_convnext", {}, 3),
        ("p4m_resnet", {}, 3),
    ],
)
def test_convolutional_backbones_have_a_lattice(backbone: str, options: dict[str, int], cells: int) -> None:
    network = build_classifier(backbone, **options)[0].eval()  # type: ignore[arg-type]
    assert lattice_of(network) == Lattice(96, cells)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (lambda: build_classifier("test_vit", side=160)[0], "not convolutional"),
        (
            lambda: build_classifier("test_resnet", geometry=PatchGeometry(100, None, 100))[0],
            "whole number of its cells",
        ),
        (lambda: nn.Identity(), "no head of pooling"),
    ],
)
def test_other_networks_are_refused_by_name(network: object, why: str) -> None:
    with pytest.raises(BundleError, match=why):
        lattice_of(network().eval())  # type: ignore[operator]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_region_that_is_one_patch_gives_the_patchs_own_answer(pooling: str) -> None:
    torch.manual_seed(0)
    network = build_classifier("test_resnet", pooling=pooling, hidden=[7], side=128, stride=16)[0].eval()
    patch = torch.from_numpy(np.random.default_rng(1).integers(256, size=(1, *PCAM.shape), dtype=np.uint8))
    with torch.inference_mode():
        logits = network(patch)[0]
        margin = window_margins(network, lattice_of(network), network.features(patch), [0], [0])
    assert margin.item() == pytest.approx((logits[1] - logits[0]).item(), abs=1e-5)


def test_the_symmetries_averaged_turn_with_the_region() -> None:
    torch.manual_seed(0)
    network = build_classifier("test_resnet", pooling="avgcentre", hidden=[7], stride=16)[0].eval()
    lattice, starts = lattice_of(network), [0, 16, 96]
    region = torch.from_numpy(np.random.default_rng(1).integers(256, size=(1, 192, 192, 3), dtype=np.uint8))

    def averaged(picture: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            views = feature_views(network.features, picture, tta=True)
            return window_margins(network, lattice, views, starts, starts).numpy()

    mirrored = averaged(region.flip(2))
    # The windows' places mirrored: 192 - 96 - 0, - 16, - 96.
    np.testing.assert_allclose(mirrored[:, 0], averaged(region)[:, 2], atol=1e-4)
    np.testing.assert_allclose(mirrored[:, 2], averaged(region)[:, 0], atol=1e-4)


def test_a_head_answers_for_windows_as_for_patches() -> None:
    head = Head(5, "avgcentre", [6], 0.5).eval()
    patch = MAP[:, :, 2:10, 4:12]
    torch.testing.assert_close(
        head.windows(MAP, np.array([2.0]), np.array([4.0]), 8)[:, 0, 0], head(patch), rtol=1e-5, atol=1e-6
    )


def test_a_patch_in_the_middle_of_its_surroundings_is_what_dense_reading_sees() -> None:
    torch.manual_seed(0)
    network = build_classifier("test_resnet", pooling="avgcentre", stride=16)[0].eval()
    patch = torch.from_numpy(np.random.default_rng(1).integers(256, size=(2, *PCAM.shape), dtype=np.uint8))
    larger = with_surroundings(patch, 32)
    assert larger.shape == (2, 160, 160, 3)
    with torch.inference_mode():
        logits = network(larger)[0]
        margin = window_margins(network, lattice_of(network), network.features(larger[:1]), [32], [32])
        assert not torch.equal(logits, network(patch)[0])
    assert margin.item() == pytest.approx((logits[1] - logits[0]).item(), abs=1e-5)

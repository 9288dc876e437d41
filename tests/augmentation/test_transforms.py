"""Augmentation changes pixels, within bounds and by chance alone, and never what the label speaks of."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from sentinode.augmentation.symmetries import SYMMETRIES, inverse_symmetry, turned
from sentinode.augmentation.transforms import Augment, jpeg, mixup, symmetry
from sentinode.errors import RecipeError
from sentinode.geometry import PatchGeometry

SINGLE: dict[str, dict[str, Any]] = {
    "symmetries": {"symmetries": True},
    "scale": {"scale": 0.2},
    "shift": {"shift": 8},
    "blur": {"blur": 1.0, "blur_sigma": 2.0},
    "stain in HED": {"stain": 0.1},
    "stain by Macenko": {"stain": 0.1, "stain_space": "macenko"},
    "brightness": {"brightness": 0.2},
    "contrast": {"contrast": 0.2},
    "saturation": {"saturation": 0.5},
    "hue": {"hue": 0.1},
    "noise": {"noise": 8.0},
    "jpeg": {"jpeg": 1.0},
}
ALL = Augment(**{key: value for options in SINGLE.values() for key, value in options.items()})
SQUARES = st.integers(0, SYMMETRIES - 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tissue(count: int = 4, seed: int = 0) -> Tensor:
    """Smooth mixtures of haematoxylin and eosin: uint8 (count, 96, 96, 3)."""
    coarse = torch.rand(count, 2, 12, 12, generator=seeded(seed))
    amounts = torch.nn.functional.interpolate(coarse, size=96, mode="bicubic").clamp_(0).mul_(1.5)
    stains = torch.tensor(((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)))
    light = 255 * torch.exp(-torch.einsum("bkhw,kc->bhwc", amounts, stains))
    return light.round().to(torch.uint8)


def mean_change(before: Tensor, after: Tensor) -> float:
    return float((after.float() - before.float()).abs().mean())


def test_with_everything_off_the_batch_comes_back_as_it_is() -> None:
    images = tissue()
    assert Augment()(images, seeded()) is images
    assert Augment().mix(images, torch.ones(4, 2), seeded())[0] is images


def test_a_batch_that_is_no_rgb_bytes_is_refused() -> None:
    for wrong in (tissue().float(), tissue()[0], tissue()[..., :2]):
        with pytest.raises(ValueError, match="uint8"):
            ALL(wrong, seeded())


def test_a_shift_that_could_make_a_label_wrong_is_refused() -> None:
    with pytest.raises(RecipeError, match="16"):
        Augment(shift=17)


def test_a_mistyped_stain_space_is_refused_with_the_right_one() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'macenko'"):
        Augment(stain_space="mackenko")


@pytest.mark.parametrize("name", SINGLE)
class TestEveryTransform:
    def test_changes_patches_and_keeps_shape_type_and_layout(self, name: str) -> None:
        images = tissue()
        changed = Augment(**SINGLE[name])(images, seeded())
        assert changed.dtype == torch.uint8
        assert changed.shape == images.shape
        assert changed.is_contiguous()
        assert mean_change(images, changed) > 0.05

    def test_leaves_its_input_alone(self, name: str) -> None:
        images = tissue()
        before = images.clone()
        Augment(**SINGLE[name])(images, seeded())
        assert torch.equal(images, before)

    def test_draws_the_same_from_the_same_seed_and_other_values_from_another(self, name: str) -> None:
        augment, images = Augment(**SINGLE[name]), tissue(8)
        first = augment(images, seeded(1))
        torch.rand(3)  # the global generator has no part in it
        assert torch.equal(first, augment(images, seeded(1)))
        assert not torch.equal(first, augment(images, seeded(2)))

    def test_draws_for_each_patch_anew(self, name: str) -> None:
        same = tissue(1).expand(16, -1, -1, -1)
        changed = Augment(**SINGLE[name])(same, seeded())
        assert len(changed.flatten(1).unique(dim=0)) > 3

    def test_takes_one_patch_and_any_memory_layout(self, name: str) -> None:
        augment, images = Augment(**SINGLE[name]), tissue(2)
        assert augment(images[:1], seeded()).shape == (1, 96, 96, 3)
        planar = images.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        assert torch.equal(augment(planar, seeded()), augment(images, seeded()))

    @pytest.mark.parametrize("value", [0, 255])
    def test_takes_black_and_white_patches(self, name: str, value: int) -> None:
        blank = torch.full((3, 96, 96, 3), value, dtype=torch.uint8)
        changed = Augment(**SINGLE[name])(blank, seeded())
        assert mean_change(blank, changed) < 64

    def test_computes_in_full_precision_under_autocast(self, name: str) -> None:
        augment, images = Augment(**SINGLE[name]), tissue(2)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(augment(images, seeded()), Augment(**SINGLE[name])(images, seeded()))
            mixed = augment(images, seeded())
        assert torch.equal(mixed, augment(images, seeded()))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    values=st.tuples(*[st.floats(0, 0.3)] * 8),
    shift=st.integers(0, 16),
    noise=st.floats(0, 64),
    space=st.sampled_from(("hed", "macenko")),
)
def test_any_settings_on_any_pixels_give_patches(
    seed: int, values: tuple[float, ...], shift: int, noise: float, space: str
) -> None:
    names = ("scale", "blur", "stain", "brightness", "contrast", "saturation", "hue", "jpeg")
    strengths: dict[str, Any] = dict(zip(names, values, strict=True))
    augment = Augment(**strengths, shift=shift, noise=noise, stain_space=space)
    images = torch.randint(256, (2, 96, 96, 3), dtype=torch.uint8, generator=seeded(seed))
    changed = augment(images, seeded(seed))
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape


class TestSymmetry:
    def test_the_eight_are_all_different(self) -> None:
        images = tissue(1)
        assert len(torch.stack([symmetry(images, k) for k in range(SYMMETRIES)]).flatten(1).unique(dim=0)) == 8

    def test_the_first_changes_nothing_and_the_next_is_a_turn_to_the_left(self) -> None:
        image = torch.arange(4).view(2, 2, 1)
        assert torch.equal(symmetry(image, 0), image)
        assert symmetry(image, 1)[..., 0].tolist() == [[1, 3], [0, 2]]
        assert symmetry(image, 4)[..., 0].tolist() == [[1, 0], [3, 2]]

    @given(SQUARES)
    def test_each_is_undone_by_its_inverse(self, k: int) -> None:
        images = tissue(2)
        assert torch.equal(symmetry(symmetry(images, k), inverse_symmetry(k)), images)

    @given(SQUARES)
    def test_arrays_are_turned_as_tensors_are(self, k: int) -> None:
        images = tissue(2)
        np.testing.assert_array_equal(turned(images.numpy(), k), symmetry(images, k).numpy())

    def test_a_ninth_is_refused(self) -> None:
        with pytest.raises(ValueError, match="0 to 7"):
            turned(np.zeros((2, 2, 3), np.uint8), 8)

    @given(SQUARES, SQUARES)
    def test_two_in_a_row_are_one_of_the_eight(self, first: int, second: int) -> None:
        image = torch.arange(9).view(3, 3, 1)
        both = symmetry(symmetry(image, first), second)
        assert sum(torch.equal(both, symmetry(image, k)) for k in range(SYMMETRIES)) == 1

    @given(SQUARES)
    def test_the_centre_square_stays_the_centre_square(self, k: int) -> None:
        images = tissue(1)
        centre = slice(32, 64)
        turned = symmetry(images, k)[:, centre, centre]
        assert torch.equal(turned, symmetry(images[:, centre, centre], k))

    @pytest.mark.parametrize("k", [-1, 8])
    def test_there_are_no_others(self, k: int) -> None:
        with pytest.raises(ValueError, match="0 to 7"):
            symmetry(tissue(1), k)

    def test_all_eight_are_drawn(self) -> None:
        same = tissue(1).expand(128, -1, -1, -1)
        assert len(Augment(symmetries=True)(same, seeded()).flatten(1).unique(dim=0)) == 8


class TestTheCentre:
    """A dot in the middle says where the label went."""

    @staticmethod
    def dots(count: int) -> Tensor:
        images = torch.full((count, 96, 96, 3), 200, dtype=torch.uint8)
        images[:, 46:50, 46:50] = 20
        return images

    @staticmethod
    def where(images: Tensor) -> Tensor:
        """The dot's centre of mass, in pixels from the middle of the patch: (B, 2)."""
        weight = (200 - images[..., 0].float()).clamp(min=0)
        axis = torch.arange(96.0) - 47.5
        total = weight.sum((1, 2))
        return torch.stack(((weight.sum(2) @ axis) / total, (weight.sum(1) @ axis) / total), 1)

    def test_stays_in_the_middle_when_the_patch_is_zoomed(self) -> None:
        zoomed = Augment(scale=0.3)(self.dots(32), seeded())
        assert self.where(zoomed).abs().max() < 0.05
        assert len({int((patch < 110).sum()) for patch in zoomed}) > 1

    def test_moves_by_whole_pixels_and_no_further_than_the_shift(self) -> None:
        moved = Augment(shift=5)(self.dots(64), seeded())
        places = self.where(moved)
        assert torch.allclose(places, places.round(), atol=1e-3)
        assert places.abs().max() == pytest.approx(5, abs=1e-3)
        assert len(places.round().unique(dim=0)) > 30

    def test_shifts_reflect_the_border_and_lose_no_sharpness(self) -> None:
        images = torch.randint(256, (8, 96, 96, 3), dtype=torch.uint8, generator=seeded())
        moved = Augment(shift=16)(images, seeded())
        for before, after in zip(images, moved, strict=True):
            padded = np.pad(before.numpy(), ((16, 16), (16, 16), (0, 0)), mode="reflect")
            views = np.lib.stride_tricks.sliding_window_view(padded, (96, 96, 3))
            assert (views[:, :, 0, 48, 48] == after.numpy()[48, 48]).all(-1).any()
            assert any(np.array_equal(views[r, c, 0], after) for r in range(33) for c in range(33))


class TestColour:
    def test_white_stays_nearly_white_and_gains_no_black_under_stain_jitter(self) -> None:
        white = torch.full((64, 96, 96, 3), 255, dtype=torch.uint8)
        assert Augment(stain=0.05)(white, seeded()).min() > 225

    def test_stain_jitter_of_a_patch_of_one_stain_only_moves_along_that_stain(self) -> None:
        haematoxylin = torch.tensor((0.65, 0.70, 0.29))
        light = 255 * torch.exp(-torch.linspace(0.3, 1.5, 96).view(1, 1, 96, 1) * haematoxylin)
        images = light.expand(1, 96, 96, 3).round().to(torch.uint8)
        changed = Augment(stain=0.1)(images, seeded())
        slope = torch.diff((changed[0, 0, ::95].float() + 1).log(), dim=0)[0]
        assert torch.allclose(slope / slope.norm(), -haematoxylin / haematoxylin.norm(), atol=0.02)

    @pytest.mark.parametrize("value", [0, 128, 255])
    def test_macenko_leaves_patches_without_two_stains_as_they_are(self, value: int) -> None:
        flat = torch.full((2, 96, 96, 3), value, dtype=torch.uint8)
        assert torch.equal(Augment(stain=0.3, stain_space="macenko")(flat, seeded()), flat)

    def test_macenko_finds_the_stains_that_made_the_patch(self) -> None:
        from sentinode.augmentation.transforms import _macenko_vectors

        density = -((tissue(4).float() + 1) / 256).log().permute(0, 3, 1, 2).flatten(2)
        vectors, found = _macenko_vectors(density)
        truth = torch.tensor(((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)))
        truth = truth / truth.norm(dim=1, keepdim=True)
        assert found.all()
        best = (vectors.mT @ truth.T).amax(1)
        assert (best > 0.96).all()

    def test_greys_have_no_colour_to_saturate_or_turn(self) -> None:
        grey = torch.arange(256, dtype=torch.uint8).repeat(36).view(1, 96, 96, 1).expand(8, -1, -1, 3)
        assert torch.equal(Augment(saturation=0.9, hue=0.5)(grey, seeded()), grey)

    def test_contrast_keeps_the_mean_grey(self) -> None:
        images = tissue()
        luma = torch.tensor((0.299, 0.587, 0.114))
        before, after = (
            (patches.float() @ luma).mean((1, 2)) for patches in (images, Augment(contrast=0.2)(images, seeded()))
        )
        assert torch.allclose(before, after, atol=1)

    def test_brightness_multiplies_and_noise_adds_what_was_asked_for(self) -> None:
        grey = torch.full((64, 96, 96, 3), 128, dtype=torch.uint8)
        brightness = Augment(brightness=0.2)(grey, seeded()).float().mean((1, 2, 3)) / 128
        assert 0.79 < brightness.min() < 0.85 < 1.15 < brightness.max() < 1.21
        deviation = Augment(noise=8)(grey, seeded()).float().std((1, 2, 3))
        assert 6 < deviation.max() < 8.2
        assert Augment(noise=8)(grey, seeded()).float().mean((1, 2, 3)).sub(128).abs().max() < 0.3


class TestBlur:
    def test_touches_the_share_of_patches_that_was_asked_for(self) -> None:
        sharp = torch.randint(256, (200, 96, 96, 3), dtype=torch.uint8, generator=seeded())
        blurred = Augment(blur=0.3, blur_sigma=4)(sharp, seeded())
        touched = (blurred != sharp).flatten(1).any(1).float().mean()
        assert 0.2 < touched < 0.4

    def test_keeps_flat_patches_flat_up_to_the_border(self) -> None:
        flat = torch.full((4, 96, 96, 3), 77, dtype=torch.uint8)
        assert torch.equal(Augment(blur=1, blur_sigma=4)(flat, seeded()), flat)


class TestJpeg:
    @staticmethod
    def by_libjpeg(images: Tensor, quality: int) -> Tensor:
        read = []
        for image in images.numpy():
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
            read.append(np.asarray(Image.open(file)))
        return torch.from_numpy(np.stack(read))

    @pytest.mark.parametrize("quality", [10, 40, 50, 75, 95])
    def test_leaves_what_libjpeg_leaves(self, quality: int) -> None:
        noise = torch.randint(-20, 21, (4, 96, 96, 3), generator=seeded())
        images = (tissue().int() + noise).clamp(0, 255).to(torch.uint8)
        ours = jpeg(images.permute(0, 3, 1, 2).float(), torch.full((4,), quality)).permute(0, 2, 3, 1)
        theirs = self.by_libjpeg(images, quality)
        assert mean_change(theirs, ours) < 1.25
        assert mean_change(theirs, ours) < 0.15 * mean_change(images, theirs)

    def test_each_patch_has_its_own_quality(self) -> None:
        images = tissue(1).expand(2, -1, -1, -1)
        worse, better = jpeg(images.permute(0, 3, 1, 2).float(), torch.tensor((5, 95))).permute(0, 2, 3, 1)
        assert mean_change(images[0], worse) > 2 * mean_change(images[0], better)


class TestMixup:
    def test_blends_targets_as_it_blends_patches(self) -> None:
        images = torch.zeros(64, 96, 96, 3, dtype=torch.uint8)
        images[32:] = 250
        targets = torch.eye(2).repeat_interleave(32, 0)
        mixed, soft = mixup(images, targets, 1.0, seeded())
        assert mixed.dtype == torch.uint8
        assert torch.allclose(mixed.float().mean((1, 2, 3)) / 250, soft[:, 1], atol=0.003)
        assert torch.allclose(soft.sum(1), torch.ones(64))
        assert ((soft > 0.05) & (soft < 0.95)).any()

    def test_follows_the_generator(self) -> None:
        images, targets = tissue(8), torch.eye(2).repeat(4, 1)
        first, second = (Augment(mixup=0.4).mix(images, targets, seeded(3)) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])


def test_the_recipe_names_every_setting_as_augment_does() -> None:
    from sentinode.recipes import AugmentRecipe

    assert {*AugmentRecipe.model_fields, "geometry"} == {field.name for field in fields(Augment)}
    Augment(**AugmentRecipe().model_dump())


EVERY = {
    "symmetries": True,
    "scale": 0.2,
    "crop": 0.4,
    "blur": 1.0,
    "stain": 0.2,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.05,
    "noise": 8.0,
    "jpeg": 1.0,
}


@settings(max_examples=10, deadline=None)
@given(size=st.integers(16, 240))
def test_patches_of_any_size_are_augmented(size: int) -> None:
    geometry = PatchGeometry(size, None, size)
    images = torch.randint(256, (2, size, size, 3), dtype=torch.uint8)
    changed = Augment(**EVERY, shift=geometry.max_shift, geometry=geometry)(images, seeded())
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)


def test_noise_is_drawn_for_large_patches_too() -> None:
    images = torch.full((1, 700, 700, 3), 128, dtype=torch.uint8)
    assert Augment(noise=20.0, geometry=PatchGeometry(700, None, 700))(images, seeded()).float().std() > 1


@settings(max_examples=15, deadline=None)
@given(region=st.integers(2, 96))
def test_a_patch_may_be_shifted_by_half_of_what_its_label_covers(region: int) -> None:
    geometry = PatchGeometry(96, 0.972, region)
    Augment(shift=region // 2, geometry=geometry)
    with pytest.raises(RecipeError, match=f"outside 0 to {region // 2}"):
        Augment(shift=region // 2 + 1, geometry=geometry)


def test_a_crop_of_half_shows_a_part_at_twice_its_size() -> None:
    ramp = torch.arange(64).view(1, 1, 64, 1).expand(8, 64, 64, 3).to(torch.uint8)
    cropped = Augment(crop=0.5, geometry=PatchGeometry(64, None, 64))(ramp, seeded()).float()
    steps = cropped[:, 0, 1:, 0] - cropped[:, 0, :-1, 0]
    shares = steps.mean(1)
    assert ((shares > 0.45) & (shares < 1.01)).all()
    assert shares.min() < 0.8 < shares.max() + 0.2
    assert torch.equal(cropped[:, :1].expand_as(cropped), cropped)


def test_crops_are_refused_where_the_label_covers_the_centre_alone() -> None:
    with pytest.raises(RecipeError, match="a crop could cut off a part of the centre 32 x 32"):
        Augment(crop=0.1)


@pytest.mark.parametrize("size", [50, 96, 100])
def test_jpeg_of_any_size_is_what_an_encoder_leaves(size: int) -> None:
    coarse = np.random.default_rng(size).integers(60, 200, (6, 6, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    held = io.BytesIO()
    Image.fromarray(image).save(held, "JPEG", quality=60)
    real = np.asarray(Image.open(held)).astype(float)
    planes = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    ours = jpeg(planes, torch.tensor([60]))[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - real).mean() < 1.5

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sentinode.patches.near_duplicates import contrast, describe, near_pairs


def recompressed(image, quality):
    held = io.BytesIO()
    Image.fromarray(image).save(held, "JPEG", quality=quality)
    return np.asarray(Image.open(held))


def found(images):
    return {tuple(sorted(pair)) for pair in near_pairs(describe(np.stack(images))).tolist()}


def test_the_descriptor_is_the_mean_of_each_cell(disk):
    images = disk.patches(3)
    cells = describe(images)
    assert cells.shape == (3, 12, 12, 3)
    np.testing.assert_allclose(cells[1, 2, 5], images[1, 16:24, 40:48].mean(axis=(0, 1)), atol=0.51)


def test_different_patches_are_no_copies(disk):
    assert found(disk.patches(200)) == set()


@settings(max_examples=15, deadline=None)
@given(turns=st.integers(0, 3), mirrored=st.booleans(), quality=st.sampled_from([75, 90]), seed=st.integers(0, 50))
def test_a_recompressed_copy_is_found_in_any_of_the_eight_orientations(turns, mirrored, quality, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 230, (12, 12, 12, 3), dtype=np.uint8)
    images = [np.asarray(Image.fromarray(c).resize((96, 96), Image.Resampling.BICUBIC)) for c in coarse]
    copy = np.rot90(images[4][:, ::-1] if mirrored else images[4], turns)
    images.append(recompressed(np.ascontiguousarray(copy), quality))
    assert found(images) == {(4, 12)}


def test_three_copies_make_three_pairs(disk):
    images = list(disk.patches(5))
    images += [recompressed(images[2], 75), recompressed(images[2], 85)]
    assert found(images) == {(2, 5), (2, 6), (5, 6)}


def test_nearly_empty_patches_are_not_called_copies():
    rng = np.random.default_rng(0)
    images = [np.clip(rng.normal(240, 1, (96, 96, 3)), 0, 255).astype(np.uint8) for _ in range(20)]
    assert contrast(describe(np.stack(images))).max() < 2.5
    assert found(images) == set()


def test_no_patches_have_no_copies():
    assert near_pairs(np.zeros((0, 12, 12, 3), np.uint8)).shape == (0, 2)


@pytest.mark.real
def test_lossless_real_patches_and_their_jpegs_are_found_together(shared):
    import pyarrow.parquet as pq

    table = next(pq.ParquetFile(shared / "pcam" / "kaggle.parquet").iter_batches(150, columns=["image.bytes"]))
    encoded = [row["image"]["bytes"] for row in table.to_pylist()]
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded]
    pairs = found(images + [recompressed(image, 75) for image in images])
    expected = {(i, i + 150) for i in range(150)}
    assert pairs <= expected
    assert len(pairs) >= 0.97 * len(expected)


@settings(max_examples=10, deadline=None)
@given(size=st.integers(24, 260), turns=st.integers(0, 3), mirrored=st.booleans())
def test_copies_are_found_at_any_size(size, turns, mirrored):
    rng = np.random.default_rng(size)
    coarse = rng.integers(40, 230, (6, 12, 12, 3), dtype=np.uint8)
    images = [np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse]
    images.append(np.ascontiguousarray(np.rot90(images[2][:, ::-1] if mirrored else images[2], turns)))
    assert found(images) == {(2, 6)}


@pytest.mark.parametrize("size", [97, 224, 1200])
def test_a_flat_patch_of_any_size_has_its_colour_in_every_cell(size):
    colour = np.array([255, 0, 131], np.uint8)
    assert (describe(np.full((2, size, size, 3), colour, np.uint8)) == colour).all()

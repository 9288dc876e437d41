"""The look of a patch in numbers: each moves when its own thing changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sentinode.patches.appearance import APPEARANCE, WORDS, appearance

PATCHES = np.random.default_rng(0).integers(40, 180, (2, 32, 32, 3)).astype(np.uint8)


def of(images: np.ndarray, name: str) -> np.ndarray:
    return appearance(images)[:, APPEARANCE.index(name)]


def test_each_number_moves_with_what_it_is_named_after() -> None:
    assert (of(PATCHES // 2, "brightness") < of(PATCHES, "brightness")).all()
    assert (of(PATCHES // 2 + 90, "saturation") < of(PATCHES, "saturation")).all()
    assert (of(PATCHES // 2 + 60, "contrast") < of(PATCHES, "contrast")).all()
    blurred = gaussian_filter(PATCHES, (0, 1.5, 1.5, 0))
    assert (of(blurred, "sharpness") < of(PATCHES, "sharpness")).all()
    redder = PATCHES + np.array([30, 0, 0], np.uint8)
    assert of(redder, "redness") == pytest.approx(of(PATCHES, "redness") + 30, abs=1e-3)


def test_white_is_glass_and_breaks_nothing() -> None:
    white = appearance(np.full((1, 8, 8, 3), 255, np.uint8))[0]
    assert dict(zip(APPEARANCE, white.tolist(), strict=True)) == {
        **dict.fromkeys(APPEARANCE, 0.0),
        "brightness": 255.0,
        "glass": 1.0,
    }
    assert np.isfinite(appearance(np.zeros((1, 8, 8, 3), np.uint8))).all()
    assert appearance(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, len(APPEARANCE))


def test_each_number_has_words() -> None:
    assert set(WORDS) == set(APPEARANCE)

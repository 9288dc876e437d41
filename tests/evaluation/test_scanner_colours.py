"""The stain of a picture: what was mixed is found again, and given to other patches."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.evaluation.scanner_colours import HOSPITALS, Stain, between, estimate_stain, optical_density, restained


def stained(stain: Stain, seed: int = 0) -> NDArray[np.uint8]:
    """A picture (80, 80, 3) of pixels of pure haematoxylin, of pure eosin, and of mixtures."""
    rng = np.random.default_rng(seed)
    amounts = rng.uniform(0.5, 1, (6400, 1)) * stain.strengths
    amounts[:400, 1] = amounts[400:800, 0] = 0
    return (256 * np.exp(-amounts @ stain.directions) - 1).clip(0, 255).round().astype(np.uint8).reshape(80, 80, 3)


@pytest.mark.parametrize("number", range(len(HOSPITALS)))
def test_the_directions_of_a_mixture_are_found(number: int) -> None:
    thin = Stain(HOSPITALS[number].directions, np.array([1.2, 1.0]))
    found = estimate_stain(stained(thin))
    cosines = (found.directions * thin.directions / np.linalg.norm(thin.directions, axis=1, keepdims=True)).sum(1)
    assert (cosines > 0.995).all()
    assert found.strengths == pytest.approx(thin.strengths, rel=0.1)


def test_a_stain_given_to_itself_changes_nothing() -> None:
    stain, patches = HOSPITALS[0], stained(HOSPITALS[0])
    assert between(stain, stain) == pytest.approx(np.eye(3))
    assert np.array_equal(restained(patches, between(stain, stain)), patches)


def test_patches_that_were_given_a_stain_have_it() -> None:
    source, target = (Stain(HOSPITALS[at].directions, np.array([1.2, 1.0])) for at in (0, 4))
    patches = stained(source)
    found = estimate_stain(restained(patches, between(estimate_stain(patches), target)))
    assert found.directions == pytest.approx(target.directions, abs=0.05)
    assert found.strengths == pytest.approx(target.strengths, rel=0.1)


def test_white_stays_white_and_the_way_back_leads_back() -> None:
    there, back = between(HOSPITALS[0], HOSPITALS[4]), between(HOSPITALS[4], HOSPITALS[0])
    assert restained(np.full((1, 4, 4, 3), 255, np.uint8), there).min() == 255
    stain = HOSPITALS[0].directions
    assert stain @ there @ back == pytest.approx(stain)


def test_the_order_of_the_patches_does_not_matter() -> None:
    patches = np.stack([stained(HOSPITALS[0], seed) for seed in range(3)])
    assert estimate_stain(patches).strengths == pytest.approx(estimate_stain(patches[::-1]).strengths)


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (np.full((64, 64, 3), 250, np.uint8), "too little stained tissue"),
        (np.zeros((0, 96, 96, 3), np.uint8), "too little stained tissue"),
        (np.full((64, 64, 3), 90, np.uint8), "one colour only"),
    ],
)
def test_what_has_no_two_stains_is_refused(picture: NDArray[np.uint8], why: str) -> None:
    with pytest.raises(DataError, match=why):
        estimate_stain(picture)


def test_optical_density_of_white_is_nothing() -> None:
    assert optical_density(np.array([255, 255, 255], np.uint8)) == pytest.approx(0)

"""The stain and the scanner of other hospitals: estimated from a picture of tissue, and given to patches.

The stains are found by Macenko et al. (2009), *A method for normalizing histology slides for quantitative analysis*:
in optical density, the two extreme directions of the tissue's pixels are those of haematoxylin and of eosin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sentinode.errors import DataError

Floats = NDArray[np.float64]

FAINT = 0.15
"""Optical density up to which, in any channel, a pixel is glass and tells nothing about the stain."""

EXTREMES = (1, 99)
"""Percentiles of the direction that stand for pure haematoxylin and pure eosin; single pixels are noise."""

STRONG = 99
"""Percentile of the concentration that stands for the strength of a stain."""

PIXELS = 200_000
"""Pixels of tissue that the estimate looks at, at most, spread evenly."""

FEWEST = 1000
"""Pixels of tissue below which there is no estimate."""


@dataclass(frozen=True)
class Stain:
    """The colour of haematoxylin and of eosin on one slide, and how strong they are.

    Attributes:
        directions: float (2, 3), the optical densities of red, green and blue in haematoxylin, then in eosin; each of
            length 1.
        strengths: float (2,), the concentration of each that 99 in 100 pixels of tissue stay below.
    """

    directions: Floats
    strengths: Floats


HOSPITALS = (
    Stain(np.array(((0.5247, 0.7398, 0.4213), (0.2721, 0.8235, 0.4978))), np.array((2.0086, 0.915))),
    Stain(np.array(((0.5626, 0.7311, 0.386), (0.3619, 0.7931, 0.4899))), np.array((2.4953, 1.4452))),
    Stain(np.array(((0.5937, 0.7618, 0.2592), (0.2786, 0.9093, 0.3092))), np.array((2.2258, 1.1549))),
    Stain(np.array(((0.5344, 0.7525, 0.385), (0.2479, 0.8334, 0.494))), np.array((3.5526, 1.4922))),
    Stain(np.array(((0.6449, 0.6935, 0.3211), (0.257, 0.9217, 0.2906))), np.array((1.5568, 0.9611))),
)
"""One slide of each of the five hospitals of Camelyon17 (CC0), centre 0 to 4, by ``benchmarks/scanner_colours.py``."""


def optical_density(images: ArrayLike) -> Floats:
    """uint8 (..., 3) RGB to optical densities, float (..., 3), from 0 to 5.5. White is 0."""
    return np.asarray(-np.log((np.asarray(images, np.float64) + 1) / 256))


def estimate_stain(images: ArrayLike) -> Stain:
    """Estimate the stain of uint8 (..., 3) RGB.

    Raises:
        DataError: there is too little stained tissue, or it has one colour only.
    """
    pixels = np.asarray(images, np.uint8).reshape(-1, 3)
    # An odd step does not fall on the same columns of every patch.
    density = optical_density(pixels[:: (len(pixels) // (4 * PIXELS)) | 1])
    tissue = density[(density > FAINT).all(1)]
    tissue = tissue[:: max(1, len(tissue) // PIXELS)]
    if len(tissue) < FEWEST:
        raise DataError("there is too little stained tissue to estimate the stain.")
    values, axes = np.linalg.eigh(np.cov(tissue.T))
    plane = axes[:, 1:]
    if values[1] < 1e-8 * max(values[2], 1e-8):
        raise DataError("the tissue has one colour only, so there are no two stains to estimate.")
    plane = plane * np.where(plane.sum(0) < 0, -1, 1)
    angles = np.arctan2(*(tissue @ plane).T)
    directions = np.array([plane @ (np.sin(angle), np.cos(angle)) for angle in np.percentile(angles, EXTREMES)])
    # Haematoxylin is blue: of the two, it takes away more of the red light.
    directions = directions[np.argsort(-directions[:, 0])].clip(min=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    concentrations = tissue @ np.linalg.pinv(directions)
    return Stain(directions, np.percentile(concentrations, STRONG, axis=0))


def between(source: Stain, target: Stain) -> Floats:
    """The matrix (3, 3) that makes the optical densities of one stain those of another, as row vectors times it.

    It exchanges the directions of the stains, and scales their concentrations by the ratio of the strengths. What is
    neither haematoxylin nor eosin stays as it is. For two equal stains it is the identity.
    """
    unmixing = np.linalg.pinv(source.directions)
    scaled = target.directions * (target.strengths / source.strengths)[:, None]
    return np.asarray(np.eye(3) - unmixing @ source.directions + unmixing @ scaled)


def restained(images: NDArray[np.uint8], matrix: Floats) -> NDArray[np.uint8]:
    """uint8 (..., 3) with its optical densities times a matrix of :func:`between`."""
    density = optical_density(images) @ matrix
    return np.asarray((256 * np.exp(-density) - 1).clip(0, 255).round(), np.uint8)

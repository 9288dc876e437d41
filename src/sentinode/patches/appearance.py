"""What a patch looks like in a few numbers that have names: light, colour, contrast, sharpness and glass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

APPEARANCE = ("brightness", "saturation", "redness", "contrast", "sharpness", "glass")
"""The numbers of :func:`appearance`, in order."""

WORDS = {
    "brightness": ("darker", "lighter"),
    "saturation": ("less saturated", "more saturated"),
    "redness": ("bluer", "redder"),
    "contrast": ("of less contrast", "of more contrast"),
    "sharpness": ("less sharp", "sharper or noisier"),
    "glass": ("with less glass", "with more glass"),
}
"""What less and more of each number is called."""

BRIGHT = 220
"""Grey levels from which, in all channels, a pixel is glass."""


def appearance(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (N, S, S, 3) RGB to float32 (N, 6), in the order of ``APPEARANCE``.

    Brightness and contrast are the mean and the standard deviation of grey, in grey levels. Saturation is the mean
    of (max - min) / max over the channels, from 0 to 1. Redness is the mean of red less that of blue, in grey levels.
    Sharpness is the standard deviation of the Laplacian as a multiple of the contrast. Glass is a share of the pixels.
    """
    found = [_look(image) for image in images]
    return np.array(found, np.float32).reshape(len(images), len(APPEARANCE))


def _look(image: NDArray[np.uint8]) -> tuple[float, ...]:
    pixels = image.astype(np.float32)
    grey, most, least = pixels.mean(2), pixels.max(2), pixels.min(2)
    contrast = float(grey.std())
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return (
        float(grey.mean()),
        float(((most - least) / most.clip(min=1)).mean()),
        float(pixels[..., 0].mean() - pixels[..., 2].mean()),
        contrast,
        float(laplacian.std()) / max(contrast, 1.0),
        float((least >= BRIGHT).mean()),
    )

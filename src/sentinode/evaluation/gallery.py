"""The most confident errors as pictures, with the evidence that misled the model."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sentinode.errors import BundleError
from sentinode.explanation import COLOURS, Evidence, Explainer
from sentinode.model.bundle import Bundle
from sentinode.patches import PatchSet

SHOWN = 6
"""Errors of each kind."""


@dataclass(frozen=True)
class Mistake:
    """A patch on the wrong side of the threshold.

    Attributes:
        id: of the patch.
        probability: of the positive class.
        picture: the patch as a PNG data URI.
        evidence: the evidence for the predicted class, a transparent PNG data URI that lies over the
            picture; None if the network has no feature map.
    """

    id: str
    probability: float
    picture: str
    evidence: str | None


@dataclass(frozen=True)
class Gallery:
    """The most confident errors, the worst first.

    Attributes:
        false_alarms: patches of the negative class that were called positive.
        misses: patches of the positive class that were called negative.
        cells: height and width of the feature map, or None.
        method: how the evidence was found; see :class:`sentinode.explanation.Evidence`.
        excuse: the reason, if there is no evidence.
    """

    false_alarms: tuple[Mistake, ...]
    misses: tuple[Mistake, ...]
    cells: tuple[int, ...] | None = None
    method: str | None = None
    excuse: str | None = field(default=None)


def gallery(
    bundle: Bundle,
    patches: PatchSet,
    probabilities: NDArray[np.float32],
    threshold: float,
    *,
    device: str = "auto",
) -> Gallery:
    """Find the most confident errors and the evidence for each.

    Args:
        bundle: the model.
        patches: the patches that it was evaluated on.
        probabilities: float32 (N,), of the positive class.
        threshold: the probability from which a patch is called positive.
        device: where to compute the evidence.
    """
    predicted = probabilities.astype(np.float64)
    order = np.argsort(predicted, kind="stable")
    called = predicted >= threshold
    alarms = order[::-1][(called & (patches.labels == 0))[order[::-1]]][:SHOWN]
    misses = order[(~called & (patches.labels == 1))[order]][:SHOWN]
    rows = np.concatenate([alarms, misses])
    pixels = patches.images[rows]
    evidence, excuse = _evidence(bundle, pixels, device)
    mistakes = tuple(
        Mistake(str(patches.ids[row]), float(predicted[row]), _png(patch), _png(_veil(seen)) if seen else None)
        for row, patch, seen in zip(rows, pixels, evidence, strict=True)
    )
    cells, method = next(((seen.cells.shape, seen.method) for seen in evidence if seen), (None, None))
    return Gallery(mistakes[: len(alarms)], mistakes[len(alarms) :], cells, method, excuse)


def _evidence(bundle: Bundle, pixels: NDArray[np.uint8], device: str) -> tuple[Sequence[Evidence | None], str | None]:
    """The evidence for the predicted class of each patch, or None with the reason."""
    if not len(pixels):
        return (), None
    try:
        return Explainer(bundle, device=device).evidence(pixels), None
    except BundleError as error:
        return [None] * len(pixels), error.what


def _veil(evidence: Evidence) -> NDArray[np.uint8]:
    """The evidence in colour, uint8 (S, S, 4): the stronger, the less transparent."""
    shares = evidence.pixels
    colours = matplotlib.colormaps[COLOURS](shares)
    colours[..., 3] = 0.15 + 0.4 * shares
    return (255 * colours).round().astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> str:
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")

"""The patches on which two models disagree, the surest first, as pictures where images are at hand."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sentinode.errors import DataError
from sentinode.patches import PatchSet
from sentinode.scoring import Predictions

SHOWN = 6
"""Patches of each pair that only one model calls rightly, for either."""


@dataclass(frozen=True)
class Disagreement:
    """A patch that one of two models calls rightly, and the other does not.

    Attributes:
        id: of the patch.
        label: 0 or 1.
        right: the place of the model that is right.
        probabilities: of the positive class, by the one that is right and by the other.
        picture: the patch as a PNG data URI, or None.
    """

    id: str
    label: int
    right: int
    probabilities: tuple[float, float]
    picture: str | None = None


def disagreements(
    sets: Sequence[Predictions], one: int, other: int, patches: PatchSet | None = None, shown: int = SHOWN
) -> list[Disagreement]:
    """The patches on which two models disagree most: as many that the first calls rightly as that the second does.

    Where images are at hand, only patches with an image are shown.

    Args:
        sets: predictions of the same patches, with thresholds.
        one: the place of the first model; ``other`` is that of the second.
        patches: patches with images, some of which are those of the predictions; None without images.
        shown: how many of each kind.
    """
    rows_of = _rows_of(sets[0], patches) if patches is not None else None
    labels = sets[0].labels
    right = [(sets[at].probabilities >= (sets[at].threshold or 0.0)) == (labels == 1) for at in (one, other)]
    apart = np.abs(sets[one].probabilities - sets[other].probabilities)
    found = []
    for winner, loser, only in ((one, other, right[0] & ~right[1]), (other, one, right[1] & ~right[0])):
        candidates = np.flatnonzero(only if rows_of is None else only & (rows_of >= 0))
        for row in candidates[np.argsort(-apart[candidates], kind="stable")][:shown].tolist():
            probabilities = (float(sets[winner].probabilities[row]), float(sets[loser].probabilities[row]))
            picture = None
            if patches is not None and rows_of is not None:
                picture = _png(patches.images[rows_of[row : row + 1]][0])
            found.append(Disagreement(str(sets[0].ids[row]), int(labels[row]), winner, probabilities, picture))
    return found


def refuse_other_patches(predictions: Predictions, patches: PatchSet) -> None:
    """
    Raises:
        DataError: none of the predictions is of these patches, or their labels differ.
    """
    rows = _rows_of(predictions, patches)
    here = rows >= 0
    if not here.any():
        raise DataError(
            f"none of the {len(predictions):,} predictions is of these patches; their ids are such as "
            f"{predictions.ids[0]}, and those of the patches are such as {patches.ids[0]}.",
        )
    differ = predictions.labels[here] != patches.labels[rows[here]]
    if differ.any():
        raise DataError(
            f"{int(differ.sum()):,} of {int(here.sum()):,} patches have another label in the predictions, such as "
            f"{predictions.ids[here][differ][0]}.",
            hint="The ids do not mean the same patches.",
        )


def _rows_of(predictions: Predictions, patches: PatchSet) -> NDArray[np.int64]:
    """The row of each prediction's patch among the patches, -1 where there is none.

    An id of a prediction is that of the patch, or the number at its end: 12 for ``test/000012``.
    """
    rows: dict[str, int] = {}
    for row, id in enumerate(patches.ids.tolist()):
        last = id.rpartition("/")[2]
        rows[id] = row
        if last.isdigit():
            rows.setdefault(str(int(last)), row)
    return np.array([rows.get(id, -1) for id in predictions.ids.tolist()], dtype=np.int64)


def _png(pixels: NDArray[np.uint8]) -> str:
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")

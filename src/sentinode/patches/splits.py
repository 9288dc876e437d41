"""Split patches into train, valid and test: stratified, by slide where it is known, with a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.patches.patch_set import SPLITS

SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


def deal(
    ids: NDArray[np.str_],
    labels: NDArray[np.uint8],
    slides: NDArray[np.str_] | None = None,
    seed: int = 0,
) -> NDArray[np.str_]:
    """Split patches 80/10/10 into train, valid and test.

    The result depends on the seed and on the patches, not on their order.

    Args:
        ids: str (N,), unique.
        labels: uint8 (N,). Each split gets nearly the same share of both classes.
        slides: str (N,) or None. All patches of a slide go to one split; those of unknown slide (an empty
            string) go to train.
        seed: the random seed.

    Returns:
        str (N,): ``train``, ``valid`` or ``test``.

    Raises:
        DataError: there are fewer than three slides.
    """
    order = np.argsort(ids)
    rng = np.random.default_rng(seed)
    dealt = np.empty(len(ids), dtype="<U5")
    if slides is None:
        for label in (0, 1):
            of_class = rng.permutation(order[labels[order] == label])
            held_out = max(1, round(0.1 * len(of_class))) if len(of_class) >= 3 else 0
            dealt[of_class] = "train"
            dealt[of_class[:held_out]] = "valid"
            dealt[of_class[held_out : 2 * held_out]] = "test"
    else:
        dealt[:] = _by_slide(slides, labels, rng)
    return dealt


def _by_slide(slides: NDArray[np.str_], labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.str_]:
    """Whole slides, the largest first, each to the split that lacks most of what it brings."""
    names, of_patch = np.unique(slides, return_inverse=True)
    counts = np.stack([np.bincount(of_patch, labels == label, len(names)) for label in (0, 1)], axis=1)
    shuffled = rng.permutation(np.flatnonzero(names != ""))
    if len(shuffled) < len(SPLITS):
        raise DataError(
            f"{len(shuffled)} slides cannot be divided into train, valid and test: at least three are needed.",
            hint="Give data with more slides, or leave out the slide map (Sentinode then warns of leakage).",
        )
    wanted = np.array([SHARES[split] for split in SPLITS])[:, None] * counts[shuffled].sum(axis=0)
    held = np.zeros_like(wanted)
    of_slide = np.zeros(len(names), dtype=np.int64)
    for rank, slide in enumerate(shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]):
        # While as many splits are empty as slides are left, the slide must go to an empty one.
        empty = held.sum(axis=1) == 0
        open_ = empty if empty.sum() >= len(shuffled) - rank else np.ones(len(SPLITS), dtype=bool)
        lack = (wanted - held) / np.maximum(wanted, 1)
        gain = np.where(open_, (lack * counts[slide]).sum(axis=1), -np.inf)
        chosen = int(np.argmax(gain))
        of_slide[slide] = chosen
        held[chosen] += counts[slide]
    return np.array(SPLITS)[of_slide][of_patch]

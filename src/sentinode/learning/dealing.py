"""Which reviewed slides teach, which are held back for the comparison, and which check the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sentinode.errors import DataError
from sentinode.learning.reviews import ReviewedSlide

FEWEST = 2
"""Slides that are held back at least, and that teach at least."""

TRIES = 500
"""Random orders of the slides that are tried for one in which each part has both classes."""


@dataclass(frozen=True)
class Dealt:
    """The slides of a lesson by their names; each is in one of the parts.

    Attributes:
        teach: whose patches are trained on.
        hold: held back: they are only compared on.
        check: where there is no other valid data, the epoch, the calibration and the threshold are chosen on them.
    """

    teach: tuple[str, ...]
    hold: tuple[str, ...]
    check: tuple[str, ...] = ()


def deal_slides(
    slides: Sequence[ReviewedSlide], *, hold_out: int | None = None, checking: bool = False, seed: int = 0
) -> Dealt:
    """Deal the reviewed slides at random, so that each part has tumour and what is none, as far as that can be.

    Args:
        slides: the reviewed ones.
        hold_out: how many are held back; None for a third, and ``FEWEST`` at least. 0 holds none back.
        checking: whether slides are needed to check the training on: a quarter of those that are left.
        seed: of the order.

    Raises:
        DataError: too few slides are left to teach, or no slide to check on has both classes.
    """
    count = len(slides)
    held = max(FEWEST, round(count / 3)) if hold_out is None else hold_out
    checks = max(1, round((count - held) / 4)) if checking else 0
    if held < 0 or count - held - checks < (FEWEST if hold_out is None else 1):
        raise DataError(
            f"{count} slides are reviewed. {held} of them would be held back to compare the bundles on"
            + (f", and {checks} would check the training" if checks else "")
            + f", which leaves {max(count - held - checks, 0)} to learn from.",
            where="--hold-out",
            hint="Review more slides. Or hold back fewer with --hold-out N: with --hold-out 0 all of them teach, and "
            "the bundles are compared on valid patches alone."
            + (" With --data DATA no slide is needed to check the training." if checks else ""),
        )
    named = {slide.name: slide for slide in slides}
    rng = np.random.default_rng(seed)
    best: tuple[int, Dealt] | None = None
    for _ in range(TRIES):
        order = [slides[at].name for at in rng.permutation(count).tolist()]
        dealt = Dealt(
            teach=tuple(sorted(order[held + checks :])),
            hold=tuple(sorted(order[:held])),
            check=tuple(sorted(order[held : held + checks])),
        )
        score = _worth(dealt, named)
        if best is None or score > best[0]:
            best = score, dealt
    assert best is not None
    _require_both(best[1], named)
    return best[1]


def _both(names: Sequence[str], slides: dict[str, ReviewedSlide]) -> tuple[bool, bool]:
    """Whether some slides have tumour, and whether they have what is none."""
    return any(slides[name].has_tumour for name in names), any(slides[name].has_normal for name in names)


def _worth(dealt: Dealt, slides: dict[str, ReviewedSlide]) -> int:
    """What the parts have of the two classes: those that check first, then those that teach, then those held back."""
    check, teach, hold = (_both(names, slides) for names in (dealt.check, dealt.teach, dealt.hold))
    return 16 * sum(check) + 4 * sum(teach) + sum(hold)


def _require_both(dealt: Dealt, slides: dict[str, ReviewedSlide]) -> None:
    if dealt.check and not all(_both(dealt.check, slides)):
        raise DataError(
            f"without labelled patches the training is checked on {len(dealt.check)} of the reviewed slides, and they "
            "cannot have both tumour and what is none.",
            hint="Give the original patches with --data, or others with --valid. Or accept and reject lesions on more "
            "slides.",
        )

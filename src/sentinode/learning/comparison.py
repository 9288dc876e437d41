"""The old bundle and the new one on what the new one has not seen: slides held back, and valid patches.

A review is no even judge. Every rejected region is one that the *old* bundle took for a lesion, so any other bundle
would report fewer of these; and what only the *new* bundle reports, nobody has judged. So a gain in false lesions
counts only if it holds with all of these unjudged ones taken for false, and a loss only if it holds with none of them.
On a slide that was looked at as a whole, everything outside tumour is known, and nothing is left unjudged. For the same
reason the AUC on the patches of the review is shown, and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import ArrayLike

from sentinode.evaluation.annotated_slides import annotated_lesions
from sentinode.learning.reviews import ReviewedSlide
from sentinode.model.slide_operating_point import SlideOperatingPoint
from sentinode.patches import PatchSet
from sentinode.scoring import auc
from sentinode.scoring.paired import auc_difference, sign_flip_p
from sentinode.slides.results.lesions import find_lesions
from sentinode.slides.scanning.probability_map import ProbabilityMap

LEVEL = 0.05
"""Changes that chance alone would give more often than this are not told apart from it."""

Outcome = Literal["better", "worse", "cannot be told"]

FALSE, FOUND = "false lesions on the slides held back", "lesions found on the slides held back"
VALID, REVIEWED = "AUC on valid patches", "AUC on the patches of the slides held back"


@dataclass(frozen=True)
class Tally:
    """What one bundle reports on one slide, by what the review says of it.

    Attributes:
        found: lesions of the review that it reports.
        false: lesions that it reports where the review says that there is no tumour.
        unjudged: lesions that it reports where nobody said anything.
        open: lesions that it reports where the review is unsure or passed over a lesion.
    """

    found: int
    false: int
    unjudged: int
    open: int


@dataclass(frozen=True)
class SlideChange:
    """One slide, by both bundles.

    Attributes:
        name: of the slide.
        whole: whether it was looked at as a whole.
        lesions: how many lesions the review says there are.
        old, new: what the bundles report.
    """

    name: str
    whole: bool
    lesions: int
    old: Tally
    new: Tally


@dataclass(frozen=True)
class Change:
    """A figure by both bundles.

    Attributes:
        name: what it is.
        old, new: the figure; NaN where there is none.
        low, high: of the 95 % interval of the difference; NaN where there is none.
        p: how often chance alone gives as large a change; NaN where an interval decides.
        n: how many patches or slides it was measured on.
        unit: ``patches`` or ``slides``.
        outcome: whether the new bundle is better.
        decides: whether the verdict depends on it.
        note: what to bear in mind.
    """

    name: str
    old: float
    new: float
    low: float
    high: float
    p: float
    n: int
    unit: str
    outcome: Outcome
    decides: bool = True
    note: str = ""

    @property
    def difference(self) -> float:
        """The new figure less the old one."""
        return self.new - self.old

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: None for what there is not."""
        record = asdict(self) | {"difference": self.difference}
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in record.items()}


def tally(slide: ReviewedSlide, probability_map: ProbabilityMap, point: SlideOperatingPoint) -> Tally:
    """Count what a map reports on a slide. Regions touch if they are less than a window apart."""
    near = probability_map.stride
    true = list(annotated_lesions(slide.area("tumour"), slide.record.mpp))
    normal, undecided = slide.area("normal"), slide.area(None)
    reported = [area for _, area in find_lesions(probability_map, point=point).outlines()]
    counts = dict.fromkeys(("false", "unjudged", "open"), 0)
    for area in reported:
        if any(shapely.dwithin(area, lesion, near) for lesion in true):
            continue
        if shapely.intersects(area, normal):
            counts["false"] += 1
        elif shapely.dwithin(area, undecided, near) if not undecided.is_empty else False:
            counts["open"] += 1
        else:
            counts["false" if slide.whole else "unjudged"] += 1
    found = sum(any(shapely.dwithin(area, lesion, near) for area in reported) for lesion in true)
    return Tally(found=found, **counts)


def lesions_of(slide: ReviewedSlide) -> int:
    """How many lesions the review says there are."""
    return len(list(annotated_lesions(slide.area("tumour"), slide.record.mpp)))


def compare_slides(slides: Sequence[SlideChange]) -> list[Change]:
    """False lesions, and lesions found, on the slides held back; nothing where none was."""
    if not slides:
        return []
    false = [(one.old.false, one.new.false, one.new.false + one.new.unjudged) for one in slides]
    found = [(one.old.found, one.new.found) for one in slides if one.lesions]
    unjudged = sum(one.new.unjudged for one in slides)
    changes = [
        _counted(
            FALSE,
            [old for old, _, _ in false],
            [new for _, new, _ in false],
            at_worst=[worst for _, _, worst in false],
            fewer=True,
            note=f"the new bundle also reports {unjudged} lesions that nobody has judged" if unjudged else "",
        )
    ]
    if found:
        old, new = zip(*found, strict=True)
        changes.append(_counted(FOUND, old, new, at_worst=new, fewer=False))
    return changes


def _counted(
    name: str, old: Sequence[int], new: Sequence[int], *, at_worst: Sequence[int], fewer: bool, note: str = ""
) -> Change:
    """Counts on slides; ``at_worst`` are those of the new bundle with all that is unjudged held against it."""
    sign = -1 if fewer else 1
    likely, worst = (sign * (np.asarray(counts) - np.asarray(old)) for counts in (new, at_worst))
    outcome: Outcome = "cannot be told"
    p = sign_flip_p(likely)
    if worst.sum() > 0:
        p = max(p, sign_flip_p(worst))
        outcome = "better" if p < LEVEL else outcome
    elif likely.sum() < 0:
        outcome = "worse" if p < LEVEL else outcome
    return Change(name, float(sum(old)), float(sum(new)), math.nan, math.nan, p, len(old), "slides", outcome, note=note)


def compare_patches(name: str, patches: PatchSet, old: ArrayLike, new: ArrayLike, *, decides: bool) -> Change:
    """The AUC of both bundles on the same patches, with the paired interval of the difference.

    Args:
        name: of the figure.
        patches: with labels, and slides where they are known.
        old, new: float (N,), the margins of the bundles.
        decides: whether the verdict depends on it.
    """
    figure = auc_difference(patches.labels, old, new, groups=patches.slides)
    outcome: Outcome = "cannot be told"
    if figure.low > 0:
        outcome = "better"
    elif figure.high < 0:
        outcome = "worse"
    known = patches.slides is not None and bool((patches.slides != "").any())
    notes = [] if known else ["the slides of these patches are not known, so the interval is too narrow"]
    if not decides:
        notes.append("they were chosen by the old bundle's errors, so it decides nothing")
    return Change(
        name,
        float(auc(patches.labels, old)),
        float(auc(patches.labels, new)),
        figure.low,
        figure.high,
        math.nan,
        len(patches),
        "patches",
        outcome,
        decides,
        "; ".join(notes),
    )

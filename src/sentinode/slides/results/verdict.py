"""What a slide came to, in one sentence, and how certain that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sentinode.slides.results.lesions import Lesion, Lesions

MOST_NAMED = 3
"""Regions that a sentence names; the tables have all."""

MUCH = 0.2
"""Share of the tissue that cannot be judged from which a verdict of negative is uncertain."""

LEAST_SHOWN = 0.0005
"""Shares below this would be shown as 0.0%."""


@dataclass(frozen=True)
class Verdict:
    """A slide's verdict.

    Attributes:
        sentence: what the slide came to.
        certain: whether it can stand without a look at a region.
        probability: P(the slide is positive), or None where nothing can be judged.
        look_at: the numbers of the regions on which an uncertain verdict hangs.
        not_judged: what could not be judged, as a sentence; empty where all was.
    """

    sentence: str
    certain: bool
    probability: float | None
    look_at: tuple[int, ...] = ()
    not_judged: str = ""


def verdict_of(lesions: Lesions) -> Verdict:
    """The verdict on a slide.

    It is uncertain where no lesion is certain by the operating point, where a region comes near to being a lesion on a
    slide without one, and where much of the tissue of a slide without a lesion cannot be judged.
    """
    left_out = lesions.probability_map.unassessable
    not_judged = _not_judged(left_out)
    if math.isnan(lesions.score):
        return Verdict("Not judged: there is no tissue that can be assessed.", False, None, (), not_judged)
    if lesions.found:
        return _positive(lesions, not_judged)
    if lesions.uncertain:
        look_at = lesions.uncertain[:MOST_NAMED]
        sentence = f"Negative, uncertain: look at {_regions(look_at)} ({_measure(look_at[0])})."
        return Verdict(sentence, False, lesions.score, _numbers(look_at), not_judged)
    if sum(left_out.values()) >= MUCH:
        sentence = "Negative, uncertain: no lesion was found in the tissue that could be judged."
        return Verdict(sentence, False, lesions.score, (), not_judged)
    return Verdict("Negative: no lesion was found.", True, lesions.score, (), not_judged)


def _positive(lesions: Lesions, not_judged: str) -> Verdict:
    largest = lesions.largest
    assert largest is not None
    name = lesions.category.capitalize()
    count = f"{len(lesions)} lesions, the largest" if len(lesions) > 1 else "one lesion,"
    if lesions.found[0].score >= lesions.point.certain:
        sentence = f"{name}: {count} {largest.diameter_um / 1000:.2f} mm."
        return Verdict(sentence, True, lesions.score, (), not_judged)
    look_at = lesions.found[:MOST_NAMED]
    sentence = f"{name}, uncertain: look at {_regions(look_at)} ({_measure(look_at[0])})."
    return Verdict(sentence, False, lesions.score, _numbers(look_at), not_judged)


def _not_judged(left_out: Mapping[str, float]) -> str:
    share = sum(left_out.values())
    if not share:
        return ""
    if share < LEAST_SHOWN:
        return "Less than 0.1% of the tissue could not be judged."
    reasons = ", ".join(
        f"{reason} {of_tissue:.1%}" for reason, of_tissue in left_out.items() if of_tissue >= LEAST_SHOWN
    )
    return f"{share:.1%} of the tissue could not be judged{f' ({reasons})' if reasons else ''}."


def _measure(region: Lesion) -> str:
    return f"P(lesion) {region.score:.2f}, {region.diameter_um / 1000:.2f} mm"


def _numbers(regions: Sequence[Lesion]) -> tuple[int, ...]:
    return tuple(region.number for region in regions)


def _regions(regions: Sequence[Lesion]) -> str:
    *others, last = (f"{number}" for number in _numbers(regions))
    return f"regions {', '.join(others)} and {last}" if others else f"region {last}"

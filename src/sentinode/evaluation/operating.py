"""The choice of a slide operating point on annotated slides, by a target in the field's words.

Each region of a map has log-odds of being a lesion. A cut on them gives false lesions on slides without tumour and
finds a share of the annotated lesions. The trade between the two is the free-response ROC curve, and an operating point
is one place on it. Where the rule that gives the log-odds was fitted to the same slides, every slide is judged by a
rule that was fitted without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Unpack

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.special import expit

from sentinode.errors import DataError, OutputError
from sentinode.evaluation.annotated_slides import AnnotatedSlides, read_annotated_slides
from sentinode.evaluation.region_rule import (
    ENOUGH,
    JudgedSlide,
    count_regions,
    cross_fitted,
    fit_logistic,
    fit_rule,
)
from sentinode.model.bundle import Bundle
from sentinode.model.slide_operating_point import (
    DEFAULT,
    GENERAL,
    POINT_NAMES,
    UNCERTAIN_ODDS,
    ChosenOn,
    PointName,
    Reached,
    SlideOperatingPoint,
    SlideOperatingPoints,
    Target,
)
from sentinode.scoring import auc, cluster_interval
from sentinode.scoring.intervals import FEW
from sentinode.slides.reading.annotations import ReadingOptions
from sentinode.slides.results.lesions import NEGATIVE, named

USUAL: Final = Target(false_lesions=0.25)
"""The target where none is named: one false lesion on four slides without tumour."""

OTHERS: Final = {"sensitive": 4.0, "specific": 0.2}
"""False lesions on a negative slide at the two other points, times those of the target."""

SIZES_UM: Final = (0.0, 200.0, 600.0, 2000.0, math.inf)
"""The classes of lesions by their longest diameter in microns."""

SIZE_NAMES: Final = (
    "sensitivity_to_0.2_mm",
    "sensitivity_to_0.6_mm",
    "sensitivity_to_2_mm",
    "sensitivity_above_2_mm",
)

Floats = NDArray[np.float64]
Judged = Sequence[JudgedSlide]


@dataclass(frozen=True)
class Trade:
    """What each cut gives: float64 (K,) each, the cuts ascending.

    Attributes:
        cut: log-odds that a region must reach.
        false_lesions: on a slide without tumour, on average.
        clean_negatives: share of the slides without tumour on which no region reaches the cut.
        sensitivity: share of the annotated lesions that a region touches which reaches it.
    """

    cut: Floats
    false_lesions: Floats
    clean_negatives: Floats
    sensitivity: Floats

    def at(self, index: int) -> str:
        """A cut's figures, in words."""
        return (
            f"{self.false_lesions[index]:.2g} false lesions on a negative slide, {self.clean_negatives[index]:.0%} of "
            f"the negative slides without one, {self.sensitivity[index]:.0%} of the lesions found"
        )


@dataclass(frozen=True)
class Operating:
    """The operating points that were chosen, and what they were chosen by.

    Attributes:
        points: the three points; the target's is ``balanced``.
        trade: the curve.
        slides: how the slides were judged for it.
        regions: how many regions are lesions, and how many are not.
        refitted: whether the rule was fitted to these slides.
        left_out: slides with a map that do not count.
        warnings: sentences.
    """

    points: SlideOperatingPoints
    trade: Trade
    slides: tuple[JudgedSlide, ...]
    regions: tuple[int, int]
    refitted: bool
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]


def operate(
    maps: Path,
    truth: Path,
    bundle: Bundle,
    *,
    target: Target | None = None,
    scales_um: Sequence[float] | None = None,
    grow: float | None = None,
    smallest_mm2: float | None = None,
    refit: bool = True,
    description: str = "annotated slides of the user",
    absent_is_normal: bool = False,
    whole_slide_coordinates: bool = False,
    show: bool = True,
    **reading: Unpack[ReadingOptions],
) -> Operating:
    """Choose the operating points of a bundle on annotated slides.

    Args:
        maps: the folder that ``sentinode scan`` wrote with the bundle.
        truth: a folder of annotations named like the slides; one without a region means no tumour.
        bundle: the bundle.
        target: what the balanced point is chosen for, see :func:`choose`; None for ``USUAL``.
        scales_um: scales to smooth on, in microns; None for those of the bundle.
        grow: P(tumour) at an even prior from which regions are grown; None for the bundle's.
        smallest_mm2: smaller regions are left out; None for the bundle's.
        refit: whether to fit the rule to these slides, where they have enough regions.
        description: of the slides, for the card.
        absent_is_normal: take a slide without annotations for one without tumour.
        whole_slide_coordinates: annotations in GeoJSON count from the slides' corners, not from those of their bounds.
        show: whether to show progress.
        reading: how annotations are read, see :func:`read_annotations`.

    Raises:
        DataError: there is no slide with tumour or none without, or no setting reaches the target.
        SlideError: there is no map, or the maps are of another bundle, of several strides or of both readings.
        AnnotationError: the truth of a slide is missing, unreadable or not of that slide, or has no map.
    """
    start = _start(bundle, scales_um, grow, smallest_mm2)
    read = read_annotated_slides(
        maps,
        truth,
        start,
        bundle=bundle.fingerprint,
        absent_is_normal=absent_is_normal,
        whole_slide_coordinates=whole_slide_coordinates,
        show=show,
        **reading,
    )
    _require_both(read, truth)
    regions = count_regions(read.slides)
    refitted = refit and min(regions) >= ENOUGH
    judged = cross_fitted(read.slides, start) if refitted else [JudgedSlide.by(slide, start) for slide in read.slides]
    rule = fit_rule(read.slides, start) if refitted else start
    rule = _calibrated(rule, judged).model_copy(update={"chosen_on": _chosen_on(read, description)})
    trade = trade_of(judged)
    cuts, warnings = _cuts(trade, USUAL if target is None else target)
    points: dict[PointName, SlideOperatingPoint] = {name: _point(rule, judged, *cuts[name]) for name in POINT_NAMES}
    return Operating(
        points=SlideOperatingPoints(points=points, default=DEFAULT),
        trade=trade,
        slides=tuple(judged),
        regions=regions,
        refitted=refitted,
        left_out=read.left_out,
        warnings=(*read.warnings, *warnings, *_cautions(judged)),
    )


def target_of(false_lesions: float | None, clean_negatives: float | None, sensitivity: float | None) -> Target:
    """The target of these parts; the usual one where none is named.

    Raises:
        DataError: a part is out of its range.
    """
    if false_lesions is None and clean_negatives is None and sensitivity is None:
        return USUAL
    try:
        return Target(false_lesions=false_lesions, clean_negatives=clean_negatives, sensitivity=sensitivity)
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(
            f"a target of {fault['input']!r} for {fault['loc'][0]} makes no sense.",
            hint="False lesions are a number from 0, such as 0.25; the other two are shares from 0 to 1.",
        ) from error


def require_new(out: Path, report: Path) -> None:
    """Refuse places that are taken, before the work begins.

    Raises:
        OutputError: one exists.
    """
    for folder in (out, report):
        if folder.exists():
            raise OutputError(
                "this exists, and is not overwritten.", where=folder, hint="Choose another --out, or remove it."
            )


def _start(
    bundle: Bundle, scales_um: Sequence[float] | None, grow: float | None, smallest_mm2: float | None
) -> SlideOperatingPoint:
    """The point that the choice begins with: the bundle's or the general one, with what is given in its place."""
    start = (bundle.card.slide_points or GENERAL).point
    record = start.model_dump()
    if scales_um is not None and tuple(scales_um) != start.scales_um:
        even = (1.5 / len(scales_um),) * len(scales_um)
        record |= {"scales_um": tuple(scales_um), "weights": (*even, 0.0), "intercept": -3.75}
    if grow is not None:
        record["grow"] = grow
    if smallest_mm2 is not None:
        record["smallest_mm2"] = smallest_mm2
    return SlideOperatingPoint.model_validate(record)


def _require_both(read: AnnotatedSlides, truth: Path) -> None:
    positive = sum(slide.positive for slide in read.slides)
    if positive == 0:
        raise DataError(
            f"none of the {len(read.slides)} slides has tumour, so no sensitivity can be measured, nor a target chosen "
            "by it.",
            where=truth,
            hint="Add annotated slides with tumour, ten or more.",
        )
    if positive == len(read.slides):
        raise DataError(
            f"all of the {len(read.slides)} slides have tumour, so neither false lesions on a negative slide nor the "
            "share of clean negatives can be measured, nor a target chosen by them.",
            where=truth,
            hint="Add slides without tumour, ten or more, each with an empty annotation file.",
        )


def _chosen_on(read: AnnotatedSlides, description: str) -> ChosenOn:
    positive = sum(slide.positive for slide in read.slides)
    return ChosenOn(
        description=description,
        slides=len(read.slides),
        positive=positive,
        negative=len(read.slides) - positive,
        lesions=sum(len(slide.lesion_um) for slide in read.slides),
        window_um=round(read.window_um, 3),
        reading=read.map_reading,
        fingerprint=read.fingerprint,
    )


def _calibrated(rule: SlideOperatingPoint, judged: Judged) -> SlideOperatingPoint:
    """The rule with P(slide is positive) fitted to the best regions of the slides, at their share of positive ones."""
    known = [slide for slide in judged if math.isfinite(slide.best)]
    best = np.array([[slide.best] for slide in known])
    slope, intercept = fit_logistic(best, [slide.slide.positive for slide in known], towards=[1.0, 0.0])
    return rule.model_copy(update={"slide_slope": max(float(slope[0]), 0.01), "slide_intercept": intercept})


def trade_of(judged: Judged) -> Trade:
    """What every cut gives on these slides: a cut lies midway between two log-odds that matter, or beyond them all."""
    negatives = [slide.evidence for slide in judged if not slide.slide.positive]
    false = np.sort(np.concatenate(negatives))
    worst = np.sort([evidence.max(initial=-np.inf) for evidence in negatives])
    found = np.sort(np.concatenate([best_of_lesions(slide) for slide in judged]))
    matter = np.unique(np.concatenate([false, found[np.isfinite(found)]]))
    cut = (
        np.array([0.0])
        if not len(matter)
        else np.concatenate([[matter[0] - 0.1], (matter[1:] + matter[:-1]) / 2, [matter[-1] + 0.1]])
    )
    return Trade(
        cut=cut,
        false_lesions=(len(false) - np.searchsorted(false, cut)) / len(negatives),
        clean_negatives=np.searchsorted(worst, cut) / len(negatives),
        sensitivity=(len(found) - np.searchsorted(found, cut)) / max(len(found), 1),
    )


def best_of_lesions(judged: JudgedSlide) -> Floats:
    """For each lesion of a slide the highest log-odds of a region that touches it, -inf where none does."""
    touching = np.where(judged.slide.touches, judged.evidence[:, None], -np.inf)
    return np.asarray(touching.max(axis=0, initial=-np.inf), np.float64)


def choose(trade: Trade, target: Target, *, spend: bool = False) -> int:
    """The cut that reaches a target: an index into the trade.

    Among the cuts that reach it, one that finds the most lesions is taken, and of those the one with the fewest false
    lesions. With a sensitivity alone, it is the one with the fewest false lesions.

    Args:
        trade: what the cuts give.
        target: what has to be reached.
        spend: take the lowest cut that reaches the target, also where it finds no more lesions on these slides.

    Raises:
        DataError: no cut reaches it and finds a lesion; the message says which comes nearest.
    """
    finds = trade.sensitivity > 0
    if not finds.any():
        raise DataError(
            "no region of the maps touches an annotated lesion, so no setting finds one.",
            hint="Are these the annotations of these slides? Look at them: sentinode lesions MAPS --truth TRUTH",
        )
    shortfall = _shortfall(trade, target)
    reaching = np.flatnonzero((shortfall == 0) & finds)
    if not len(reaching):
        order = np.lexsort((-trade.sensitivity, trade.false_lesions, shortfall.round(9)))
        nearest = int(order[finds[order]][0])
        raise DataError(
            f"no setting reaches the target ({target}). The nearest: {trade.at(nearest)}.",
            hint="Ask for less, or annotate more slides. A better network helps most.",
        )
    if spend:
        return int(reaching[0])
    if target.false_lesions is None and target.clean_negatives is None:
        return int(reaching[-1])
    return int(reaching[trade.sensitivity[reaching] == trade.sensitivity[reaching].max()][-1])


def _shortfall(trade: Trade, target: Target) -> Floats:
    """By how much each cut misses a target: 0 where it reaches it."""
    missed = np.zeros(len(trade.cut))
    if target.false_lesions is not None:
        missed += np.maximum(trade.false_lesions - target.false_lesions - 1e-9, 0)
    if target.clean_negatives is not None:
        missed += np.maximum(target.clean_negatives - trade.clean_negatives - 1e-9, 0)
    if target.sensitivity is not None:
        missed += np.maximum(target.sensitivity - trade.sensitivity - 1e-9, 0)
    return missed


def _cuts(trade: Trade, target: Target) -> tuple[dict[PointName, tuple[float, Target]], list[str]]:
    """The cut and the target of each of the three points; where another than the user's cannot be had, a warning."""
    chosen = choose(trade, target)
    rate = target.false_lesions if target.false_lesions is not None else float(trade.false_lesions[chosen])
    cuts: dict[PointName, tuple[float, Target]] = {DEFAULT: (float(trade.cut[chosen]), target)}
    warnings = []
    for name in POINT_NAMES:
        if name == DEFAULT:
            continue
        aim = Target(false_lesions=round(rate * OTHERS[name], 4))
        try:
            index = choose(trade, aim, spend=name == "sensitive")
        except DataError as error:
            index = int(np.flatnonzero(trade.sensitivity > 0)[-1])
            warnings.append(f"the {name} point is the nearest that there is: {error.what}")
        index = min(index, chosen) if name == "sensitive" else max(index, chosen)
        cuts[name] = (float(trade.cut[index]), aim)
    return cuts, warnings


def _point(rule: SlideOperatingPoint, judged: Judged, cut: float, target: Target) -> SlideOperatingPoint:
    reach = float(np.clip(expit(cut), 1e-9, 1 - 1e-9))
    return rule.model_copy(update={"reach": reach, "target": target, "reached": figures(judged, cut)})


def figures(judged: Judged, cut: float) -> dict[str, Reached]:
    """The figures at a cut, each with a 95 % interval over slides.

    Args:
        judged: the slides, with tumour and without.
        cut: log-odds that a region must reach.
    """
    negative = [slide for slide in judged if not slide.slide.positive]
    positive = [slide for slide in judged if slide.slide.positive]
    near = float(cut - math.log(UNCERTAIN_ODDS))
    of_sizes = {
        name: _sensitivity(positive, cut, low, high)
        for name, low, high in zip(SIZE_NAMES, SIZES_UM, SIZES_UM[1:], strict=False)
    }
    return {
        "false_lesions": _rate([int((slide.evidence >= cut).sum()) for slide in negative]),
        "clean_negatives": _share([not (slide.evidence >= cut).any() for slide in negative]),
        "uncertain_negatives": _share(
            [not (slide.evidence >= cut).any() and bool((slide.evidence >= near).any()) for slide in negative]
        ),
        "sensitivity": _sensitivity(positive, cut, 0.0, math.inf),
        **of_sizes,
        "slide_auc": _slide_auc(judged),
        "category_accuracy": _share([_category(slide, cut) == _true_category(slide) for slide in judged]),
    }


def _category(judged: JudgedSlide, cut: float) -> str:
    believed = judged.slide.diameter_um[judged.evidence >= cut]
    return named(float(believed.max())) if len(believed) else NEGATIVE


def _true_category(judged: JudgedSlide) -> str:
    return named(float(judged.slide.lesion_um.max())) if judged.slide.positive else NEGATIVE


def _rate(counts: Sequence[int]) -> Reached:
    """A mean count on a slide. Without any, the upper limit is Poisson's: what would give none in 1 of 40 cases."""
    n, total = len(counts), sum(counts)
    if total == 0:
        return Reached(value=0.0, low=0.0, high=-math.log(0.025) / n, n=n)
    without = [(total - count) / (n - 1) for count in counts] if n > 1 else [math.nan]
    low, high = cluster_interval(total / n, without, np.ones(n), bounds=(0.0, 1e6), scale="linear")
    return _reached(total / n, (low, high), n)


def _share(hits: Sequence[bool]) -> Reached:
    """A share of slides."""
    n, total = len(hits), sum(hits)
    without = [(total - hit) / (n - 1) for hit in hits] if n > 1 else [math.nan]
    return _reached(total / n, cluster_interval(total / n, without, np.ones(n)), n)


def _sensitivity(positive: Judged, cut: float, above_um: float, to_um: float) -> Reached:
    """The share of the lesions of a class of size that are found; the slides that hold any are the clusters."""
    found, lesions = [], []
    for slide in positive:
        of_size = (slide.slide.lesion_um > above_um) & (slide.slide.lesion_um <= to_um)
        if of_size.any():
            found.append(int((best_of_lesions(slide)[of_size] >= cut).sum()))
            lesions.append(int(of_size.sum()))
    total = sum(lesions)
    if not total:
        return Reached()
    if len(lesions) == 1:
        return _reached(sum(found) / total, (math.nan, math.nan), total)
    without = [(sum(found) - hit) / (total - count) for hit, count in zip(found, lesions, strict=True)]
    return _reached(sum(found) / total, cluster_interval(sum(found) / total, without, lesions), total)


def _slide_auc(judged: Judged) -> Reached:
    labels = np.array([slide.slide.positive for slide in judged])
    best = np.array([slide.best for slide in judged])
    every = np.arange(len(judged))
    value = auc(labels, best)
    without = [auc(labels[every != at], best[every != at]) for at in every]
    weights = labels / labels.sum() + ~labels / (~labels).sum()
    return _reached(value, cluster_interval(value, without, weights), len(judged))


def _reached(value: float, limits: tuple[float, float], n: int) -> Reached:
    low, high = (None if math.isnan(limit) else limit for limit in limits)
    return Reached(value=value, low=low, high=high, n=n)


def _cautions(judged: Judged) -> list[str]:
    positive = sum(slide.slide.positive for slide in judged)
    least = min(positive, len(judged) - positive)
    if least >= FEW:
        return []
    return [
        f"there are {positive} slides with tumour and {len(judged) - positive} without: intervals over so few are "
        "rough."
    ]

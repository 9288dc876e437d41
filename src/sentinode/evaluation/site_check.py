"""A site check: how far patches of a new hospital lie from those that a bundle knows, with or without labels.

Three things are compared with the patches of valid that the bundle keeps: the network's features, its scores, and what
the patches look like. A share of tumour other than valid's must not look like another hospital, so valid's patches are
thinned to the share that the scores imply. ``benchmarks/site_check.py`` measures what this sees and what it does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.evaluation.evaluating import open_for
from sentinode.model.bundle import Bundle, images_as, json_ready
from sentinode.model.site_reference import BATCH, FEWEST, Reference, Seen, look, read_reference
from sentinode.patches import ALL
from sentinode.patches.appearance import APPEARANCE, WORDS
from sentinode.patches.slide_map import read_slide_map
from sentinode.patches.unlabelled import read_patches
from sentinode.progress import Bar, bar, console
from sentinode.scoring import Scores, calibrated, measure
from sentinode.scoring.drift import Difference, estimated_share, kernel_difference, score_difference, thinned

ALPHA = 0.01
"""How often patches like the bundle's own may be called different. Three tests share it evenly."""

FAR = 0.01
"""The squared discrepancy of the features from which the threshold is not to be trusted. It caught 88 in 100 samples of
300 patches whose accuracy falls by more than 0.03, and 40 in 100 of the others; see docs/how-to/site.md."""

MOST = 1000
"""Patches of the site that are compared at most, drawn at random."""

TOLD = 0.5
"""Standard deviations of valid's patches from which a difference of the look is told."""

SAME, DIFFERENT, DISTRUST = "nothing seen", "different", "do not trust"


@dataclass(frozen=True)
class SiteCheck:
    """How patches of a site compare with those that a bundle knows.

    Attributes:
        verdict: ``nothing seen``, ``different``, or ``do not trust``.
        sentences: the result in words, the verdict first.
        patches: how many were compared.
        slides: how many slides they are of, or None where unknown.
        by_slide: whether the tests exchange slides; else they exchange patches.
        share: of positives that the scores imply, if only the share differs from valid's.
        features: how far the network's features lie apart: squared maximum mean discrepancy.
        scores: how far the scores lie apart: distance of Kolmogorov and Smirnov.
        look: how far the looks lie apart: squared maximum mean discrepancy.
        looks: the shift of each number of the look, in standard deviations of valid's patches.
        called: the share of patches that are called positive, here and on valid.
        labelled: the metrics at the bundle's threshold, where labels were given.
        failures: (id, reason) for each patch that could not be read.
        warnings: what to bear in mind, as sentences.
    """

    verdict: str
    sentences: tuple[str, ...]
    patches: int
    slides: int | None
    by_slide: bool
    share: float
    features: Difference
    scores: Difference
    look: Difference
    looks: dict[str, float]
    called: tuple[float, float]
    labelled: Scores | None
    failures: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        parts = {key: value for key, value in vars(self).items() if key != "labelled"}
        parts |= {key: asdict(parts[key]) for key in ("features", "scores", "look")}
        parts["labelled"] = None if self.labelled is None else self.labelled.as_dict()
        ready: dict[str, Any] = json_ready(parts)
        return ready


def check_site(
    bundle: Bundle,
    paths: Sequence[str | Path],
    *,
    labelled: bool = False,
    split: str = ALL,
    slide_map: Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    device: str = "auto",
    seed: int = 0,
    show: bool = True,
) -> SiteCheck:
    """Compare patches of a site with those that a bundle knows.

    Args:
        bundle: the model, with a reference; training and ``sentinode check`` write it.
        paths: images, folders, HDF5 or Parquet files, as for :func:`~sentinode.prediction.predict`. With ``labelled``,
            one path of labelled patches, as for :func:`~sentinode.evaluation.evaluate`.
        labelled: whether to read the labels, too, and to measure AUC and accuracy.
        split: one of the splits of labelled patches, or ``all`` for data without splits.
        slide_map: a CSV with the slide of each patch, columns ``id`` and ``slide``.
        mpp: microns per pixel of the images, if they are not patches of the bundle's size and resolution.
        label_region: of labelled patches; so is ``positive``.
        device: where to compute.
        seed: random seed for the choice of patches and for the permutations.
        show: whether to show progress and warnings on standard error.

    Raises:
        BundleError: the bundle keeps no reference, or its network is the user's own.
        DataError: fewer than 50 patches can be read, or they are not of the bundle's geometry or classes.
    """
    reference = read_reference(bundle)
    labels: NDArray[np.uint8] | None = None
    failures: list[tuple[str, str]] = []
    with bar("Site check", unit="patches", show=show) as shown:
        if labelled:
            if len(paths) != 1:
                raise DataError(f"labelled patches are one path; here are {len(paths)}.", hint="Join them first.")
            patches = open_for(
                bundle,
                paths[0],
                split,
                slide_map=slide_map,
                mpp=mpp,
                label_region=label_region,
                positive=positive,
                show=show,
            )[split]
            labels, slides = patches.labels, patches.slides
            batches = (patches.images[at : at + BATCH] for at in range(0, len(patches), BATCH))
            seen = look(bundle, _counted(batches, shown), device=device)
        else:
            ids: list[str] = []
            seen = look(bundle, _counted(_stacked(bundle, paths, mpp, ids, failures), shown), device=device)
            slides = None if slide_map is None else read_slide_map(slide_map).of(ids, ids, "the patches")
    if len(seen.margins) < FEWEST:
        first = f" The first that could not be read, {failures[0][0]}: {failures[0][1]}" if failures else ""
        raise DataError(
            f"a site check needs at least {FEWEST} patches; {len(seen.margins)} could be read.{first}",
            where=paths[0] if paths else None,
            hint="A few hundred, of at least ten slides, tell more.",
        )
    result = compare(bundle, reference, seen, labels, slides, tuple(failures), seed=seed)
    if show:
        for warning in result.warnings:
            console.print("Note:", style="yellow", end=" ")
            console.print(warning, markup=False)
    return result


def _counted(batches: Iterator[NDArray[np.uint8]], shown: Bar) -> Iterator[NDArray[np.uint8]]:
    for images in batches:
        yield images
        shown.advance(len(images))


def _stacked(
    bundle: Bundle, paths: Sequence[str | Path], mpp: float | None, ids: list[str], failures: list[tuple[str, str]]
) -> Iterator[NDArray[np.uint8]]:
    """Batches of the patches that can be read; ids and failures are added to the lists."""
    patches = read_patches(paths, geometry=images_as(bundle, mpp), mpp=mpp)
    while group := list(islice(patches, BATCH)):
        failures += [(patch.id, patch.pixels.what) for patch in group if isinstance(patch.pixels, DataError)]
        good = [(patch.id, patch.pixels) for patch in group if not isinstance(patch.pixels, DataError)]
        ids += [id for id, _ in good]
        if good:
            yield np.stack([pixels for _, pixels in good])


def compare(
    bundle: Bundle,
    reference: Reference,
    seen: Seen,
    labels: NDArray[np.uint8] | None = None,
    slides: NDArray[np.str_] | None = None,
    failures: tuple[tuple[str, str], ...] = (),
    *,
    seed: int = 0,
) -> SiteCheck:
    """Compare what the network made of a site's patches with the bundle's reference.

    Args:
        bundle: the model, for its temperature and its threshold.
        reference: the patches that it knows.
        seen: the site's patches.
        labels: of the site's patches, where known; so are ``slides``, empty for an unknown slide.
        failures: the patches that could not be read.
        seed: random seed for the choice of patches and for the permutations.
    """
    card = bundle.card
    # In an order of their own, so that the order in which the patches came makes no difference.
    order = np.lexsort((*seen.appearance.T, seen.margins))
    seen = Seen(seen.features[order], seen.margins[order], seen.appearance[order])
    labels = None if labels is None else labels[order]
    slides = None if slides is None else slides[order]
    known = slides is not None and bool((slides != "").all())
    rows = np.arange(len(order))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MOST])
    probabilities = calibrated(seen.margins, card.temperature)
    valid = calibrated(reference.margins, card.temperature) >= card.threshold
    called = float((probabilities >= card.threshold).mean()), float(valid.mean())
    share = estimated_share(called[0], valid, reference.labels)
    ours = thinned(reference.labels, share)
    their_slides = np.unique(slides, return_inverse=True)[1][rows] if known and slides is not None else None
    several = their_slides is not None and len(np.unique(their_slides)) > 1
    by_slide = several and reference.slides is not None
    groups: dict[str, Any] = {
        "our_slides": reference.slides[ours] if by_slide and reference.slides is not None else None,
        "their_slides": their_slides if several else None,
        "seed": seed,
    }
    spread = reference.appearance.std(0).clip(min=1e-6)
    known_features = reference.features[ours]
    features = kernel_difference(known_features, reference.along(seen.features)[rows], **groups)
    scores = score_difference(reference.margins[ours], seen.margins[rows], **groups)
    look_of = kernel_difference(reference.appearance[ours] / spread, seen.appearance[rows] / spread, **groups)
    shifts = (seen.appearance[rows].mean(0) - reference.appearance[ours].mean(0)) / spread
    looks = dict(zip(APPEARANCE, map(float, shifts), strict=True))
    seen_different = min(features.p, scores.p, look_of.p) <= ALPHA / 3
    verdict = SAME if not seen_different else DISTRUST if features.distance >= FAR else DIFFERENT
    measured = None
    if labels is not None:
        measured = measure(
            labels, probabilities, card.threshold, groups=slides, seed=seed, class_names=card.class_names
        )
    count = len(np.unique(slides)) if known and slides is not None else None
    result = SiteCheck(
        verdict,
        (),
        len(rows),
        count,
        by_slide,
        share,
        features,
        scores,
        look_of,
        looks,
        called,
        measured,
        failures,
        _warnings(len(seen.margins), len(rows), count, by_slide, failures),
    )
    return SiteCheck(**{**vars(result), "sentences": tuple(_sentences(result, bundle))})


def _warnings(
    read: int, used: int, slides: int | None, by_slide: bool, failures: tuple[tuple[str, str], ...]
) -> tuple[str, ...]:
    found = []
    if failures:
        found.append(f"{len(failures):,} patches could not be read, such as {failures[0][0]}: {failures[0][1]}")
    if used < read:
        found.append(f"{used:,} of {read:,} patches were compared, drawn at random.")
    if slides == 1:
        found.append("All patches are of one slide. They tell about that slide, and not about the hospital.")
    elif slides is not None and slides < 10:
        found.append(f"The patches are of {slides} slides only. Other slides of the hospital may differ from them.")
    if not by_slide:
        found.append(
            "The tests exchange patches and not slides, because the slides of the site or of valid are unknown. "
            "Patches of one slide are alike, so other slides of the bundle's own hospitals may differ, too."
        )
    return tuple(found)


def _sentences(result: SiteCheck, bundle: Bundle) -> Iterator[str]:
    """The result in words: the verdict, what differs, the scores, and the metrics where labels were given."""
    card = bundle.card
    told = sorted(((abs(shift), name, shift) for name, shift in result.looks.items()), reverse=True)
    words = [WORDS[name][shift > 0] for size, name, shift in told if size >= TOLD][:3]
    if result.verdict == SAME:
        yield "Nothing was seen in which these patches differ from those that the bundle knows."
        yield "That does not prove that the bundle works here."
    else:
        yield f"These patches differ from those that the bundle knows{': ' + ', '.join(words) if words else ''}."
        if result.verdict == DISTRUST:
            yield "They lie far away. Do not trust the threshold here."
        else:
            yield "Other slides of one hospital may differ as much. The check cannot tell whether it matters here."
    here, there = result.called
    shifted = "have shifted" if result.scores.p <= ALPHA / 3 else "show no shift"
    yield (
        f"The scores {shifted}, beyond a share of {card.positive_class} of {result.share:.0%}, which they imply: "
        f"{here:.0%} of the patches are called {card.positive_class} here, {there:.0%} on valid."
    )
    if result.labelled is not None:
        yield _measured(result.labelled, bundle)
    elif result.verdict != SAME:
        yield "Label a few hundred patches, and run the check with --labelled."


def _measured(scores: Scores, bundle: Bundle) -> str:
    valid = bundle.card.metrics.get("valid", {})
    words = []
    for name, title in (("auc", "AUC"), ("accuracy", "accuracy")):
        here, there = getattr(scores, name), valid.get(name, {}).get("value")
        if math.isnan(here.value):
            words.append(f"{title} undefined (one class only)")
            continue
        interval = "" if math.isnan(here.low) else f" ({here.low:.3f} to {here.high:.3f})"
        words.append(f"{title} {here.value:.3f}{interval}" + ("" if there is None else f", on valid {there:.3f}"))
    return f"With the labels of these {scores.n:,} patches: {'; '.join(words)}."

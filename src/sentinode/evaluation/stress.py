"""How well a bundle works on changed patches: out of focus, recompressed, stained or lit differently, or resized.

The curves show when metrics from one hospital's slides no longer hold for another's. The changes follow Hendrycks and
Dietterich (2019) and, for H&E, Tellez et al. (2019).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage

from sentinode.ahead import read_ahead
from sentinode.atomic import make_folder, whole_file, write_text
from sentinode.errors import DataError
from sentinode.evaluation.evaluating import open_for
from sentinode.evaluation.scanner_colours import HOSPITALS, between, estimate_stain, restained
from sentinode.evaluation.stress_page import page
from sentinode.model.bundle import Bundle
from sentinode.model.engines import open_engine
from sentinode.patches import PatchData
from sentinode.progress import bar, console
from sentinode.scoring import Scores, calibrated, cluster_interval, measure
from sentinode.scoring.intervals import joined
from sentinode.scoring.uncertainty import Slides

METRICS = ("auc", "accuracy", "nll")

SCANNER = "scanner"
"""The name of the disturbance that gives patches the stain of other hospitals; it depends on the patches."""


@dataclass(frozen=True)
class Disturbance:
    """One way to change a patch.

    Attributes:
        title: what changes, with its unit.
        untouched: the level that means the unchanged patch.
        levels: the other levels.
        usual: the lowest and the highest level that differences between scanners and laboratories usually reach.
        apply: makes the changed patch, of the same size, from a patch and a level.
        names: the levels that are called by a name and not by their number.
    """

    title: str
    untouched: float
    levels: tuple[float, ...]
    usual: tuple[float, float]
    apply: Callable[[Image.Image, float], Image.Image]
    names: Mapping[float, str] = field(default_factory=dict)

    def label(self, level: float) -> str:
        """What a level is called."""
        return self.names.get(level, f"{level:g}")


def _blur(patch: Image.Image, by: float) -> Image.Image:
    return patch.filter(ImageFilter.GaussianBlur(by))


@cache
def _disc(radius: float) -> NDArray[np.float64]:
    """A disc of a radius in pixels, (k, k), which adds up to 1; pixels on its edge count by their share of it."""
    fine, reach = 8, int(np.ceil(radius))
    at = (np.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    inside = (at[:, None] ** 2 + at**2 <= radius**2).astype(np.float64)
    shares = inside.reshape(2 * reach + 1, fine, 2 * reach + 1, fine).mean((1, 3))
    return np.asarray(shares / shares.sum())


def _defocus(patch: Image.Image, by: float) -> Image.Image:
    """Each point spread over a disc, as by a lens at the wrong distance."""
    spread = ndimage.convolve(np.asarray(patch, np.float64), _disc(by)[..., None], mode="reflect")
    return Image.fromarray(spread.round().clip(0, 255).astype(np.uint8))


def _jpeg(patch: Image.Image, by: float) -> Image.Image:
    file = io.BytesIO()
    patch.save(file, "JPEG", quality=round(by))
    return Image.open(file, formats=["JPEG"]).convert("RGB")


def _hue(patch: Image.Image, by: float) -> Image.Image:
    hue, saturation, value = patch.convert("HSV").split()
    moved = np.asarray(hue).astype(np.int16) + round(256 * by)
    return Image.merge("HSV", (Image.fromarray((moved % 256).astype(np.uint8)), saturation, value)).convert("RGB")


def _stain(patch: Image.Image, by: float) -> Image.Image:
    """All optical densities times ``by``, as in a thicker or thinner section, or with longer or shorter staining."""
    light = (np.asarray(patch, np.float32) + 1) / 256
    return Image.fromarray(np.clip(256 * light**by - 1, 0, 255).round().astype(np.uint8))


def _zoom(patch: Image.Image, by: float) -> Image.Image:
    """The centre ``by`` times as large, as on a slide whose stated microns per pixel are wrong."""
    size = patch.width
    border = size // 2
    wide = Image.fromarray(np.pad(np.asarray(patch), ((border, border), (border, border), (0, 0)), "reflect"))
    half, middle = size / by / 2, wide.width / 2
    box = (middle - half, middle - half, middle + half, middle + half)
    return wide.resize(patch.size, Image.Resampling.BICUBIC, box=box)


def _brightness(patch: Image.Image, by: float) -> Image.Image:
    return ImageEnhance.Brightness(patch).enhance(by)


DISTURBANCES = {
    "blur": Disturbance("blur, sigma in pixels", 0, (0.5, 1, 1.5, 2, 3), (0, 1), _blur),
    "defocus": Disturbance("defocus, radius of the disc in pixels", 0, (0.75, 1, 1.5, 2, 3), (0, 1.5), _defocus),
    "jpeg": Disturbance("JPEG quality", 100, (95, 90, 70, 50, 30, 10), (70, 100), _jpeg, {100: "lossless"}),
    "stain": Disturbance("strength of the stain", 1, (0.5, 0.7, 0.85, 1.15, 1.3, 1.6), (0.7, 1.3), _stain),
    "hue": Disturbance("hue, in turns", 0, (-0.1, -0.05, -0.025, 0.025, 0.05, 0.1), (-0.05, 0.05), _hue),
    "brightness": Disturbance("brightness", 1, (0.6, 0.8, 0.9, 1.1, 1.2, 1.4), (0.9, 1.1), _brightness),
    "magnification": Disturbance("magnification", 1, (0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 1.5), (0.9, 1.1), _zoom),
}
"""What is done to any patches. The ranges that are called usual are our judgement; nobody has measured them here."""


def scanner(images: NDArray[np.uint8]) -> Disturbance:
    """The stain of other hospitals, for these patches: that of all of them together is made that of each hospital.

    Args:
        images: uint8 (N, S, S, 3), all patches of the test. Their differences from each other stay.

    Raises:
        DataError: the patches have too little tissue to estimate their stain.
    """
    ours = estimate_stain(images)
    matrices = {float(number): between(ours, theirs) for number, theirs in enumerate(HOSPITALS)}
    names = {-1.0: "own"} | {level: f"centre {level:.0f}" for level in matrices}

    def apply(patch: Image.Image, level: float) -> Image.Image:
        return Image.fromarray(restained(np.asarray(patch), matrices[level])) if level in matrices else patch

    last = float(len(HOSPITALS) - 1)
    return Disturbance("stain of Camelyon17's hospitals", -1, tuple(matrices), (0, last), apply, names)


@dataclass(frozen=True)
class StressPoint:
    """How good the bundle is at one level of one disturbance.

    Attributes:
        disturbance: its name.
        level: how strong it is, in its own unit.
        figures: value, low and high of each metric; None for what is undefined.
        label: what the level is called.
        usual: whether differences between scanners usually reach this level; False for the unchanged patches.
        fall: by how much the accuracy is below that on the same patches unchanged: value, low and high. It is below 0
            where the accuracy rises.
    """

    disturbance: str
    level: float
    figures: dict[str, tuple[float | None, ...]]
    label: str
    usual: bool
    fall: tuple[float | None, ...]


def stress(
    bundle: Bundle,
    data: str | Path | PatchData,
    split: str,
    out: str | Path,
    *,
    count: int = 1000,
    slide_map: Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    resamples: int = 200,
    seed: int = 0,
    show: bool = True,
) -> list[StressPoint]:
    """Score a bundle on patches that are changed more and more; write ``stress.html``, ``.json`` and ``.png``.

    The threshold and the temperature stay those of the bundle. :func:`weakest_point` says the result in a sentence.

    Args:
        bundle: the model.
        data: labelled patches.
        split: one of its splits, or ``all`` for data without splits.
        out: the folder to write to.
        count: number of patches to take at random; all if there are fewer.
        slide_map: as for :func:`~sentinode.evaluation.evaluate`; so are ``mpp``, ``label_region`` and ``positive``.
        device: where to compute.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``int8``.
        resamples: number of bootstrap resamples, for intervals by patch where slides are unknown.
        seed: random seed for the choice of patches and for the bootstrap.
        show: whether to show progress on standard error.

    Raises:
        DataError: the data or the split cannot be read, or the patches are of one class only.
        OutputError: the folder cannot be written.
    """
    data = open_for(
        bundle, data, split, slide_map=slide_map, mpp=mpp, label_region=label_region, positive=positive, show=show
    )
    patches = data[split]
    rows = np.sort(np.random.default_rng(seed).permutation(len(patches))[:count])
    images, labels = patches.images[rows], patches.labels[rows]
    slides = None if patches.slides is None else patches.slides[rows]
    if len(np.unique(labels)) < 2:
        raise DataError(
            "these patches are of one class only.", where=data.path, hint="Take more patches with --patches."
        )
    folder = make_folder(Path(out))
    engine, card = open_engine(bundle, device=device, precision=precision), bundle.card
    disturbances, left_out = _disturbances(images)
    total = (1 + sum(len(disturbance.levels) for disturbance in disturbances.values())) * len(rows)

    with bar("Stress test", total, show=show) as shown:

        def score(disturbance: Disturbance | None, level: float = 0) -> tuple[Scores, NDArray[np.bool_]]:
            margins = []
            for batch in read_ahead(_disturbed(images, disturbance, level, engine.batch)):
                margins.append(engine.margins(batch))
                shown.advance(len(batch))
            probabilities = calibrated(np.concatenate(margins), card.temperature)
            scores = measure(
                labels,
                probabilities,
                card.threshold,
                groups=slides,
                resamples=resamples,
                seed=seed,
                class_names=data.class_names,
            )
            return scores, (probabilities >= card.threshold) == labels

        as_it_is, right = score(None)
        points = []
        for name, disturbance in disturbances.items():
            own = disturbance.label(disturbance.untouched)
            points.append(StressPoint(name, disturbance.untouched, _figures(as_it_is), own, False, (0.0, 0.0, 0.0)))
            for level in disturbance.levels:
                scores, still_right = score(disturbance, level)
                usual = disturbance.usual[0] <= level <= disturbance.usual[1]
                fall = _fall(right, still_right, slides)
                points.append(StressPoint(name, level, _figures(scores), disturbance.label(level), usual, fall))
    notes = [*as_it_is.notes, *left_out]
    about = {"bundle": bundle.fingerprint, "split": split, "patches": len(rows), "seed": seed, "engine": engine.name}
    verdict = {"weakest_point": weakest_point(points), "interval": as_it_is.interval, "warnings": notes}
    record = {**about, **verdict, "points": [asdict(point) for point in points]}
    write_text(folder / "stress.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    titles = {name: disturbance.title for name, disturbance in disturbances.items()}
    with whole_file(folder / "stress.png") as staged:
        draw(points, titles).savefig(staged, dpi=110)
    write_text(folder / "stress.html", page(record, titles, (folder / "stress.png").read_bytes(), card.name))
    if show:
        for note in notes:
            console.print("Note:", style="yellow", end=" ")
            console.print(note, markup=False)
    return points


def weakest_point(points: Sequence[StressPoint]) -> str:
    """The level, of those that scanners usually reach, at which the accuracy falls most; as a sentence."""
    usual = [point for point in points if point.usual]
    if not usual:
        return "No level that is usual between scanners was tested."
    worst = max(usual, key=lambda point: (point.fall[0] or 0.0, point.disturbance, point.level))
    fall, low, high = worst.fall
    own = _unchanged(points, worst.disturbance)
    aucs = [point.figures["auc"][0] for point in (own, worst)]
    what = f"{worst.disturbance} {worst.label}"
    if fall is None or low is None or low <= 0:
        return (
            "No change that is usual between scanners lowers the accuracy by more than chance may. "
            f"The largest fall is at {what}: by {_number(fall)} ({_number(low)} to {_number(high)})."
        )
    return (
        f"Weakest point among the changes that are usual between scanners: {what}. The accuracy falls from "
        f"{_number(own.figures['accuracy'][0])} to {_number(worst.figures['accuracy'][0])}, by {fall:.3f} "
        f"({_number(low)} to {_number(high)}), and the AUC goes from {_number(aucs[0])} to {_number(aucs[1])}."
    )


def _unchanged(points: Sequence[StressPoint], name: str) -> StressPoint:
    """The unchanged patches, which are the first point of each disturbance."""
    return next(point for point in points if point.disturbance == name)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _disturbances(images: NDArray[np.uint8]) -> tuple[dict[str, Disturbance], list[str]]:
    """All disturbances, and a note on what was left out."""
    try:
        return {SCANNER: scanner(images)} | DISTURBANCES, []
    except DataError as error:
        return dict(DISTURBANCES), [f"The stain of other hospitals was left out: {error.what}"]


def _fall(
    before: NDArray[np.bool_], after: NDArray[np.bool_], slides: NDArray[np.str_] | None
) -> tuple[float | None, ...]:
    """By how much the accuracy falls on the same patches, with its 95 % interval: by slide where known, else by patch.

    The two accuracies are of the same patches, so their difference is surer than each of them.
    """
    gap = before.astype(np.float64) - after
    cluster = Slides.of(slides, np.zeros(len(gap), np.int64)).cluster
    cluster = joined(np.arange(len(gap)) if cluster is None else cluster)
    counts, sums = np.bincount(cluster), np.bincount(cluster, weights=gap)
    value = float(gap.mean())
    if len(counts) < 2:
        return value, None, None
    without = (sums.sum() - sums) / (counts.sum() - counts)
    low, high = cluster_interval(value, without, counts, bounds=(-1, 1), scale="linear")
    return value, low, high


def _figures(scores: Scores) -> dict[str, tuple[float | None, ...]]:
    return {name: tuple(getattr(scores, name).as_dict().values()) for name in METRICS}


def _disturbed(
    images: NDArray[np.uint8], disturbance: Disturbance | None, level: float, size: int
) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        if disturbance is not None:
            batch = np.stack([np.asarray(disturbance.apply(Image.fromarray(patch), level)) for patch in batch])
        yield batch


def draw(points: Sequence[StressPoint], titles: Mapping[str, str]) -> Figure:
    """A panel for each disturbance: AUC and accuracy by its strength, with intervals; a line marks no change."""
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    panels = figure.subplots(2, 4, sharey=True).flat
    for axis, (name, title) in zip(panels, titles.items(), strict=False):
        mine = sorted((point for point in points if point.disturbance == name), key=lambda point: point.level)
        levels = [point.level for point in mine]
        untouched = _unchanged(points, name).level
        named = name == SCANNER
        for key, colour in (("auc", "#b5338a"), ("accuracy", "#3f6fb5")):
            value, low, high = np.array([point.figures[key] for point in mine], float).T  # None becomes NaN
            label = key.replace("auc", "AUC")
            if named:  # hospitals have no order, so no line joins them
                spread = np.abs(np.stack([value - low, high - value]))
                axis.errorbar(levels, value, spread, color=colour, marker="o", markersize=3, linestyle="", label=label)
                continue
            axis.plot(levels, value, color=colour, marker="o", markersize=3, label=label)
            axis.fill_between(levels, low, high, color=colour, alpha=0.15, linewidth=0)
        if named:
            axis.set_xticks(levels, [point.label.replace(" ", "\n") for point in mine])
        axis.axvline(untouched, color="#888", linewidth=0.8, linestyle=":")
        axis.set(xlabel=title, ylim=(0.5, 1))
        if name == "jpeg":
            axis.invert_xaxis()
    for axis in list(figure.axes)[len(titles) :]:
        axis.set_axis_off()
    figure.axes[0].legend(frameon=False, loc="lower left")
    return figure

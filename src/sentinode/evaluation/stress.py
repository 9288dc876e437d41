"""How well a bundle works on changed patches: blurred, recompressed, stained or lit differently, or resized.

The curves show when metrics from one hospital's slides no longer hold for another's. The changes follow Hendrycks and
Dietterich (2019) and, for H&E, Tellez et al. (2019). Pillow makes all of them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from sentinode.ahead import read_ahead
from sentinode.atomic import make_folder, whole_file, write_text
from sentinode.errors import DataError
from sentinode.evaluation.evaluating import open_for
from sentinode.model.bundle import Bundle
from sentinode.model.engines import open_engine
from sentinode.patches import PatchData
from sentinode.progress import bar, console
from sentinode.scoring import Scores, calibrated, measure

METRICS = ("auc", "accuracy", "nll")


@dataclass(frozen=True)
class Disturbance:
    """One way to change a patch.

    Attributes:
        title: what changes, with its unit.
        untouched: the level that means the unchanged patch.
        levels: the other levels.
        apply: makes the changed patch, of the same size, from a patch and a level.
    """

    title: str
    untouched: float
    levels: tuple[float, ...]
    apply: Callable[[Image.Image, float], Image.Image]


def _blur(patch: Image.Image, by: float) -> Image.Image:
    return patch.filter(ImageFilter.GaussianBlur(by))


def _jpeg(patch: Image.Image, by: float) -> Image.Image:
    file = io.BytesIO()
    patch.save(file, "JPEG", quality=round(by))
    return Image.open(file).convert("RGB")


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
    "blur": Disturbance("blur, sigma in pixels", 0, (0.5, 1, 1.5, 2, 3), _blur),
    "jpeg": Disturbance("JPEG quality", 100, (90, 70, 50, 30, 10), _jpeg),
    "stain": Disturbance("strength of the stain", 1, (0.5, 0.7, 0.85, 1.15, 1.3, 1.6), _stain),
    "hue": Disturbance("hue, in turns", 0, (-0.1, -0.05, -0.025, 0.025, 0.05, 0.1), _hue),
    "brightness": Disturbance("brightness", 1, (0.6, 0.8, 0.9, 1.1, 1.2, 1.4), _brightness),
    "magnification": Disturbance("magnification", 1, (0.7, 0.8, 0.9, 1.1, 1.25, 1.5), _zoom),
}


@dataclass(frozen=True)
class StressPoint:
    """How good the bundle is at one level of one disturbance.

    Attributes:
        disturbance: its name.
        level: how strong it is, in its own unit.
        figures: value, low and high of each metric; None for what is undefined.
    """

    disturbance: str
    level: float
    figures: dict[str, tuple[float | None, ...]]


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
    """Score a bundle on patches that are changed more and more; write ``stress.json`` and ``stress.png``.

    The threshold and the temperature stay those of the bundle.

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
    total = (1 + sum(len(disturbance.levels) for disturbance in DISTURBANCES.values())) * len(rows)

    with bar("Stress test", total, show=show) as shown:

        def score(disturbance: Disturbance | None, level: float = 0) -> Scores:
            margins = []
            for batch in read_ahead(_disturbed(images, disturbance, level, engine.batch)):
                margins.append(engine.margins(batch))
                shown.advance(len(batch))
            probabilities = calibrated(np.concatenate(margins), card.temperature)
            return measure(
                labels,
                probabilities,
                card.threshold,
                groups=slides,
                resamples=resamples,
                seed=seed,
                class_names=data.class_names,
            )

        as_it_is = score(None)
        points = []
        for name, disturbance in DISTURBANCES.items():
            points.append(StressPoint(name, disturbance.untouched, _figures(as_it_is)))
            for level in disturbance.levels:
                points.append(StressPoint(name, level, _figures(score(disturbance, level))))
    about = {"bundle": bundle.fingerprint, "split": split, "patches": len(rows), "seed": seed, "engine": engine.name}
    intervals = {"interval": as_it_is.interval, "warnings": list(as_it_is.notes)}
    record = {**about, **intervals, "points": [asdict(point) for point in points]}
    write_text(folder / "stress.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    with whole_file(folder / "stress.png") as staged:
        draw(points).savefig(staged, dpi=110)
    if show:
        for note in as_it_is.notes:
            console.print("Note:", style="yellow", end=" ")
            console.print(note, markup=False)
    return points


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


def draw(points: list[StressPoint]) -> Figure:
    """A panel for each disturbance: AUC and accuracy by its strength, with intervals; a line marks no change."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    for axis, (name, disturbance) in zip(figure.subplots(2, 3, sharey=True).flat, DISTURBANCES.items(), strict=True):
        mine = sorted((point for point in points if point.disturbance == name), key=lambda point: point.level)
        levels = [point.level for point in mine]
        for key, colour in (("auc", "#b5338a"), ("accuracy", "#3f6fb5")):
            value, low, high = np.array([point.figures[key] for point in mine], float).T  # None becomes NaN
            axis.plot(levels, value, color=colour, marker="o", markersize=3, label=key.replace("auc", "AUC"))
            axis.fill_between(levels, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.axvline(disturbance.untouched, color="#888", linewidth=0.8, linestyle=":")
        axis.set(xlabel=disturbance.title, ylim=(0.5, 1))
        if name == "jpeg":
            axis.invert_xaxis()
    figure.axes[0].legend(frameon=False, loc="lower left")
    return figure

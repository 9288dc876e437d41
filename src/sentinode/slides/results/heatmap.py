"""Pictures of a map: the heatmap with its legend, and the small one for a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib import colormaps, patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from shapely.geometry import MultiPolygon

from sentinode.atomic import whole_file
from sentinode.names import drawable, families, shortened
from sentinode.slides.reading.annotations import Annotations
from sentinode.slides.reading.slide import Slide
from sentinode.slides.results.lesions import Lesion, Lesions, balanced, unbalanced
from sentinode.slides.scanning.tissue import Tissue

Pixels = NDArray[np.uint8]

SIDE = 1400
"""Longer side of the slide in the heatmap, in pixels."""

LARGEST_ZOOM = 2.0
"""A slide too small for that is enlarged no further than this."""

SMALL_SIDE = 240
"""Longer side of the small picture, in pixels."""

COLOURS = colormaps["viridis"]
"""Even to the eye, and to the eyes of those who see fewer colours."""

VISIBLE = 0.25, 0.6
"""Where on the balanced scale, in whose middle regions are outlined, colour begins and where it is full."""

OPACITY = 0.7
DPI = 100
KEY_WIDTH = 300
NAME_WIDTH = 28
"""Columns that a slide's name takes beside its heatmap, of letters as wide as a digit."""

HATCH, HATCH_PIXELS = (110, 110, 110), 6
"""Grey of the stripes over tissue that cannot be judged, and how far apart they lie."""

MOST_NUMBERS = 30
"""Regions whose numbers stand beside them; more would hide the slide."""

LESION_INK, TRUTH_INK = "#111111", "#d55e00"


def picture_of(slide: Slide, tissue: Tissue) -> tuple[Pixels, float]:
    """The slide as a picture, and the level-0 pixels that one of its pixels stands for.

    The tissue's own thumbnail serves where it is large enough, since making another means decoding the slide.
    """
    rows, columns = tissue.thumbnail.shape[:2]
    if max(rows, columns) >= SIDE / 2:
        return tissue.thumbnail, tissue.scale * round(max(tissue.mask.shape) / max(rows, columns))
    scale = max(1.0, max(slide.width, slide.height) / SIDE)
    return slide.thumbnail(slide.mpp * scale), scale


def overlay(picture: Pixels, scale: float, lesions: Lesions) -> Pixels:
    """Lay a map's smoothed probabilities over a picture of its slide.

    Args:
        picture: uint8 (rows, columns, 3).
        scale: level-0 pixels per pixel of the picture.
        lesions: of the map.

    Returns:
        uint8 (rows, columns, 3); unchanged where the probability is low or there is no tissue, and with grey stripes
        where tissue cannot be judged.
    """
    probability_map = lesions.probability_map
    level = np.nan_to_num(balanced(lesions.smoothed, lesions.point.grow))
    unjudged = probability_map.tissue & ~probability_map.assessable
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * scale / probability_map.stride).astype(np.int64), size - 1)
        for n, size in zip(picture.shape[:2], level.shape, strict=True)
    )
    colour = COLOURS(level)
    colour[..., 3] = np.where(unjudged, 0, _opacity(level))
    over = (255 * colour).astype(np.uint8)[rows][:, columns]
    alpha = over[..., 3:].astype(np.uint16)
    mixed: Pixels = ((picture * (255 - alpha) + over[..., :3] * alpha + 127) // 255).astype(np.uint8)
    y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
    mixed[unjudged[rows][:, columns] & ((y + x) % HATCH_PIXELS < HATCH_PIXELS // 2)] = HATCH
    return mixed


def _opacity(level: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the colour of a level on the balanced scale covers the slide, from 0 to :data:`OPACITY`."""
    start, full = VISIBLE
    return np.asarray(OPACITY * np.clip((level - start) / (full - start), 0, 1))


def write_heatmap(
    path: Path, picture: Pixels, scale: float, lesions: Lesions, truth: Annotations | None = None
) -> None:
    """Write the heatmap: the slide, its probabilities, its lesions, a scale bar and a legend.

    Args:
        path: a PNG.
        picture: uint8 (rows, columns, 3), the slide.
        scale: level-0 pixels per pixel of the picture.
        lesions: of the slide.
        truth: annotations to draw over it.

    Raises:
        OutputError: the file cannot be written.
    """
    rows, columns = picture.shape[:2]
    zoom = min(LARGEST_ZOOM, SIDE / max(rows, columns))
    width, height = max(1, round(columns * zoom)), max(1, round(rows * zoom))
    total_width, total_height = width + KEY_WIDTH, max(height, 620)
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 1 - height / total_height, width / total_width, height / total_height))
    axes.imshow(overlay(picture, scale, lesions), interpolation="antialiased", extent=(0, columns, rows, 0))
    axes.set_axis_off()
    found, uncertain = list(lesions.outlines()), list(lesions.uncertain_outlines())
    _outlines(axes, [outline for _, outline in found], scale, LESION_INK, "solid", 1.4)
    _outlines(axes, [outline for _, outline in uncertain], scale, LESION_INK, "dotted", 1.4)
    _numbers(axes, (found + uncertain)[:MOST_NUMBERS], scale)
    if truth is not None:
        _outlines(axes, [region.shape for region in truth.tumour], scale, TRUTH_INK, "dashed", 1.8)
        _outlines(axes, [region.shape for region in truth.excluded], scale, TRUTH_INK, "dotted", 1.8)
    _scale_bar(axes, columns, rows, scale * lesions.probability_map.slide_mpp, zoom)
    _key(_Margin(figure, width + 28, total_width, total_height), lesions, truth)
    with whole_file(path) as staged:
        figure.savefig(staged, dpi=DPI, metadata={"Software": None})


def write_small(path: Path, picture: Pixels, scale: float, lesions: Lesions) -> None:
    """Write a small picture of the slide with its probabilities, for a table.

    Raises:
        OutputError: the file cannot be written.
    """
    image = Image.fromarray(overlay(picture, scale, lesions))
    image.thumbnail((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BOX)
    with whole_file(path) as staged:
        image.save(staged)


def _outlines(axes: Axes, shapes: list[shapely.Geometry], scale: float, ink: str, style: str, width: float) -> None:
    rings = shapely.get_parts(shapely.get_parts(shapely.boundary(shapes)))
    lines = [shapely.get_coordinates(ring) / scale for ring in rings]
    axes.add_collection(LineCollection(lines, colors="white", linewidths=width + 1.4, alpha=0.85))
    axes.add_collection(LineCollection(lines, colors=ink, linewidths=width, linestyles=style))


def _numbers(axes: Axes, regions: list[tuple[Lesion, MultiPolygon]], scale: float) -> None:
    """Each region's number, at its upper right."""
    for region, outline in regions:
        _, top, right, _ = (value / scale for value in outline.bounds)
        text = axes.text(right, top, f"{region.number}", fontsize=11, va="bottom", ha="left", color=LESION_INK)
        text.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])
        text.set_clip_on(True)


def _scale_bar(axes: Axes, columns: int, rows: int, mpp: float, zoom: float) -> None:
    """A bar of a round length, about a sixth of the slide wide, in its lower left corner."""
    wanted = columns * mpp / 6
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(power * step for step in (1, 2, 5) if power * step <= wanted)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    margin, thick = 24 / zoom, 7 / zoom
    bar = Rectangle((margin, rows - margin - thick), length / mpp, thick, facecolor="black", edgecolor="white")
    axes.add_patch(bar)
    text = axes.text(margin, rows - margin - 2 * thick, label, fontsize=13, va="bottom", ha="left")
    text.set_path_effects([patheffects.withStroke(linewidth=3, foreground="white")])


@dataclass(frozen=True)
class _Margin:
    """The white margin beside the slide. Places in it are pixels from its left edge and from the picture's top."""

    figure: Figure
    left: float
    width: int
    height: int

    def at(self, right: float, down: float) -> tuple[float, float]:
        """A place as shares of the picture, counted from its lower left corner."""
        return (self.left + right) / self.width, 1 - down / self.height

    def write(self, down: float, text: str, **style: Any) -> None:
        self.figure.text(*self.at(0, down), text, **style)


def _key(margin: _Margin, lesions: Lesions, truth: Annotations | None) -> None:
    """All that stands beside the slide, from top to bottom."""
    _title(margin, lesions)
    margin.write(128, "P(tumour), at a prior of one half", fontsize=11)
    _colour_bar(margin, lesions.point.grow)
    _legend(margin, lesions, truth)
    _notes(margin, lesions)


def _title(margin: _Margin, lesions: Lesions) -> None:
    score = "no tissue" if math.isnan(lesions.score) else f"P(positive) {lesions.score:.3f}"
    largest = f", the largest {lesions.largest.diameter_um / 1000:.2f} mm" if lesions.largest else ""
    count = f"{len(lesions)} lesion{'s' if len(lesions) != 1 else ''}{largest}"
    name = drawable(shortened(lesions.probability_map.slide.name, NAME_WIDTH), weight="bold")
    margin.write(40, name, fontsize=12, weight="bold", family=list(families()))
    margin.write(66, f"{lesions.category}, {score}", fontsize=11)
    margin.write(88, count, fontsize=11)


def _colour_bar(margin: _Margin, grow: float) -> None:
    """The colours as they look on white, with probabilities beside them; in the middle that from which regions grow."""
    bar = margin.figure.add_axes((*margin.at(0, 400), 24 / margin.width, 260 / margin.height))
    level = np.linspace(0, 1, 256)
    alpha = _opacity(level)[:, None]
    ramp = COLOURS(level)[:, :3] * alpha + (1 - alpha)
    bar.imshow(ramp[:, None], origin="lower", aspect="auto", extent=(0, 1, 0, 1))
    bar.set_xticks([])
    bar.yaxis.tick_right()
    ticks = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    labels = [f"{value:.2g}" for value in unbalanced(ticks, grow)]
    labels[2] += "  outline"
    bar.set_yticks(ticks, labels)


def _legend(margin: _Margin, lesions: Lesions, truth: Annotations | None) -> None:
    lines: dict[str, Artist] = {"lesion": Line2D([], [], color=LESION_INK, linewidth=1.8)}
    if lesions.uncertain:
        lines["uncertain region"] = Line2D([], [], color=LESION_INK, linewidth=1.8, linestyle="dotted")
    if truth is not None:
        lines["annotated tumour"] = Line2D([], [], color=TRUTH_INK, linewidth=1.8, linestyle="dashed")
        if truth.excluded:
            lines["annotated exclusion"] = Line2D([], [], color=TRUTH_INK, linewidth=1.8, linestyle="dotted")
    unjudged = sum(lesions.probability_map.unassessable.values())
    if unjudged:
        stripes = Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=np.divide(HATCH, 255), hatch="////")
        lines[f"not judged: {max(unjudged, 0.001):.1%} of tissue"] = stripes
    margin.figure.legend(
        list(lines.values()),
        list(lines),
        loc="upper left",
        bbox_to_anchor=margin.at(-8, 420),
        frameon=False,
        fontsize=11,
    )


def _notes(margin: _Margin, lesions: Lesions) -> None:
    notes = [
        f"smoothed, sigma {lesions.point.scales_um[0]:g} µm",
        f"a window every {lesions.probability_map.stride * lesions.probability_map.slide_mpp:.1f} µm",
        "For research, not for diagnosis.",
    ]
    margin.write(590, "\n".join(notes), fontsize=10, color="#444444", va="bottom", linespacing=1.5)

"""One slide through one bundle: a grid of windows, read ahead in threads, scored in batches, kept as they
come.

The windows of a slide form one fixed sequence, block by block, and every batch is a fixed piece of it; in dense
reading the windows that end in a tile are a batch. So a scan that was killed goes on with the same batches as if
nothing had happened, and ends in the same bytes.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from sentinode.ahead import in_order, read_ahead
from sentinode.errors import BundleError, SlideError
from sentinode.model.bundle import DENSE, PATCH, Bundle, Card, require_mpp
from sentinode.model.engines import Engine
from sentinode.names import printable
from sentinode.progress import bar
from sentinode.slides.reading.pyramid import Pixels
from sentinode.slides.reading.slide import Box, Slide
from sentinode.slides.scanning.dense import FeatureMap, Source, lay_tiles, layout_for, needed_from, read_tiles
from sentinode.slides.scanning.probability_map import ProbabilityMap, SlideRecord
from sentinode.slides.scanning.quality import Codes, tissue_density, window_quality
from sentinode.slides.scanning.scores import LOG_FORMAT, MapPlan, Margins, Scores, open_log
from sentinode.slides.scanning.tissue import Mask, Tissue

PRIOR = 0.05
"""Share of tumour among windows of tissue, unless told otherwise. PatchCamelyon has a half; Camelyon16's tumor_001
has 0.006, slides with a macrometastasis have more, and most slides have none."""

COARSEST = 1.5
"""A slide may be this many times coarser than the bundle's resolution, and no more."""

BLOCK = 1024
"""Side in pixels, at the bundle's resolution, of the squares in which a slide is read."""

READERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Grid:
    """The windows of a slide: ``rows`` x ``columns``, ``step`` pixels apart at ``mpp`` microns per pixel.

    ``scale`` is level-0 pixels per pixel at ``mpp``.
    """

    rows: int
    columns: int
    step: int
    mpp: float
    scale: float

    @property
    def stride(self) -> float:
        """Level-0 pixels from one window's centre to the next."""
        return self.step * self.scale

    def box(self, rows: slice, columns: slice, window: int) -> Box:
        """The part of the slide that holds the windows in ``rows`` and ``columns``.

        Windows begin at whole pixels. So where ``step`` or ``window`` is odd and the other is not, they lie half a
        pixel before the middle of their squares.
        """
        before = (self.step - window) // 2
        left, top = ((first * self.step + before) * self.scale for first in (columns.start, rows.start))
        width, height = (self.step * (span.stop - span.start - 1) + window for span in (columns, rows))
        return left, top, width, height


def lay_grid(slide: Slide, mpp: float, step: int) -> Grid:
    """The grid that covers a slide with one window for each ``step`` x ``step`` pixels at ``mpp``.

    Where a level of the slide has that resolution to half a percent, the grid takes the level's own, so that its
    windows are copies of whole pixels all over the slide.

    Raises:
        SlideError: the slide's resolution is unknown, or too coarse for ``mpp``.
    """
    if slide.mpp > COARSEST * mpp:
        raise SlideError(
            f"the slide has {slide.mpp:g} microns per pixel, too coarse for a bundle that reads {mpp:g}.",
            where=slide.path,
            hint=f"It takes {COARSEST * mpp:.2f} or finer. If the slide is finer than it states, give --mpp.",
        )
    mpp = slide.windows_mpp(mpp)
    scale = mpp / slide.mpp
    rows, columns = (max(1, math.ceil(side / scale / step - 1e-6)) for side in (slide.height, slide.width))
    return Grid(rows, columns, step, mpp, scale)


def scan_slide(
    slide: Slide,
    tissue: Tissue,
    bundle: Bundle,
    engine: Engine,
    *,
    stride: int | None = None,
    prior: float = PRIOR,
    reading: str = PATCH,
    scores: Scores | None = None,
    log: Path | None = None,
    before_write: Callable[[], object] = lambda: None,
    show: bool = True,
) -> ProbabilityMap:
    """The map of one slide.

    Args:
        slide: the slide.
        tissue: its tissue; windows without any are left out.
        bundle: what the engine computes: its resolution, temperature, prior and threshold.
        engine: scores the windows.
        stride: pixels between windows, at the bundle's resolution; None for that of its geometry.
        prior: share of tumour among windows of tissue, to which the probabilities are corrected.
        reading: ``patch`` or ``dense``; see :func:`sentinode.model.readings.choose_reading`.
        scores: the first windows' scores from :func:`score_part`, which are not computed again. Those that belong to
            another slide, or were computed in another way, are ignored.
        log: a file that keeps the scores as they come; if it is there, the scan goes on from where it ends. The plan
            of the map lies beside it, for :func:`sentinode.slides.scanning.scores.open_partial_map`.
        before_write: called before scores are added to the log; what it raises stops the scan.
        show: whether to show a progress bar.

    Raises:
        SlideError: the slide is too coarse, has no tissue, or cannot be decoded.
        BundleError: the bundle's microns per pixel are unknown.
        OutputError: the log cannot be written, or the disk is full.
    """
    plan, map_plan = _plan_map(slide, tissue, bundle, engine, stride, prior, reading)
    with open_log(log, map_plan) as kept:
        margins, quality = [kept.margins], [kept.quality]
        done = len(kept.margins)
        known = (
            [] if scores is None or scores.identity != map_plan.identity else list(scores.batches(plan.counts, done))
        )
        more = plan.batches(done + sum(len(codes) for _, codes in known))
        with bar(f"Scanning {slide.path.name}", len(plan.sequence) - done, unit="tiles", show=show) as shown:
            for some, codes in chain(known, more):
                before_write()
                kept.append(some, codes)
                margins.append(some)
                quality.append(codes)
                shown.advance(len(some))
    every = np.concatenate(margins)
    _require_finite(every, bundle)
    return map_plan.filled(every, np.concatenate(quality))


def score_part(
    slide: Slide,
    tissue: Tissue,
    bundle: Bundle,
    engine: Engine,
    part: tuple[int, int],
    *,
    stride: int | None = None,
    reading: str = PATCH,
) -> Scores:
    """The scores of one part of a slide's windows, for :func:`scan_slide`.

    Args:
        slide, tissue, bundle, engine, stride, reading: as of :func:`scan_slide`.
        part: which part, from 0, and of how many. Parts consist of whole batches and have about the same size.

    Raises:
        SlideError: the slide is too coarse, has no tissue, or cannot be decoded.
        BundleError: the bundle's microns per pixel are unknown.
    """
    plan, map_plan = _plan_map(slide, tissue, bundle, engine, stride, PRIOR, reading)
    number, count = part
    ends = np.cumsum([0, *plan.counts])
    first, last = (int(np.searchsorted(ends, len(plan.sequence) * bound / count)) for bound in (number, number + 1))
    batches = list(islice(plan.batches(int(ends[first])), last - first))
    return Scores(
        map_plan.identity,
        np.concatenate([margins for margins, _ in batches] or [np.zeros(0, np.float32)]),
        np.concatenate([codes for _, codes in batches] or [np.zeros(0, np.uint8)]),
    )


def _plan_map(
    slide: Slide, tissue: Tissue, bundle: Bundle, engine: Engine, stride: int | None, prior: float, reading: str
) -> tuple[_Plan, MapPlan]:
    """How the windows of a slide are scored, and what makes a map of the scores."""
    card, mpp = bundle.card, require_mpp(bundle)
    stride = card.geometry.stride if stride is None else stride
    grid = lay_grid(slide, mpp, stride)
    cells = tissue.cells(grid.rows, grid.columns, grid.stride)
    if not cells.any():
        raise SlideError(
            "no stained tissue was found on the slide.",
            where=slide.path,
            hint="See tissue.png beside its manifest; Sentinode reads haematoxylin and eosin.",
        )
    calibration = card.reading(reading)
    plan = _plan(slide, grid, cells, tissue_density(tissue.thumbnail, tissue.mask), card, engine, reading)
    shift = prior_shift(calibration.prior, prior)
    return plan, MapPlan(
        identity=_identity(slide.fingerprint, bundle.fingerprint, engine, grid, plan),
        sequence=plan.sequence,
        counts=plan.counts,
        offset=calibration.offset,
        temperature=calibration.temperature,
        shift=shift,
        empty=ProbabilityMap(
            probability=np.full((grid.rows, grid.columns), np.nan, np.float32),
            stride=grid.stride,
            origin=(grid.stride / 2, grid.stride / 2),
            mpp=grid.mpp,
            threshold=float(expit(logit(calibration.threshold) + shift)),
            prior=prior,
            slide=SlideRecord(
                printable(slide.path.name), slide.width, slide.height, slide.mpp, slide.fingerprint, slide.bounds
            ),
            bundle=bundle.fingerprint,
            engine=engine.name if reading == PATCH else f"{engine.name} {reading}",
        ),
    )


def prior_shift(trained: float, prior: float) -> float:
    """What to add to log-odds learnt at one share of tumour so that they hold at another.

    Saerens, Latinne and Decaestecker (2002), *Neural Computation* 14, equation 2.4, for two classes.
    """
    return float(logit(prior) - logit(trained))


def _require_finite(margins: Margins, bundle: Bundle) -> None:
    if not np.isfinite(margins).all():
        raise BundleError(
            "the network returned a value that is not a number.",
            where=bundle.path,
            hint="Scan with --precision float32; if it persists, train the bundle again.",
        )


@dataclass(frozen=True)
class _Block:
    """Windows that are read together: ``places`` int64 (n, 2) holds the row and column of each."""

    places: NDArray[np.int64]
    rows: slice
    columns: slice


def _blocks(cells: Mask, side: int) -> list[_Block]:
    """The windows of tissue in squares of ``side`` x ``side`` windows, row by row."""
    blocks = []
    for top in range(0, cells.shape[0], side):
        for left in range(0, cells.shape[1], side):
            corner = np.array([top, left])
            places = np.argwhere(cells[top : top + side, left : left + side]) + corner
            if len(places):
                first, last = places.min(0), places.max(0) + 1
                blocks.append(_Block(places, slice(first[0], last[0]), slice(first[1], last[1])))
    return blocks


@dataclass(frozen=True)
class _Plan:
    """The fixed order in which the windows of a slide are scored.

    Attributes:
        sequence: the row and the column of each window, int64 (n, 2).
        counts: how many windows each batch has.
        batches: the margins and the quality of each batch after so many windows.
        layout: what else the margins depend on, in words.
    """

    sequence: NDArray[np.int64]
    counts: Sequence[int]
    batches: Callable[[int], Iterator[tuple[Margins, Codes]]]
    layout: str


def _plan(slide: Slide, grid: Grid, cells: Mask, density: float, card: Card, engine: Engine, reading: str) -> _Plan:
    """How a slide's windows are scored: in batches of patches, or region by region."""
    if reading == DENSE:
        return _dense_plan(slide, grid, cells, density, engine, card.reading(DENSE).halo)
    blocks = _blocks(cells, max(1, BLOCK // grid.step))
    sequence = np.concatenate([block.places for block in blocks])
    counts = [min(engine.batch, len(sequence) - first) for first in range(0, len(sequence), engine.batch)]

    def batches(skip: int) -> Iterator[tuple[Margins, Codes]]:
        patches = _patches(slide, grid, blocks, card.patch_size, engine.batch, density, skip=skip)
        computed = in_order(lambda each: engine.margins(each[0]), read_ahead(patches), engine.streams)
        return ((margins, codes) for (_, codes), margins in computed)

    return _Plan(sequence, counts, batches, f"{PATCH} {engine.batch}")


def _dense_plan(slide: Slide, grid: Grid, cells: Mask, density: float, engine: Engine, halo: int) -> _Plan:
    layout = layout_for(engine, grid.step, halo)
    tiles = lay_tiles(cells, layout)
    counts = [len(tile.windows) for tile in tiles if len(tile.windows)]

    def sources(first: int) -> Iterator[tuple[Source, Codes]]:
        for source in read_tiles(slide, layout, tiles[first:], mpp=grid.mpp, scale=grid.scale, threads=READERS):
            window = layout.lattice.size
            yield source, window_quality(source.surroundings, source.corners, window, grid.mpp, density)

    def batches(skip: int) -> Iterator[tuple[Margins, Codes]]:
        ends = np.cumsum([len(tile.windows) for tile in tiles])
        if skip >= ends[-1]:
            return
        feature_map, first = FeatureMap(layout, engine), needed_from(tiles, int(np.searchsorted(ends, skip, "right")))
        done = int(ends[first]) - len(tiles[first].windows)
        computed = in_order(lambda each: engine.features(each[0].region), read_ahead(sources(first)), engine.streams)
        for (source, codes), features in computed:
            feature_map.add(source.tile, features)
            if len(codes) and done >= skip:
                yield feature_map.margins(source.tile), codes
            done += len(codes)

    return _Plan(np.concatenate([tile.windows for tile in tiles]), counts, batches, f"{DENSE} {layout}")


def _patches(
    slide: Slide, grid: Grid, blocks: list[_Block], window: int, size: int, density: float, *, skip: int
) -> Iterator[tuple[Pixels, Codes]]:
    """The windows from number ``skip`` on, and their quality.

    Yields:
        uint8 (size, window, window, 3) and uint8 (size,), in the end perhaps fewer.
    """
    while blocks and skip >= len(blocks[0].places):
        skip -= len(blocks[0].places)
        blocks = blocks[1:]
    boxes = [grid.box(block.rows, block.columns, window) for block in blocks]
    batch, quality, filled = np.empty((size, window, window, 3), np.uint8), np.empty(size, np.uint8), 0
    for block, region in zip(blocks, slide.regions(boxes, grid.mpp, threads=READERS), strict=True):
        corners = (block.places - (block.rows.start, block.columns.start)) * grid.step
        codes = window_quality(region, corners, window, grid.mpp, density)
        for (y, x), code in zip(corners[skip:], codes[skip:], strict=True):
            batch[filled] = region[y : y + window, x : x + window]
            quality[filled] = code
            filled += 1
            if filled == size:
                yield batch, quality
                batch, quality, filled = np.empty_like(batch), np.empty_like(quality), 0
        skip = 0
    if filled:
        yield batch[:filled], quality[:filled]


def _identity(slide: str, bundle: str, engine: Engine, grid: Grid, plan: _Plan) -> bytes:
    """32 bytes that change with anything on which the sequence of scores depends."""
    words = f"{LOG_FORMAT} {slide} {bundle} {engine.name} {plan.layout} {grid}".encode()
    return hashlib.sha256(words + np.ascontiguousarray(plan.sequence, dtype="<i8").tobytes()).digest()

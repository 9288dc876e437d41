"""Cut a patch set like PatchCamelyon's from annotated slides.

Unless told otherwise, a patch is 96 x 96 pixels of 0.972 um, and its label covers only the centre: tumour if at least
one pixel of the centre 32 x 32 lies in annotated tumour. Patches are chosen from the tissue so that

- each slide goes to one split, and the slide of every patch is recorded, so no split can leak;
- each split has as many patches of tumour as of the other class;
- within a class, slides give equal numbers, as far as they can;
- patches of a slide keep a distance, so that no two show the same tissue.

On request, a part of the training split's normal patches are those that a bundle most confidently takes for tumour.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

import sentinode.cluster as ray_cluster
from sentinode.atomic import whole_folder, write_text
from sentinode.csv_tables import write_rows
from sentinode.errors import DataError, OutputError
from sentinode.geometry import PCAM, PatchGeometry, difference
from sentinode.model.engines import Engine
from sentinode.patches.official import EXTRACTED, STEM
from sentinode.patches.patch_set import SPLITS
from sentinode.patches.splits import deal
from sentinode.patches.table import read_table
from sentinode.progress import Bar, bar, console, track
from sentinode.slides.reading.annotations import (
    Annotations,
    Matches,
    ReadingOptions,
    fill,
    match_annotations,
    read_annotations,
    require_truth,
)
from sentinode.slides.reading.folder import find_slides, name_slides
from sentinode.slides.reading.slide import Box, Slide, open_slide
from sentinode.slides.review import UNREVIEWED, UNSURE
from sentinode.slides.scanning.scan import Grid, lay_grid
from sentinode.slides.scanning.tissue import find_tissue

PER_SLIDE = 200
"""Patches of each class that a slide gives at most, unless told otherwise."""

HARD_SHARE = 0.5
"""Share of the training split's normal patches that are mined where a bundle is given."""

POOL = 8
"""Normal patches that are looked at for each one that is mined."""

BAND = 1024
"""Rows of pixels, at the resolution of the patches, that are drawn or read at a time."""

READ_AT_ONCE = 256

SMALLEST_REGION = 8
"""Pixels. The slide is laid out in squares of the label's region, and smaller ones would be too many."""

Places = NDArray[np.int64]


class NoPatchError(DataError):
    """The regions that were judged hold no patch."""


@dataclass(frozen=True)
class Candidates:
    """Where patches of one slide could be: windows of tissue wholly on the slide, in random order, apart.

    Attributes:
        name: the slide.
        path: its file.
        fingerprint: of its content.
        grid: of windows a label's region apart.
        tumour: int64 (P, 2), row and column of windows whose centre square holds tumour.
        normal: int64 (N, 2), of those whose centre square holds none.
        mixed: row and column of those normal windows whose patch holds tumour outside its centre.
        free: whether no tumour is annotated.
        geometry: of the patches.
    """

    name: str
    path: Path
    fingerprint: str
    grid: Grid
    tumour: Places
    normal: Places
    mixed: frozenset[tuple[int, int]]
    free: bool = False
    geometry: PatchGeometry = PCAM

    @property
    def band(self) -> int:
        """Rows of windows in a band of the slide."""
        return max(1, BAND // self.grid.step)

    def box(self, row: int, column: int) -> Box:
        """The part of the slide that a patch shows."""
        return self.grid.box(slice(row, row + 1), slice(column, column + 1), self.geometry.size)


@dataclass(frozen=True)
class Draw:
    """The patches that one slide gives to its split."""

    source: Candidates
    tumour: Places
    normal: Places

    @property
    def places(self) -> Places:
        """int64 (n, 2), tumour first."""
        return np.concatenate([self.tumour, self.normal])


@dataclass(frozen=True)
class ExtractOptions:
    """How patches are cut.

    Attributes:
        per_slide: largest number of patches of each class from one slide.
        geometry: the geometry of the patches.
        spacing: least distance in pixels of the centres of a slide's patches, in x or in y; None for the patch size.
        splits: the split of each slide; None for a random split of the slides, 80/10/10.
        absent_is_normal: a slide without annotations has no tumour.
        annotated_only: normal patches come only from regions that are annotated as normal (the exclusions). This is for
            reviews, which speak of lesions and not of whole slides. All patches are then train's, a slide without
            annotations gives none, and classes are not balanced.
        whole_slide_coordinates: annotations in GeoJSON count from the slides' corners, not from those of their bounds.
        reading: options for reading annotations, see :func:`read_annotations`.
        mpp: microns per level-0 pixel; overrides the values of the slides.
        engine: the engine of the bundle that selects hard normal patches for the training split, or None.
        hard_share: share of the normal patches that are selected in this way.
        seed: random seed for the choice of patches and for the splits.
        cluster: the address of a Ray cluster that looks for the patches and reads them, with the slides and the
            annotations at the same places on all of its machines; None for this process alone. Hard patches are
            selected in this process.
        show: whether to show progress.
    """

    per_slide: int = PER_SLIDE
    geometry: PatchGeometry = PCAM
    spacing: int | None = None
    splits: Mapping[str, str] | None = None
    absent_is_normal: bool = False
    annotated_only: bool = False
    whole_slide_coordinates: bool = False
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    mpp: float | None = None
    engine: Engine | None = None
    hard_share: float = HARD_SHARE
    seed: int = 0
    cluster: str | None = None
    show: bool = True

    @property
    def distance(self) -> int:
        """Pixels between the centres of a slide's patches at least."""
        return self.geometry.size if self.spacing is None else self.spacing


USUAL = ExtractOptions()


def extract(
    slides: Iterable[Path], annotations: Path, out: Path, options: ExtractOptions = USUAL
) -> dict[str, dict[str, int]]:
    """Write a patch set in PatchCamelyon's official format, with the slide of each patch.

    ``slides.csv`` maps patches to slides, the meta CSVs give places in level-0 pixels, and ``EXTRACTED.json`` records
    how the patches were made. The same slides, annotations and seed give the same patches.

    Args:
        slides: files, and folders to search.
        annotations: a folder of annotations named like the slides.
        out: a folder that is new, is empty, or contains an earlier extraction (which is replaced).
        options: how patches are cut.

    Returns:
        For each split, how many ``slides``, ``tumour`` and ``normal`` patches it has.

    Raises:
        SlideError: a slide cannot be read, or is too coarse.
        AnnotationError: annotations are missing, unreadable or of another slide.
        DataError: a slide occurs twice, a split lacks a class, or an option is not valid.
        OutputError: ``out`` contains other files, or cannot be written.
        DeviceError: there is no such cluster, or it was lost.
    """
    _require_sense(options)
    _require_geometry(options.geometry, options.engine)
    _require_free(out)
    named = name_slides(find_slides(slides))
    files = {name: path.name for name, path in named.items()}
    if options.annotated_only:
        truth = match_annotations(annotations, files)
        named = {name: path for name, path in named.items() if truth.files[name] is not None}
        _require_annotated(annotations, len(named), len(files))
    else:
        truth = require_truth(annotations, files, absent_is_normal=options.absent_is_normal)
    found = _find_candidates(named, truth, annotations, options)
    if not options.annotated_only:
        _say_what_is_free(found, truth)
    _refuse_copies(found)
    dealt = _deal(found, options)
    counts: dict[str, dict[str, int]] = {}
    with whole_folder(out) as staged:
        for split in (split for split in SPLITS if split in dealt.values()):
            chosen = _choose([one for one in found if dealt[one.name] == split], split, options)
            rng = np.random.default_rng([options.seed, len(named) + SPLITS.index(split)])
            _write_split(staged, split, chosen, options, rng)
            counts[split] = _count(chosen)
        _write_slide_map(staged, counts)
        _write_how(staged, found, dealt, truth, counts, options)
    return counts


def _require_sense(options: ExtractOptions) -> None:
    if options.per_slide < 1 or options.distance < 1 or not 0 <= options.hard_share <= 1:
        raise DataError(
            f"{options.per_slide} patches a slide, {options.distance} pixels apart, {options.hard_share:g} of them "
            "mined: these options give no data.",
            hint="Give positive numbers, and a share from 0 to 1.",
        )
    if options.annotated_only and (options.splits is not None or options.absent_is_normal):
        raise DataError(
            "patches of annotated regions alone are all train's, and slides without annotations give none.",
            hint="Leave out --splits and --absent-is-normal, or --annotated-only.",
        )


def _require_annotated(annotations: Path, annotated: int, count: int) -> None:
    """Print how many slides are left out, and refuse where none is left."""
    if annotated == 0:
        raise DataError(
            "no slide has a file of annotations here.",
            where=annotations,
            hint="Name the folder whose files are called like the slides.",
        )
    if annotated < count:
        console.print(f"{count - annotated} of {count} slides have no annotations and give no patches.", markup=False)


def _require_geometry(geometry: PatchGeometry, engine: Engine | None) -> None:
    if geometry.mpp is None:
        raise DataError("patches cannot be cut at unknown microns per pixel.", hint="State them with --patch-mpp.")
    if geometry.label_region < SMALLEST_REGION:
        raise DataError(
            f"a label region of {geometry.label_region} x {geometry.label_region} pixels is too small.",
            hint=f"Give --label-region {SMALLEST_REGION} or more.",
        )
    if engine is not None and (how := difference(engine.geometry, geometry)) is not None:
        raise DataError(
            f"the patches {how}: the bundle of --hard takes other patches.",
            hint=f"It takes {engine.geometry}. Cut patches like that, or leave out --hard.",
        )


def _require_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / EXTRACTED).is_file())):
        raise OutputError("this place holds other files.", where=out, hint="Name a new folder for the patches.")


def _find_candidates(
    named: Mapping[str, Path], truth: Matches, annotations: Path, options: ExtractOptions
) -> list[Candidates]:
    """Where patches of each slide could be. The draw of a slide follows from the seed and its place among them."""
    if options.cluster is None:
        slides = track(named.items(), "Looking", len(named), unit="slides", show=options.show)
        return [_look(truth, annotations, options, (number, *one)) for number, one in enumerate(slides)]
    elsewhere = _elsewhere(options)
    truth = replace(truth, files={name: file and file.absolute() for name, file in truth.files.items()})
    worker = partial(partial, _look, truth, annotations.absolute(), elsewhere)
    items = [(number, name, path.absolute()) for number, (name, path) in enumerate(named.items())]
    looked = ray_cluster.run_all(
        options.cluster,
        worker,
        items,
        "Looking",
        name=lambda item: item[1],
        unit="slides",
        gpu=False,
        show=options.show,
    )
    found = {item[0]: result for item, result in looked}
    return [found[number] for number in range(len(items))]


def _look(truth: Matches, annotations: Path, options: ExtractOptions, numbered: tuple[int, str, Path]) -> Candidates:
    """Where patches of one slide could be, given its number, its name and its file."""
    number, name, path = numbered
    with open_slide(path, mpp=options.mpp) as slide:
        return candidates(
            name,
            slide,
            _annotations_of(name, truth, annotations, options),
            options.geometry,
            spacing=options.distance,
            limit=options.per_slide,
            annotated_only=options.annotated_only,
            rng=np.random.default_rng([options.seed, number]),
        )


def _elsewhere(options: ExtractOptions) -> ExtractOptions:
    """The options as they are sent to a worker, which mines nothing and shows no progress."""
    return replace(options, engine=None, show=False)


def _annotations_of(name: str, truth: Matches, annotations: Path, options: ExtractOptions) -> Annotations:
    """The annotations of a slide; none where it was taken for one without tumour."""
    file = truth.files[name]
    if file is None:
        return Annotations(annotations, ())
    reading = options.reading
    if options.annotated_only:  # what nobody judged gives no patch, so it needs no meaning
        ignored = (*reading.get("ignored_classes", ()), UNREVIEWED, UNSURE)
        reading = {**reading, "ignored_classes": ignored}
    return read_annotations(file, whole_slide_coordinates=options.whole_slide_coordinates, **reading)


def _choose(found: Sequence[Candidates], split: str, options: ExtractOptions) -> list[Draw]:
    """The patches of a split; in train, hard ones take the place of some where there is a bundle to find them."""
    chosen = _every(found, options.per_slide) if options.annotated_only else draw(found, options.per_slide, split)
    if options.engine is None or split != "train":
        return chosen
    return [_mine(one, options.engine, options) for one in chosen]


def _every(found: Sequence[Candidates], per_slide: int) -> list[Draw]:
    """As many patches of each slide and class as there may be, whatever there is of the other class.

    Raises:
        NoPatchError: there is none at all.
    """
    draws = [Draw(one, one.tumour[:per_slide], one.normal[:per_slide]) for one in found]
    if not any(len(one.places) for one in draws):
        raise NoPatchError(
            "the annotated regions hold no patch: none lies on tissue and away from the slide's border.",
            hint="Review some lesions, or draw regions, first.",
        )
    return draws


def _count(draws: Sequence[Draw]) -> dict[str, int]:
    return {
        "slides": sum(len(one.places) > 0 for one in draws),
        "tumour": sum(len(one.tumour) for one in draws),
        "normal": sum(len(one.normal) for one in draws),
    }


def _say_what_is_free(found: Sequence[Candidates], truth: Matches) -> None:
    """Print how many slides were taken for free of tumour, and on whose word."""
    by_file = sum(one.free and truth.files[one.name] is not None for one in found)
    by_absence = len(truth.absent)
    if by_file or by_absence:
        console.print(
            f"Slides without tumour: {by_file} with an annotation file, {by_absence} without one.",
            markup=False,
        )
    if truth.message is not None:
        console.print(truth.message, markup=False)


def candidates(
    name: str,
    slide: Slide,
    annotations: Annotations,
    geometry: PatchGeometry = PCAM,
    *,
    spacing: int,
    limit: int,
    annotated_only: bool = False,
    rng: np.random.Generator,
) -> Candidates:
    """Where patches of a slide could be.

    Args:
        name: what the slide is called.
        slide: the slide.
        annotations: its annotations.
        geometry: of the patches; its resolution is known.
        spacing: pixels between the centres of patches at least, in x or in y.
        limit: patches of each class that will be drawn at most; there are more normal candidates, to mine from.
        annotated_only: whether the label's square of a normal patch has to lie wholly in a region that is annotated as
            normal.
        rng: decides the order, and which of two windows that are too close stays.

    Raises:
        SlideError: the slide is too coarse or cannot be read.
        AnnotationError: the annotations lie outside the slide.
    """
    annotations = annotations.on(slide.width, slide.height, slide.bounds)
    for warning in annotations.warnings:
        console.print(f"{name}: {warning}", markup=False)
    assert geometry.mpp is not None
    grid = lay_grid(slide, geometry.mpp, geometry.label_region)
    labels = label_squares(annotations, grid)
    usable = find_tissue(slide).cells(grid.rows, grid.columns, grid.stride) | labels
    # Those at the border would show what lies beyond the slide.
    reach = geometry.size / 2 * grid.scale
    rows, columns = (
        _lies_within(count, grid.stride, reach, side)
        for count, side in ((grid.rows, slide.height), (grid.columns, slide.width))
    )
    usable &= rows[:, None] & columns
    if annotated_only:
        excluded = replace(annotations, tumour=annotations.excluded, excluded=())
        usable &= labels | label_squares(excluded, grid, whole=True)
    apart = max(1, -(-spacing // grid.step))
    tumour = _apart(np.argwhere(usable & labels), apart, rng)[:limit]
    normal = _apart(np.argwhere(usable & ~labels), apart, rng, keep_away=tumour)[: limit * (1 + POOL)]
    found = Candidates(
        name, slide.path, slide.fingerprint, grid, tumour, normal, frozenset(), not annotations.tumour, geometry
    )
    return replace(found, mixed=_mixed(found, annotations, labels))


def _lies_within(count: int, stride: float, reach: float, side: int) -> NDArray[np.bool_]:
    """bool (count,): which windows along a side of the slide, ``reach`` long either way, lie wholly on it."""
    centres = (np.arange(count) + 0.5) * stride
    return np.asarray((centres - reach >= -1e-6) & (centres + reach <= side + 1e-6))


def _mixed(found: Candidates, annotations: Annotations, labels: NDArray[np.bool_]) -> frozenset[tuple[int, int]]:
    """The normal windows whose patch holds tumour outside its centre; ``labels`` says which squares hold any."""
    size, region = found.geometry.size, found.geometry.label_region
    beside = math.ceil((size - region) / 2 / region)
    near = maximum_filter(labels, 2 * beside + 1, mode="constant")
    places = [(r, c) for r, c in found.normal.tolist() if near[r, c]]
    if beside * region * 2 + region == size:  # the patch is made of whole squares, as PatchCamelyon's
        return frozenset(places)
    boxes = ((place, found.box(*place)) for place in places)
    shape, scale = (size, size), found.grid.scale
    return frozenset(place for place, box in boxes if fill(annotations.edges, shape, scale, origin=box[:2]).any())


def label_squares(annotations: Annotations, grid: Grid, *, whole: bool = False) -> NDArray[np.bool_]:
    """bool (rows, columns): which squares of the grid hold at least one pixel of tumour, at the grid's resolution.

    Args:
        annotations: of the slide, in its coordinates.
        grid: of the squares.
        whole: every pixel of a square has to be tumour.
    """
    labels = np.zeros((grid.rows, grid.columns), np.bool_)
    if annotations.area.is_empty:
        return labels
    band = max(1, BAND // grid.step)
    for first in range(0, grid.rows, band):
        rows = min(band, grid.rows - first)
        size = (rows * grid.step, grid.columns * grid.step)
        mask = fill(annotations.edges, size, grid.scale, origin=(0.0, first * grid.stride))
        squares = mask.reshape(rows, grid.step, grid.columns, grid.step)
        labels[first : first + rows] = squares.all(axis=(1, 3)) if whole else squares.any(axis=(1, 3))
    return labels


def draw(found: Sequence[Candidates], per_slide: int, split: str) -> list[Draw]:
    """Choose as many patches of tumour as of the other class, each class evenly from its slides.

    Args:
        found: the split's slides.
        per_slide: patches of each class that a slide gives at most.
        split: its name, for the message.

    Raises:
        DataError: the split lacks a class.
    """
    limits = [[min(per_slide, len(places)) for places in (c.tumour, c.normal)] for c in found]
    count = min(sum(limit[0] for limit in limits), sum(limit[1] for limit in limits))
    if count == 0:
        lacks = "tumour" if not any(limit[0] for limit in limits) else "normal"
        raise DataError(
            f"the {split} split would have no {lacks} patch: its slides are {', '.join(c.name for c in found)}.",
            hint="Assign the slides to splits with --splits, or give more slides.",
        )
    tumour, normal = (evenly(count, [limit[k] for limit in limits]) for k in (0, 1))
    return [Draw(c, c.tumour[:t], c.normal[:n]) for c, t, n in zip(found, tumour, normal, strict=True)]


def evenly(total: int, limits: Sequence[int]) -> list[int]:
    """Share out ``total`` so that none gets more than its limit and the shares differ as little as they can."""
    shares = [0] * len(limits)
    left = total
    for rank, i in enumerate(sorted(range(len(limits)), key=lambda i: (limits[i], i))):
        shares[i] = min(limits[i], left // (len(limits) - rank))
        left -= shares[i]
    return shares


def _apart(places: Places, apart: int, rng: np.random.Generator, *, keep_away: Places | None = None) -> Places:
    """The places in random order, at least ``apart`` windows from an earlier one and from ``keep_away``."""
    reach = apart - 1
    taken = np.zeros(places.max(axis=0, initial=0) + 1, np.bool_)
    kept = []

    def block(row: int, column: int) -> tuple[slice, slice]:
        return slice(max(0, row - reach), row + reach + 1), slice(max(0, column - reach), column + reach + 1)

    for row, column in (keep_away if keep_away is not None else np.empty((0, 2), np.int64)).tolist():
        taken[block(row, column)] = True
    for row, column in rng.permutation(places).tolist():
        if not taken[row, column]:
            taken[block(row, column)] = True
            kept.append((row, column))
    return np.array(kept, np.int64).reshape(-1, 2)


def _refuse_copies(found: Sequence[Candidates]) -> None:
    seen: dict[str, str] = {}
    for one in found:
        other = seen.setdefault(one.fingerprint, one.name)
        if other != one.name:
            raise DataError(
                f"'{other}' and '{one.name}' are the same slide, and could end in two splits.",
                where=one.path,
                hint="Leave one of them out.",
            )


def _deal(found: Sequence[Candidates], options: ExtractOptions) -> dict[str, str]:
    """The split of each slide."""
    if options.annotated_only:
        return {c.name: "train" for c in found}
    if options.splits is not None:
        return _dealt_by_hand(found, options.splits)
    slides, labels = [], []
    for c in found:
        for label, places in ((1, c.tumour), (0, c.normal)):
            count = min(options.per_slide, len(places))
            slides += [c.name] * count
            labels += [label] * count
    ids = np.array([f"{i:08d}" for i in range(len(slides))])
    dealt = deal(ids, np.array(labels, np.uint8), np.array(slides, dtype=np.str_), options.seed)
    return {c.name: "train" for c in found} | dict(zip(slides, dealt.tolist(), strict=True))


def _dealt_by_hand(found: Sequence[Candidates], splits: Mapping[str, str]) -> dict[str, str]:
    unknown = [c.name for c in found if splits.get(c.name) not in SPLITS]
    if unknown:
        raise DataError(
            f"{len(unknown)} slides have no split, or none of {', '.join(SPLITS)}: {', '.join(unknown[:5])}.",
            hint="Give each slide a line in the CSV of --splits.",
        )
    return {c.name: splits[c.name] for c in found}


def _mine(one: Draw, engine: Engine, options: ExtractOptions) -> Draw:
    """Replace a share of the normal patches by those of a larger pool that look most like tumour."""
    wanted = round(options.hard_share * len(one.normal))
    easy, pool = np.split(one.source.normal, [len(one.normal) - wanted])
    pool = pool[: POOL * wanted]
    if not wanted or len(pool) <= wanted:
        return one
    margins = np.empty(len(pool), np.float32)
    with open_slide(one.source.path, mpp=options.mpp) as slide, bar("Mining", len(pool), show=options.show) as shown:
        for rows, patches in _read(slide, one.source, pool, shown):
            margins[rows] = engine.margins(patches)
    hard = pool[np.argsort(-margins, kind="stable")[:wanted]]
    return Draw(one.source, one.tumour, np.concatenate([easy, hard]))


def _read(slide: Slide, source: Candidates, places: Places, shown: Bar) -> Iterator[tuple[Places, NDArray[np.uint8]]]:
    """The patches at some places, a batch at a time, with their rows in ``places``: in the order of the slide."""
    order = np.lexsort((places[:, 1], places[:, 0] // source.band))
    boxes = [source.box(r, c) for r, c in places[order].tolist()]
    batch: list[NDArray[np.uint8]] = []
    for i, patch in enumerate(slide.regions(boxes, source.grid.mpp), start=1):
        batch.append(patch)
        shown.advance()
        if len(batch) == READ_AT_ONCE or i == len(boxes):
            yield order[i - len(batch) : i], np.stack(batch)
            batch = []


def _write_split(
    folder: Path, split: str, draws: Sequence[Draw], options: ExtractOptions, rng: np.random.Generator
) -> None:
    """The official files of a split; slides and classes are mixed, so that any stretch of rows is fair."""
    ends = np.cumsum([len(one.places) for one in draws])
    rows = np.split(rng.permutation(ends[-1]), ends[:-1])
    _write_images(folder / f"{STEM}{split}_x.h5", split, draws, rows, options)
    _write_labels(folder / f"{STEM}{split}_y.h5", draws, rows)
    _write_meta(folder / f"{STEM}{split}_meta.csv", draws, rows)


def _write_images(
    path: Path, split: str, draws: Sequence[Draw], rows: Sequence[Places], options: ExtractOptions
) -> None:
    """The pixels of each slide's patches, at their rows; a slide is opened once and read in its own order."""
    total = sum(map(len, rows))
    with h5py.File(path, "w") as file:
        x = file.create_dataset("x", (total, *options.geometry.shape), "uint8")
        for target, patches in _pixels(split, draws, rows, options):
            for row, patch in zip(target.tolist(), patches, strict=True):
                x[row] = patch


def _pixels(
    split: str, draws: Sequence[Draw], rows: Sequence[Places], options: ExtractOptions
) -> Iterator[tuple[Places, NDArray[np.uint8]]]:
    """Patches, and their rows in the split, a part of a slide after the other."""
    full = [number for number, target in enumerate(rows) if len(target)]
    title = f"Writing {split}"
    if options.cluster is None:
        with bar(title, sum(map(len, rows)), show=options.show) as shown:
            for number in full:
                source = draws[number].source
                with open_slide(source.path, mpp=options.mpp) as slide:
                    for of_slide, patches in _read(slide, source, draws[number].places, shown):
                        yield rows[number][of_slide], patches
        return
    worker = partial(partial, _cut, _elsewhere(options))
    items = [(number, draws[number]) for number in full]
    cut = ray_cluster.run_all(
        options.cluster,
        worker,
        items,
        title,
        name=lambda item: item[1].source.name,
        unit="patches",
        units=lambda item: len(item[1].places),
        gpu=False,
        show=options.show,
    )
    for (number, _), patches in cut:
        yield rows[number], patches


def _cut(options: ExtractOptions, numbered: tuple[int, Draw]) -> NDArray[np.uint8]:
    """The pixels of one slide's patches, in the order of its places."""
    draws = numbered[1]
    patches = np.empty((len(draws.places), *options.geometry.shape), np.uint8)
    with (
        open_slide(draws.source.path, mpp=options.mpp) as slide,
        bar("Cutting", len(patches), show=False) as shown,
    ):
        for rows, read in _read(slide, draws.source, draws.places, shown):
            patches[rows] = read
    return patches


def _write_labels(path: Path, draws: Sequence[Draw], rows: Sequence[Places]) -> None:
    y = np.zeros((sum(map(len, rows)), 1, 1, 1), np.uint8)
    for one, target in zip(draws, rows, strict=True):
        y[target[: len(one.tumour)]] = 1
    with h5py.File(path, "w") as file:
        file["y"] = y


def _write_meta(path: Path, draws: Sequence[Draw], rows: Sequence[Places]) -> None:
    """A line for each patch: its place, whether it and its centre hold tumour, and its slide."""
    lines = {}
    for one, target in zip(draws, rows, strict=True):
        for number, ((r, c), row) in enumerate(zip(one.places.tolist(), target.tolist(), strict=True)):
            left, top, _, _ = one.source.box(r, c)
            centre = number < len(one.tumour)
            lines[row] = (round(top), round(left), centre or (r, c) in one.source.mixed, centre, one.source.name)
    with path.open("w", newline="", encoding="utf-8") as file:
        head = ("coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi")
        write_rows(file, [head, *(lines[row] for row in range(len(lines)))])


def _write_slide_map(folder: Path, counts: Mapping[str, Mapping[str, int]]) -> None:
    """``slides.csv``: the slide of every patch by its id, as ``--slides`` takes it."""
    with (folder / "slides.csv").open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [("id", "slide")])
        for split in counts:
            slides = read_table(folder / f"{STEM}{split}_meta.csv", ("wsi",))
            write_rows(file, ((f"{split}/{number:06d}", slide) for number, (slide,) in enumerate(slides)))


def _write_how(
    folder: Path,
    found: Sequence[Candidates],
    dealt: Mapping[str, str],
    truth: Matches,
    counts: Mapping[str, Mapping[str, int]],
    options: ExtractOptions,
) -> None:
    """``EXTRACTED.json``: how the patches were cut, and where each slide went."""
    slides = {}
    for one in found:
        file = truth.files[one.name]
        slides[one.name] = {
            "split": dealt[one.name],
            "fingerprint": one.fingerprint,
            "annotations": None if file is None else file.name,
        }
    about = {
        "seed": options.seed,
        "per_slide": options.per_slide,
        "spacing": options.distance,
        "hard_share": options.hard_share if options.engine is not None else 0.0,
        "annotated_only": options.annotated_only,
        "size": options.geometry.size,
        "mpp": options.geometry.mpp,
        "label_region": options.geometry.label_region,
        "counts": counts,
        "slides": slides,
    }
    write_text(folder / EXTRACTED, json.dumps(about, indent=1) + "\n")

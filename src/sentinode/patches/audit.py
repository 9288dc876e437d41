"""Search labelled patches for faults that make metrics wrong: leakage, exchanged splits, unusable patches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sentinode.errors import DataError
from sentinode.geometry import PatchGeometry
from sentinode.patches import official
from sentinode.patches.cache import cache_folder
from sentinode.patches.description import Stated, geometry_of
from sentinode.patches.near_duplicates import CELLS, describe, near_pairs
from sentinode.patches.opening import find_source
from sentinode.patches.patch_set import ALL
from sentinode.patches.pixels import BATCH, Decoded
from sentinode.patches.source import Part, Source
from sentinode.progress import Bar, bar

DARK, BRIGHT = 25, 215
"""Grey levels: a patch is black, or blank, where 99 in 100 pixels are no brighter, or no darker, than this."""


LISTED = 20
"""Groups of copies with both labels that are listed on the screen."""


@dataclass
class SplitAudit:
    """What was found in one split; ``all`` stands for data without splits, ``positive`` counts patches of label 1."""

    split: str
    patches: int
    positive: int
    slides: int | None
    without_slide: int = 0
    black: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)
    corrupt: dict[str, str] = field(default_factory=dict)
    exact_duplicates: int = 0
    near_duplicates: int = 0


@dataclass
class Copies:
    """Patches that show the same tissue.

    Attributes:
        ids: the patches.
        splits: the split of each.
        exact: whether all of them are the same in every pixel.
        labels_differ: whether some have label 0 and some label 1.
        labels: the label of each.
    """

    ids: list[str]
    splits: list[str]
    exact: bool
    labels_differ: bool
    labels: list[int]


@dataclass
class Audit:
    """What was found in labelled patches; :meth:`as_dict` for JSON, :func:`render` for reading.

    Attributes:
        path: the data.
        kind: ``official``, ``kaggle``, ``folder`` or ``parquet``.
        toy: whether the patches are generated.
        geometry: of the patches.
        class_names: what labels 0 and 1 are called.
        splits: what was found in each split.
        swapped: how it shows that valid and test are exchanged, or None.
        shared_slides: the slides that lie in several splits, by the two splits.
        copies: the groups of patches that show the same tissue.
        warnings: what the user should know, as sentences.
    """

    path: str
    kind: str
    toy: bool
    geometry: PatchGeometry
    class_names: tuple[str, str]
    splits: list[SplitAudit]
    swapped: str | None
    shared_slides: dict[str, list[str]]
    copies: list[Copies]
    warnings: list[str]

    @property
    def own_splits(self) -> bool:
        """Whether the data names its splits."""
        return [split.split for split in self.splits] != [ALL]

    def across(self) -> dict[tuple[str, str], tuple[int, int]]:
        """For each two splits, how many groups of exact, and of near copies, lie in both."""
        counts = {}
        for first, second in combinations([s.split for s in self.splits], 2):
            both = [c for c in self.copies if {first, second} <= set(c.splits)]
            counts[first, second] = (sum(c.exact for c in both), sum(not c.exact for c in both))
        return counts

    def as_dict(self) -> dict[str, object]:
        """All of it, as plain types."""
        across = [
            {"splits": list(splits), "exact": exact, "near": near} for splits, (exact, near) in self.across().items()
        ]
        return {**asdict(self), "across": across, "findings": self.findings()}

    def findings(self) -> list[str]:
        """The problems, one sentence each, the worst first."""
        found = []
        if self.swapped:
            found.append(f"Valid and test are exchanged: {self.swapped}.")
        if self.shared_slides:
            slide, splits = next(iter(self.shared_slides.items()))
            found.append(f"Slides in two splits: {len(self.shared_slides):,}, such as {slide} ({_and(splits)}).")
        if not self.own_splits and self.copies:
            repeated = sum(len(copies.ids) - 1 for copies in self.copies)
            found.append(
                f"Patches that repeat others: {repeated:,}, in {len(self.copies):,} groups, such as "
                f"{_and(self.copies[0].ids[:2])}. The data has no splits, and splitting by patch would put copies on "
                "both sides. Give a slide map with --slides that gives all patches of a group the same slide."
            )
        for (first, second), (exact, near) in self.across().items():
            if exact + near:
                found.append(f"Groups of copies that lie in both {first} and {second}: {exact + near:,}.")
        if differ := [copies for copies in self.copies if copies.labels_differ]:
            found.append(f"Groups of copies with both labels: {len(differ):,}, such as {_and(differ[0].ids[:2])}.")
        for split in self.splits:
            if split.without_slide:
                found.append(f"Patches without a known slide in {split.split}: {split.without_slide:,}.")
            if split.corrupt:
                name, why = next(iter(split.corrupt.items()))
                found.append(f"Corrupt patches in {split.split}: {len(split.corrupt):,}, such as {name}: {why}")
            for what, ids in (("Black", split.black), ("Blank", split.blank)):
                if ids:
                    found.append(f"{what} patches in {split.split}: {len(ids):,}, such as {ids[0]}.")
            if split.positive in (0, split.patches):
                found.append(f"One class only in {split.split}.")
        return found


def _and(names: list[str]) -> str:
    return " and ".join(names)


def audit(
    path: str | Path,
    *,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    cache: Path | None = None,
    show: bool = True,
) -> Audit:
    """Check all patches at a path. The format is detected from the files.

    Unlike :func:`~sentinode.patches.open_data`, it continues after patches that cannot be read, and reports exchanged
    splits instead of refusing them. It needs less than a gigabyte of memory on all of PatchCamelyon.

    Args:
        path: as for :func:`~sentinode.patches.open_data`; so are ``mpp``, ``label_region`` and ``positive``.
        cache: where gzipped HDF5 files are unpacked.
        show: whether to draw a progress bar.

    Raises:
        DataError: there is no data, or a file with many patches is damaged.
    """
    source = find_source(Path(path), cache_folder(cache), positive)
    geometry, note = geometry_of(source, Stated(mpp, label_region, tuple(positive)), None)
    total = sum(len(part.labels) for part in source.parts.values())
    cells = np.zeros((total, CELLS, CELLS, 3), dtype=np.uint8)
    digests = np.zeros(total, dtype="V16")
    readable = np.zeros(total, dtype=np.bool_)
    splits = []
    start = 0
    with bar("reading", total, show=show) as shown:
        for split, part in source.parts.items():
            rows = slice(start, start + len(part.labels))
            splits.append(_look_through(split or ALL, part, cells[rows], digests[rows], readable[rows], shown))
            start = rows.stop
    return Audit(
        path=str(path),
        kind=source.kind,
        toy=source.toy,
        geometry=geometry,
        class_names=source.class_names,
        splits=splits,
        swapped=official.swap(source),
        shared_slides=_shared_slides(source),
        copies=_copies(source, splits, cells, digests, readable),
        warnings=[*source.warnings, *([note] if note else [])],
    )


def _look_through(
    split: str,
    part: Part,
    cells: NDArray[np.uint8],
    digests: NDArray[np.void],
    readable: NDArray[np.bool_],
    shown: Bar,
) -> SplitAudit:
    """Read every patch once, and fill in its descriptor, its digest and whether it can be read."""
    known = None if part.slides is None else part.slides[part.slides != ""]
    slides, unknown = (None, 0) if known is None else (len(np.unique(known)), len(part.labels) - len(known))
    found = SplitAudit(split, len(part.labels), int(part.labels.sum()), slides, unknown)
    for rows, images in _batches(part, found):
        cells[rows] = describe(images)
        readable[rows] = True
        for row, image in zip(rows, images, strict=True):
            digests[row] = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        # Added channel by channel: NumPy's mean over so short an axis is seven times slower.
        light = images[..., 0].astype(np.uint16) + images[..., 1] + images[..., 2]
        black = (light <= 3 * DARK).mean(axis=(1, 2)) >= 0.99
        blank = (light >= 3 * BRIGHT).mean(axis=(1, 2)) >= 0.99
        found.black += part.ids[rows[black]].tolist()
        found.blank += part.ids[rows[blank]].tolist()
        shown.advance(len(rows))
    return found


def _batches(part: Part, found: SplitAudit) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Rows and images of the patches that can be read; the others are noted as corrupt."""
    batch: list[tuple[int, NDArray[np.uint8]]] = []

    def gathered() -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        return np.array([row for row, _ in batch]), np.stack([image for _, image in batch])

    patch: Decoded
    for row, patch in enumerate(part.pixels.stream()):
        if isinstance(patch, DataError):
            found.corrupt[str(part.ids[row])] = patch.what
        else:
            batch.append((row, patch))
        if len(batch) == BATCH:
            yield gathered()
            batch = []
    if batch:
        yield gathered()


def _copies(
    source: Source,
    splits: list[SplitAudit],
    cells: NDArray[np.uint8],
    digests: NDArray[np.void],
    readable: NDArray[np.bool_],
) -> list[Copies]:
    """Groups of copies, and, in ``splits``, how many patches repeat an earlier one of their split."""
    ids = np.concatenate([part.ids for part in source.parts.values()])
    labels = np.concatenate([part.labels for part in source.parts.values()])
    of_split = np.repeat(np.arange(len(splits)), [split.patches for split in splits])
    rows = np.flatnonzero(readable)
    # Near copies are looked for among the first of each set of exact ones.
    _, first, kind = np.unique(digests[rows], return_index=True, return_inverse=True)
    pairs = near_pairs(cells[rows[first]])
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(first), len(first)))
    _, of_kind = connected_components(links, directed=False)
    group = of_kind[kind]
    for number, split in enumerate(splits):
        here = of_split[rows] == number
        different = len(np.unique(kind[here]))
        split.exact_duplicates = int(here.sum()) - different
        split.near_duplicates = different - len(np.unique(group[here]))
    order = np.argsort(group, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return [
        Copies(
            ids=ids[rows[run]].tolist(),
            splits=[splits[number].split for number in of_split[rows[run]]],
            exact=len(set(kind[run].tolist())) == 1,
            labels_differ=len(set(labels[rows[run]].tolist())) == 2,
            labels=labels[rows[run]].tolist(),
        )
        for run in runs
        if len(run) > 1
    ]


def _shared_slides(source: Source) -> dict[str, list[str]]:
    """The splits of each slide that lies in more than one."""
    splits_of: dict[str, list[str]] = {}
    for split, part in source.parts.items():
        for slide in [] if part.slides is None else np.unique(part.slides).tolist():
            if slide:
                splits_of.setdefault(slide, []).append(split)
    return {slide: splits for slide, splits in splits_of.items() if len(splits) > 1}


def render(found: Audit) -> RenderableType:
    """The audit as a table, the copies across splits, and the findings in words."""
    table = Table(title=f"{found.path} ({found.kind}{', generated: a toy' if found.toy else ''})", title_justify="left")
    counted = (found.class_names[1], "slides", "duplicates", "near", "black", "blank", "corrupt")
    for column in ("split", "patches", *counted):
        # Only the name of a class may be long: it is folded, the other columns are not.
        folds = column == found.class_names[1]
        table.add_column(column, justify="left" if column == "split" else "right", overflow="fold", no_wrap=not folds)
    for split in found.splits:
        numbers = [split.exact_duplicates, split.near_duplicates]
        numbers += [len(split.black), len(split.blank), len(split.corrupt)]
        slides = "unknown" if split.slides is None else f"{split.slides:,}"
        share = f"{split.positive / split.patches:.1%}"
        table.add_row(split.split, f"{split.patches:,}", share, slides, *(f"{n:,}" for n in numbers))
    parts: list[RenderableType] = [table]
    across = found.across()
    if across:
        between = Table(title="groups of copies in two splits", title_justify="left")
        for column in ("splits", "exact", "near"):
            between.add_column(column, justify="left" if column == "splits" else "right")
        for splits, numbers_ in across.items():
            between.add_row(_and(list(splits)), *(f"{n:,}" for n in numbers_))
        parts.append(between)
    if differ := [copies for copies in found.copies if copies.labels_differ]:
        parts.append(_disagreeing(differ, found.class_names))
    parts.append(f"Patches of {found.geometry}; label 1 is {found.class_names[1]}, label 0 is {found.class_names[0]}.")
    lines = found.findings() or ["No problems were found."]
    return Group(*parts, *lines, *found.warnings)


def _disagreeing(differ: list[Copies], class_names: tuple[str, str]) -> Table:
    """The copies with both labels, by class."""
    table = Table(title="copies with both labels", title_justify="left")
    for column in ("", *class_names):
        table.add_column(column, overflow="fold")
    for copies in differ[:LISTED]:
        named = [
            ", ".join(id for id, label in zip(copies.ids, copies.labels, strict=True) if label == wanted)
            for wanted in (0, 1)
        ]
        table.add_row("exact" if copies.exact else "near", *named)
    if len(differ) > LISTED:
        table.caption = f"{len(differ) - LISTED:,} more are in --json."
    return table

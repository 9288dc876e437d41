"""Open labelled patches of any format at a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.geometry import PCAM, PatchGeometry
from sentinode.patches import image_files, official, parquet
from sentinode.patches.cache import cache_folder, unpacked
from sentinode.patches.description import Expected, Stated, geometry_of, require_expected
from sentinode.patches.joining import join
from sentinode.patches.patch_set import ALL, SPLITS, PatchSet
from sentinode.patches.pixels import MappedImages
from sentinode.patches.slide_map import SlideMap, full_names, read_slide_map
from sentinode.patches.source import MAY_NOT_READ, Part, Source
from sentinode.patches.splits import deal
from sentinode.regular import is_special

NOTHING = Stated()


class PatchData:
    """Labelled patches and their splits; index it by ``train``, ``valid``, ``test`` or ``all``.

    Labels and ids are read when it is opened. When a split is first used, its pixels are unpacked if necessary, and the
    slide map must name each of its patches. So an evaluation on test does not depend on train.

    Attributes:
        kind: ``official``, ``kaggle``, ``folder`` or ``parquet``.
        path: the path that the user gave.
        splits: the names of the splits that are present, in the order train, valid, test; ``all`` alone where data
            without splits was opened as a whole.
        own_splits: whether the data has its own splits; if not, they were made here.
        slide_map: the CSV that names the slide of each patch, if one was given.
        warnings: what the user should know, as sentences.
        toy: whether the patches are generated.
        geometry: the geometry of the patches of all splits.
        class_names: the names of labels 0 and 1, as in the data.
        stated: what the user has stated about the patches.
        also: further data whose patches join the train split.
        rows: of each split that :meth:`limited` has limited, the numbers of the patches that are left.
    """

    def __init__(
        self,
        source: Source,
        dealt: NDArray[np.str_] | None,
        *,
        incomplete: Mapping[str, int] | None = None,
        slides: SlideMap | None = None,
        warnings: tuple[str, ...] = (),
        geometry: PatchGeometry = PCAM,
        stated: Stated = NOTHING,
        also: Sequence[PatchData] = (),
        expected: Expected | None = None,
        cache: Path,
        show: bool = True,
    ) -> None:
        self.kind, self.path, self.toy = source.kind, source.path, source.toy
        self.own_splits = source.own_splits
        self.geometry, self.class_names, self.stated = geometry, source.class_names, stated
        self.slide_map, self.warnings = slides.path if slides else None, warnings
        present = dealt if dealt is not None else source.parts if source.own_splits else (ALL,)
        self.splits = tuple(split for split in (*SPLITS, ALL) if split in present)
        self.also = tuple(also)
        self.rows: Mapping[str, NDArray[np.int64]] = {}
        self._source, self._dealt, self._incomplete = source, dealt, incomplete or {}
        self._slides, self._expected = slides, expected
        self._cache, self._show = cache, show
        self._images: dict[str, MappedImages] = {}

    def __getitem__(self, split: str) -> PatchSet:
        """The patches of one split.

        Raises:
            DataError: there is no such split, its pixels cannot be read, or the slide map does not name every patch.
        """
        if split not in self.splits:
            raise DataError(f"there is no split {split!r} here, only {', '.join(self.splits)}.", where=self.path)
        if missing := self._incomplete.get(split):
            raise DataError(
                f"{missing:,} patches of the {split} split that was stored are no longer in this data.",
                where=self.path,
                hint="The metrics would be of other patches than before. Restore them, or give the data that the "
                "split was made from.",
            )
        name = split if self.own_splits else ""
        part = self._source.parts[name]
        rows = None if self._dealt is None else np.flatnonzero(self._dealt == split)
        slides = self._slides_of(name, split, rows)
        whole = PatchSet(
            images=self._unpacked(name, part),
            labels=part.labels,
            ids=part.ids,
            split=split,
            source=self.path,
            kind=self.kind,
            toy=self.toy,
            geometry=self.geometry,
            class_names=self.class_names,
            warnings=self.warnings,
        )
        patches = replace(whole if rows is None else whole.subset(rows), slides=slides)
        patches = join(patches, [more.training for more in self.also]) if split == "train" else patches
        return patches.subset(self.rows[split]) if split in self.rows else patches

    def limited(self, rows: Mapping[str, NDArray[np.int64]]) -> PatchData:
        """The same data with only some patches of some splits.

        Args:
            rows: int (n,) for each split that is limited: the numbers of the patches to keep, in the order of that
                split as it is here.
        """
        limited = copy(self)
        kept = {split: self.rows[split][at] if split in self.rows else at for split, at in rows.items()}
        limited.rows = {**self.rows, **kept}
        return limited

    @property
    def training(self) -> PatchSet:
        """The patches that further data adds to a train split: its own train split, or all where it has no splits."""
        return self[ALL if ALL in self.splits else "train"]

    def slides(self, split: str) -> set[str]:
        """The names of the slides of a split, as far as they are known; empty where there is no such split."""
        if split not in self.splits:
            return set()
        rows = None if self._dealt is None else np.flatnonzero(self._dealt == split)
        try:
            slides = self._slides_of(split if self.own_splits else "", split, rows)
        except DataError:  # a map need not name the patches of a split that nobody asks for
            return set()
        return set() if slides is None else set(slides.tolist()) - {""}

    def _slides_of(self, name: str, split: str, rows: NDArray[np.int64] | None) -> NDArray[np.str_] | None:
        """The slides of a split, which is these rows of a part, or all of it."""
        part = self._source.parts[name]
        chosen = slice(None) if rows is None else rows
        if self._slides is None:
            return None if part.slides is None else part.slides[chosen]
        names = full_names(name, part.ids[chosen].tolist())
        return self._slides.of(names, self._names, f"the {len(names):,} patches of {split}")

    @cached_property
    def _names(self) -> list[str]:
        return _all_names(self._source)

    def assignment(self) -> dict[str, str]:
        """The split of each patch by its id, if the splits were made here; else empty.

        If you give it to :func:`open_data`, you get the same splits again.
        """
        if self._dealt is None:
            return {}
        ids = self._source.parts[""].ids
        return {name: split for name, split in zip(ids.tolist(), self._dealt.tolist(), strict=True) if split}

    def _unpacked(self, name: str, part: Part) -> MappedImages:
        if name not in self._images:
            title = f"{self.path.name or self.kind} {name}".strip()
            self._images[name] = unpacked(part.pixels, title, self._cache, show=self._show)
        return self._images[name]


@dataclass(frozen=True)
class Reopening:
    """Labelled patches as another process opens them again; it can be sent there.

    Attributes:
        path: of the data.
        stated: what the user has stated of the patches.
        expected: the patches that the bundle takes, if the data was opened for one.
        also: the paths of further patches of the train split.
        slide_map: a CSV that names the slide of each patch, or None.
        assignment: the split of each patch by its id, where splits were made.
        whole: whether data without splits is one split.
        rows: the patches that are left of splits that were limited.
    """

    path: Path
    stated: Stated
    expected: Expected | None = None
    also: tuple[Path, ...] = ()
    slide_map: Path | None = None
    assignment: Mapping[str, str] | None = None
    whole: bool = False
    rows: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def of(cls, data: PatchData) -> Reopening:
        """What another process needs to open the same data again."""
        return cls(
            path=data.path,
            stated=data.stated,
            expected=data._expected,
            also=tuple(further.path for further in data.also),
            slide_map=data.slide_map,
            assignment=data.assignment() or None,
            whole=ALL in data.splits,
            rows=data.rows,
        )

    def anywhere(self) -> Reopening:
        """The same for a process with another working folder."""
        return replace(
            self,
            path=self.path.absolute(),
            also=tuple(path.absolute() for path in self.also),
            slide_map=self.slide_map and self.slide_map.absolute(),
        )

    def open(self) -> PatchData:
        """The data, without progress bars.

        Raises:
            DataError: as for :func:`open_data`.
        """
        data = open_data(
            self.path,
            slide_map=self.slide_map,
            assignment=self.assignment,
            whole=self.whole,
            expected=self.expected,
            also=self.also,
            **asdict(self.stated),
            show=False,
        )
        return data.limited(self.rows)


def open_data(
    path: str | Path,
    *,
    slide_map: Path | None = None,
    seed: int = 0,
    assignment: Mapping[str, str] | None = None,
    whole: bool = False,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    expected: Expected | None = None,
    also: Sequence[str | Path] = (),
    cache: Path | None = None,
    show: bool = True,
) -> PatchData:
    """Open labelled patches. The format is detected from the files.

    Args:
        path: a folder with the official HDF5 files (or ``.h5.gz``), with Kaggle's ``train_labels.csv`` and
            ``train/``, with class folders of images (perhaps below split folders), or with Parquet shards; or
            one such file.
        slide_map: a CSV that names the slide of each patch (columns ``id`` and ``slide`` or ``wsi``). To make splits,
            it must name all patches; else it must name all patches of the splits that are used.
        seed: random seed for the 80/10/10 split of data without splits.
        assignment: the split of each patch by its id, as :meth:`PatchData.assignment` gave it, instead of
            a random split. Patches that it does not name are left out. Data with its own splits keeps them.
        whole: take data without splits as one split with the name ``all``, for patches that training
            has never seen. Data with its own splits keeps them.
        mpp: microns per pixel, if the data does not record them.
        label_region: side in pixels of the centre square that labels cover, in the same case.
        positive: names of the class folders of label 1, if their names do not tell it.
        expected: the patches that the bundle takes; others are refused.
        also: further labelled patches of any format, with the same geometry and classes, that join the train split:
            their train split, or all of them if they have no splits.
        cache: where patches are unpacked; else ``SENTINODE_CACHE``, else the user's cache folder.
        show: whether to draw a progress bar while unpacking.

    Raises:
        DataError: no format fits, files are damaged or do not belong together, valid and test are exchanged, a
            statement contradicts the data, the bundle does not take such patches, or further patches are of another
            kind than the first.
    """
    stated = Stated(mpp, label_region, tuple(positive))
    told = stated.positive or (expected.positive if expected else ())
    source = find_source(Path(path), cache_folder(cache), told)
    official.refuse_swap(source)
    geometry, note = geometry_of(source, stated, expected)
    renamed = _require(expected, source, geometry, stated)
    slides = None if slide_map is None else read_slide_map(slide_map)
    if slides is not None:
        slides.refuse_other_data(_all_names(source))
    warnings = [*source.warnings, *filter(None, (note, renamed))]
    dealt: NDArray[np.str_] | None = None
    incomplete: dict[str, int] = {}
    if not source.own_splits and not whole:
        part = source.parts[""]
        if assignment is not None:
            dealt, incomplete = _stored(part, assignment, source.path, warnings)
        else:
            names = _all_names(source)
            of_patch = slides.of(names, names, f"the {len(names):,} patches") if slides else None
            dealt = deal(part.ids, part.labels, of_patch, seed)
            warnings += _leakage(of_patch)
    joined = Expected(geometry, source.class_names, tuple(told), of_data=True)
    further = [_open_further(Path(more), joined, cache=cache, show=show) for more in also]
    data = PatchData(
        source,
        dealt,
        incomplete=incomplete,
        slides=slides,
        warnings=tuple(warnings),
        geometry=geometry,
        stated=stated,
        also=further,
        expected=expected,
        cache=cache_folder(cache),
        show=show,
    )
    # Data that is given twice, so that it weighs more, has the same warnings.
    data.warnings += tuple(dict.fromkeys(warning for more in further for warning in _of_further(more, data)))
    return data


def _open_further(path: Path, expected: Expected, *, cache: Path | None, show: bool) -> PatchData:
    """Further data for the train split.

    Raises:
        DataError: it cannot be opened, has other patches or classes, or has splits but none for training.
    """
    data = open_data(path, whole=True, expected=expected, cache=cache, show=show)
    if not {ALL, "train"} & set(data.splits):
        raise DataError(
            f"there is no train split here, only {' and '.join(data.splits)}; further patches are for training alone.",
            where=path,
            hint="Give data with a train split, or without splits.",
        )
    return data


def _of_further(more: PatchData, data: PatchData) -> list[str]:
    """What the user should know of further data."""
    warnings = [f"{more.path.name}: {warning}" for warning in more.warnings]
    if left := [split for split in more.splits if split not in ("train", ALL)]:
        warnings.append(f"{more.path.name}: only the train split is used; {' and '.join(left)} are left out.")
    added = more.slides("train") | more.slides(ALL)
    for split in ("valid", "test"):
        if same := sorted(added & data.slides(split)):
            warnings.append(
                f"Leakage: {len(same):,} slides of {more.path.name}, such as {same[0]}, are named like slides of "
                f"{split}. If they are the same slides, figures on {split} will look better than they are."
            )
    return warnings


def _require(expected: Expected | None, source: Source, geometry: PatchGeometry, stated: Stated) -> str | None:
    """Refuse what a bundle does not take, and names where there are none; a sentence on other class names, or None."""
    if stated.positive and source.kind != "folder":
        raise DataError(
            "--positive is only for class folders. These patches have labels 0 and 1, and 1 is the positive class.",
            where=source.path,
            hint="Leave out --positive.",
        )
    if expected is None:
        return None
    named = source.kind == "folder"
    return require_expected(expected, geometry, source.class_names, named=named, stated=stated, where=source.path)


def find_source(path: Path, cache: Path, positive: Sequence[str] = ()) -> Source:
    """Detect the format of the data at a path; ``positive`` names the class folders of label 1.

    Raises:
        DataError: nothing is there, or nothing of a known kind (it says what was looked for and what was seen), or it
            may not be read.
    """
    try:
        return _look(path, cache, positive)
    except PermissionError as error:
        where = error.filename or path
        raise DataError("cannot be read (Permission denied).", where=where, hint=MAY_NOT_READ) from error


def _look(path: Path, cache: Path, positive: Sequence[str]) -> Source:
    if not path.exists():
        raise DataError("there is nothing here.", where=path, hint="Check the path for a typing error.")
    if is_special(path):
        raise DataError("this is a pipe or a device, not a regular file.", where=path, hint=_LOOKED_FOR)
    readers: tuple[Callable[[], Source | None], ...] = (
        lambda: official.find(path, cache),
        lambda: image_files.find_kaggle(path),
        lambda: parquet.find(path),
        lambda: image_files.find_folder(path, positive),
    )
    for look in readers:
        if (source := look()) is not None:
            return source
    raise DataError(f"no labelled patches were found. {_seen(path)}", where=path, hint=_LOOKED_FOR)


_LOOKED_FOR = f"""Looked for:
  official  {official.STEM}{{train,valid,test}}_{{x,y}}.h5 (or .h5.gz)
  kaggle    {image_files.KAGGLE_LABELS} and train/<id>.tif
  parquet   train*.parquet, valid*.parquet, test*.parquet (also in data/)
  folder    class folders such as normal/ and tumour/, perhaps below train/, valid/ and test/ (see --positive)
'sentinode data download OUT' downloads the official files; 'sentinode data synth OUT' generates patches to try."""


def _seen(path: Path) -> str:
    """A sentence on the files that are there."""
    if path.is_file():
        return "A single file must be one of *_x.h5, train_labels.csv and *.parquet."
    inside = sorted(f for f in path.iterdir() if not f.name.startswith("."))
    if not inside:
        return "The folder is empty."
    if (path / "train").is_dir() and any((path / "train").glob("*.tif")):
        return f"The folder has train/ with .tif files, as in the Kaggle set, but no {image_files.KAGGLE_LABELS}."
    names = ", ".join(f"{f.name}/" if f.is_dir() else f.name for f in inside[:6])
    return f"There is {names}{f' and {len(inside) - 6:,} more' if len(inside) > 6 else ''}."


def _all_names(source: Source) -> list[str]:
    return [name for split, part in source.parts.items() for name in full_names(split, part.ids.tolist())]


def _leakage(slides: NDArray[np.str_] | None) -> list[str]:
    """Warnings of leakage for a random split: ``slides`` is the slide of each patch, or None if no slides are known."""
    if slides is None:
        return [
            "Leakage: the slides of these patches are unknown, so patches of one slide lie on both sides of "
            "the split, and the metrics on valid and test will look better than they should. Give a slide map with "
            "--slides (a CSV with the columns id and slide) to split by slide."
        ]
    unknown = int((slides == "").sum())
    if unknown:
        return [
            f"Leakage: the slide map leaves the slide of {unknown:,} of {len(slides):,} patches empty. They are put "
            "into train, and may share a slide with valid or test."
        ]
    return []


def _stored(
    part: Part, assignment: Mapping[str, str], path: Path, warnings: list[str]
) -> tuple[NDArray[np.str_], dict[str, int]]:
    """The stored split of each patch, and how many of each stored split are missing here."""
    dealt = np.array([assignment.get(name, "") for name in part.ids.tolist()])
    here = set(part.ids.tolist())
    incomplete = {
        split: sum(1 for name, s in assignment.items() if s == split and name not in here) for split in SPLITS
    }
    if not (dealt != "").any():
        raise DataError(
            f"none of these {len(part.ids):,} patches is in the stored split.",
            where=path,
            hint="Give the data that the bundle was trained on. For data that it has never seen, use --split all.",
        )
    if new := int((dealt == "").sum()):
        warnings.append(f"{new:,} patches are new since the split was stored, and are left out.")
    if missing := sum(incomplete.values()):
        warnings.append(f"{missing:,} patches of the stored split are not in this data.")
    return dealt, incomplete

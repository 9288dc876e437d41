"""The slide of each patch, from the user's CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.patches.image_files import without_ending
from sentinode.patches.source import as_names
from sentinode.patches.table import read_table

SLIDE_COLUMNS = ("slide", "wsi", "wsi_id", "slide_id")
UNKNOWN = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>", "unknown", "?", "-"})
"""What stands in a table, in any case, where the slide of a patch is not known."""


def known_slide(cell: str) -> str:
    """A slide's name as a table gives it; an empty string where it says that the slide is not known."""
    return "" if cell.lower() in UNKNOWN else cell


def read_slide_map(path: Path) -> SlideMap:
    """Read a CSV with the columns ``id`` and ``slide`` (or ``wsi``, ``wsi_id``, ``slide_id``).

    Raises:
        DataError: it is no such table, has an empty id, or names a patch twice with different slides.
    """
    slides: dict[str, str] = {}
    for id, cell in read_table(path, ("id",), SLIDE_COLUMNS):
        name, slide = _normalised(id), known_slide(cell)
        if not name:
            raise DataError(f"a row has no id (its slide is {cell!r}).", where=path)
        if slides.setdefault(name, slide) != slide:
            raise _contradiction(id, slides[name], slide, path=path)
    for name, slide in slides.items():
        if slides.get(without_ending(name), slide) != slide:
            raise _contradiction(name, slides[without_ending(name)], slide, path=path)
    return SlideMap(path, slides)


def _contradiction(id: str, *slides: str, path: Path) -> DataError:
    first, second = (slide or "unknown" for slide in slides)
    return DataError(f"{id} is listed twice, with the slides {first} and {second}.", where=path)


@dataclass(frozen=True)
class SlideMap:
    """Which slide each patch is from.

    A row names a patch by its split and id, as ``full_names`` writes them. It may leave out folders in front and the
    ending of the file where only one patch of the data can be meant.

    Attributes:
        path: the CSV.
        slides: the slide by the name of the patch; an empty string where a row says that the slide is not known.
    """

    path: Path
    slides: Mapping[str, str]

    def of(self, names: Sequence[str], among: Iterable[str], what: str) -> NDArray[np.str_]:
        """The slide of each patch; an empty string where a row says that it is not known.

        Args:
            names: the full names of the N patches whose slides are needed.
            among: the full names of all patches of the data, of every split.
            what: what the N patches are, as in ``the 1,000 patches of test``.

        Returns:
            str (N,).

        Raises:
            DataError: the map does not name every one of the N patches, knows the slide of none, or has a name that
                could mean several patches.
        """
        rows = [self._row(name) for name in names]
        self._refuse_ambiguous({row for name, row in zip(names, rows, strict=True) if row != name}, among)
        self._refuse_unnamed([name for name, row in zip(names, rows, strict=True) if row is None], len(names), what)
        slides = as_names([self.slides[row] for row in rows if row is not None], self.path)
        if not (slides != "").any():
            raise DataError(f"this slide map leaves the slide of each of {what} empty.", where=self.path)
        return slides

    def refuse_other_data(self, names: Sequence[str]) -> None:
        """
        Raises:
            DataError: the map names none of these patches.
        """
        if not any(self._row(name) for name in names):
            self._refuse_unnamed(names, len(names), f"the {len(names):,} patches")

    def _row(self, name: str) -> str | None:
        """The row that names a patch: by its full name, or else by the longest of its shorter ones."""
        return next((row for shorter in _names(name) if (row := self._rows.get(shorter)) is not None), None)

    @cached_property
    def _rows(self) -> dict[str, str]:
        """The rows by their names, and by their names without the ending where that is clear."""
        bare: dict[str, set[str]] = {}
        for row in self.slides:
            bare.setdefault(without_ending(row), set()).add(row)
        clear = {name: min(rows) for name, rows in bare.items() if len({self.slides[row] for row in rows}) == 1}
        return clear | {row: row for row in self.slides}

    def _refuse_ambiguous(self, rows: set[str | None], among: Iterable[str]) -> None:
        """Refuse rows that leave something out and could so mean several patches."""
        meant: dict[str, str] = {}
        for name in among if rows - {None} else ():
            for row in {self._rows.get(shorter) for shorter in _names(name)} & rows:
                if row is not None and meant.setdefault(row, name) != name:
                    raise DataError(
                        f"{row!r} could be the patch {meant[row]} or {name}.",
                        where=self.path,
                        hint="Give the whole id of each patch, such as its path in the data folder.",
                    )

    def _refuse_unnamed(self, unnamed: Sequence[str], count: int, what: str) -> None:
        if not unnamed:
            return
        named = count - len(unnamed)
        raise DataError(
            f"this slide map names {f'{named:,}' if named else 'none'} of {what}"
            f"{f', and not the other {len(unnamed):,}' if named else ''} (such as {unnamed[0]}; the ids of the map are "
            f"such as {next(iter(self.slides))}).",
            where=self.path,
            hint="Its column 'id' must name every patch, by Kaggle's id or its path in the data folder. Where a slide "
            "is not known, give the patch a row and leave the slide empty. Sentinode then prints a warning.",
        )


def full_names(split: str, ids: Iterable[str]) -> list[str]:
    """The ids with the split in front, where it does not stand there yet: no two patches of the data share such a name.

    Args:
        split: empty where the data has no splits.
        ids: of the patches of this split.
    """
    prefix = f"{split}/" if split else ""
    return [_normalised(id if id.startswith(prefix) else prefix + id) for id in ids]


def _names(full: str) -> Iterator[str]:
    """What a row may call a patch, the most telling name first: without folders in front, without the ending."""
    parts = full.split("/")
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        yield name
        if (bare := without_ending(name)) != name:
            yield bare


def _normalised(name: str) -> str:
    """A path with slashes, and without what leads to the folder that it starts from."""
    return "/".join(part for part in name.strip().replace("\\", "/").split("/") if part not in ("", "."))

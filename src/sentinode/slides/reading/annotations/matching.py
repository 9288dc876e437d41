"""Which file of a folder annotates which slide; no file's silence is taken for a slide without tumour."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations.drawing import listed
from sentinode.slides.reading.slide import SLIDE_SUFFIXES

FORMATS = (".xml", ".geojson", ".json")
"""File endings that are read."""

OTHER_FORMATS = (".annotations", ".ndpa", ".qpdata", ".txt", ".csv", ".zip", *(f"{ending}.gz" for ending in FORMATS))
"""Endings under which annotations are found that are not read: a slide that has one is not without annotations."""

PICTURE_ENDINGS = frozenset({*SLIDE_SUFFIXES, ".ome", ".png", ".jpg", ".jpeg"})
"""Endings that a slide's name may carry into the name of its annotations, as in ``s.ome.tif.geojson``."""

ALIKE, ALIKE_ALONE = 0.8, 0.9
"""How like the words of two names are, as a ratio of letters, where one may be a misspelling of the other: beside
equal numbers, and where there is nothing else to go by."""


@dataclass(frozen=True)
class Matches:
    """The annotation files of a folder.

    Attributes:
        files: by slide; None where a slide has none.
        others: files that belong to none of the slides.
    """

    files: dict[str, Path | None]
    others: tuple[Path, ...]

    @property
    def absent(self) -> list[str]:
        """The slides without a file."""
        return [slide for slide, file in self.files.items() if file is None]

    @property
    def message(self) -> str | None:
        """A sentence on the files that belong to no slide, or None where there are none."""
        if not self.others:
            return None
        names = listed([file.name for file in self.others])
        count = len(self.others)
        return f"{count} annotation file{'s' if count > 1 else ''} match{'' if count > 1 else 'es'} no slide: {names}."


def match_annotations(folder: Path, slides: Mapping[str, str]) -> Matches:
    """Find the annotation file of each slide in a folder.

    A file is named like the slide, with or without the ending of the slide's file: ``s.xml``, ``s.svs.geojson`` and
    ``S.XML`` belong to ``s.svs``. Case, surrounding spaces and the form of accents make no difference, unless
    there are slides that differ in nothing else.

    Args:
        folder: the folder.
        slides: for the name of each slide the name of its file.

    Raises:
        AnnotationError: it is no folder, a slide has two files, or a file fits two slides.
    """
    if not folder.is_dir():
        raise AnnotationError(
            "is not a folder." if folder.exists() else "does not exist.",
            where=folder,
            hint="Name the folder that holds the slides' annotations.",
        )
    tiers = _tiers(slides)
    found: dict[str, list[Path]] = {slide: [] for slide in slides}
    others = []
    for file in sorted(_files(folder.iterdir(), FORMATS)):
        stem = file.name[: -len(file.suffix)]
        fitting = _fitting(stem, tiers)
        if len(fitting) > 1:
            raise AnnotationError(
                f"'{file.name}' fits {len(fitting)} slides: {listed(fitting)}.",
                where=folder,
                hint="Name it after the slide's file with its ending, such as slide.svs.geojson.",
            )
        if fitting:
            found[fitting[0]].append(file)
        else:
            others.append(file)
    for slide, files in found.items():
        if len(files) > 1:
            raise AnnotationError(
                f"slide '{slide}' is annotated twice: {' and '.join(file.name for file in files)}.",
                where=folder,
                hint="Keep the one that counts.",
            )
    return Matches({slide: files[0] if files else None for slide, files in found.items()}, tuple(others))


def require_truth(
    folder: Path, slides: Mapping[str, str], *, absent_is_normal: bool, optional: Collection[str] = ()
) -> Matches:
    """The annotation file of each slide; a slide without one is free of tumour only where that was said.

    Args:
        folder: the folder.
        slides: for the name of each slide the name of its file.
        absent_is_normal: a slide without a file has no tumour.
        optional: slides that need no file.

    Raises:
        AnnotationError: as :func:`match_annotations`; a slide has no file and that does not mean normal, or a file
            of another name looks like its own; or no slide has one.
    """
    matches = match_annotations(folder, slides)
    absent = [slide for slide in matches.absent if slide not in optional]
    needed = len(slides) - len(optional)
    if not absent:
        return matches
    alike = _alike(folder, matches, {slide: slides[slide] for slide in absent})
    looks = "; ".join(f"'{file}' looks like that of '{slide}'" for file, slide in alike[:5])
    if not absent_is_normal:
        raise AnnotationError(
            f"there are no annotations for {len(absent)} of {needed} slides: {', '.join(absent[:5])}"
            f"{', ...' if len(absent) > 5 else ''}.{looks and f' But {looks}.'}",
            where=folder,
            hint="If slides without tumour have no file, as in Camelyon16, give --absent-is-normal.",
        )
    if alike:
        raise AnnotationError(
            f"there are no annotations for {len(absent)} of {needed} slides, but {looks}"
            f"{f'; and {len(alike) - 5} more' if len(alike) > 5 else ''}.",
            where=folder,
            hint=f"Files are found as <slide>{' or <slide>'.join(FORMATS)}: rename them. For a slide without tumour "
            "whose name is only similar, add an empty annotation file, such as [] in <slide>.geojson.",
        )
    if len(absent) == needed:
        raise AnnotationError(
            f"no file in it is named like one of the {needed} slides, such as '{absent[0]}'.",
            where=folder,
            hint="Is it the right folder? Files are found by the slide's name.",
        )
    return matches


def _tiers(slides: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """Slides by their exact names, by their names without regard to case, and by those without endings."""
    tiers: list[dict[str, list[str]]] = [{}, {}, {}]
    for slide, file in slides.items():
        normalised = {_normalised(slide), _normalised(file)}
        for tier, names in zip(
            tiers, ({slide, file}, normalised, {s for name in normalised for s in _stems(name)}), strict=True
        ):
            for name in names:
                tier.setdefault(name, []).append(slide)
    return tiers


def _fitting(stem: str, tiers: list[dict[str, list[str]]]) -> list[str]:
    """The slides that a file of this name, without its own ending, belongs to."""
    normalised = _normalised(stem)
    if fitting := tiers[0].get(stem) or tiers[1].get(normalised):
        return fitting
    return next((tiers[2][name] for name in _stems(normalised) if name in tiers[2]), [])


def _normalised(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _stems(name: str) -> Iterator[str]:
    """A name, and what is left of it as the endings of pictures are taken off one by one."""
    yield name
    while (path := Path(name)).suffix in PICTURE_ENDINGS and path.stem:
        name = path.stem.strip()
        yield name


def _files(paths: Iterable[Path], endings: tuple[str, ...]) -> Iterator[Path]:
    for path in paths:
        if path.name.lower().endswith(endings) and not path.name.startswith(".") and path.is_file():
            yield path


def _alike(folder: Path, matches: Matches, absent: Mapping[str, str]) -> list[tuple[str, str]]:
    """Files that may be annotations of the slides that have none: their path below the folder, and the slide."""
    own = set(matches.files.values())
    known = _SimilarNames({_bare(name): slide for slide, file in absent.items() for name in (slide, file)})
    pairs = []
    for file in sorted(_files(folder.rglob("*"), FORMATS + OTHER_FORMATS)):
        if file in own:
            continue
        *folders, name = file.relative_to(folder).parts
        slide = next(filter(None, (known.find(_bare(part)) for part in (_without_ending(name), *folders))), None)
        if slide is not None:
            pairs.append((file.relative_to(folder).as_posix(), slide))
    return pairs


def _bare(name: str) -> str:
    """A name without regard to case and without the endings of pictures."""
    return list(_stems(_normalised(name)))[-1]


def _without_ending(name: str) -> str:
    fitting = [ending for ending in FORMATS + OTHER_FORMATS if name.lower().endswith(ending)]
    return name[: -max(map(len, fitting))]


class _SimilarNames:
    """Slides' names, in which one that is meant by a similar name can be found.

    Numbers and single letters tell slides apart and have to agree; words may be misspelt. A name that goes on where
    the other ends, as in ``slide_annotations`` or ``TCGA-01.uuid``, is similar, too.
    """

    def __init__(self, slides: Mapping[str, str]) -> None:
        self._slides = slides
        self._beginnings = {start: slide for name, slide in slides.items() for start in _beginnings(name)}
        self._by_marks: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for name, slide in slides.items():
            marks, words = _marks_and_words(name)
            self._by_marks.setdefault(marks, []).append((words, slide))

    def find(self, name: str) -> str | None:
        """A slide whose name is like this one, or None."""
        for start in _beginnings(name):
            if start in self._slides:
                return self._slides[start]
        if name in self._beginnings and any(c.isdigit() for c in name):
            return self._beginnings[name]
        marks, words = _marks_and_words(name)
        needed = ALIKE if marks else ALIKE_ALONE
        for others, slide in self._by_marks.get(marks, ()):
            if words == others or SequenceMatcher(None, words, others).ratio() >= needed:
                return slide
        return None


def _beginnings(name: str) -> Iterator[str]:
    """A name and its parts up to each character that is no letter or digit."""
    yield name
    yield from (name[:i] for i, c in enumerate(name) if i and not c.isalnum())


def _marks_and_words(name: str) -> tuple[tuple[str, ...], str]:
    """What tells a name from others (its numbers and single letters), and its words."""
    tokens = re.findall(r"\d+|[^\W\d_]+", name)
    marks = tuple(token.lstrip("0") or "0" for token in tokens if len(token) == 1 or token.isdigit())
    return marks, " ".join(token for token in tokens if len(token) > 1 and not token.isdigit())

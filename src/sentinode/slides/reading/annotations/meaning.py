"""What regions mean: which are tumour, which are cut out of it, and which say nothing of it."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable

from sentinode.errors import AnnotationError
from sentinode.slides.reading.annotations.drawing import UNCLASSIFIED

TUMOUR_CLASSES = frozenset(
    {"tumor", "tumour", "_0", "_1", "metastasis", "metastases", "positive"}
    | {"isolated tumour cells", "micrometastasis", "macrometastasis"}
)
"""Groups and classes that mean tumour, in lower case; the last three are what Sentinode itself writes."""

EXCLUDED_CLASSES = frozenset({"exclusion", "_2", "normal", "negative", "ignore*"})
"""Groups and classes that are cut out of the tumour, in lower case."""

TUMOUR, EXCLUDED, IGNORED = "tumour", "excluded", "ignored"


class Meanings:
    """Whether a class means tumour, an exclusion, or neither.

    Names are compared without regard to case, surrounding spaces and the form of accents; ``unclassified`` names
    regions without a class.

    Args:
        tumour, excluded, ignored: the names of each meaning. What is named on purpose does not keep its usual meaning.

    Raises:
        AnnotationError: a name is given two meanings.
    """

    def __init__(
        self,
        tumour: Collection[str] = TUMOUR_CLASSES,
        excluded: Collection[str] = EXCLUDED_CLASSES,
        ignored: Collection[str] = (),
    ) -> None:
        usual = {TUMOUR: TUMOUR_CLASSES, EXCLUDED: EXCLUDED_CLASSES}
        self._of: dict[str, str] = {}
        given = {TUMOUR: tumour, EXCLUDED: excluded, IGNORED: ignored}
        for meaning, names in sorted(given.items(), key=lambda item: item[1] is not usual.get(item[0])):
            for name in map(comparable, names):
                earlier = self._of.get(name, meaning)
                if earlier != meaning and given[earlier] is not usual.get(earlier):
                    raise AnnotationError(
                        f"the class '{name}' was given for {earlier} and for {meaning}.",
                        hint="Give it to one of --tumour-class, --excluded-class and --ignored-class.",
                    )
                self._of[name] = meaning
        self._known: dict[tuple[str, ...], tuple[str, str] | None] = {}

    def of(self, classes: tuple[str, ...]) -> tuple[str, str] | None:
        """The meaning of the first of a region's names that has one, and that name; None where none has."""
        if classes not in self._known:
            found = ((self._of.get(comparable(name)), name) for name in classes)
            self._known[classes] = next(((meaning, name) for meaning, name in found if meaning is not None), None)
        return self._known[classes]


def comparable(name: str) -> str:
    """A class's name as it is compared; '' and 'none' are the names that programs show for no class."""
    normalised = " ".join(unicodedata.normalize("NFC", name).casefold().split())
    return UNCLASSIFIED if normalised in ("", "none") else normalised


def counted(names: Iterable[tuple[str, int]]) -> str:
    """Names and how often each occurs, the most frequent ones first, at most ten."""
    ordered = sorted(names, key=lambda item: (-item[1], item[0]))
    more = f" and {len(ordered) - 10} others" if len(ordered) > 10 else ""
    return ", ".join(f"'{name}' ({count})" for name, count in ordered[:10]) + more

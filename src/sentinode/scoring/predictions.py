"""What a program predicted for labelled patches: the one form in which predictions are scored and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sentinode.errors import DataError
from sentinode.scoring.counts import CLASS_NAMES

NAMED = 3
"""How many ids a message names."""


@dataclass(frozen=True)
class Predictions:
    """The probability of the positive class for N labelled patches.

    Attributes:
        name: of the model, as tables and charts show it.
        ids: str (N,), unique.
        labels: uint8 (N,), 0 or 1.
        probabilities: float64 (N,), from 0 to 1, of label 1.
        slides: str (N,), the slide of each patch, empty where it is unknown; None where no slide is known.
        copies: str (N,), the same text for patches that are copies of one another, empty for the others; None where
            copies are not known.
        class_names: the names of labels 0 and 1.
        threshold: the probability from which a patch is called positive, or None if none was chosen.
        rule: how the threshold was chosen, as words; empty without one.
        source: the file that they were read from, or None.
        notes: what a reader of the metrics should know of them, as sentences.

    Raises:
        DataError: there are no patches, the arrays have several lengths, an id occurs twice, or a label or a
            probability is out of range.
    """

    name: str
    ids: NDArray[np.str_]
    labels: NDArray[np.uint8]
    probabilities: NDArray[np.float64]
    slides: NDArray[np.str_] | None = None
    copies: NDArray[np.str_] | None = None
    class_names: tuple[str, str] = CLASS_NAMES
    threshold: float | None = None
    rule: str = ""
    source: Path | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = (self.ids, self.labels, self.probabilities, self.slides, self.copies)
        lengths = [len(part) for part in parts if part is not None]
        if not len(self.ids):
            raise DataError("there are no predictions here.", where=self.source)
        if len(set(lengths)) > 1:
            raise DataError(f"the parts of the predictions have several lengths: {lengths}.", where=self.source)
        refuse_twice(self.ids, self.source)
        if not np.isin(self.labels, (0, 1)).all():
            raise DataError("labels must be 0 or 1.", where=self.source)
        if not ((self.probabilities >= 0) & (self.probabilities <= 1)).all():
            raise DataError("some probabilities are not numbers from 0 to 1.", where=self.source)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def cluster(self) -> NDArray[np.int64] | None:
        """int (N,), from 0: patches that are of one slide or copies of one another; None where neither is known.

        A patch without a slide and without copies is a cluster of its own.
        """
        return clusters(self.slides, self.copies)

    def rows(self, at: NDArray[np.int64]) -> Predictions:
        """Some of the patches, in the order of ``at``."""
        return replace(
            self,
            ids=self.ids[at],
            labels=self.labels[at],
            probabilities=self.probabilities[at],
            slides=None if self.slides is None else self.slides[at],
            copies=None if self.copies is None else self.copies[at],
        )


def clusters(*groups: NDArray[np.str_] | None) -> NDArray[np.int64] | None:
    """Join patches that share a group in any of the given groupings.

    Args:
        groups: str (N,) each, an empty text where a patch has no group; None for a grouping that is not known.

    Returns:
        int (N,), the cluster of each patch, from 0 in the order of the first patch of each; None if no patch has a
        group.
    """
    known = [group for group in groups if group is not None and (group != "").any()]
    if not known:
        return None
    n = len(known[0])
    edges = []
    for group in known:
        rows = np.flatnonzero(group != "")
        _, first, member = np.unique(group[rows], return_index=True, return_inverse=True)
        edges.append(np.stack([rows, rows[first[member]]]))
    pairs = np.concatenate(edges, axis=1)
    _, found = connected_components(coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(n, n)))
    _, first, member = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[member].astype(np.int64)


def align(sets: Sequence[Predictions], *, shared_only: bool = False) -> list[Predictions]:
    """The same patches of every set, in the order of the first.

    Slides and copies that one set knows are known for all.

    Args:
        sets: two or more sets of predictions.
        shared_only: whether to keep only the patches that every set has.

    Raises:
        DataError: the sets have different patches and ``shared_only`` is not set, or they share none; a patch has
            different labels, or different slides, in two sets; the classes have different names.
    """
    first = sets[0]
    shared = first.ids
    for other in sets[1:]:
        shared = shared[np.isin(shared, other.ids)]
    if any(len(one) != len(shared) for one in sets) and not (shared_only and len(shared)):
        raise _different(sets, shared)
    aligned = [one.rows(_places(one.ids, shared)) for one in sets]
    names = {one.class_names for one in sets} - {CLASS_NAMES}
    if len(names) > 1:
        told = "; ".join(f"{one.name}: {' and '.join(one.class_names)}" for one in sets)
        raise DataError(f"these predictions are of different classes ({told}).")
    for other in aligned[1:]:
        _refuse_contradiction("labels", aligned[0], other, aligned[0].labels != other.labels)
    slides = _known("slides", aligned, [one.slides for one in aligned])
    copies = _known("groups of copies", aligned, [one.copies for one in aligned])
    class_names = names.pop() if names else CLASS_NAMES
    return [replace(one, slides=slides, copies=copies, class_names=class_names) for one in aligned]


def refuse_twice(ids: NDArray[np.str_], where: Path | None) -> None:
    """
    Raises:
        DataError: an id occurs more than once.
    """
    unique, count = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        twice = unique[count > 1]
        raise DataError(
            f"{len(twice):,} ids occur more than once, such as {some(twice)}.",
            where=where,
            hint="Each patch has one prediction: remove the rows that repeat, or average them.",
        )


def some(ids: NDArray[np.str_]) -> str:
    """The first of some ids, for a message."""
    return ", ".join(ids[:NAMED].tolist())


def _places(ids: NDArray[np.str_], wanted: NDArray[np.str_]) -> NDArray[np.int64]:
    order = np.argsort(ids, kind="stable")
    return np.asarray(order[np.searchsorted(ids, wanted, sorter=order)], dtype=np.int64)


def _different(sets: Sequence[Predictions], shared: NDArray[np.str_]) -> DataError:
    """What each set has beyond the shared patches."""
    told = []
    for one in sets:
        alone = one.ids[~np.isin(one.ids, shared)]
        such = f" (such as {some(alone)})" if len(alone) else ""
        told.append(f"{one.name} has {len(one):,}, {len(alone):,} of them not shared{such}")
    hint = "With --shared-only, these shared patches alone are used." if len(shared) else None
    hint = hint or "Give each patch the same id in every file."
    return DataError(
        f"the predictions are of different patches; {len(shared):,} are shared by all: {'; '.join(told)}.", hint=hint
    )


def _refuse_contradiction(what: str, one: Predictions, other: Predictions, differ: NDArray[np.bool_]) -> None:
    if differ.any():
        raise DataError(
            f"{one.name} and {other.name} have different {what} for {int(differ.sum()):,} of {len(one):,} patches, "
            f"such as {some(one.ids[differ])}.",
            hint="They must be the same patches. Check the ids, and what label 1 means in each file.",
        )


def _known(
    what: str, aligned: Sequence[Predictions], groups: Sequence[NDArray[np.str_] | None]
) -> NDArray[np.str_] | None:
    """The groups that the sets know together."""
    found: NDArray[np.str_] | None = None
    owner = aligned[0]
    for one, group in zip(aligned, groups, strict=True):
        if group is None:
            continue
        if found is None:
            found, owner = group, one
            continue
        both = (found != "") & (group != "")
        if what == "slides":
            _refuse_contradiction(what, owner, one, both & (found != group))
        elif not _same_partition(found[both], group[both]):
            raise DataError(f"{owner.name} and {one.name} have different {what}.")
        found = np.where(found == "", group, found) if what == "slides" else found
    return found


def _same_partition(one: NDArray[np.str_], other: NDArray[np.str_]) -> bool:
    """Whether two groupings put the same patches together."""
    _, first = np.unique(one, return_inverse=True)
    _, second = np.unique(other, return_inverse=True)
    pairs = np.unique(np.stack([first, second]), axis=1).shape[1] if len(one) else 0
    return pairs == len(np.unique(first)) == len(np.unique(second))

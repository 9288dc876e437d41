"""Which slides of a batch several workers of a cluster score together, each a part of the windows.

Only where there are more workers than slides that wait. One worker then makes the map of all scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sentinode.slides.reading.remote import RemoteSlide
from sentinode.slides.scanning.manifest import DONE, MANIFEST, read_state
from sentinode.slides.scanning.scores import LOG, Scores, join_scores

PART_BYTES = 250_000_000
"""Parts have at least so many bytes of the file, for each worker opens the slide and looks for its tissue."""


@dataclass(frozen=True)
class Item:
    """A slide for a worker.

    Attributes:
        name: of its folder.
        slide: where it lies.
        part: which part of its windows is scored, from 0, and of how many; None to scan the slide.
        scores: of its first windows, which workers have scored.
    """

    name: str
    slide: Path | RemoteSlide
    part: tuple[int, int] | None = None
    scores: Scores | None = None


@dataclass
class Division:
    """What has been divided, and what has come of it.

    Attributes:
        out: the batch's folder.
        sizes: bytes of each slide, by the names of their folders.
    """

    out: Path
    sizes: Mapping[str, int]
    _scored: dict[str, dict[int, Scores | None]] = field(default_factory=dict)

    def divide(self, items: Sequence[Item], workers: int) -> list[Item]:
        """The items, with parts in place of large slides, so that there are about as many as workers."""
        whole = [item for item in items if self._may_be_divided(item)]
        spare, size = workers - len(items) + len(whole), sum(self.sizes[item.name] for item in whole)
        divided = []
        for item in items:
            count = 1
            if item in whole:
                count = min(round(spare * self.sizes[item.name] / size), self.sizes[item.name] // PART_BYTES)
            divided += [item] if count < 2 else [replace(item, part=(number, count)) for number in range(count)]
        return divided

    def _may_be_divided(self, item: Item) -> bool:
        """A slide that lies elsewhere stays whole, because each worker would copy the file; so does one whose scan has
        begun or ended, and one that has been divided before."""
        if item.part is not None or item.name in self._scored or isinstance(item.slide, RemoteSlide):
            return False
        state = read_state(self.out / item.name / MANIFEST)
        is_done = state is not None and state.state == DONE
        return self.sizes[item.name] >= 2 * PART_BYTES and not is_done and not (self.out / item.name / LOG).exists()

    def gather(self, part: Item, scores: Scores | None) -> Item | None:
        """Take the scores of a part, None if there are none; the slide with all scores, once the last part is there."""
        assert part.part is not None
        number, count = part.part
        scored = self._scored.setdefault(part.name, {})
        scored[number] = scores
        if len(scored) < count:
            return None
        every = [one for number in range(count) if (one := scored[number]) is not None]
        return replace(part, part=None, scores=join_scores(every) if len(every) == count else None)

    def share(self, item: Item) -> float:
        """How much of a slide an item is: its parts and its map together are one."""
        count = item.part[1] if item.part is not None else len(self._scored.get(item.name, ()))
        return 1 / (count + 1)

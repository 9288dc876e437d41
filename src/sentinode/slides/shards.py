"""A batch divided among the tasks of a job array: each shard scans its own slides, and the last one writes the pages.

``OUT/.shards/N.json`` says which of N shards scans which slides. The first shard that starts deals the slides out, the
largest first, each to the shard with the least so far. A shard that starts later and finds slides that are not in the
file deals them to the shards that are yet to start in this run, and to itself. So every shard knows its slides when it
starts, however the folder of slides changes, and no slide has two shards. A run is a job array of Slurm; without one, a
run ends when all shards have finished. Slides that share a stem have one shard, because a slide's name depends on the
others of its stem.
"""

from __future__ import annotations

import heapq
import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sentinode.atomic import make_folder, write_text
from sentinode.errors import OutputError, SlideError
from sentinode.locks import BATCH, lock
from sentinode.progress import console
from sentinode.slides.reading.remote import RemoteSlide, bytes_of

FOLDER = ".shards"

AUTO, NONE = "auto", "none"

FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """One part of a batch: ``index`` from 0, of ``count``."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def asked(cls, text: str) -> Self | None:
        """The shard that a user names: ``2/8``, ``none``, or ``auto`` for this task of Slurm's job array.

        Raises:
            SlideError: there is no such shard.
        """
        if text == NONE:
            return None
        if text == AUTO:
            return cls._of_slurm(os.environ)
        written = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        if written is None or not int(written[1]) < int(written[2]):
            raise SlideError(
                f"'{text}' is no shard.",
                hint="Give its number, counted from 0, and how many there are: --shard 0/8 to --shard 7/8.",
            )
        return cls(int(written[1]), int(written[2]))

    @classmethod
    def _of_slurm(cls, environment: Mapping[str, str]) -> Self | None:
        """The shard of a task of Slurm's job array, or None outside of one."""
        task, count = environment.get("SLURM_ARRAY_TASK_ID"), environment.get("SLURM_ARRAY_TASK_COUNT")
        if not task or not count:
            return None
        first, step = (environment.get(f"SLURM_ARRAY_TASK_{name}") or default for name, default in DEFAULTS)
        try:
            index, rest = divmod(int(task) - int(first), int(step))
            if rest or not 0 <= index < int(count):
                raise ValueError
        except (ValueError, ZeroDivisionError) as error:
            raise SlideError(
                f"task {task} of Slurm's job array is not one of {count} in equal steps from {first}.",
                hint="Submit the whole array, such as --array=0-7; slides that are done are not scanned again. Or name "
                "the shard, such as --shard $SLURM_ARRAY_TASK_ID/8.",
            ) from error
        shard = cls(index, int(count))
        console.print(
            f"Task {task} of a Slurm job array: this is shard {shard} (--shard none scans all slides).", markup=False
        )
        return shard


DEFAULTS = (("MIN", "0"), ("STEP", "1"))
"""Of Slurm's variables, where an older version does not set them."""


@dataclass(frozen=True)
class Part:
    """What this process scans of a batch.

    Attributes:
        shard: which part it is.
        names: the names of its slides.
        start: the number of this start of the shard, from 1.
    """

    out: Path
    shard: Shard
    names: frozenset[str]
    start: int

    def finish(self) -> list[int]:
        """Note that this shard has finished, and return those that have not; the last one gets an empty list.

        A shard that was started again counts as finished when its last start has.

        Raises:
            OutputError: the folder cannot be written.
        """
        with lock(self.out, BATCH):
            record = _read(self.out, self.shard.count)
            finished = record["finished"]
            finished[self.shard.index] = max(finished[self.shard.index], self.start)
            _write(self.out, self.shard.count, record)
        return _unfinished(record)


def join(out: Path, shard: Shard, names: Mapping[str, Path | RemoteSlide], done: frozenset[str]) -> Part:
    """Find out which slides are this shard's.

    Args:
        out: the batch's folder.
        shard: this process's.
        names: all slides that are there, by their names.
        done: the names of slides that are scanned and cost nothing more.

    Raises:
        OutputError: the folder cannot be written, or the record of the shards is damaged.
    """
    stems: dict[str, list[str]] = defaultdict(list)
    for name, path in names.items():
        stems[path.stem.casefold()].append(name)
    with lock(out, BATCH):
        record = _read(out, shard.count)
        run, dealt = os.environ.get("SLURM_ARRAY_JOB_ID", ""), record["slides"]
        if run != record["run"] or not (run or _unfinished(record)):
            record |= {"run": run, "begun": []}
        record["begun"] = sorted({*record["begun"], shard.index})
        record["started"][shard.index] += 1
        yet_to_start = [i for i in range(shard.count) if i not in record["begun"] or i == shard.index]
        new = {
            stem: sum(bytes_of(names[name]) for name in members if name not in done)
            for stem, members in stems.items()
            if stem not in dealt
        }
        dealt |= deal(new, yet_to_start)
        _write(out, shard.count, record)
    own = frozenset(name for stem, members in stems.items() if dealt[stem] == shard.index for name in members)
    return Part(out, shard, own, record["started"][shard.index])


def deal(sizes: Mapping[str, int], shards: Sequence[int]) -> dict[str, int]:
    """A shard for each slide: the largest slide first, each to the shard with the fewest bytes, then slides, so far."""
    heap = [(0, 0, shard) for shard in shards]
    dealt = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        size, count, shard = heapq.heappop(heap)
        dealt[name] = shard
        heapq.heappush(heap, (size + sizes[name], count + 1, shard))
    return dealt


def _unfinished(record: Mapping[str, Any]) -> list[int]:
    """The shards that were never started, or whose last start has not finished."""
    return [i for i, start in enumerate(record["started"]) if not 0 < start <= record["finished"][i]]


def _file(out: Path, count: int) -> Path:
    return out / FOLDER / f"{count}.json"


def _read(out: Path, count: int) -> dict[str, Any]:
    """The record: how often each shard was started, and which of its starts was the last to finish; the run, and the
    shards that were started in it; and the shard of each stem.
    """
    file = _file(out, count)
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        whole = record["format"] == FORMAT and len(record["started"]) == len(record["finished"]) == count
        if not whole or not {*record["begun"], *record["slides"].values()} <= set(range(count)):
            raise ValueError
    except FileNotFoundError:
        zeros = [0] * count
        return {"format": FORMAT, "run": "", "begun": [], "started": zeros, "finished": list(zeros), "slides": {}}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise OutputError(
            "the record of this batch's shards cannot be read.",
            where=file,
            hint="Remove the file while no shard runs, and start all shards again; slides that are done stay done.",
        ) from error
    return dict(record)


def _write(out: Path, count: int, record: Mapping[str, Any]) -> None:
    make_folder(out / FOLDER)
    write_text(_file(out, count), json.dumps(record) + "\n")

"""The scores of a scan on disk as they come, so that it can go on after a kill, and so that others can watch it.

Two files lie in the slide's folder while it is scanned. ``scores.part`` is the log: an identity of 32 bytes, then each
batch's scores, qualities, and their CRC-32. ``scores.plan`` says which windows the scores belong to, and what makes
probabilities of them. So :func:`open_partial_map` needs neither the slide nor the bundle.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sentinode.atomic import output_errors, whole_file
from sentinode.slides.scanning.probability_map import ProbabilityMap, map_of, record_of
from sentinode.slides.scanning.quality import Codes

LOG, PLAN = "scores.part", "scores.plan"

LOG_FORMAT = 2
"""Of the log. In format 1 the scores had no quality."""

SYNC_S = 20.0

Margins = NDArray[np.float32]


@dataclass(frozen=True)
class MapPlan:
    """Which windows the scores of a scan belong to, and what makes a map of them.

    Attributes:
        identity: 32 bytes that change with anything on which the sequence of scores depends.
        sequence: the row and the column of each window, in the order of the scores, int (n, 2).
        counts: how many windows each batch has.
        offset, temperature: of the calibration: log-odds are (score + offset) / temperature.
        shift: what is added to these to correct them to the map's prior.
        empty: the map without a single probability.
    """

    identity: bytes
    sequence: NDArray[np.int64]
    counts: Sequence[int]
    offset: float
    temperature: float
    shift: float
    empty: ProbabilityMap

    def filled(self, margins: Margins, quality: Codes) -> ProbabilityMap:
        """The map of the first windows of the sequence: P(positive class) after calibration, at the map's prior."""
        places = tuple(self.sequence[: len(margins)].T)
        scaled = (margins.astype(np.float64) + self.offset) / self.temperature
        probability = self.empty.probability.copy()
        probability[places] = expit(scaled + self.shift)
        codes = np.zeros(probability.shape, np.uint8)
        codes[places] = quality
        return replace(self.empty, probability=probability, quality=codes)


@dataclass(frozen=True)
class Scores:
    """Scores of consecutive windows of a scan's sequence.

    Attributes:
        identity: of the plan that they belong to.
        margins: float32 (n,).
        quality: uint8 (n,).
    """

    identity: bytes
    margins: Margins
    quality: Codes

    def batches(self, counts: Sequence[int], skip: int) -> Iterator[tuple[Margins, Codes]]:
        """The whole batches among the scores, from window ``skip`` on, if the first score is the first window's."""
        end = 0
        for count in counts:
            begin, end = end, end + count
            if end > len(self.margins):
                return
            if begin >= skip:
                yield self.margins[begin:end], self.quality[begin:end]


def join_scores(parts: Sequence[Scores]) -> Scores | None:
    """The scores of parts that follow each other; None if they are of different plans."""
    if len({part.identity for part in parts}) != 1:
        return None
    return Scores(
        parts[0].identity,
        np.concatenate([part.margins for part in parts]),
        np.concatenate([part.quality for part in parts]),
    )


@dataclass(frozen=True)
class PartialMap:
    """A map as far as its scan has come.

    Attributes:
        probability_map: NaN also where the scan has not come to yet.
        pending: bool (rows, columns), the windows that have tissue and no score yet.
        windows: how many have a score.
        planned: how many will have one.
    """

    probability_map: ProbabilityMap
    pending: NDArray[np.bool_]
    windows: int
    planned: int


def write_plan(log: Path, plan: MapPlan) -> None:
    """Write the plan of a scan beside its log.

    Raises:
        OutputError: the folder cannot be written or the disk is full.
    """
    record = {
        "identity": plan.identity.hex(),
        "shape": plan.empty.probability.shape,
        "offset": plan.offset,
        "temperature": plan.temperature,
        "shift": plan.shift,
        "map": record_of(plan.empty),
    }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        record=np.frombuffer(json.dumps(record).encode(), np.uint8),
        sequence=plan.sequence.astype("<i4"),
        counts=np.asarray(plan.counts, "<i4"),
    )
    with whole_file(log.with_name(PLAN)) as staged:
        staged.write_bytes(buffer.getvalue())


def open_partial_map(folder: Path) -> PartialMap | None:
    """The map of a slide as far as its scan has come, or None where there is no scan to go on with.

    A log that was just begun, or that belongs to another plan, holds no score yet.
    """
    try:
        plan = _read_plan(folder / PLAN)
        data = (folder / LOG).read_bytes()
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, zipfile.BadZipFile):
        return None
    margins, quality, _ = _whole_records(data, plan.identity, plan.counts)
    pending = np.zeros(plan.empty.probability.shape, np.bool_)
    pending[tuple(plan.sequence[len(margins) :].T)] = True
    return PartialMap(plan.filled(margins, quality), pending, len(margins), len(plan.sequence))


def remove_scores(folder: Path) -> None:
    """Remove the log and the plan of a scan that has ended."""
    for name in (PLAN, LOG):
        (folder / name).unlink(missing_ok=True)


def _read_plan(file: Path) -> MapPlan:
    with np.load(file, allow_pickle=False) as arrays:
        record = json.loads(arrays["record"].tobytes())
        sequence, counts = arrays["sequence"].astype(np.int64), arrays["counts"].tolist()
    empty = map_of(record["map"], np.full(record["shape"], np.nan, np.float32), None)
    identity = bytes.fromhex(record["identity"])
    return MapPlan(identity, sequence, counts, record["offset"], record["temperature"], record["shift"], empty)


class _Log:
    """The log, open to go on with.

    Attributes:
        margins, quality: the scores and qualities that it held when it was opened.
    """

    def __init__(self, path: Path, identity: bytes, counts: Sequence[int]) -> None:
        self._path = path
        with output_errors(path):
            self._file = path.open("a+b", buffering=0)
            self._file.seek(0)
            data = self._file.read()
            self.margins, self.quality, end = _whole_records(data, identity, counts)
            if not end:
                self._file.truncate(0)
                self._file.write(identity)
            self._file.truncate(end or len(identity))
        self._synced = time.monotonic()

    def append(self, scores: Margins, quality: Codes) -> None:
        data = scores.astype("<f4").tobytes() + quality.tobytes()
        record = data + _crc(data)
        with output_errors(self._path):
            # An unbuffered file takes what fits on the disk, and says so only by how much that was.
            if self._file.write(record) < len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if time.monotonic() - self._synced > SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        self._file.close()


class _NoLog:
    """Keeps nothing."""

    margins, quality = np.zeros(0, np.float32), np.zeros(0, np.uint8)

    def append(self, scores: Margins, quality: Codes) -> None:
        pass


@contextlib.contextmanager
def open_log(path: Path | None, plan: MapPlan) -> Iterator[_Log | _NoLog]:
    """The log of a plan, with what an earlier scan of the same plan left in it; one that keeps nothing without a path.

    Raises:
        OutputError: it cannot be written.
    """
    if path is None:
        yield _NoLog()
        return
    write_plan(path, plan)
    log = _Log(path, plan.identity, plan.counts)
    try:
        yield log
    finally:
        log.close()


def _whole_records(data: bytes, identity: bytes, counts: Sequence[int]) -> tuple[Margins, Codes, int]:
    """The scores and qualities of the whole records of a log, and where these end; 0 if it is another scan's log."""
    margins: list[bytes] = []
    quality: list[bytes] = []
    end = len(identity) if data[: len(identity)] == identity else 0
    for count in counts if end else ():
        content, crc = data[end : end + 5 * count], data[end + 5 * count : end + 5 * count + 4]
        if crc != _crc(content):
            break
        margins.append(content[: 4 * count])
        quality.append(content[4 * count :])
        end += len(content) + len(crc)
    scores = np.frombuffer(b"".join(margins), "<f4").astype(np.float32)
    return scores, np.frombuffer(b"".join(quality), np.uint8), end


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")

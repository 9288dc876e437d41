"""Locks that keep two processes off one piece of work: a slide of a batch, a run, a sweep.

The operating system drops a lock with its process, however that ends. So the lock also says whether work that is noted
as running still runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sentinode.atomic import output_errors
from sentinode.errors import OutputError

LOCKS = ".locks"

BATCH = ".batch"
"""The lock of the batch itself; no slide's folder begins with a dot."""


@contextlib.contextmanager
def lock(out: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock ``name`` of the folder ``out``: that of a slide, or of the work as a whole.

    Raises:
        Timeout: another process holds it and we do not ``wait``.
        OutputError: files cannot be locked there.
    """
    folder = out / LOCKS
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
    held = FileLock(_file(out, name), timeout=-1 if wait else 0)
    try:
        held.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, Timeout):
            raise
        raise OutputError(
            f"files cannot be locked on this disk ({error}).",
            where=folder,
            hint="Choose an --out on a disk that locks files, such as a local one.",
        ) from error
    try:
        yield
    finally:
        held.release()


def is_locked(out: Path, name: str) -> bool | None:
    """Whether a process holds the lock of a slide; None where that cannot be tried, as in a folder that is read-only.

    To find out, the lock is taken for a moment if it is free. Nothing is written.
    """
    file = _file(out, name)
    if not file.is_file():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return None


def _file(out: Path, name: str) -> Path:
    return out / LOCKS / f"{name}.lock"

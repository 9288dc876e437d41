"""Locks that keep two processes off one piece of work: a slide of a batch, a run, a sweep, a review, unpacked patches.

The operating system drops a lock with its process, however that ends. So the lock also says whether work that is noted
as running still runs. Where a disk has no locks, leases take their place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from sentinode.atomic import output_error, output_errors
from sentinode.errors import OutputError
from sentinode.leases import NO_LOCKS, Hold, is_fresh, lease, use_in, used_in

LOCKS = ".locks"

BATCH = ".batch"
"""The lock of the batch itself; no slide's folder begins with a dot."""


@contextlib.contextmanager
def lock(out: Path, name: str, *, wait: bool = True) -> Iterator[Hold]:
    """Hold the lock ``name`` of the folder ``out``: that of a slide, or of the work as a whole.

    Where the disk has no locks, this is a lease, which can be lost: see :meth:`sentinode.leases.Hold.require`.

    Raises:
        Timeout: another process holds it and we do not ``wait``.
        OutputError: files cannot be locked there.
    """
    folder = out / LOCKS
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
    if not used_in(folder):
        held = FileLock(_file(out, name), timeout=-1 if wait else 0, fallback_to_soft=False)
        try:
            held.acquire()
        except (OSError, NotImplementedError) as error:
            if isinstance(error, Timeout):
                raise
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise OutputError(
                    f"files cannot be locked on this disk ({error}).",
                    where=folder,
                    hint="Choose a folder on a disk that locks files, such as a local one. "
                    "The cache's is SENTINODE_CACHE.",
                ) from error
        else:
            try:
                yield Hold()
            finally:
                held.release()
            return
    with contextlib.ExitStack() as stack:
        try:
            use_in(folder)
            hold = stack.enter_context(lease(_lease(out, name), wait=wait))
        except Timeout:
            raise
        except OSError as error:
            raise output_error(folder, error) from error
        yield hold


def is_locked(out: Path, name: str) -> bool | None:
    """Whether a process holds the lock of a slide; None where that cannot be tried, as in a folder that is read-only.

    To find out, the lock is taken for a moment if it is free. Nothing is written.
    """
    if used_in(out / LOCKS):
        return _lease(out, name).is_file() and is_fresh(_lease(out, name))
    file = _file(out, name)
    if not file.is_file():
        return False
    try:
        with FileLock(file, timeout=0, fallback_to_soft=False):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        return None


def _file(out: Path, name: str) -> Path:
    return out / LOCKS / f"{name}.lock"


def _lease(out: Path, name: str) -> Path:
    return out / LOCKS / f"{name}.lease"

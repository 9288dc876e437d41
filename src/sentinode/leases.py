"""Claims for a disk whose locks do not work, such as some network drives: files that their owner keeps touching.

A lease is a file that one process creates and then touches every few seconds. A file that has not changed for a minute,
by the clock of the process that waits for it, belongs to nobody any more and is taken over. So the clocks of the
machines do not matter. An owner that was suspended or cut off for a minute loses its lease, and asks
:meth:`Hold.require` before it writes. The mechanism is filelock's ``SoftFileLease``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import SoftFileLease, Timeout

LEASE_S = 60.0
"""Seconds without a change after which a lease is taken over."""

BEAT_S = 5.0
"""Seconds between two touches of a lease."""

WANTED = "SENTINODE_LEASES"
"""The environment variable that asks for leases also where locks seem to work."""

MARK = ".leases"
"""The file that tells the other processes that leases are used here; no lock's file has this name."""

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EIO, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a disk answers that has no locks, or whose server of locks does not answer."""


class LeaseLost(Exception):
    """The lease has gone to another process, which does the work now."""


class Hold:
    """A lock or a lease that this process holds. A lock of the operating system is never lost."""

    def __init__(self, lease: SoftFileLease | None = None) -> None:
        self._lease = lease

    def require(self) -> None:
        """Make sure that the work is still this process's own, before anything is written.

        Raises:
            LeaseLost: it is not.
        """
        if self._lease is None:
            return
        token = self._lease.token
        try:
            record = Path(self._lease.lock_file).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            record = ""
        except OSError:  # the heartbeat decides whether this lasts too long
            record = token or ""
        if not token or self._lease.compromise is not None or token not in record:
            raise LeaseLost(self._lease.lock_file)


def used_in(folder: Path) -> bool:
    """Whether leases are used in a folder of locks, because a process asked for them or found that locks fail there."""
    return os.environ.get(WANTED, "") not in ("", "0") or (folder / MARK).exists()


def use_in(folder: Path) -> None:
    """Use leases in a folder of locks from now on, in all processes: a lock and a lease do not see each other."""
    (folder / MARK).touch()


@contextlib.contextmanager
def lease(file: Path, *, wait: bool) -> Iterator[Hold]:
    """Hold a lease.

    Args:
        file: its file.
        wait: whether to wait for as long as another process holds it. If not, a lease that seems to belong to nobody
            is watched for as long as it takes to be sure.

    Raises:
        Timeout: another process holds it and we do not ``wait``.
        OSError: the file cannot be written.
    """
    held = SoftFileLease(
        file, timeout=-1 if wait else 0, poll_interval=BEAT_S / 5, lease_duration=LEASE_S, heartbeat_interval=BEAT_S
    )
    try:
        held.acquire()
    except Timeout:
        if is_fresh(file):
            raise
        held.acquire(timeout=LEASE_S + BEAT_S)
    try:
        yield Hold(held)
    finally:
        held.release()


def is_fresh(file: Path) -> bool | None:
    """Whether a lease was touched within the last minute, by the clock of the disk; None in a folder that is read-only.

    This decides nothing: where that clock cannot be trusted, a waiting process takes a little longer.
    """
    try:
        with tempfile.TemporaryFile(dir=file.parent) as probe:
            now = os.fstat(probe.fileno()).st_mtime
        return now - file.stat().st_mtime < LEASE_S
    except FileNotFoundError:
        return False
    except OSError:
        return None

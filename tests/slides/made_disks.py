"""A disk without locks: what a test, or a process that it starts, runs first."""

from __future__ import annotations

WITHOUT_LOCKS = """
import errno, fcntl, socket
from sentinode import leases
def _refused(*_):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = _refused
leases.LEASE_S, leases.BEAT_S = 1.5, 0.1
"""
"""Locks fail as on some network drives, and leases are quick."""

ELSEWHERE = WITHOUT_LOCKS + "socket.gethostname = lambda: 'elsewhere'\n"
"""Likewise, on another machine: whether its processes live cannot be asked here."""

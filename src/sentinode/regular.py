"""Inputs are regular files: a pipe or a device is refused before it is opened, because opening may wait for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def is_special(path: Path) -> bool:
    """Whether a pipe, a device or a socket stands there, through links too. False where nothing does."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (a name that is too long is no reason to raise)
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def require_regular(path: Path) -> None:
    """
    Raises:
        OSError: a pipe, a device or a socket stands there.
    """
    if is_special(path):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file", str(path))

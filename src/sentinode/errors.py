"""What went wrong, in the user's words, and what to do next.

Every failure that a user can cause or fix is a :class:`SentinodeError`. The command line prints it as one
paragraph and exits with 2 (refused, nothing done). Any other exception is a bug in Sentinode and exits with 1.
"""

from __future__ import annotations

import errno
import os
from difflib import get_close_matches
from pathlib import Path

EXIT_FAULT = 1
EXIT_REFUSED = 2
EXIT_PARTIAL = 3
EXIT_INTERRUPTED = 130


class SentinodeError(Exception):
    """An error of the user's input or machine: what was wrong, where, and what to do next.

    Args:
        what: what is wrong, as one sentence.
        where: the file, key or device.
        hint: what the user can do next, as a sentence.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where is not None else self.what
        return f"{head}\n{self.hint}" if self.hint else head

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call the class with the formatted message and lose the parts between processes.
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(kind: type[SentinodeError], what: str, where: str | Path | None, hint: str | None) -> SentinodeError:
    return kind(what, where=where, hint=hint)


class DataError(SentinodeError):
    """Patches, labels or splits that cannot be read or do not fit together."""


class PictureError(SentinodeError):
    """A picture without colours, or with colours that are not defined; readers raise it again with the file."""


class DownloadError(SentinodeError):
    """A file that could not be downloaded, or that differs from the published one."""


class RecipeError(SentinodeError):
    """A recipe with an unknown key, a wrong type or a value out of range."""


class WeightsError(SentinodeError):
    """Pretrained weights that are missing, unsafe to load, or for another network."""


class BundleError(SentinodeError):
    """A bundle that is incomplete, changed since it was written, or newer than this version."""


class ExportError(SentinodeError):
    """A bundle that another format cannot hold, or an exported network that answers otherwise than the bundle."""


class SlideError(SentinodeError):
    """A slide that cannot be read, or whose resolution does not suit the bundle."""


class AnnotationError(SentinodeError):
    """Annotations that cannot be read or do not belong to the slide."""


class OutputError(SentinodeError):
    """A place that cannot be written, or a disk that is full."""


class DeviceError(SentinodeError):
    """A device or precision that this machine does not have."""


class StoppedEarly(SentinodeError):
    """A training that its caller stopped after an epoch; its checkpoint is saved."""


class Interrupted(SentinodeError):
    """Stopped by Ctrl-C or by the system; the work so far is saved."""


_NAMED = "EACCES EPERM EROFS ENOSPC EDQUOT EFBIG EIO ESTALE ELOOP ENAMETOOLONG ENXIO ENODEV EMFILE ENFILE"
_OF_THE_SYSTEM = frozenset(getattr(errno, name) for name in _NAMED.split() if hasattr(errno, name))


def from_system(error: OSError) -> SentinodeError | None:
    """What the operating system refused, as a refusal; None where the error may as well be a bug of ours."""
    if error.errno not in _OF_THE_SYSTEM:
        return None
    hint = {
        errno.EACCES: "Check that you may read it, and that you may write where results go.",
        errno.ENOSPC: "Free some space, or choose another disk, and run the same command again.",
        errno.EFBIG: "A file may not be so large here; see `ulimit -f`, or choose another disk.",
    }.get(error.errno or 0)
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else None
    return SentinodeError(f"the system refused it ({error.strerror}).", where=where, hint=hint)


def nearest(word: str, known: list[str]) -> str | None:
    """The known word closest to a mistyped one, or None where none is close."""
    match = get_close_matches(word, known, n=1, cutoff=0.5)
    return match[0] if match else None

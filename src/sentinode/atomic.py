"""Write files and folders completely or not at all.

A result is written beside its destination under a temporary name and renamed into place at the end, so that a crash,
a full disk or Ctrl-C leaves no incomplete file under the final name.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sentinode.errors import OutputError

ABANDONED_S = 24 * 3600.0
"""Seconds after which a temporary file that nobody has written to is taken for that of a killed process."""

_STAGED = re.compile(r"\..+\.[0-9a-f]{8}\.part(\.[^.]*)?", re.DOTALL)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
"""The beginning of an address; a drive of Windows has one letter."""

LONGEST = 200
"""Bytes of a file's name up to which its temporary name may begin with it; disks take 255."""


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an error of the operating system in writing to ``path`` into an :class:`OutputError`.

    An error that names another file (such as a missing input) passes through unchanged.
    """
    try:
        yield
    except OSError as error:
        named = error.filename
        if isinstance(named, str | os.PathLike) and not _belongs(Path(named), path):
            raise
        raise output_error(path, error) from error
    except Exception as error:
        # safetensors and HDF5 raise errors of their own kinds, with the system's number in them.
        if (number := re.search(r"(?:\(os error |errno = )(\d+)", str(error))) is None:
            raise
        raise output_error(path, OSError(int(number[1]), os.strerror(int(number[1])))) from error


def _belongs(named: Path, path: Path) -> bool:
    named, parent = named.absolute(), path.absolute().parent
    return named.is_relative_to(parent) or parent.is_relative_to(named)


def output_error(path: Path, error: OSError) -> OutputError:
    """The :class:`OutputError` that says what ``error`` means for ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            "the disk is full; nothing half-written was left behind.",
            where=path,
            hint="Free some space, or choose another disk, and run the same command again.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError("this place is not writable.", where=path, hint="Choose a folder in which you may write.")
    if error.errno == errno.EFBIG:
        return OutputError(
            "a file may not be so large here; nothing half-written was left behind.",
            where=path,
            hint="Raise the limit (see `ulimit -f`), or choose another disk.",
        )
    if error.errno in (errno.ENOLCK, errno.ENOSYS):
        return OutputError(
            f"files cannot be locked on this disk ({error.strerror}).",
            where=path,
            hint="Choose a folder on a disk that locks files, such as a local one. The cache's is SENTINODE_CACHE.",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return OutputError(
            "there is a file where a folder is needed.",
            where=path,
            hint="Choose another place, or move the file.",
        )
    return OutputError(f"cannot be written ({error.strerror or error}).", where=path, hint="Choose another place.")


def make_folder(path: Path) -> Path:
    """Create a folder and its parents, and make sure that it can be written.

    Raises:
        OutputError: it cannot be created or written.
    """
    _refuse_address(path)
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path


@contextlib.contextmanager
def whole_file(path: Path, *, last: Callable[[], object] = lambda: None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it into place if the block succeeds, remove it if not.

    Args:
        path: the file.
        last: called right before it is renamed, when all of it is on the disk; what it raises leaves ``path`` as it
            was.

    Raises:
        OutputError: the place cannot be written or the disk is full, or what stands there is no file: renaming would
            put a file in the place of a device or a pipe.
    """
    path = Path(path)
    _refuse_address(path)
    # The ending stays, because writers such as matplotlib and Pillow choose the format by it.
    staged = path.with_name(f".{_brief(path.stem)}.{_mark()}.part{path.suffix}")
    with output_errors(path):
        _refuse_what_is_no_file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        try:
            yield staged
            _settle(staged)
            last()
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path`` that takes its place if the block succeeds.

    Raises:
        OutputError: the place cannot be written or the disk is full, or what stands there is no folder.
    """
    path = Path(path)
    _refuse_address(path)
    mark = _mark()
    staged, old = (path.with_name(f".{_brief(path.name)}.{mark}.{end}") for end in ("part", "old"))
    with output_errors(path):
        if path.exists() and not path.is_dir():
            raise FileExistsError(errno.EEXIST, "a file is in the way", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        staged.mkdir()
        try:
            yield staged
            for file in staged.rglob("*"):
                if file.is_file():
                    _settle(file)
            if path.exists():
                path.replace(old)
            staged.replace(path)
        except BaseException:
            if old.exists() and not path.exists():
                old.replace(path)
            raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


@functools.cache  # once in a process for each folder, which may hold many files
def _sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder: our temporary names that nothing has written to for
    a day. A process that still writes touches its file far more often, on whichever machine it runs."""
    with contextlib.suppress(OSError):
        for old in folder.iterdir():
            if _STAGED.fullmatch(old.name) and not old.is_symlink() and time.time() - _touched(old) > ABANDONED_S:
                shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)


def _touched(path: Path) -> float:
    """When a file, or anything in a folder, was last written."""
    return max(one.lstat().st_mtime for one in (path, *path.rglob("*")))


def _settle(staged: Path) -> None:
    """Have the disk keep a file before its name is changed, or a loss of power may leave an empty one under it."""
    with contextlib.suppress(PermissionError), staged.open("rb+") as file:
        os.fsync(file.fileno())


def _mark() -> str:
    """What makes a temporary name ours alone. Containers that share a folder have the same process ids."""
    return secrets.token_hex(4)


def is_address(path: Path) -> bool:
    """Whether a path was an address such as ``s3://bucket/maps``, and would be a local folder ``s3:``."""
    first = path.parts[0] if path.parts else ""
    return _SCHEME.fullmatch(first) is not None and not Path(first).exists()


def _refuse_address(path: Path) -> None:
    """
    Raises:
        OutputError: the path is an address.
    """
    if is_address(path):
        raise OutputError(
            "results are written to a local or shared folder, not to an address.",
            where=path,
            hint="Name a folder, and copy it when the command is done. Only 'sentinode scan' writes to an address.",
        )


def _refuse_what_is_no_file(path: Path) -> None:
    """
    Raises:
        OutputError: a folder, a device, a pipe or a socket stands there.
    """
    if path.is_dir():
        raise OutputError("there is a folder where a file is needed.", where=path, hint="Name a file in it.")
    if path.exists() and not path.is_file():
        raise OutputError(
            "this is no regular file, and a result takes the place of what stands there.",
            where=path,
            hint="Name a file. Without --out, commands that print a table write to standard output.",
        )


def _brief(name: str) -> str:
    """A file's name, or a digest of it where it leaves no room for more."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST else hashlib.sha256(encoded).hexdigest()


def write_text(path: Path, text: str, *, last: Callable[[], object] = lambda: None) -> None:
    """Write a UTF-8 text file with Unix line ends, completely or not at all; ``last`` as for :func:`whole_file`.

    Raises:
        OutputError: the place cannot be written or the disk is full.
    """
    with whole_file(path, last=last) as staged:
        staged.write_text(text, encoding="utf-8", newline="\n")

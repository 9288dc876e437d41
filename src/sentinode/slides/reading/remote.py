"""Slides that lie elsewhere, such as in S3: found by their address, and copied to a local disk for as long as they are
scanned.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

import psutil

from sentinode.atomic import make_folder, output_error, output_errors
from sentinode.errors import SlideError
from sentinode.names import folder_name, printable
from sentinode.progress import console
from sentinode.slides.reading.addresses import KINDS, kind_of, open_address, reaching, without_credentials
from sentinode.slides.reading.fingerprint import size_of
from sentinode.slides.reading.folder import OWN_FILES
from sentinode.slides.reading.slide import SLIDE_SUFFIXES

SEVERAL_FILES = frozenset({".mrxs", ".vms", ".vmu", ".dcm"})
"""Endings of slides that consist of several files."""

STAGE_GB = 100.0
"""Size of the local copies of a process, unless told otherwise."""

NAMED = 5


@dataclass(frozen=True)
class RemoteSlide:
    """A slide that lies elsewhere.

    Attributes:
        url: its address.
        shown: the address without what may be a credential.
        size: bytes, or None where the server does not say.
        version: what changes with its content, such as an ETag.
    """

    url: str = field(repr=False)
    shown: str
    size: int | None
    version: str

    @property
    def place(self) -> Path:
        """A path that is the same on every machine, changes with the content and ends in the slide's file name."""
        return Path(hashlib.sha256(f"{self.shown}\n{self.version}".encode()).hexdigest()[:16]) / _file_name(self.shown)

    @property
    def stem(self) -> str:
        """Its file name without the ending."""
        return self.place.stem


def bytes_of(slide: Path | RemoteSlide) -> int:
    """Bytes of a slide, 0 where they are unknown."""
    return slide.size or 0 if isinstance(slide, RemoteSlide) else size_of(slide)


def where(slide: Path | RemoteSlide) -> str:
    """A slide's place, for a person and for the record."""
    return slide.shown if isinstance(slide, RemoteSlide) else str(slide.resolve())


def find_remote(urls: Iterable[str]) -> list[RemoteSlide]:
    """The slides at addresses: a file, or a folder that is searched to the bottom, each once, sorted.

    Raises:
        SlideError: there is no slide, it cannot be reached, or it consists of several files.
    """
    found = {slide.shown: slide for url in urls for slide in _at(url)}
    return [found[shown] for shown in sorted(found)]


def _at(url: str) -> Sequence[RemoteSlide]:
    shown = without_credentials(url)
    scheme = kind_of(url)
    if scheme not in KINDS:
        raise SlideError(
            f"slides are not read from '{printable(scheme)}://'.",
            hint=f"Sentinode reads {', '.join(f'{kind}://' for kind in KINDS)}, and paths.",
        )
    with reaching(shown):
        files, path = open_address(url)
        first = files.info(path)
        is_folder = first["type"] == "directory"
        listed = list(files.find(path, detail=True).values()) if is_folder else [first]
    names = {one["name"]: PurePosixPath(one["name"] if is_folder else shown) for one in listed}
    if is_folder:
        listed = [one for one in listed if not any(part.startswith(".") for part in names[one["name"]].parts)]
        listed = [one for one in listed if names[one["name"]].suffix.lower() in SLIDE_SUFFIXES]
        listed = [one for one in listed if names[one["name"]].name not in OWN_FILES]
    several = [one for one in listed if names[one["name"]].suffix.lower() in SEVERAL_FILES]
    if several:
        some = ", ".join(printable(names[one["name"]].name) for one in several[:NAMED])
        message = f"slides of several files cannot be read from there: {some}{', ...' if len(several) > NAMED else ''}."
        hint = "Copy them to a disk with all their files, and name them there."
        if len(several) == len(listed):
            raise SlideError(message, where=shown, hint=hint)
        console.print(f"Left out of {shown}: {message} {hint}", markup=False)
    slides = [_slide(files, one, url, is_folder) for one in listed if one not in several]
    if not slides:
        raise SlideError("no slide was found.", where=shown, hint="Name a slide, or a folder that holds slides.")
    return slides


def _slide(files: Any, entry: dict[str, Any], url: str, in_folder: bool) -> RemoteSlide:
    at = files.unstrip_protocol(entry["name"]) if in_folder else url
    shown = at if in_folder else without_credentials(at)  # what a bucket lists may hold any character
    return RemoteSlide(at, shown, entry.get("size"), _version(entry))


def _version(entry: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime")
    return next((str(entry[key]) for key in keys if entry.get(key)), f"{entry.get('size')} bytes")


def _file_name(shown: str) -> str:
    name = PurePosixPath(shown.partition("://")[2].partition("/")[2]).name
    return folder_name(name) if name else "slide"


class Stage:
    """The local copies of a process, which are removed after use.

    Args:
        folder: where they lie, each process in a folder of its own.
        limit: bytes that they have at most.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, limit: float = STAGE_GB * 1e9) -> None:
        self._limit = limit
        make_folder(folder)
        prefix = f"sentinode-{socket.gethostname()}-"
        _remove_left(folder, prefix)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=folder))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stage")
        self._copies: dict[RemoteSlide, Future[Path]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def ahead(self, slide: RemoteSlide) -> None:
        """Begin to copy a slide, if there is room for it beside those that are here."""
        held = sum(one.size or 0 for one in self._copies)
        if slide not in self._copies and held + (slide.size or 0) <= self._limit:
            self._copies[slide] = self._pool.submit(self._copy, slide)

    @contextlib.contextmanager
    def copy(self, slide: RemoteSlide) -> Iterator[Path]:
        """A slide's local copy for as long as the block runs.

        Raises:
            SlideError: the slide cannot be reached, is larger than the stage, or changed while it was copied.
            OutputError: the disk is full.
        """
        if (slide.size or 0) > self._limit:
            raise SlideError(
                f"the slide has {(slide.size or 0) / 1e9:.3g} GB, and local copies may have {self._limit / 1e9:g} GB.",
                where=slide.shown,
                hint="Raise --stage-limit.",
            )
        if slide not in self._copies:
            self._copies[slide] = self._pool.submit(self._copy, slide)
        try:
            yield self._copies[slide].result()
        except SlideError as error:
            if not Path(error.where or "").is_relative_to(self._folder):
                raise
            raise SlideError(error.what, where=slide.shown, hint=error.hint) from error  # the copy is gone then
        finally:
            self.drop(slide)

    def drop(self, slide: RemoteSlide) -> None:
        """Remove a slide's copy."""
        copy = self._copies.pop(slide, None)
        if copy is not None and not copy.cancel():
            copy.exception()  # wait for it
            shutil.rmtree(self._folder / slide.place.parent, ignore_errors=True)

    def _copy(self, slide: RemoteSlide) -> Path:
        file = self._folder / slide.place
        with output_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with reaching(slide.shown), _full_disk(file):
            files, path = open_address(slide.url)
            files.get_file(path, str(file))
            files.invalidate_cache()
            now = files.info(path)
        size = file.stat().st_size
        if slide.size not in (None, size) or _version(now) != slide.version:
            raise SlideError(
                "the file was changed, or not copied whole.", where=slide.shown, hint="Scan it again once it is whole."
            )
        return file


@contextlib.contextmanager
def _full_disk(file: Path) -> Iterator[None]:
    """Tell a disk that is full here from an error of the server, which is an error of the system too."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise output_error(file, error) from error
        raise


def _remove_left(folder: Path, prefix: str) -> None:
    """Remove the copies of processes of this machine that were killed."""
    for left in folder.glob(f"{prefix}*"):
        process = left.name.removeprefix(prefix).partition("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)

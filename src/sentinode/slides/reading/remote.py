"""Slides that lie elsewhere, such as in S3: found by their address, and copied to a local disk for as long as they are
scanned.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import socket
import threading
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
from sentinode.slides.reading.addresses import KINDS, WEB, kind_of, open_address, reaching, without_credentials
from sentinode.slides.reading.fingerprint import size_of
from sentinode.slides.reading.folder import OWN_FILES, find_slides
from sentinode.slides.reading.slide import SLIDE_SUFFIXES

MRXS, DICOM = ".mrxs", ".dcm"
"""Endings of slides of several files: an MRXS has more in the folder beside it, and the DICOM files of a folder are one
slide."""

NOT_COPIED = frozenset({".vms", ".vmu"})
"""Endings of slides whose other files only the slide itself names."""

STAGE_GB = 100.0
"""Size of the local copies of a process, unless told otherwise."""

NAMED = 5


@dataclass(frozen=True)
class RemoteFile:
    """One file of a slide of several.

    Attributes:
        url: its address.
        place: where its copy lies, in the folder of the slide's copy.
        size: bytes, or None where the server does not say.
        version: what changes with its content, such as an ETag.
    """

    url: str = field(repr=False)
    place: str
    size: int | None
    version: str


@dataclass(frozen=True)
class RemoteSlide:
    """A slide that lies elsewhere.

    Attributes:
        url: its address; of DICOM that of the folder.
        shown: the address without what may be a credential.
        size: bytes, or None where the server does not say.
        version: what changes with its content, such as an ETag.
        files: all its files if it has several.
    """

    url: str = field(repr=False)
    shown: str
    size: int | None
    version: str
    files: tuple[RemoteFile, ...] = ()

    @property
    def place(self) -> Path:
        """A path that is the same on every machine, changes with the content and ends in the slide's file name; of
        DICOM in its folder's.
        """
        name = _file_name(self.shown)
        name += DICOM if self.files and not name.lower().endswith(MRXS) else ""
        return Path(hashlib.sha256(f"{self.shown}\n{self.version}".encode()).hexdigest()[:16]) / name

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
        SlideError: there is no slide, it cannot be reached, or it has files that cannot be found.
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
    if not is_folder:
        return [_named(files, path, first, url)]
    ours = [one for one in listed if _is_ours(PurePosixPath(one["name"]))]
    slides, left_out = _in_folder(files, ours)
    if left_out:
        some = ", ".join(printable(name) for name in left_out[:NAMED]) + (", ..." if len(left_out) > NAMED else "")
        message = f"slides that cannot be copied with all of their files: {some}."
        hint = "Copy them to a disk with all their files, and name them there."
        if not slides:
            raise SlideError(message, where=shown, hint=hint)
        console.print(f"Left out of {shown}: {message} {hint}", markup=False)
    if not slides:
        raise SlideError("no slide was found.", where=shown, hint="Name a slide, or a folder that holds slides.")
    return slides


def _is_ours(path: PurePosixPath) -> bool:
    """Whether a file in a folder may belong to a slide."""
    return not any(part.startswith(".") for part in path.parts) and path.name not in OWN_FILES


def _in_folder(files: Any, listed: Sequence[dict[str, Any]]) -> tuple[list[RemoteSlide], list[str]]:
    """The slides among the files of a folder, and the names of those that cannot be copied."""
    slides: list[RemoteSlide] = []
    left_out: list[str] = []
    several: dict[PurePosixPath, list[dict[str, Any]]] = {}
    paths = {PurePosixPath(one["name"]): one for one in listed}
    beside = {path.with_suffix(""): path for path in paths if path.suffix.lower() == MRXS}
    for path, one in paths.items():
        ending = path.suffix.lower()
        owner = next((beside[folder] for folder in path.parents if folder in beside), None)
        if owner is not None or ending == MRXS:
            several.setdefault(owner or path, []).append(one)
        elif ending == DICOM:
            several.setdefault(path.parent, []).append(one)
        elif ending in NOT_COPIED:
            left_out.append(path.name)
        elif ending in SLIDE_SUFFIXES:
            at = files.unstrip_protocol(one["name"])  # what a bucket lists may hold any character
            slides.append(RemoteSlide(at, at, one.get("size"), _version(one)))
    for path, entries in several.items():
        try:
            slides.append(_of_files(files, path, entries))
        except SlideError:
            left_out.append(path.name)
    return slides, left_out


def _named(files: Any, path: str, entry: dict[str, Any], url: str) -> RemoteSlide:
    """The slide whose file is named, or one of whose DICOM files is.

    Raises:
        SlideError: it has other files, which cannot be found.
    """
    shown, at = without_credentials(url), PurePosixPath(path)
    ending = PurePosixPath(shown).suffix.lower()
    if ending not in (MRXS, DICOM, *NOT_COPIED):
        return RemoteSlide(url, shown, entry.get("size"), _version(entry))
    if ending in NOT_COPIED or kind_of(url) in WEB:
        raise SlideError(
            "this slide has several files, and which ones cannot be listed there.",
            where=shown,
            hint="Copy it to a disk with all its files, and name it there.",
        )
    with reaching(shown):
        if ending == MRXS:
            return _of_files(files, at, [entry, *files.find(str(at.with_suffix("")), detail=True).values()])
        listed = [one for one in files.ls(str(at.parent), detail=True) if _is_ours(PurePosixPath(one["name"]))]
    return _of_files(files, at.parent, [one for one in listed if one["name"].lower().endswith(DICOM)])


def _of_files(files: Any, at: PurePosixPath, entries: Sequence[dict[str, Any]]) -> RemoteSlide:
    """A slide of several files: an MRXS with its folder's, or the DICOM files of a folder.

    Raises:
        SlideError: an MRXS has no folder, or a file has a name that no file here may have.
    """
    shown = files.unstrip_protocol(str(at))
    if at.suffix.lower() == MRXS and len(entries) < 2:
        raise SlideError(
            f"the folder '{printable(at.stem)}' is missing beside it, which holds the slide's pixels.", where=shown
        )
    parts = []
    for entry in sorted(entries, key=lambda one: str(one["name"])):
        place = PurePosixPath(entry["name"]).relative_to(at.parent)
        if any(folder_name(part) != part for part in place.parts):
            raise SlideError(f"it has a file that cannot have its name here: {printable(str(place))}.", where=shown)
        parts.append(RemoteFile(files.unstrip_protocol(entry["name"]), str(place), entry.get("size"), _version(entry)))
    sizes = [part.size for part in parts]
    size = None if None in sizes else sum(part.size or 0 for part in parts)
    versions = "\n".join(f"{part.place} {part.size} {part.version}" for part in parts)
    return RemoteSlide(shown, shown, size, hashlib.sha256(versions.encode()).hexdigest(), tuple(parts))


def _version(entry: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime")
    return next((str(entry[key]) for key in keys if entry.get(key)), f"{entry.get('size')} bytes")


def _file_name(shown: str) -> str:
    name = PurePosixPath(shown.partition("://")[2].partition("/")[2]).name
    return folder_name(name) if name else "slide"


class Stage:
    """The local copies of a process, which are removed after use. Threads may share it.

    Args:
        folder: where they lie, each process in a folder of its own, which is there as long as a copy is.
        limit: bytes that they have at most.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, limit: float = STAGE_GB * 1e9) -> None:
        self._limit = limit
        make_folder(folder)
        prefix = f"sentinode-{socket.gethostname()}-"
        _remove_left(folder, prefix)
        self._folder = folder / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stage")
        self._copies: dict[RemoteSlide, Future[Path]] = {}
        self._changing = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def ahead(self, slide: RemoteSlide) -> None:
        """Begin to copy a slide, if there is room for it beside those that are here."""
        with self._changing:
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
        with self._changing:
            copy = self._copies[slide] = self._copies.get(slide) or self._pool.submit(self._copy, slide)
        try:
            yield copy.result()
        except SlideError as error:
            if not Path(error.where or "").is_relative_to(self._folder):
                raise
            raise SlideError(error.what, where=slide.shown, hint=error.hint) from error  # the copy is gone then
        finally:
            self.drop(slide)

    def drop(self, slide: RemoteSlide) -> None:
        """Remove a slide's copy."""
        with self._changing:
            copy = self._copies.pop(slide, None)
        if copy is not None and not copy.cancel():
            copy.exception()  # wait for it
            with self._changing:
                shutil.rmtree(self._folder / slide.place.parent, ignore_errors=True)
                with contextlib.suppress(OSError):  # there are others
                    self._folder.rmdir()

    def _copy(self, slide: RemoteSlide) -> Path:
        file = self._folder / slide.place
        if not slide.files:
            self._copy_file(RemoteFile(slide.url, "", slide.size, slide.version), file, slide.shown)
            return file
        for part in slide.files:
            self._copy_file(part, file.parent / part.place, slide.shown)
        if file.suffix.lower() == MRXS:
            return file
        found = find_slides([file.parent])
        if len(found) > 1:
            raise SlideError(
                f"this folder holds {len(found)} slides of DICOM.",
                where=slide.shown,
                hint="Give each slide a folder of its own.",
            )
        return found[0]

    def _copy_file(self, part: RemoteFile, file: Path, shown: str) -> None:
        with output_errors(file), self._changing:
            file.parent.mkdir(parents=True, exist_ok=True)
        with reaching(shown), _full_disk(file):
            files, path = open_address(part.url)
            files.get_file(path, str(file))
            files.invalidate_cache()
            now = files.info(path)
        size = file.stat().st_size
        if part.size not in (None, size) or _version(now) != part.version:
            raise SlideError(
                "the file was changed, or not copied whole.", where=shown, hint="Scan it again once it is whole."
            )


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

"""HDF5 files that hold their values themselves: what leads into other files, or was never written, is refused.

HDF5 follows links into other files, reads values out of them, and unpacks a chunk to whatever it holds. No data file
may use that: it comes from strangers.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError
from sentinode.names import listed
from sentinode.patches.source import MAY_NOT_READ, read_head

LARGEST_CHUNK = 64 * 2**20
"""Bytes of a chunk. HDF5 keeps one in memory, so that it is not unpacked again for each batch."""

MORE = 1 << 16
"""Bytes by which a packed chunk may be larger than an unpacked one."""

MOST_DEFLATED, MOST_UNCHECKED = 1032, 256 * 2**20
"""How many bytes deflate makes of one at most, and how many a chunk may make without a look at it."""

AGAIN = "Download it or write it again."
"""What to do about a file that is damaged."""

COPY_IN = "Write the values themselves into this file, for example with h5py: file.copy(other['x'], 'x')."


@contextlib.contextmanager
def open_hdf5(path: Path, content: io.BytesIO | None = None, again: str = AGAIN) -> Iterator[h5py.File]:
    """An HDF5 file, or one held in memory, with its errors in the user's words; ``again`` is the hint if it is damaged.

    Raises:
        DataError: it cannot be opened.
    """
    if content is None and not read_head(path):
        raise DataError("this file is empty.", where=path, hint=again)
    try:
        file = h5py.File(content if content is not None else path, "r", rdcc_nbytes=LARGEST_CHUNK)
    except OSError as error:
        raise unreadable_hdf5(path, error, again) from error
    with file:
        yield file


def own_names(file: h5py.File, path: Path, again: str = AGAIN) -> list[str]:
    """The names of what the file itself holds: links are left out, and not followed.

    Raises:
        DataError: they cannot be read.
    """
    return [name for name in all_names(file, path, again) if isinstance(_link(file, name), h5py.HardLink)]


def all_names(file: h5py.File, path: Path, again: str = AGAIN) -> list[str]:
    """The names in a file, those of links included.

    Raises:
        DataError: they cannot be read.
    """
    try:
        return list(file)
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise unreadable_hdf5(path, error, again) from error


def _link(file: h5py.File, name: str) -> Any:
    """The link of a name, without following it; None where there is none, or none of a kind that is known."""
    try:
        return file.get(name, getlink=True)
    except (TypeError, KeyError, OSError, RuntimeError):
        return None


def dataset(file: h5py.File, name: str, path: Path, again: str = AGAIN) -> h5py.Dataset:
    """A dataset by its name, all of whose values lie in this file.

    Raises:
        DataError: as for :func:`described`; or the values lie in another file, some were never written, or they are
            packed so that they cannot be read, or only in large pieces.
    """
    found = described(file, name, path, again)
    try:
        _require_own_values(found, name, path)
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable_hdf5(path, error, again) from error
    return found


def described(file: h5py.File, name: str, path: Path, again: str = AGAIN) -> h5py.Dataset:
    """A dataset by its name, of which only the description is known to be here.

    Raises:
        DataError: there is none of this name, a link stands in its place, or it cannot be read.
    """
    link = _link(file, name)
    if isinstance(link, h5py.ExternalLink):
        raise DataError(f"{name!r} is a link to another file, and links are not followed.", where=path, hint=COPY_IN)
    if isinstance(link, h5py.SoftLink):
        raise DataError(f"{name!r} is a link within the file, and links are not followed.", where=path, hint=COPY_IN)
    try:
        found = file[name] if isinstance(link, h5py.HardLink) else None
    except (KeyError, OSError, RuntimeError) as error:
        raise unreadable_hdf5(path, error, again) from error
    if not isinstance(found, h5py.Dataset):
        held = listed([repr(key) for key in all_names(file, path, again)]) or "nothing"
        raise DataError(f"there is no dataset {name!r} in this file; it holds {held}.", where=path)
    return found


def _require_own_values(data: h5py.Dataset, name: str, path: Path) -> None:
    plan = data.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
        what = f"the values of {name!r} lie in another file, and no other file is read."
        raise DataError(what, where=path, hint=COPY_IN)
    _require_known_filters(plan, name, path)
    shape, chunks, itemsize = data.shape or (), data.chunks, data.id.get_type().get_size()
    wanted, written = math.prod(shape) * itemsize, data.id.get_storage_size()
    if chunks:
        if (size := math.prod(chunks) * itemsize) > LARGEST_CHUNK:
            raise DataError(
                f"{name!r} is packed in chunks of {size / 1e6:,.0f} MB; chunks up to {LARGEST_CHUNK / 1e6:,.0f} MB are "
                "read.",
                where=path,
                hint="Write it with smaller chunks: 'h5repack -l x:CHUNK=64x96x96x3 FILE NEW' of the HDF5 tools does "
                "so.",
            )
        wanted = math.prod(-(-side // of_chunk) for side, of_chunk in zip(shape, chunks, strict=True))
        written = data.id.get_num_chunks()
    if written < wanted:
        raise DataError(
            f"a part of {name!r} was never written: of {wanted:,} {'chunks' if chunks else 'bytes'} that its shape "
            f"{shape} needs, the file holds {written:,}.",
            where=path,
            hint="Check that the program that wrote it came to its end, and write it again.",
        )


def _require_known_filters(plan: h5py.h5p.PropDCID, name: str, path: Path) -> None:
    codes = _filters(plan)
    for number, code in enumerate(codes):
        if not h5py.h5z.filter_avail(code):
            called = plan.get_filter(number)[3].decode(errors="replace")
            raise DataError(
                f"{name!r} is compressed with a filter that is not installed here "
                f"({called or 'without a name'}, number {code}).",
                where=path,
                hint="Write the file again with gzip, where the filter is installed: 'h5repack -f GZIP=1 FILE NEW' of "
                "the HDF5 tools does so.",
            )
    compressing = [code for code in codes if code not in (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)]
    if len(compressing) > 1:
        raise DataError(
            f"{name!r} is compressed several times, by the filters {', '.join(map(str, compressing))}.",
            where=path,
            hint="Write it again with one of them: 'h5repack -f GZIP=1 FILE NEW' of the HDF5 tools does so.",
        )


def _filters(plan: h5py.h5p.PropDCID) -> list[int]:
    return [plan.get_filter(number)[0] for number in range(plan.get_nfilters())]


class Rows:
    """Rows of a dataset. HDF5 would unpack a chunk to whatever it holds, so that is looked at first."""

    def __init__(self, data: h5py.Dataset) -> None:
        self._data = data
        self._size = math.prod(data.chunks or ()) * data.id.get_type().get_size()
        self._filters = _filters(data.id.get_create_plist())
        self._known: int | None = None  # where the last of the chunks begin that are known to be sound

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The rows from ``start`` to before ``stop``.

        Raises:
            OSError: some are damaged.
        """
        if self._filters:
            self._require_sound(start, stop)
        return np.asarray(self._data[start:stop])

    def _require_sound(self, start: int, stop: int) -> None:
        chunks, shape = self._data.chunks, self._data.shape
        across = [range(0, side, of_chunk) for side, of_chunk in zip(shape[1:], chunks[1:], strict=True)]
        for first in range(start // chunks[0] * chunks[0], min(stop, shape[0]), chunks[0]):
            for place in itertools.product([first], *across) if first != self._known else ():
                self._require_small(place)
            self._known = first

    def _require_small(self, place: tuple[int, ...]) -> None:
        """
        Raises:
            OSError: a chunk is larger than one is, as it lies in the file or unpacked.
        """
        stored = self._data.id.get_chunk_info_by_coord(place).size
        most = self._size + MORE
        if stored <= most and (
            h5py.h5z.FILTER_DEFLATE not in self._filters or stored * MOST_DEFLATED <= MOST_UNCHECKED
        ):
            return
        if stored <= most:
            _, packed = self._data.id.read_direct_chunk(place)
            with contextlib.suppress(zlib.error):  # HDF5 will say that it is damaged
                stored = len(zlib.decompressobj().decompress(packed, most + 1))
        if stored > most:
            raise OSError(f"the chunk at {place} holds more than {self._size:,} bytes")


def unreadable_hdf5(path: Path, error: Exception, again: str = AGAIN) -> DataError:
    """Why HDF5 cannot read a file. Only a file that is damaged, or is something else, has to be fetched again."""
    what = str(error)
    if "unable to lock file" in what:
        return _locked(path, error)
    if "already open for write" in what:
        return DataError(
            "this HDF5 file is open for writing, or was not closed by the program that wrote it.",
            where=path,
            hint="Wait until that program is done. If it was stopped, 'h5clear -s FILE' of the HDF5 tools makes the "
            "file readable. Then check that its content is complete.",
        )
    if isinstance(error, PermissionError):
        return DataError("cannot be read (Permission denied).", where=path, hint=MAY_NOT_READ)
    if "signature not found" in what:
        return DataError("this is not an HDF5 file, although its name says so.", where=path, hint=again)
    if "truncated" in what:
        return DataError("this HDF5 file is truncated.", where=path, hint=again)
    if "version" in what:
        return DataError(
            f"this HDF5 file is of a version that HDF5 {h5py.version.hdf5_version} does not know ({what}).",
            where=path,
            hint="It was written by a newer HDF5, or is damaged. Update h5py, or write the file in an older format "
            "(h5py's libver='earliest').",
        )
    return DataError(f"this HDF5 file is damaged ({what}).", where=path, hint=again)


def _locked(path: Path, error: Exception) -> DataError:
    if getattr(error, "errno", None) in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK):
        return DataError(
            "this HDF5 file is locked: another program has it open for writing.",
            where=path,
            hint="Wait until that program is done, or close it. The file is not necessarily damaged.",
        )
    return DataError(
        f"this HDF5 file cannot be locked for reading ({error}).",
        where=path,
        hint="Some network file systems have no locks. If no program writes to the file, set the environment variable "
        "HDF5_USE_FILE_LOCKING=FALSE and run the same command again.",
    )

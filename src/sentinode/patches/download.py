"""Download the official files of PatchCamelyon from Zenodo (record 2546921), or from a mirror of it.

Each file is downloaded into a hidden ``.part`` file, resumed after an interruption, checked against its
published checksum, unpacked, and checked again. No unchecked file ever gets its final name.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sentinode._version import __version__
from sentinode.atomic import ABANDONED_S, make_folder, output_errors, whole_file
from sentinode.errors import DataError, DownloadError, OutputError
from sentinode.geometry import PCAM
from sentinode.patches.official import PUBLISHED_MD5, STEM, gunzip
from sentinode.patches.patch_set import SPLITS
from sentinode.progress import Bar, bar, console

RECORD = "https://zenodo.org/records/2546921"
FILES_URL = f"{RECORD}/files"
MANUALLY = (
    f"Run the same command again to resume, name a mirror with --url, or download the files by hand from "
    f"{RECORD} into the folder and run the command again. It checks and unpacks the files that it finds."
)
PATCHES = {"train": 262_144, "valid": 32_768, "test": 32_768}
PACKED_BYTES = {"train": 6_500_000_000, "valid": 810_000_000, "test": 805_000_000}
"""Size of the images of a split as published, rounded up: for the check of the disk alone."""

ENDINGS = ("meta.csv", "y.h5.gz", "x.h5.gz")
"""Of the files of a split."""

CHUNK = 1 << 20
TRIES = 6
TIMEOUT_S = 30.0
ANSWERED_S = 90.0
"""Seconds in which a server must have answered, redirections and all headers included, and sent each part of a body
that it sends in parts. ``TIMEOUT_S`` begins anew with each byte."""
SLOWEST, WATCHED_S = 1_000, 60.0
"""Bytes a second that must arrive at least, as the mean over so many seconds; else the connection is given up."""
LARGEST_TABLE = 100_000_000
"""Bytes of a file that holds no images, at most."""
BUSY = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers that mean: later."""


Result = TypeVar("Result")


class _TryAgain(Exception):
    """The connection was lost or the server is busy; the received part is kept."""


@dataclass(frozen=True)
class _Task:
    name: str
    url: str
    md5: str
    out: Path
    pause: float

    @property
    def largest(self) -> int:
        """Bytes at most; a server that sends more would fill the disk."""
        split = self.name.removeprefix(STEM).split("_")[0]
        return PACKED_BYTES[split] if self.name.endswith("_x.h5.gz") else LARGEST_TABLE

    @property
    def part(self) -> Path:
        return self.out / f".{self.name}.part"


def download(
    out: str | Path,
    *,
    splits: Iterable[str] = SPLITS,
    url: str = FILES_URL,
    keep_gz: bool = False,
    show: bool = True,
    pause: float = 2.0,
) -> list[Path]:
    """Download the official files of some splits: images, labels and the slide of each patch.

    Args:
        out: the folder to write to. Existing files are checked and not downloaded again.
        splits: the splits to download, of ``train``, ``valid`` and ``test``.
        url: the address of the folder that contains the files; their names are appended.
        keep_gz: keep the compressed files beside the unpacked ones.
        show: whether to draw progress bars.
        pause: seconds before the second try; doubled before each one after it.

    Returns:
        The files, unpacked.

    Raises:
        DownloadError: a file cannot be downloaded, or is not the published one.
        OutputError: ``out`` cannot be written, or the disk has too little space.
    """
    out, chosen = Path(out), list(splits)
    if wrong := [split for split in chosen if split not in SPLITS]:
        raise DataError(f"there is no split {wrong[0]!r}; there are {', '.join(SPLITS)}.")
    if not _is_address(url):
        raise DownloadError("a mirror's address must begin with http:// or https:// and name a server.", where=url)
    make_folder(out)
    _sweep(out, chosen)
    check_room(out, chosen, keep_gz)
    fetched = []
    for split in chosen:
        for ending in ENDINGS:
            name = f"{STEM}{split}_{ending}"
            task = _Task(name, f"{url.rstrip('/')}/{name}?download=1", PUBLISHED_MD5[name], out, pause)
            fetched.append(_fetch_and_unpack(task, keep_gz, show))
    return fetched


def _sweep(out: Path, splits: list[str]) -> None:
    """Remove what other downloads left half-received a day ago or longer; what is asked for now is resumed."""
    for split in set(SPLITS) - set(splits):
        for part in (out / f".{STEM}{split}_{ending}.part" for ending in ENDINGS):
            with contextlib.suppress(OSError):
                if time.time() - part.lstat().st_mtime > ABANDONED_S:
                    part.unlink()


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return False


def check_room(out: Path, splits: list[str], keep_gz: bool) -> None:
    """
    Raises:
        OutputError: the disk has too little room for the files that are not there yet.
    """
    lacking = [split for split in splits if not (out / f"{STEM}{split}_x.h5").exists()]
    packed = [PACKED_BYTES[split] for split in lacking]
    needed = sum(PATCHES[split] * PCAM.patch_bytes for split in lacking)
    needed += sum(packed) if keep_gz else max(packed, default=0)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise OutputError(
            f"{_and(lacking)} need {needed / 1e9:.1f} GB while they are unpacked, and this disk has "
            f"{free / 1e9:.1f} GB free.",
            where=out,
            hint="Choose another disk, or fewer splits with --splits.",
        )


def _and(names: list[str]) -> str:
    return " and ".join(names)


def _fetch_and_unpack(task: _Task, keep_gz: bool, show: bool) -> Path:
    packed = task.out / task.name
    final = packed.with_suffix("") if packed.suffix == ".gz" else packed
    if final.exists():
        if md5(final) == PUBLISHED_MD5[final.name]:
            task.part.unlink(missing_ok=True)
            return final
        raise DownloadError(
            "there is already a file of this name, and it is not the published one.",
            where=final,
            hint="Move it away, or choose another folder.",
        )
    with output_errors(packed):
        if not (packed.exists() and md5(packed) == task.md5):
            _fetch(task, show)
        task.part.unlink(missing_ok=True)  # where the file was put here by hand
        if final != packed:
            _unpack(packed, final, show)
            if not keep_gz:
                packed.unlink()
    return final


def _fetch(task: _Task, show: bool) -> None:
    """Fetch a file to its place, trying again where that may help."""
    resumed = task.part.exists()
    with bar(task.name, unit="MB", show=show) as shown:
        for number in range(1, TRIES + 1):
            try:
                _receive(task, shown)
                break
            except _TryAgain as cut:
                if number == TRIES:
                    raise DownloadError(
                        f"could not be downloaded in {TRIES} tries ({cut}).", where=task.url, hint=MANUALLY
                    ) from cut
                shown.note(f"{cut}; trying again")
                time.sleep(task.pause * 2 ** (number - 1))
    arrived = md5(task.part)
    if arrived == task.md5:
        task.part.replace(task.out / task.name)
        return
    with task.part.open("rb") as file:
        is_page = file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))
    task.part.unlink()
    if is_page:
        raise _web_page(task)
    if resumed:
        console.print(f"{task.name}: the part downloaded earlier does not fit; downloading it from the start.")
        _fetch(task, show)
        return
    other = next((name for name, known in PUBLISHED_MD5.items() if known == arrived), None)
    what = f"it is the published {other}" if other else f"its MD5 is {arrived}, the published one is {task.md5}"
    raise DownloadError(
        f"the wrong file arrived for {task.name}: {what}.",
        where=task.url,
        hint="It was removed. If you named a mirror, name another; if not, try again later.",
    )


def _receive(task: _Task, shown: Bar) -> None:
    """Receive what is lacking of a file.

    Raises:
        _TryAgain: the line was cut, or the server is busy.
        DownloadError: the file is not there, or a web page came in its place.
    """
    have = task.part.stat().st_size if task.part.exists() else 0
    request = urllib.request.Request(task.url, headers={"User-Agent": f"sentinode/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with _in_time(lambda: _OPENER.open(request, timeout=TIMEOUT_S)) as answer:
            _refuse_web_page(answer, task)
            begins = _first_byte(answer)
            length = answer.headers.get("Content-Length") or ""
            total = begins + int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
            if total:
                shown.total(total // 1_000_000)
            # A server that ignores the range, or answers another one, sends bytes that cannot be appended.
            if begins not in (0, have):
                raise _TryAgain("the server sent another part of the file than asked for")
            with task.part.open("ab" if begins else "wb") as file:
                shown.advance(begins // 1_000_000)
                for chunk in _chunks(answer):
                    before = file.tell()
                    if before + len(chunk) > task.largest:
                        raise _too_large(task)
                    file.write(chunk)
                    shown.advance(file.tell() // 1_000_000 - before // 1_000_000)
                arrived = file.tell()
    except urllib.error.HTTPError as error:
        _refuse_status(error, task)
        return
    except ValueError as error:  # a redirection to what is no address
        raise DownloadError(
            f"the server sent us to an address that is none ({error}).", where=task.url, hint=MANUALLY
        ) from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error
        raise _TryAgain(str(reason) or type(error).__name__) from error
    if total is not None and arrived < total:
        raise _TryAgain(f"the connection was lost at {arrived / 1e6:,.1f} of {total / 1e6:,.1f} MB")


class _HttpAlone(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https alone; urllib also goes to ftp."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not _is_address(newurl):
            raise ValueError(newurl[:200])
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_HttpAlone)


def _in_time(ask: Callable[[], Result]) -> Result:
    """What ``ask`` returns, if it does so in time. If not, its thread is left behind, and what it returns is closed.

    Raises:
        _TryAgain: it took too long.
    """
    found: Future[Result] = Future()

    def answer() -> None:
        try:
            found.set_result(ask())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=answer, daemon=True).start()
    if not wait([found], ANSWERED_S).done:
        found.add_done_callback(_close)
        raise _TryAgain(f"the server did not finish its answer within {ANSWERED_S:.0f} seconds")
    return found.result()


def _cut(answer: http.client.HTTPResponse) -> None:
    """End a connection that another thread reads from; to close the answer alone would wait for that thread."""
    try:
        with socket.fromfd(answer.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line:
            line.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):  # it has ended meanwhile
        return


def _close(late: Future[Any]) -> None:
    if late.exception() is None and hasattr(late.result(), "close"):
        late.result().close()


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What arrives, as it arrives.

    Raises:
        _TryAgain: the connection fails, or is so slow that it would never end.
    """
    began, received = time.monotonic(), 0
    while True:
        try:
            # A server that sends parts states the size of each in a line, which could drip.
            chunk = _in_time(lambda: answer.read1(CHUNK)) if answer.chunked else answer.read1(CHUNK)
        except _TryAgain:
            _cut(answer)
            raise
        except OSError as error:
            raise _TryAgain(str(error) or type(error).__name__) from error
        if not chunk:
            return
        yield chunk
        received += len(chunk)
        watched = time.monotonic() - began
        if watched > WATCHED_S:
            if received < SLOWEST * watched:
                raise _TryAgain(f"only {received / watched:,.0f} bytes a second arrived")
            began, received = time.monotonic(), 0


def _too_large(task: _Task) -> DownloadError:
    task.part.unlink(missing_ok=True)
    return DownloadError(
        f"the server sent more than {task.largest / 1e6:,.0f} MB for {task.name}, which is smaller.",
        where=task.url,
        hint="It was removed. If you named a mirror, name another; if not, try again later.",
    )


def _first_byte(answer: http.client.HTTPResponse) -> int:
    """Where in the file the answer begins."""
    if answer.status != 206:
        return 0
    given = answer.headers.get("Content-Range", "")
    try:
        return int(given.removeprefix("bytes").strip().split("-")[0])
    except ValueError:
        raise _TryAgain(f"the server did not state which part it sent ({given!r})") from None


def _refuse_web_page(answer: http.client.HTTPResponse, task: _Task) -> None:
    if answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _web_page(task)


def _web_page(task: _Task) -> DownloadError:
    return DownloadError(
        f"the server sent a web page instead of {task.name}.",
        where=task.url,
        hint=f"A proxy, a login page or a confirmation page may be the cause. {MANUALLY}",
    )


def _refuse_status(error: urllib.error.HTTPError, task: _Task) -> None:
    """Say what an HTTP error means; 416 alone is none: the whole file has arrived already."""
    if error.code == 416:
        return
    if error.code in BUSY:
        raise _TryAgain(f"the server is busy (HTTP {error.code})") from error
    what = "is not there" if error.code in (404, 410) else "was refused"
    raise DownloadError(
        f"{task.name} {what} (HTTP {error.code} {error.reason}).", where=task.url, hint=MANUALLY
    ) from error


def _unpack(packed: Path, final: Path, show: bool) -> None:
    """Unpack a checked file, and check what comes out.

    Raises:
        DownloadError: it is not the published one.
    """
    digest, done = hashlib.md5(), 0
    total = PATCHES[final.name.removeprefix(STEM).split("_")[0]] * PCAM.patch_bytes // 1_000_000
    title = f"unpacking {final.name}"
    with (
        bar(title, total if final.stem.endswith("_x") else None, unit="MB", show=show) as shown,
        whole_file(final) as staged,
    ):
        with staged.open("wb") as file:
            for chunk in gunzip(packed):
                file.write(chunk)
                digest.update(chunk)
                shown.advance((done + len(chunk)) // 1_000_000 - done // 1_000_000)
                done += len(chunk)
        if digest.hexdigest() != PUBLISHED_MD5[final.name]:
            raise DownloadError(
                f"the unpacked file is not the published one (MD5 {digest.hexdigest()}).",
                where=packed,
                hint="Remove it and run the same command again.",
            )


def md5(path: Path) -> str:
    """MD5 of a file, as published: against accidents, not against malice."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

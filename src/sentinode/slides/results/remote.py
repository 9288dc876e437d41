"""Results that lie elsewhere, such as in S3: a batch whose slides are scanned in a folder here, and kept at an address.

The address holds what a batch's folder holds. A slide's manifest is written last, and removed before its other files
are replaced, so a slide that is done there is whole. The folder here keeps whole only what the address lacks; of the
other slides it keeps what the batch's page is made of. There are no claims at an address: two machines may scan the
same slide, which gives the same bytes. The batch's manifest is created there only if there is none, so all machines
compute with one engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

from filelock import Timeout

from sentinode.atomic import output_errors, whole_file
from sentinode.errors import OutputError, SentinodeError
from sentinode.locks import BATCH, lock
from sentinode.names import folder_name, printable
from sentinode.progress import bar, console
from sentinode.slides.reading.addresses import KINDS, WEB, kind_of, open_address, reaching, without_credentials
from sentinode.slides.results.outputs import TOTALS
from sentinode.slides.results.summary import PAGE, RESULTS, write_slide_page, write_summary
from sentinode.slides.scanning.manifest import (
    DONE,
    MANIFEST,
    TISSUE,
    SlideState,
    begun_of,
    parse_state,
    read_state,
    read_states,
)
from sentinode.slides.scanning.probability_map import ARRAY, RECORD
from sentinode.slides.scanning.scores import LOG, PLAN

KEPT = (RECORD, TOTALS)
"""What stays here of a slide that lies at the address, beside its manifest."""

PAUSES_S = (5.0, 30.0, 120.0, 600.0)
"""Seconds between two tries while slides are scanned, so that a short failure of the network does not end the night."""

READERS, WRITERS = 16, 4
"""Small files that are read at a time, and files that are written, which are held in memory."""


class RemoteBatch:
    """A batch at an address.

    Args:
        url: the address.
        stage: a local folder; the batch gets a folder of its own in it, which the next call finds again.
        show: whether to show progress.

    Attributes:
        shown: the address without what may be a credential.
        folder: where its slides are scanned.

    Raises:
        OutputError: results cannot be written to such an address, or there is no ``stage``.
    """

    def __init__(self, url: str, stage: Path | None, *, show: bool) -> None:
        self.shown = without_credentials(url).rstrip("/")
        _require_writable(url, self.shown)
        if stage is None:
            raise OutputError(
                "slides are scanned on a local disk before their results are written there, and no folder is named.",
                where=self.shown,
                hint="Name a folder on a local disk, such as --stage /tmp/slides.",
            )
        digest = hashlib.sha256(url.rstrip("/").encode("utf-8", "surrogateescape")).hexdigest()
        self.folder = stage.absolute() / f"results-{digest[:16]}"
        self._show = show
        with self._reaching():
            self._files, root = open_address(url.rstrip("/"), use_listings_cache=False)
        self._root = root.rstrip("/")
        self._batch: bytes | None = None
        self._there: dict[str, bytes | None] = {}  # the manifests at the address, as they were seen last
        self._done: set[str] = set()

    @contextlib.contextmanager
    def joining(self) -> Iterator[None]:
        """Join the batch at the address, and let an error of the block about the batch name its address in place of
        the folder here.

        Raises:
            OutputError: as for :meth:`join`.
        """
        self.join()
        try:
            yield
        except SentinodeError as error:
            if error.where not in (self.folder, self.folder / MANIFEST) or isinstance(error.__cause__, OSError):
                raise
            hint = error.hint or ""
            if self._batch is None:
                hint += f" If you have emptied that address, remove {self.folder}, which an earlier scan left."
            raise type(error)(error.what, where=self.shown, hint=hint) from error

    def join(self) -> None:
        """Take over the manifest of the batch that the address holds, if there is one.

        Results of another batch that are still here are removed.

        Raises:
            OutputError: the address cannot be reached, or another process here scans for another batch there.
        """
        manifest = self.folder / MANIFEST
        with lock(self.folder, BATCH), self._reaching():
            self._batch = self._read(MANIFEST)
            if self._batch is None:
                return
            mine = manifest.read_bytes() if manifest.exists() else None
            if mine is not None and begun_of(mine) != begun_of(self._batch):
                self._forget()
            if mine != self._batch:
                _write(manifest, self._batch)

    def begin(self) -> bool:
        """Write the batch's manifest to the address; False if another machine has begun a batch there meanwhile.

        Raises:
            OutputError: the address cannot be written.
        """
        manifest = self.folder / MANIFEST
        with lock(self.folder, BATCH), self._reaching():
            mine = manifest.read_bytes()
            if self._batch is not None:
                self._put(manifest, MANIFEST)  # which shows that the address can still be written
                return True
            try:
                self._put(manifest, MANIFEST, mode="create")
            except FileExistsError:
                pass
            except Exception:
                if self._read(MANIFEST) is None:
                    raise
            # Some servers write it although it is there. Who reads another's manifest joins that.
            return self._read(MANIFEST) == mine

    def pull_all(self) -> None:
        """Take over the states of the slides at the address, and what the batch's page is made of.

        Raises:
            OutputError: the address cannot be reached, or the disk is full.
        """
        here = {state.name for state in read_states(self.folder)}
        with self._reaching():
            self._pull_each(sorted({*self._slides(), *here}))

    def pull(self, name: str) -> None:
        """Take over a slide that another machine has finished. The caller holds the slide's lock.

        Raises:
            OutputError: the address cannot be reached, or the disk is full.
        """
        if name not in self._done:
            self._keep_trying(partial(self._pull, name))

    def push(self, name: str) -> None:
        """Write a slide that is done or failed to the address, unless it lies there, and remove what is not needed
        here any more. The caller holds the slide's lock.

        Raises:
            OutputError: the address cannot be written.
        """
        folder = self.folder / name
        state = read_state(folder / MANIFEST)
        if state is None:
            return
        if self._there.get(name) != (folder / MANIFEST).read_bytes():
            if _is_whole(folder, state) and (folder / TOTALS).is_file():
                write_slide_page(folder)
            self._keep_trying(partial(self._push, name, state))
        _slim(folder)

    def finish(self) -> None:
        """Write the batch's page, with the slides that other machines have finished, and what is still here alone.

        Raises:
            SlideError: there is no slide.
            OutputError: the address cannot be written.
        """
        self._keep_trying(lambda: self._pull_each(sorted({*self._slides()} - self._there.keys())))
        for state in read_states(self.folder):
            if _is_whole(self.folder / state.name, state):
                with contextlib.suppress(Timeout), lock(self.folder, state.name, wait=False):
                    self.push(state.name)
        page = write_summary(self.folder, of_slides=False)
        self._keep_trying(lambda: self._put(page, PAGE))

    def _reaching(self) -> contextlib.AbstractContextManager[None]:
        return reaching(self.shown, writing=True)

    def _keep_trying(self, do: Callable[[], object]) -> None:
        """Do something at the address, again after a while if the network or the server fails."""
        with self._reaching():
            for pause in PAUSES_S:
                try:
                    do()
                    return
                except (SentinodeError, PermissionError, FileNotFoundError):
                    raise
                except Exception as error:
                    console.print(
                        f"{self.shown}: it cannot be reached ({type(error).__name__}). The next try is in {pause:g} s.",
                        markup=False,
                    )
                time.sleep(pause)
            do()

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *names))

    def _read(self, *names: str) -> bytes | None:
        """A small file at the address, or None where there is none."""
        try:
            return bytes(self._files.cat_file(self._path(*names), start=0))  # a part needs no question for its size
        except FileNotFoundError:
            return None

    def _put(self, file: Path, *names: str, mode: str = "overwrite") -> None:
        self._files.put_file(str(file), self._path(*names), mode=mode)

    def _remove(self, *names: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._path(*names))

    def _listed(self, *names: str) -> list[str]:
        self._files.invalidate_cache()
        try:
            return [PurePosixPath(path).name for path in self._files.ls(self._path(*names), detail=False)]
        except FileNotFoundError:
            return []

    def _slides(self) -> list[str]:
        return [name for name in self._listed() if name not in (MANIFEST, PAGE) and folder_name(name) == name]

    def _pull_each(self, names: Iterable[str]) -> None:
        def pull(name: str) -> None:
            with contextlib.suppress(Timeout), lock(self.folder, name, wait=False):
                self._pull(name)

        self._each(pull, list(names), READERS, "Reading what is done", "slides")

    def _each(self, do: Callable[[str], object], items: list[str], threads: int, title: str, unit: str) -> None:
        show = self._show and bool(items)
        with bar(title, len(items), unit=unit, show=show) as shown, ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(do, items):
                shown.advance()

    def _pull(self, name: str) -> None:
        folder, there = self.folder / name, self._read(name, MANIFEST)
        self._see(name, there)
        theirs, mine = _state(there, name), read_state(folder / MANIFEST)
        if mine is not None and _is_whole(folder, mine):
            return  # it is done here, and pushing it will tell whether it lies there
        if theirs is not None and there is not None:
            if mine is None or there != (folder / MANIFEST).read_bytes():
                self._take(theirs, there)
        elif mine is not None and mine.state == DONE:
            _clear(folder, MANIFEST, *KEPT)  # it was removed there, so it is scanned again

    def _see(self, name: str, there: bytes | None) -> None:
        self._there[name] = there
        state = _state(there, name)
        if state is not None and state.state == DONE:
            self._done.add(name)

    def _take(self, theirs: SlideState, there: bytes) -> None:
        """Keep here what stays of a slide at the address, in place of what is here."""
        folder = self.folder / theirs.name
        kept = {name: self._read(theirs.name, name) if theirs.state == DONE else None for name in KEPT}
        _clear(folder, TISSUE, *RESULTS)
        for name, content in {**kept, MANIFEST: there}.items():
            if content is not None:
                _write(folder / name, content)

    def _push(self, name: str, state: SlideState) -> None:
        folder = self.folder / name
        mine, there = (folder / MANIFEST).read_bytes(), self._read(name, MANIFEST)
        theirs = _state(there, name)
        if there is not None and theirs is not None and there != mine and self._is_done_there(there, theirs, state):
            self._take(theirs, there)
            mine = there
        elif there != mine and (state.state != DONE or _is_whole(folder, state)):
            self._upload(name, folder, replaces=there is not None)
        elif there is not None and there != mine:
            self._put(folder / MANIFEST, name, MANIFEST)  # the slide has another path now; its files lie there
        self._see(name, mine)

    def _is_done_there(self, there: bytes, theirs: SlideState, state: SlideState) -> bool:
        """Whether another machine has finished a slide that was scanned here too."""
        folder = self.folder / theirs.name
        if theirs.state != DONE:
            return False
        if _is_whole(folder, state):
            return self._read(theirs.name, RECORD) == (folder / RECORD).read_bytes()
        # It failed here. What was done there before belongs to an older slide.
        return state.state != DONE and there != self._there.get(theirs.name)

    def _upload(self, name: str, folder: Path, *, replaces: bool) -> None:
        if replaces:
            self._remove(name, MANIFEST)
        files = {file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")}
        files -= {MANIFEST, LOG, PLAN}
        self._each(
            lambda file: self._put(folder / file, name, file), sorted(files), WRITERS, f"Writing {name}", "files"
        )
        for left in {*self._listed(name)} & {TISSUE, *RESULTS} - files:
            self._remove(name, left)
        self._put(folder / MANIFEST, name, MANIFEST)

    def _forget(self) -> None:
        """Remove what is here of another batch."""
        for name in (state.name for state in read_states(self.folder)):
            try:
                with lock(self.folder, name, wait=False):
                    _clear(self.folder / name, MANIFEST, TISSUE, *RESULTS, LOG, PLAN)
            except Timeout:
                raise OutputError(
                    f"another process on this machine scans '{printable(name)}' for another batch at this address.",
                    where=self.shown,
                    hint="Wait for it or end it, and run the same command again.",
                ) from None
        _clear(self.folder, MANIFEST, PAGE)


def _require_writable(url: str, shown: str) -> None:
    """
    Raises:
        OutputError: results cannot be written to addresses of this form.
    """
    kind, rest = kind_of(url), url.partition("://")[2]
    kinds = [kind for kind in KINDS if kind not in WEB]
    if kind not in kinds:
        raise OutputError(
            "results cannot be written to a web server."
            if kind in WEB
            else f"results are not written to '{printable(kind)}://'.",
            where=shown,
            hint=f"Sentinode writes to {', '.join(f'{kind}://' for kind in kinds)}, and to folders.",
        )
    user, _, place = rest.partition("/")[0].rpartition("@")
    if not place:
        raise OutputError("this address names no bucket.", where=url, hint=f"Write {kind}://BUCKET/FOLDER.")
    if "?" in rest or "::" in rest or ":" in user:
        raise OutputError(
            "an address for results has no '?', no '::' and no password.",
            where=shown,
            hint="Give credentials where its library looks for them, such as AWS_PROFILE or ~/.aws/credentials.",
        )


def _state(manifest: bytes | None, name: str) -> SlideState | None:
    return None if manifest is None else parse_state(manifest.decode("utf-8", "replace"), name)


def _is_whole(folder: Path, state: SlideState) -> bool:
    """Whether all files of a slide that is done are here, and not only at the address."""
    return state.state == DONE and all((folder / name).is_file() for name in (RECORD, ARRAY))


def _slim(folder: Path) -> None:
    """Remove the files of a slide that lies at the address. The array goes first, for it says that all are here."""
    _clear(folder, ARRAY, TISSUE, *(name for name in RESULTS if name not in KEPT))


def _clear(folder: Path, *names: str) -> None:
    with output_errors(folder):
        for name in names:
            (folder / name).unlink(missing_ok=True)


def _write(file: Path, content: bytes) -> None:
    with whole_file(file) as staged:
        staged.write_bytes(content)

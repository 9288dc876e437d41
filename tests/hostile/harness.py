"""Run the real commands on hostile inputs, and check what SECURITY.md promises for each of them.

A test file of this folder holds a list of cases and one test that hands each to the fixture ``hostile``::

    CASES = [Case("a card that is no JSON", broken_card, r"card\\.json: .* not JSON")]

    @pytest.mark.parametrize("case", CASES, ids=by_name)
    def test_it_is_refused(case: Case, hostile: Hostile) -> None:
        hostile(case)

For each case ``make`` writes the input into an empty folder, which is also the command's working folder, and returns
the command's arguments. The command runs in a child of a warm process (``warm_worker``). Then these must hold:

- the exit code is ``code``, and standard error matches ``says``, in a few lines and without a traceback;
- it took less than ``SECONDS`` and ``MEMORY``;
- the folder holds what it held before, but for ``leaves``;
- no file outside of the case's folder and the installation was opened, no program started, nothing connected to. The
  hook sees what Python opens, not what HDF5, libtiff or Arrow open: for those a case plants a ``secret`` in a file that
  the input points to, and nothing that the command prints or writes may hold it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypeAlias

SECONDS = 10.0
"""Processor seconds of a command at most."""

IDLE = 10.0
"""Seconds in which a command that hangs gets nothing of the processor. The clock alone would blame a busy machine."""

MEMORY = 1_500_000_000
LINES = 12
"""Lines on standard error at most."""


@dataclass(frozen=True)
class Case:
    """A hostile input, and what the command must say to it.

    Attributes:
        name: what is wrong with the input; the name of the test.
        make: writes the input into an empty folder and returns the command's arguments. Paths may be relative to it.
        says: a regular expression that is found in standard error, whose white space is made single spaces.
        code: the exit code. 2 is a refusal; 0 is for odd inputs that are taken.
        leaves: patterns (``fnmatch``, relative to the folder) of the files that the command may write or change.
        secret: what may not be in anything that the command prints or writes.
        env: further environment variables, such as ``PYTHONIOENCODING``.
        file_size: bytes that a file may have at most, as by ``ulimit -f``.
        nobody: run as a user who is not root.
        stdout: a file for standard output, such as ``/dev/full``.
        fault: the function of ``faults`` that breaks something in the child before the command runs.
        may: what is no failure in this case: ``start`` a program, ``connect``.
        says_out: a regular expression that is found in standard output.
        result: patterns of the files whose content counts as the result, with what is printed on standard output.
    """

    name: str
    make: Callable[[Path], list[str]] = field(repr=False)
    says: str
    code: int = 2
    leaves: tuple[str, ...] = ()
    secret: bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    file_size: int | None = None
    nobody: bool = False
    stdout: str | None = None
    fault: str | None = None
    may: tuple[str, ...] = ()
    says_out: str = ""
    result: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        seconds, processor: on the clock, and of the processor.
        peak: bytes of memory that it took beyond those of its warm parent.
        broken: what it opened, started or connected to.
        left: files that it wrote, changed or removed; those that the case allows are not among them.
        told: whether the secret is in what it printed or wrote.
        where: where it was when it hung.
        result: a digest of what it printed, and of the files that the case names.
    """

    code: int
    out: str
    err: str
    seconds: float
    processor: float
    peak: int
    hung: bool
    broken: tuple[str, ...]
    left: tuple[str, ...]
    told: bool
    where: str
    result: str = ""


Hostile: TypeAlias = Callable[[Case], Outcome]


def by_name(case: Case) -> str:
    """The id of a case's test."""
    return case.name.replace(" ", "-")


def faults_of(case: Case, outcome: Outcome) -> list[str]:
    """Everything in an outcome that breaks the promise; empty where all is well."""
    said = " ".join(outcome.err.split())
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    checks = {
        f"hung for {outcome.seconds:.0f} s at:\n{outcome.where}": outcome.hung,
        f"exit code {outcome.code}, not {case.code}": not outcome.hung and outcome.code != case.code,
        "a traceback": "Traceback" in outcome.err or "This is a bug in Sentinode" in said,
        f"does not say /{case.says}/": re.search(case.says, said) is None,
        f"does not print /{case.says_out}/": re.search(case.says_out, outcome.out) is None,
        f"{len(lines)} lines": len(lines) > LINES,
        f"{outcome.processor:.1f} s of the processor": outcome.processor > SECONDS,
        f"{outcome.peak / 1e6:,.0f} MB": outcome.peak > MEMORY,
        f"left behind: {', '.join(outcome.left)}": bool(outcome.left),
        "; ".join(outcome.broken): bool(outcome.broken),
        "the secret is in what it printed or wrote": outcome.told,
    }
    return [fault for fault, broken in checks.items() if broken]


def check(case: Case, outcome: Outcome) -> None:
    """Fail with everything that is wrong at once, and with what the command said."""
    faults = faults_of(case, outcome)
    if faults:
        said = outcome.err if len(outcome.err) < 6000 else f"{outcome.err[:2000]}\n...\n{outcome.err[-4000:]}"
        raise AssertionError("\n".join([*faults, "It said:", said, "It printed:", outcome.out[-1000:]]))


def run(case: Case, worker: Worker, processor: float = SECONDS, idle: float = IDLE) -> Outcome:
    """Make the input, run the command in a child of ``worker``, and look at what is there after it."""
    place = Path(tempfile.mkdtemp(prefix="sentinode-hostile-")).resolve()
    try:
        work, home, temporary = (place / name for name in ("work", "home", "tmp"))
        for folder in (work, home, temporary):
            folder.mkdir()
        arguments = case.make(work)
        if case.nobody:
            _give_away(place)
        before = _contents(work)
        env = {"HOME": str(home), "TMPDIR": str(temporary)}
        env |= {"XDG_CONFIG_HOME": str(home / "config"), **case.env}
        if case.nobody:  # who may not write to the cache that the others share, with its compiled networks
            env = {"SENTINODE_CACHE": str(home / "patches"), **env}
        answer = worker.ask(
            {
                "place": str(place),
                "arguments": [os.fsencode(argument).hex() for argument in arguments],
                "env": env,
                "processor": processor,
                "idle": idle,
                "file_size": case.file_size,
                "nobody": case.nobody,
                "stdout": case.stdout,
                "fault": case.fault,
                "may": case.may,
            }
        )
        after = _contents(work)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        left = sorted(name for name in changed if not _matches(name, case.leaves))
        printed = {name: _bytes(place / name) for name in ("stdout", "stderr", "hang")}
        told = case.secret is not None and any(
            case.secret in text for text in (*printed.values(), *(_bytes(work / name) for name in sorted(changed)))
        )
        return Outcome(
            code=answer["code"],
            out=printed["stdout"].decode(errors="replace"),
            err=printed["stderr"].decode(errors="replace"),
            seconds=answer["seconds"],
            processor=answer["processor"],
            peak=answer["peak"],
            hung=answer["hung"],
            broken=tuple(dict.fromkeys(answer["broken"])),
            left=tuple(left),
            told=told,
            where=printed["hang"].decode(errors="replace"),
            result=_digest(printed["stdout"], work, [name for name in sorted(after) if _matches(name, case.result)]),
        )
    finally:
        _take_back(place)
        shutil.rmtree(place, ignore_errors=True)


def _contents(folder: Path) -> dict[str, tuple[object, ...]]:
    """The kind, size and time of everything in a folder, by its relative path; folders by their kind alone."""
    found: dict[str, tuple[object, ...]] = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)  # noqa: PTH118 (names that are no text stay as they are)
            state = os.lstat(path)
            kept = () if name in folders else (state.st_size, state.st_mtime_ns, state.st_ino)
            found[os.path.relpath(path, folder)] = (state.st_mode, *kept)
    return found


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _digest(printed: bytes, folder: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256(printed)
    for name in names:
        digest.update(name.encode(errors="surrogateescape") + _bytes(folder / name))
    return digest.hexdigest()


def _bytes(path: Path) -> bytes:
    """A file's first 64 MB; nothing of what is no regular file, such as a pipe."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(1 << 26)


def _give_away(place: Path) -> None:
    """Make the case's folder that of nobody, whom the child becomes. What ``make`` locked stays locked."""
    if os.geteuid() != 0:
        return
    for root, folders, files in os.walk(place):
        for name in (".", *folders, *files):
            os.lchown(os.path.join(root, name), 65534, 65534)  # noqa: PTH118


def _take_back(place: Path) -> None:
    """Let everything be removed, whatever a case did to its folders."""
    for root, folders, _ in os.walk(place):
        for name in folders:
            path = Path(root, name)
            if not path.is_symlink():
                path.chmod(0o700)


class Worker:
    """The warm process. Several threads may ask it at once."""

    def __init__(self) -> None:
        self._home = tempfile.mkdtemp(prefix="sentinode-hostile-worker-")
        program = [sys.executable, str(Path(__file__).with_name("warm_worker.py"))]
        self._process = subprocess.Popen(
            program, env=self._environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()
        self._running: dict[int, Future[dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self._fault = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "SENTINODE_"))}
        return kept | {
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            **dict.fromkeys(("HOME", "HF_HOME", "MPLCONFIGDIR"), self._home),
            "XDG_CACHE_HOME": self._home,  # compiled networks; all cases share them
            "OMP_WAIT_POLICY": "PASSIVE",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",  # Arrow's allocator would start a thread
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "200",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one case in a child of this process."""
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._fault:
                raise RuntimeError(self._fault)
            number = next(self._numbers)
            self._running[number] = answer
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request | {"id": number}) + "\n")
            self._process.stdin.flush()
        return answer.result()

    def _read(self) -> None:
        """Hand each answer to the thread that waits for it, until the process ends."""
        assert self._process.stdout is not None
        threads = json.loads(self._process.stdout.readline() or '{"threads": 0}')["threads"]
        while threads == 1 and (line := self._process.stdout.readline()):
            answer = json.loads(line)
            self._running.pop(answer["id"]).set_result(answer)
        with self._lock:
            self._fault = "the warm process ended; what it said is above"
            if threads > 1:
                self._fault = f"the warm process has {threads} threads, which a fork would lose"
            for waiting in self._running.values():
                waiting.set_exception(RuntimeError(self._fault))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._home, ignore_errors=True)


class Pool:
    """A warm process that runs ``size`` cases at once: two, or one where pytest-xdist has a process for each core."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._worker = Worker()
        self._threads = ThreadPoolExecutor(size)
        self._running: dict[str, Future[Outcome]] = {}

    def begin(self, cases: Iterable[Case]) -> None:
        """Start these cases in the background, in their order."""
        for case in cases:
            self._running[case.name] = self._threads.submit(run, case, self._worker)

    def outcome(self, case: Case, processor: float = SECONDS, idle: float = IDLE) -> Outcome:
        """The outcome of a case, which runs now if it was not begun."""
        running = self._running.pop(case.name, None)
        return running.result() if running is not None else run(case, self._worker, processor, idle)

    def close(self) -> None:
        """End the worker, and forget the cases that nobody waits for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._worker.close()

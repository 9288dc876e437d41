"""A process that has imported the command line once and forks a child for each case. ``harness`` starts and asks it.

It reads requests on standard input and answers on standard output, as JSON, one a line. Several children may
run at once.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import runpy
import select
import signal
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

sys.dont_write_bytecode = True  # or each import of a child would write beside the source

WARM = (
    "sentinode.cli",
    "numpy",
    "PIL.Image",
    "h5py",
    "pyarrow.parquet",
    "safetensors.torch",
    "torch",
    "torchvision.transforms.v2",
    "timm",
    "scipy.stats",
    "tifffile",
    "openslide",
    "pydicom",
    "shapely",
    "sentinode.prediction",
    "sentinode.training",
    "sentinode.slides.batch",
    "sentinode.evaluation.evaluating",
    "lightning.fabric",
    "matplotlib.font_manager",
)
"""What the commands import only when they run, and what takes most of their start."""

ROOM = 4 << 30
"""Bytes of address space that a child may take beyond its parent's, so that a bomb does not take the machine down."""

WRITES = {"os.remove": (0,), "os.rmdir": (0,), "os.mkdir": (0,), "os.rename": (0, 1), "os.truncate": (0,)}
WRITES |= {"os.link": (1,), "os.symlink": (1,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,)}
"""Audit events that change a file, and which of their arguments are its names."""

STARTS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
)
CONNECTS = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo")

SYSTEM = ("/usr", "/lib", "/lib64", "/proc", "/sys", "/etc/mime.types", "/etc/localtime", "/etc/ssl", "/etc/apache2")
DEVICES = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/tty")


def main() -> None:
    """Import everything, then serve until standard input ends."""
    for name in WARM:
        try:
            __import__(name)
        except ImportError:  # an extra that is not installed here; its cases are refused or skipped
            continue
    import sentinode

    readable = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *SYSTEM, *DEVICES]
    readable += [str(Path(sentinode.__file__).parent), str(Path(__file__).parent), os.environ["HF_HOME"]]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _answer(answers, {"threads": len(list(Path("/proc/self/task").iterdir()))})
    running: list[Child] = []
    open_still = True
    while open_still or running:
        ready = open_still and select.select([0], [], [], 0.01 if running else None)[0]
        if ready:
            line = _line()
            open_still = bool(line)
            if line:
                running.append(Child(json.loads(line), readable))
        for child in [child for child in running if child.ended()]:
            running.remove(child)
            _answer(answers, child.answer())


def _line() -> bytes:
    """One request, read byte by byte: what a buffer held back, ``select`` would not see."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return b""
        line += byte
    return line


def _answer(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


class Child:
    """A child that runs one case, ended if it takes longer than its limits."""

    def __init__(self, request: dict[str, Any], readable: list[str]) -> None:
        self._request, self._began = request, time.monotonic()
        self._hung, self._killed_at = False, 0.0
        self._used, self._busy_at = 0.0, self._began
        self._notes, writing = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            try:
                os.setpgid(0, 0)
                code = _run(request, writing, readable)
            except BaseException as fault:  # of the frame itself, not of the command
                os.write(writing, _note("frame", repr(fault)))
                code = 99
            os._exit(code)
        os.close(writing)

    def ended(self) -> bool:
        """Whether it has ended. One that takes too long or does nothing is asked where it is, then killed.

        On a busy machine a child may wait long for a processor. So what counts is that it gets some of it and does not
        end, or that it gets none for a while: none at all does not happen to one that could run.
        """
        process, self._status, self._usage = os.wait4(self._process, os.WNOHANG)
        now = time.monotonic()
        if process:
            return True
        used = _processor(self._process)
        if used != self._used:
            self._used, self._busy_at = used, now
        too_long = used > self._request["processor"] or now - self._busy_at > self._request["idle"]
        if too_long and not self._hung:
            self._hung, self._killed_at = True, now + 0.5
            os.kill(self._process, signal.SIGUSR1)
        elif self._hung and now > self._killed_at:
            os.kill(self._process, signal.SIGKILL)
        return False

    def answer(self) -> dict[str, Any]:
        """How it ended, and what it did on the way."""
        seconds = time.monotonic() - self._began
        _end_group(self._process)
        with os.fdopen(self._notes, "rb") as notes:
            noted = [json.loads(line) for line in notes.read().splitlines()]
        start = next((note["what"] for note in noted if note["kind"] == "start"), 0)
        return {
            "id": self._request["id"],
            "code": os.waitstatus_to_exitcode(self._status),
            "hung": self._hung,
            "seconds": seconds,
            "processor": self._usage.ru_utime + self._usage.ru_stime,
            "peak": max(0, self._usage.ru_maxrss * 1024 - start),
            "broken": [f"{note['kind']}: {note['what']}" for note in noted if note["kind"] != "start"],
        }


def _processor(process: int) -> float:
    """Seconds that all threads of a process had of the processor, to a hundredth."""
    numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def _end_group(group: int) -> None:
    """End what a child left running; the pipe of its notes ends with the last of them."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _note(kind: str, what: object) -> bytes:
    return (json.dumps({"kind": kind, "what": what[:500] if isinstance(what, str) else what}) + "\n").encode()


def _run(request: dict[str, Any], notes: int, readable: list[str]) -> int:
    """In the child: become what the case asks for, and run the command line as ``sentinode`` would."""
    os.write(notes, _note("start", _resident()))
    place = Path(request["place"])
    os.environ.update(request["env"])
    tempfile.tempdir = None  # found again, by the environment of the case
    os.chdir(place / "work")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _redirect(place, request)
    faulthandler.register(signal.SIGUSR1, file=(place / "hang").open("w"), all_threads=True)
    room = ROOM + int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if request["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
    if request["nobody"] and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    if request["fault"]:
        import faults

        getattr(faults, request["fault"])()
    _watch(notes, place, readable, request["may"])
    arguments = [os.fsdecode(bytes.fromhex(argument)) for argument in request["arguments"]]
    return _code_of(arguments, place)


def _code_of(arguments: list[str], place: Path) -> int:
    """Run the arguments, a program of Python or else ours, and return the exit code of its process."""
    try:
        if arguments[:1] == ["--python"]:  # for the frame's own tests
            sys.argv = arguments[1:]
            runpy.run_path(arguments[1], run_name="__main__")
        else:
            from sentinode.cli import main as command

            sys.argv = ["sentinode", *arguments]
            command()
        code: object = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)  # noqa: T201
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError) as error:  # as at the end of an interpreter
        os.write(2, f"Exception ignored in {error!r}\n".encode())
        return 120
    return code if isinstance(code, int) else 0 if code is None else 1


def _redirect(place: Path, request: dict[str, Any]) -> None:
    """Put what is printed into files, in the encoding that the case's environment asks for."""
    encoding, _, handling = request["env"].get("PYTHONIOENCODING", "utf-8").partition(":")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, name, errors in ((1, "stdout", handling or "strict"), (2, "stderr", "backslashreplace")):
        target = request["stdout"] if number == 1 and request["stdout"] else place / name
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
        os.close(file)
        stream = open(number, "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _watch(notes: int, place: Path, readable: list[str], may: list[str]) -> None:
    """Note each file opened outside of the case's folder and the installation, each program and each connection."""
    inside = [str(place), os.environ["HF_HOME"]]
    readable = [*inside, *readable]

    def outside(name: object, allowed: list[str]) -> str | None:
        if isinstance(name, int) or name is None:
            return None
        path = os.path.abspath(os.fsdecode(name))  # noqa: PTH100
        within = any(path == root or path.startswith(f"{root}/") for root in allowed)
        return None if within else path

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            name, mode, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) if mode is None else bool(set(mode) & set("wax+"))
            far = outside(name, [*inside, *DEVICES] if writes else readable)
            if far is not None:
                os.write(notes, _note("write outside" if writes else "open outside", far))
        elif event in WRITES:
            for far in filter(None, (outside(arguments[index], inside) for index in WRITES[event])):
                os.write(notes, _note("write outside", f"{event} {far}"))
        elif event in STARTS and "start" not in may:
            os.write(notes, _note("program", f"{event} {arguments[:2]!r} by {_caller()}"))
            raise PermissionError(f"a case may not start a program: {event}")
        elif event in CONNECTS and "connect" not in may:
            os.write(notes, _note("connection", f"{event} {arguments[-1]!r}"))
            raise PermissionError(f"a case may not connect: {event}")

    sys.addaudithook(hook)


def _caller() -> str:
    """Who started a program: the innermost file that is neither Python's nor the frame's."""
    frame: FrameType | None = sys._getframe(2)
    names = []
    while frame is not None:
        names.append(frame.f_code.co_filename)
        frame = frame.f_back
    return next((name for name in names if "site-packages" in name or "sentinode" in name), names[0])


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()

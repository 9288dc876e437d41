"""Processes that have imported what training needs when they start, for tests of what happens to them later.

Importing PyTorch and Lightning takes seconds. These processes are forked from one that has done so. What is about the
start itself uses ``subprocess``, or the way in which Sentinode starts processes.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    CONTEXT.set_forkserver_preload(
        [
            "sentinode.cli",
            "sentinode.experiments.sweeping",
            "sentinode.slides.batch",
            "sentinode.training",
            "sentinode.training.logbook",
            "lightning.fabric",
            "matplotlib.figure",
        ]
    )

COMMAND = "from sentinode.cli import main; main()"


class Warm:
    """A program of Python, by default the command ``sentinode``, in a process of its own.

    Args:
        folder: where the files lie that hold what it prints.
        words: its arguments.
        program: Python's code.
    """

    def __init__(self, folder: Path, *words: str | Path, program: str = COMMAND) -> None:
        number = len(list(folder.glob("*.stderr")))
        self._out, self._err = (folder / f"{number}.{name}" for name in ("stdout", "stderr"))
        arguments = (program, ["sentinode", *map(str, words)], dict(os.environ), self._out, self._err)
        for path in (self._out, self._err):
            path.touch()
        self.process = CONTEXT.Process(target=_run, args=arguments)
        self.process.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def stdout(self) -> str:
        """What it has printed on standard output."""
        return self._out.read_text("utf-8")

    @property
    def stderr(self) -> str:
        """What it has printed on standard error."""
        return self._err.read_text("utf-8")

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self.process.exitcode

    def wait(self, seconds: float = 120) -> int:
        """Wait for its end; returns the exit code."""
        self.process.join(seconds)
        code = self.process.exitcode
        assert code is not None, "the process has not ended"
        return code

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()


def _run(program: str, arguments: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    exec(compile(program, "<warm process>", "exec"), {"__name__": "__main__"})

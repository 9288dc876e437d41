"""Run a command and measure it from outside: how long it took, and the most memory that it held."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Run:
    """How long a command took, and the most resident memory that its processes held together."""

    seconds: float
    peak_mib: float


def measure(command: Sequence[object], *, environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end, watching the memory of its process tree twenty times a second.

    Memory that processes share is counted once where the system tells it apart (the proportional set size of Linux).
    """
    began = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, env=environment)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    if process.wait():
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    return Run(time.perf_counter() - began, peak[0] / 2**20)


def _watch(pid: int, peak: list[int]) -> None:
    """Keep the highest sum over a process and its descendants in ``peak`` until it ends."""
    while True:
        try:
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
            peak[0] = max(peak[0], sum(map(_memory, tree)))
        except psutil.NoSuchProcess:
            return
        time.sleep(0.05)


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except (psutil.AccessDenied, psutil.ZombieProcess):
        return 0
    return int(getattr(full, "pss", full.rss))

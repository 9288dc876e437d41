"""Run a command and measure it from outside: time, processor time, and the most memory that it held."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

INTERVAL_S = 0.5
"""Seconds between looks: what the system counts as shared takes it a while to tell, at the cost of what is measured."""


@dataclass(frozen=True)
class Run:
    """How long a command took, the processor time of its processes, and the most memory that they held together."""

    seconds: float
    processor_seconds: float
    peak_mib: float


def measure(command: Sequence[object], *, environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end, watching the memory of its process tree all the while.

    Memory that processes share is counted once where the system tells it apart (the proportional set size of Linux).
    """
    began, ended = time.perf_counter(), _ended_children()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, env=environment)
    watch = _Watch(process.pid)
    if process.wait():
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    seconds = time.perf_counter() - began
    # The looks miss what a process did after the last of them; the system misses processes that nobody waited for.
    processor_seconds = max(sum(watch.processor.values()), _ended_children() - ended)
    return Run(seconds, processor_seconds, watch.peak / 2**20)


def _ended_children() -> float:
    """Processor seconds of all descendants that have ended so far and were waited for; 0 where it is not told."""
    times = os.times()
    return times.children_user + times.children_system


class _Watch:
    """Follows a process and its descendants until it ends: ``peak`` bytes together, ``processor`` seconds of each."""

    def __init__(self, pid: int) -> None:
        self.peak, self.processor = 0, dict[int, float]()
        threading.Thread(target=self._follow, args=(pid,), daemon=True).start()

    def _follow(self, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            while True:
                tree = [root, *root.children(recursive=True)]
                self.peak = max(self.peak, sum(map(_memory, tree)))
                for process in tree:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        times = process.cpu_times()
                        self.processor[process.pid] = times.user + times.system
                time.sleep(INTERVAL_S)


def _memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return 0
    return int(getattr(full, "pss", full.rss))

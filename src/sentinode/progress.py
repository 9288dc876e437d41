"""Progress on standard error: a bar in a terminal, a moving line in a notebook, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sentinode.names import shortened

T = TypeVar("T")

console = Console(stderr=True, highlight=False, soft_wrap=True)
"""Where everything that is not a result goes."""

SILENT_S = 15.0
"""Seconds between lines where standard error is not a terminal."""

NOTEBOOK_S = 0.5
"""Seconds between two states of a notebook's line."""

TITLE_WIDTH = 32
"""Columns of a bar's title at most, so that a long name leaves room for the bar."""


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text("" if not speed else f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.1f} {unit}/s")


class Bar:
    """A running bar: ``advance`` it, and ``note`` what should stand beside it."""

    def __init__(
        self,
        title: str,
        total: int | None,
        unit: str,
        live: Progress | None,
        tell: Callable[[str], object] | None = None,
        every: float = SILENT_S,
    ) -> None:
        self._title, self._total, self._unit, self._live = title, total, unit, live
        self._tell, self._every = tell, every
        self._done, self._note, self._printed, self._began = 0.0, "", time.monotonic(), time.monotonic()
        self._task = live.add_task(title, total=total, unit=unit, note="") if live else None

    def advance(self, steps: float = 1) -> None:
        """Count ``steps`` more units as done, which may be a part of one."""
        self._done += steps
        if self._live is not None and self._task is not None:
            self._live.advance(self._task, steps)
        elif self._tell is not None and time.monotonic() - self._printed > self._every:
            self._say(self._tell)

    def note(self, text: str) -> None:
        """Show ``text`` beside the bar, such as the metric so far."""
        self._note = text
        if self._live is not None and self._task is not None:
            self._live.update(self._task, note=text)

    def total(self, total: int) -> None:
        """Set the number of units, once it is known."""
        self._total = total
        if self._live is not None and self._task is not None:
            self._live.update(self._task, total=total)

    def _say(self, tell: Callable[[str], object]) -> None:
        """Tell where things stand as a line."""
        self._printed = time.monotonic()
        rate = self._done / max(self._printed - self._began, 1e-9)
        done = int(self._done + 1e-6)  # parts of one may not add up to it exactly
        of = f"{done:,}/{self._total:,}" if self._total else f"{done:,}"
        left = f", {(self._total - self._done) / rate:,.0f} s left" if self._total and rate else ""
        note = f"  {self._note}" if self._note else ""
        tell(f"{self._title}: {of} {self._unit}, {rate:,.0f}/s{left}{note}")


def _print_line(line: str) -> None:
    console.print(line, markup=False)


@contextlib.contextmanager
def _notebook_line() -> Iterator[Callable[[str], object]]:
    """What shows a line in a notebook, each time in the place of the one before; nothing is left of it in the end."""
    from IPython.display import display

    def mime(text: str) -> dict[str, str]:
        return {"text/plain": text}

    handle = display(mime(""), raw=True, display_id=True)  # type: ignore[no-untyped-call]
    yield lambda line: handle.update(mime(line), raw=True)
    handle.update({"text/html": "", "text/plain": ""}, raw=True)


@contextlib.contextmanager
def bar(title: str, total: int | None = None, *, unit: str = "patches", show: bool = True) -> Iterator[Bar]:
    """A progress bar for a block of work.

    Args:
        title: what is being done.
        total: how many units there are, or None where that is unknown.
        unit: what is counted, in the plural.
        show: False for silence, such as in a worker process.
    """
    title = shortened(title, TITLE_WIDTH)
    if not show:
        yield Bar(title, total, unit, None)
        return
    if console.is_jupyter:
        with _notebook_line() as tell:
            yield Bar(title, total, unit, None, tell, NOTEBOOK_S)
        return
    if not console.is_terminal:
        yield Bar(title, total, unit, None, _print_line, SILENT_S)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("<"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as live:
        yield Bar(title, total, unit, live)


def track(
    items: Iterable[T], title: str, total: int | None = None, *, unit: str = "patches", show: bool = True
) -> Iterator[T]:
    """Yield ``items`` with a bar that counts them."""
    with bar(title, total, unit=unit, show=show) as shown:
        for item in items:
            yield item
            shown.advance()

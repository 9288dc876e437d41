"""A forest chart: estimates with their intervals, one below the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from sentinode.evaluation.charts import STYLE, ticks

WIDTH, ROW, TOP, BOTTOM, RIGHT = 720, 26, 12, 44, 20
LETTER = 6.6
"""Pixels that a letter takes, about."""


@dataclass(frozen=True)
class Line:
    """One estimate with its interval; ``kind`` is the colour: ``tumour``, ``normal`` or ``soft``."""

    name: str
    value: float
    low: float
    high: float
    kind: str = "tumour"


def forest(title: str, axis: str, lines: Sequence[Line], marks: Sequence[float] = ()) -> str:
    """An SVG of estimates with intervals; ``marks`` are dashed uprights, such as 0.

    Estimates that are NaN have a row without a dot.
    """
    left = min(20 + LETTER * max((len(line.name) for line in lines), default=0), 340)
    numbers = [x for line in lines for x in (line.value, line.low, line.high) if math.isfinite(x)]
    low, high = min([*numbers, *marks], default=0.0), max([*numbers, *marks], default=1.0)
    room = 0.05 * (high - low) or 0.05
    low, high = low - room, high + room
    height = TOP + ROW * len(lines) + BOTTOM
    floor = height - BOTTOM

    def across(x: float) -> float:
        return left + (WIDTH - RIGHT - left) * (x - low) / (high - low)

    parts = [
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
    ]
    for tick in np.asarray(ticks(low, high)).tolist():
        x = across(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{floor}"/>')
        parts.append(f'<text class="soft" x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{tick:g}</text>')
    for mark in marks:
        parts.append(f'<line class="dash" x1="{across(mark):.1f}" x2="{across(mark):.1f}" y1="{TOP}" y2="{floor}"/>')
    for row, line in enumerate(lines):
        y = TOP + ROW * (row + 0.5)
        name = line.name if LETTER * len(line.name) < left else line.name[: int(left / LETTER) - 4] + "..."
        parts.append(f'<text x="{left - 10:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        if not math.isfinite(line.value):
            continue
        tip = escape(f"{line.name}: {line.value:.4f} ({line.low:.4f} to {line.high:.4f})")
        if math.isfinite(line.low):
            ends = f'x1="{across(line.low):.1f}" x2="{across(line.high):.1f}"'
            parts.append(f'<line class="line s-{line.kind}" {ends} y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<circle class="f-{line.kind} halo" cx="{across(line.value):.1f}" cy="{y:.1f}" r="4.5">'
            f"<title>{tip}</title></circle>"
        )
    middle = (left + WIDTH - RIGHT) / 2
    parts.append(f'<path class="axis" fill="none" d="M{left:.1f} {TOP}V{floor}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text x="{middle:.1f}" y="{height - 8}" text-anchor="middle">{escape(axis)}</text></svg>')
    return "".join(parts)


def standalone_forest(svg: str) -> str:
    """The chart as a file of its own."""
    head, body = svg.split(">", 1)
    return (
        f'{head} width="{WIDTH}"><style>{STYLE}</style><rect width="100%" height="100%" fill="var(--paper)"/>{body}\n'
    )

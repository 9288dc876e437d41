"""The report's charts as small SVGs, which follow the reader's light or dark colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinode.scoring import Curve, Reliability, Scores
from sentinode.scoring.calibration_errors import Bin

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 360, 330
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 44

STYLE = """
.chart { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; --ink: #22222a; --soft: #6c6c78;
  --grid: #e4e4ea; --tumour: #b5338a; --normal: #3f6fb5; --paper: #ffffff; }
@media (prefers-color-scheme: dark) { .chart { --ink: #ececf2; --soft: #a0a0ae; --grid: #34343e;
  --tumour: #ef7cc5; --normal: #85aef0; --paper: #1c1c22; } }
.chart text { fill: var(--ink); } .chart .soft { fill: var(--soft); }
.chart .grid { stroke: var(--grid); stroke-width: 1; } .chart .axis { stroke: var(--soft); stroke-width: 1; }
.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .limits { fill: none; stroke-width: 1.2; opacity: .6; }
.chart .dash { fill: none; stroke: var(--soft); stroke-dasharray: 4 4; }
.chart .band { fill: var(--soft); opacity: .16; }
.chart .s-tumour { stroke: var(--tumour); } .chart .f-tumour { fill: var(--tumour); }
.chart .s-normal { stroke: var(--normal); } .chart .f-normal { fill: var(--normal); }
.chart .s-soft { stroke: var(--soft); } .chart .f-soft { fill: var(--soft); }
.chart .halo { stroke: var(--paper); stroke-width: 1.5; }
.chart .hollow { fill: var(--paper); stroke-width: 2; }
.chart .area { opacity: .55; }
.chart .legend { paint-order: stroke; stroke: var(--paper); stroke-width: 4; stroke-linejoin: round; }
@media print { .chart { --ink: #000; --soft: #555; --grid: #ddd; --tumour: #b5338a; --normal: #3f6fb5;
  --paper: #fff; } }
"""


@dataclass
class Chart:
    """A chart with axes. Coordinates are in the units of the data.

    Args:
        title: the text for readers who cannot see the chart.
        x: the label of the horizontal axis.
        y: the label of the vertical axis.
        across: the range of the horizontal axis.
        up: the range of the vertical axis.
        whole: whether the horizontal axis has ticks at whole numbers alone.
        named: the ticks of the horizontal axis with their words, for an axis that is not of plain numbers.
    """

    title: str
    x: str
    y: str
    across: tuple[float, float] = (0.0, 1.0)
    up: tuple[float, float] = (0.0, 1.0)
    whole: bool = False
    named: Sequence[tuple[float, str]] = ()
    _marks: list[str] = field(default_factory=list)
    _words: list[tuple[str, str]] = field(default_factory=list)

    def place(self, x: Any, y: Any) -> tuple[Floats, Floats]:
        """From data units to SVG units; points outside are moved to the frame."""
        (x0, x1), (y0, y1) = self.across, self.up
        right, down = WIDTH - RIGHT - LEFT, HEIGHT - BOTTOM - TOP
        along = np.clip((np.asarray(x, float) - x0) / (x1 - x0), 0, 1)
        above = np.clip((np.asarray(y, float) - y0) / (y1 - y0), 0, 1)
        return LEFT + right * along, TOP + down * (1 - above)

    def line(self, x: Any, y: Any, kind: str) -> None:
        """A polyline; points that would fall on each other are left out."""
        points = _thinned(*self.place(x, y))
        self._marks.append(f'<polyline class="{kind}" points="{_points(points)}"/>')

    def area(self, x: Any, low: Any, high: Any, kind: str) -> None:
        """The area between two lines."""
        upper, lower = np.stack(self.place(x, high), 1), np.stack(self.place(x, low), 1)[::-1]
        self._marks.append(f'<polygon class="{kind}" points="{_points(np.concatenate([upper, lower]))}"/>')

    def dots(self, x: Any, y: Any, kind: str, radius: float, tips: Iterable[str]) -> None:
        """A dot for each point, each with a tip that appears under the pointer."""
        across, down = self.place(x, y)
        for cx, cy, tip in zip(np.atleast_1d(across), np.atleast_1d(down), tips, strict=True):
            self._marks.append(
                f'<circle class="{kind}" cx="{cx:.1f}" cy="{cy:.1f}" r="{radius}"><title>{escape(tip)}</title></circle>'
            )

    def upright(self, x: float) -> None:
        """A dashed line at ``x`` over the whole height."""
        at = float(self.place(x, 0)[0])
        self._marks.append(f'<line class="dash" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')

    def legend(self, kind: str, words: str) -> None:
        """A line of the legend: the fill class of its mark and what it means."""
        self._words.append((kind, words))

    def svg(self, legend: str = "corner") -> str:
        """The drawing, with its legend in the lower right ``corner`` or at the ``top`` in the middle."""
        parts = [
            f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'role="img" aria-label="{escape(self.title)}"><title>{escape(self.title)}</title>',
            *self._axes(),
            *self._marks,
            *self._legend(legend),
            "</svg>",
        ]
        return "".join(parts)

    def _axes(self) -> Iterable[str]:
        floor, ceiling = HEIGHT - BOTTOM, TOP
        named = self.named or [(tick, f"{tick:g}") for tick in ticks(*self.across, whole=self.whole)]
        for tick, words in named:
            at = float(self.place(tick, 0)[0])
            yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{ceiling}" y2="{floor}"/>'
            yield f'<text class="soft" x="{at:.1f}" y="{floor + 16}" text-anchor="middle">{escape(words)}</text>'
        for tick in ticks(*self.up):
            at = float(self.place(0, tick)[1])
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            yield f'<text class="soft" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>'
        yield f'<path class="axis" fill="none" d="M{LEFT} {ceiling}V{floor}H{WIDTH - RIGHT}"/>'
        middle = (LEFT + WIDTH - RIGHT) / 2
        yield f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(self.x)}</text>'
        centre = (ceiling + floor) / 2
        yield (
            f'<text x="13" y="{centre}" text-anchor="middle" transform="rotate(-90 13 {centre})">'
            f"{escape(self.y)}</text>"
        )

    def _legend(self, where: str) -> Iterable[str]:
        high = 17 * len(self._words)
        top, right = HEIGHT - BOTTOM - high - 6, WIDTH - RIGHT
        if where == "top":
            top, right = TOP, (LEFT + WIDTH - RIGHT) // 2 + 70
        for row, (kind, words) in enumerate(self._words):
            y = top + 17 * row + 12
            yield f'<text class="legend" x="{right - 22}" y="{y}" text-anchor="end">{escape(words)}</text>'
            yield f'<rect class="{kind}" x="{right - 16}" y="{y - 9}" width="10" height="10" rx="5"/>'


def standalone(svg: str) -> str:
    """An SVG of :class:`Chart` as a file of its own, with its style and a ground to stand on."""
    head, body = svg.split(">", 1)
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="var(--paper)"/>'
    return f'{head} width="{2 * WIDTH}"><style>{STYLE}</style>{ground}{body}\n'


def roc_figure(curve: Curve, scores: Scores, half: Scores) -> str:
    """The ROC curve with its two operating points."""
    chart = Chart("ROC curve", "1 - specificity", "sensitivity (recall)")
    chart.line([0, 1], [0, 1], "dash")
    if np.isfinite(curve.x).all() and np.isfinite(curve.y).all():
        chart.line(curve.x, curve.y, "line s-tumour")
        chart.legend("f-tumour", f"AUC {scores.auc.value:.3f}")
        _operating_point(chart, 1 - half.specificity.value, half.recall.value, half, "hollow s-normal")
        _operating_point(chart, 1 - scores.specificity.value, scores.recall.value, scores, "f-normal halo")
        chart.legend("f-normal", f"threshold {scores.threshold:.3f} (ring: 0.5)")
    else:
        chart.legend("f-soft", "undefined: one class only")
    return chart.svg()


def pr_figure(curve: Curve, scores: Scores, half: Scores) -> str:
    """The precision-recall curve with its two operating points; the dashed line is the share of the positive class."""
    chart = Chart("Precision-recall curve", "recall (sensitivity)", "precision")
    share = (scores.confusion["tp"] + scores.confusion["fn"]) / scores.n
    chart.line([0, 1], [share, share], "dash")
    if np.isfinite(curve.x).all():
        chart.line(curve.x, curve.y, "line s-tumour")
        chart.legend("f-tumour", f"average precision {scores.average_precision.value:.3f}")
        _operating_point(chart, half.recall.value, half.precision.value, half, "hollow s-normal")
        _operating_point(chart, scores.recall.value, scores.precision.value, scores, "f-normal halo")
        chart.legend("f-normal", f"threshold {scores.threshold:.3f} (ring: 0.5)")
    else:
        chart.legend("f-soft", f"undefined: {scores.undefined.get('average_precision', 'one class only')}")
    return chart.svg()


def reliability_figure(
    after: Reliability,
    before: Reliability | None,
    scores: Scores,
    raw: Scores | None,
    positive: str = "tumour",
    bins: Sequence[Bin] = (),
) -> str:
    """The observed share against the predicted probability, after and, where known, before temperature scaling.

    ``bins`` give each dot the 95 % interval of its observed share.

    The band is where 95 % of the bins of a perfectly calibrated model would lie (binomial, as a normal).
    """
    chart = Chart("Reliability diagram", f"predicted probability of {positive}", f"observed share of {positive}")
    grid = np.linspace(0, 1, 101)
    spread = 1.96 * np.sqrt(grid * (1 - grid) / np.median(after.count))
    chart.area(grid, np.maximum(grid - spread, 0), np.minimum(grid + spread, 1), "band")
    chart.line([0, 1], [0, 1], "dash")
    for one in bins:
        if np.isfinite(one.observed.low):
            chart.line([one.predicted] * 2, [one.observed.low, one.observed.high], "limits s-tumour")
    for dots, kind, radius in ((before, "soft", 2.5), (after, "tumour", 4.0)):
        if dots is None:
            continue
        chart.line(dots.predicted, dots.true, f"line s-{kind}")
        tips = [
            f"predicted {s:.3f}, observed {t:.3f}, {n:.0f} patches"
            for s, t, n in zip(dots.predicted, dots.true, dots.count, strict=True)
        ]
        chart.dots(dots.predicted, dots.true, f"f-{kind} halo", radius, tips)
    chart.legend("f-tumour", f"{'calibrated, ' if raw else ''}ECE {scores.ece.value:.3f}")
    if raw is not None:
        chart.legend("f-soft", f"before calibration, ECE {raw.ece.value:.3f}")
    if np.isfinite(scores.ece_floor.value):
        chart.legend("band", f"by chance, ECE {scores.ece_floor.value:.3f}")
    return chart.svg()


def histogram_figure(
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.floating],
    threshold: float,
    class_names: Sequence[str] = ("normal", "tumour"),
) -> str:
    """The histogram of the probabilities of each class."""
    edges = np.linspace(0, 1, 26)
    colours = ("normal", "tumour")
    counts = {colour: np.histogram(probabilities[labels == label], edges)[0] for label, colour in enumerate(colours)}
    most = max(int(count.max()) for count in counts.values())
    chart = Chart("Probabilities by class", f"P({class_names[1]})", "patches", up=(0, 1.08 * max(most, 1)))
    for colour, count in counts.items():
        heights = np.repeat(count, 2)
        sides = np.repeat(edges, 2)[1:-1]
        chart.area(sides, np.zeros_like(heights), heights, f"area f-{colour}")
    chart.upright(threshold)
    for (colour, count), name in zip(counts.items(), class_names, strict=True):
        chart.legend(f"f-{colour}", f"{name}, {count.sum():,}")
    chart.legend("f-soft", f"threshold {threshold:.3f}")
    return chart.svg("top")


def learning_figures(history: Sequence[dict[str, float]]) -> list[str]:
    """Loss and AUC over the epochs, as far as the history holds them."""
    epochs = [entry["epoch"] for entry in history if "epoch" in entry]
    if len(epochs) < len(history) or not history:
        return []
    across = (min(epochs) - 0.2, max(epochs) + 0.2)
    figures = []
    losses = {"train_loss": ("soft", "train"), "valid_nll": ("tumour", "valid")}
    held = {key: [entry.get(key) for entry in history] for key in (*losses, "valid_auc")}
    plotted = {key: values for key, values in held.items() if all(isinstance(v, int | float) for v in values)}
    if any(key in plotted for key in losses):
        top = max(max(plotted[key]) for key in losses if key in plotted)  # type: ignore[type-var]
        chart = Chart("Loss by epoch", "epoch", "loss (nats)", across, (0, 1.1 * float(top or 1)), whole=True)
        for key, (kind, name) in losses.items():
            if key in plotted:
                chart.line(epochs, plotted[key], f"line s-{kind}")
                tips = [f"epoch {e:g}: {v:.4f}" for e, v in zip(epochs, plotted[key], strict=True)]
                chart.dots(epochs, plotted[key], f"f-{kind} halo", 3.5, tips)
                chart.legend(f"f-{kind}", name)
        figures.append(chart.svg())
    if "valid_auc" in plotted:
        values = np.asarray(plotted["valid_auc"], float)
        span = max(float(values.max() - values.min()), 0.01)
        chart = Chart(
            "Valid AUC by epoch",
            "epoch",
            "AUC on valid",
            across,
            (max(float(values.min()) - span / 4, 0), min(float(values.max()) + span / 4, 1)),
            whole=True,
        )
        chart.line(epochs, values, "line s-tumour")
        chart.dots(
            epochs,
            values,
            "f-tumour halo",
            3.5,
            [f"epoch {e:g}: {v:.4f}" for e, v in zip(epochs, values, strict=True)],
        )
        chart.legend("f-tumour", f"best {values.max():.4f}")
        figures.append(chart.svg())
    return figures


def _operating_point(chart: Chart, x: float, y: float, scores: Scores, kind: str) -> None:
    if np.isfinite(x) and np.isfinite(y):
        tip = f"threshold {scores.threshold:.3f}: {chart.x} {x:.3f}, {chart.y} {y:.3f}"
        chart.dots(x, y, kind, 5, [tip])


def _points(points: Floats) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _thinned(x: Floats, y: Floats) -> Floats:
    """The points of a line, less those that a tenth of a unit does not tell apart, or on straight runs."""
    points = np.stack([x, y], 1).round(1)
    points = points[np.r_[True, (np.diff(points, axis=0) != 0).any(1)]]
    if len(points) < 3:
        return points
    before, after = np.diff(points[:-1], axis=0), np.diff(points[1:], axis=0)
    straight = np.isclose(before[:, 0] * after[:, 1], before[:, 1] * after[:, 0])
    return points[np.r_[True, ~straight, True]]


def ticks(low: float, high: float, whole: bool = False) -> Floats:
    """About five round numbers from ``low`` to ``high``."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough)
    if whole:
        step = max(np.ceil(step), 1.0)
    first = np.ceil(low / step - 1e-9) * step
    return np.arange(first, high + step * 1e-6, step).round(10) + 0.0  # never a negative zero

"""What a choice of operating points leaves behind: a page with the trade, and the same as JSON."""

from __future__ import annotations

import json
import math
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from sentinode.atomic import write_text
from sentinode.evaluation.charts import STYLE, Chart
from sentinode.evaluation.operating import SIZE_NAMES, Operating, best_of_lesions
from sentinode.model.slide_operating_point import POINT_NAMES, SlideOperatingPoint
from sentinode.slides.results.summary import FIGURES

PAGE, RECORD, CURVE = "operating.html", "operating.json", "operating.csv"

FARTHEST = 4.0
"""False lesions on a negative slide at which the chart ends, at most."""


def write_operating(folder: Path, result: Operating, *, name: str) -> Path:
    """Write ``operating.html``, ``operating.json`` and ``operating.csv`` (the curve) into a folder.

    Args:
        folder: created where it is missing.
        result: what was chosen.
        name: the bundle's.

    Returns:
        The page.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(folder / RECORD, json.dumps(as_dict(result), indent=2, allow_nan=False) + "\n")
    trade = result.trade
    rows = zip(trade.cut, trade.false_lesions, trade.clean_negatives, trade.sensitivity, strict=True)
    lines = [",".join(f"{value:.9g}" for value in (1 / (1 + math.exp(-cut)), *figures)) for cut, *figures in rows]
    head = "reach,false_lesions_per_negative_slide,clean_negatives,sensitivity"
    write_text(folder / CURVE, "\n".join([head, *lines]) + "\n")
    write_text(folder / PAGE, _page(result, name))
    return folder / PAGE


def as_dict(result: Operating) -> dict[str, Any]:
    """All of a choice but the curve, ready for JSON."""
    cut = _log_odds(result.points.point)
    return {
        "points": result.points.model_dump(mode="json"),
        "regions": {"lesions": result.regions[0], "others": result.regions[1]},
        "refitted": result.refitted,
        "left_out": list(result.left_out),
        "warnings": list(result.warnings),
        "per_slide": [
            {
                "name": judged.slide.name,
                "lesions": len(judged.slide.lesion_um),
                "found": int((best_of_lesions(judged) >= cut).sum()),
                "false_lesions": int(((judged.evidence >= cut) & ~judged.slide.is_lesion).sum()),
            }
            for judged in result.slides
        ],
    }


def table(result: Operating) -> list[tuple[str, ...]]:
    """The figures of the three points: a head, and a row for each figure."""
    points = [result.points.points[name] for name in POINT_NAMES]
    rows: list[tuple[str, ...]] = [("", *POINT_NAMES)]
    rows += [(words, *(str(point.reached[key]) for point in points)) for key, words in FIGURES.items()]
    return [*rows, ("P(lesion) that a region must reach", *(f"{point.reach:.3f}" for point in points))]


def chart_of(result: Operating) -> str:
    """The trade as an SVG, with the three points on it."""
    trade = result.trade
    points = result.points.points
    farthest = min(FARTHEST, max(1.0, 1.5 * max(_value(point, "false_lesions") for point in points.values())))
    chart = Chart(
        "Lesions found against false lesions on a negative slide",
        "false lesions on a negative slide",
        "share of the lesions found",
        across=(0.0, farthest),
    )
    inside = trade.false_lesions <= farthest
    x, y = trade.false_lesions[inside][::-1], trade.sensitivity[inside][::-1]
    # A step to each point: between two cuts there is no setting.
    chart.line(np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1], "line s-normal")
    chart.legend("f-normal", "all settings, all lesions")
    for name, kind, radius in (("sensitive", "f-soft", 4), ("specific", "f-soft", 4), ("balanced", "f-tumour", 6)):
        point = points[name]  # type: ignore[index]
        at = _value(point, "false_lesions"), _value(point, "sensitivity")
        chart.dots([at[0]], [at[1]], f"{kind} halo", radius, [f"{name}: {at[0]:.2f} false lesions, {at[1]:.0%} found"])
    chart.legend("f-tumour", "balanced, the target's")
    chart.legend("f-soft", "sensitive and specific")
    return chart.svg()


def _page(result: Operating, name: str) -> str:
    template = resources.files("sentinode.evaluation").joinpath("operating.html.j2").read_text(encoding="utf-8")
    css = resources.files("sentinode.slides.results").joinpath("pages.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    head, *rows = table(result)
    point = result.points.point
    text = environment.from_string(template).render(
        name=name,
        css=css,
        style=STYLE,
        point=point,
        chart=chart_of(result),
        head=head,
        rows=rows,
        sizes=[(FIGURES[key], str(point.reached[key]), point.reached[key].n) for key in SIZE_NAMES],
        record=as_dict(result),
    )
    return text + "\n"


def _value(point: SlideOperatingPoint, key: str) -> float:
    value = point.reached[key].value
    return 0.0 if value is None else value


def _log_odds(point: SlideOperatingPoint) -> float:
    return math.log(point.reach / (1 - point.reach))

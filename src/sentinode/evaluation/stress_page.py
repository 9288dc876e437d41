"""The page of a stress test: the weakest point in a sentence, the curves, and the figures behind them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2


def page(record: Mapping[str, Any], titles: Mapping[str, str], picture: bytes, name: str) -> str:
    """The page as HTML: one file that needs no network.

    Args:
        record: the content of ``stress.json``.
        titles: what each disturbance changes, by its name.
        picture: the curves, a PNG.
        name: the bundle's.
    """
    folder = resources.files("sentinode.evaluation")
    css = resources.files("sentinode.slides.results").joinpath("pages.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["figure"] = _figure
    template = environment.from_string(folder.joinpath("stress.html.j2").read_text(encoding="utf-8"))
    curves = "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
    return template.render(record=record, titles=titles, curves=curves, name=name, css=css) + "\n"


def _figure(values: tuple[float | None, ...]) -> str:
    value, low, high = values
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"

"""What lies beside an exported network: ``export.json`` for programs, ``README.md`` for people."""

from __future__ import annotations

from typing import Any

import torch

from sentinode._version import __version__
from sentinode.model.bundle import Bundle, Card
from sentinode.model.exporting.formats import FORMATS, INPUT, OUTPUT, Facts

PROBABILITY = (
    "The softmax over the two logits gives Sentinode's calibrated probabilities of a patch. The temperature and the "
    "offset are in the logits. The prior of slides is not corrected for."
)


def describe(bundle: Bundle, to: str) -> dict[str, Any]:
    """The facts that a user of the exported network needs, fit for JSON."""
    card = bundle.card
    return {
        "format": 1,
        "exported_as": to,
        "name": card.name,
        "intended_use": card.intended_use,
        "toy": card.toy,
        "bundle": bundle.fingerprint,
        "architecture": card.architecture.class_name or card.architecture.backbone,
        "class_names": card.class_names,
        "positive_class": card.positive_class,
        "patch_size": card.patch_size,
        "mpp": card.mpp,
        "label_region": card.label_region,
        "input": _input(card, floats=FORMATS[to].floats),
        "output": {"name": OUTPUT, "type": "float32", "shape": ["batch", 2], "classes": card.class_names},
        "probability": PROBABILITY,
        "temperature_applied": card.temperature,
        "prior": card.prior,
        "prior_corrected": False,
        "threshold": {"rule": card.threshold_rule, "value": card.threshold},
        "thresholds": {rule: threshold.value for rule, threshold in card.thresholds.items()},
        "versions": {"sentinode": __version__, "torch": str(torch.__version__)},
    }


def _input(card: Card, *, floats: bool) -> dict[str, Any]:
    side = card.patch_size
    kind: dict[str, Any] = (
        {"type": "float32", "shape": ["batch", 3, side, side], "range": [0, 1], "scaling": "bytes divided by 255"}
        if floats
        else {"type": "uint8", "shape": ["batch", side, side, 3], "range": [0, 255], "scaling": "none"}
    )
    return {"name": INPUT, **kind, "channels": "RGB", "normalisation": "inside the network; do not normalise before it"}


def readme(facts: Facts) -> str:
    """The page that lies beside the network."""
    given, taken = facts["input"], facts["output"]
    negative, positive = facts["class_names"]
    mpp = "unknown" if facts["mpp"] is None else f"{facts['mpp']:g} um per pixel"
    rows = [
        ("input", f"`{given['name']}`: {given['type']} {_shape(given)}, {given['channels']}, {_range(given)}"),
        ("normalisation", given["normalisation"]),
        ("resolution", f"{mpp}, patches of {facts['patch_size']} x {facts['patch_size']} pixels"),
        ("labelled region", f"the centre {facts['label_region']} x {facts['label_region']} pixels of a patch"),
        ("output", f"`{taken['name']}`: {taken['type']} {_shape(taken)}: {negative}, {positive}"),
        ("temperature", f"{facts['temperature_applied']:.6g}, already applied"),
        ("prior", f"{facts['prior']:g}, the share of {positive} in the data of the calibration; not corrected"),
        ("threshold", f"{facts['threshold']['value']:.6g} ({facts['threshold']['rule']}), for single patches"),
        ("compared", _compared(facts)),
        ("bundle", f"{facts['name']}, weights {facts['bundle']}"),
    ]
    toy = "\nThis network is a toy: it was trained on generated patches.\n" if facts["toy"] else ""
    table = "".join(f"| {name} | {text} |\n" for name, text in rows)
    return (
        f"# {facts['name']} as {facts['exported_as']}\n\n{facts['intended_use']}\n{toy}\n| | |\n|---|---|\n{table}\n"
        f"{facts['probability']} A program that takes the class with the larger logit uses the threshold 0.5, not the "
        "one above. The slide operating points of the bundle are not in the export. `export.json` has the same for "
        f"programs. Written by Sentinode {facts['versions']['sentinode']}.\n"
    )


def _shape(part: Facts) -> str:
    return f"({', '.join(str(size) for size in part['shape'])})"


def _range(part: Facts) -> str:
    low, high = part["range"]
    return f"{low} to {high}" + (f" ({part['scaling']})" if part["scaling"] != "none" else "")


def _compared(facts: Facts) -> str:
    compared = facts["compared"]
    return (
        f"with PyTorch on {compared['patches']} patches: probabilities differ by at most "
        f"{compared['largest_difference']:.1e} (allowed: {compared['tolerance']:.0e})"
    )

"""``sentinode bundle``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.names import aligned
from sentinode.progress import console


def bundle(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the run that holds it.")],
    mpp: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Write these microns per pixel into a bundle that does not know them."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Say what patches a bundle takes and what it tells apart; state its microns per pixel once, where unknown.

    Example: sentinode bundle runs/own --mpp 0.5
    """
    from sentinode.model.bundle import load, state_mpp

    opened = load(path)
    if mpp is not None:
        opened = state_mpp(opened, mpp)
    card = opened.card
    facts = {
        "name": card.name,
        "patch_size": card.patch_size,
        "mpp": card.mpp,
        "label_region": card.label_region,
        "class_names": card.class_names,
        "threshold": card.threshold,
        "fingerprint": opened.fingerprint,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    negative, positive = card.class_names
    typer.echo(f"{card.name} takes patches of {card.geometry}.")
    typer.echo(f"It gives the probability of {positive}, as against {negative}; its threshold is {card.threshold:.3f}.")


def check(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the run that holds it.")],
    data: Annotated[Path, typer.Argument(help="Labelled patches with a valid split.")],
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    device: Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Measure dense reading beside patch by patch on the valid split, and write both into the bundle's card.

    A scan then reads densely by itself if that costs less than 0.003 of the AUC.

    Example: sentinode check runs/first/bundle pcam
    """
    from sentinode.model.bundle import AS_GOOD, load
    from sentinode.model.readings import check_readings
    from sentinode.patches import open_data

    bundle = load(path)
    patches = open_data(
        data,
        assignment=bundle.assignment(),
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        expected=bundle.card.expected,
    )["valid"]
    card = check_readings(bundle, patches, device=device).card
    if as_json:
        typer.echo(json.dumps({name: reading.model_dump() for name, reading in card.readings.items()}, indent=2))
        return
    rows = [("reading", "AUC", "NLL", "ECE")]
    rows += [(name, f"{one.auc:.4f}", f"{one.nll:.4f}", f"{one.ece:.4f}") for name, one in card.readings.items()]
    typer.echo(aligned(rows))
    verdict = "reads densely" if card.dense_is_as_good else "reads patch by patch"
    console.print(f"By itself a scan {verdict}: dense reading may cost less than {AS_GOOD} of the AUC.", markup=False)

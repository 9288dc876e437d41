"""What is done to a bundle itself: ``sentinode bundle``, ``check``, ``quantise`` and ``export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sentinode.cli.choices import ExportFormat
from sentinode.cli.statements import LabelRegion, PatchMpp, Positive, names
from sentinode.names import aligned
from sentinode.progress import console

if TYPE_CHECKING:
    from sentinode.model.bundle import Bundle
    from sentinode.patches import PatchData


def bundle(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the run that made it.")],
    mpp: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Microns per pixel to write into a bundle that has none."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Show the patches and the classes that a bundle is for, or state its microns per pixel if they are unknown.

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
        "slide_operating_points": {
            name: point.model_dump(mode="json") for name, point in card.slide_operating_points.items()
        },
        "slide_operating_point": card.slide_operating_point if card.slide_operating_points else None,
        "fingerprint": opened.fingerprint,
        "made_from": card.made_from.model_dump() if card.made_from else None,
        "taught": card.taught.model_dump() if card.taught else None,
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    negative, positive = card.class_names
    typer.echo(f"{card.name} takes patches of {card.geometry}.")
    if card.made_from is not None:
        typer.echo(f"It was trained on from the bundle {card.made_from.name} ({card.made_from.fingerprint[:12]}).")
    if card.taught is not None:
        counts = ", ".join(f"{count} {kind}" for kind, count in card.taught.patches.items())
        typer.echo(f"It was taught with the review of {len(card.taught.slides)} slides. Patches: {counts}.")
    typer.echo(f"It predicts the probability of {positive}, not {negative}. Its threshold is {card.threshold:.3f}.")
    if card.slide_points is None:
        typer.echo("It has no slide operating point: a scan uses the general one. `sentinode operate` chooses one.")
        return
    point = card.slide_points.point
    target = "" if point.target is None else f" for {point.target}"
    typer.echo(f"Its slide operating point '{card.slide_operating_point}' was chosen{target}, on {point.chosen_on}.")


def check(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the run that made it.")],
    data: Annotated[Path, typer.Argument(help="Labelled patches with a valid split.")],
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    device: Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Measure dense reading beside patch by patch on the valid split, and write both into the bundle's card.

    After that, `scan` reads densely by default if dense reading loses less than 0.003 of the AUC. Also keeps what
    up to 1,000 patches of valid look like to the network, for `check-site`.

    Example: sentinode check runs/first/bundle pcam
    """
    from sentinode.model.bundle import AS_GOOD, load
    from sentinode.model.readings import check_readings
    from sentinode.model.site_reference import FEWEST, write_reference

    bundle = load(path)
    patches = _patches_for(bundle, data, mpp, label_region, positive)["valid"]
    if len(patches) >= FEWEST and bundle.card.architecture.kind != "custom":
        bundle = write_reference(bundle, patches, device=device)
        console.print("What `check-site` compares with is kept in the bundle.")
    else:
        console.print(
            f"Nothing is kept for `check-site`, which needs {FEWEST} patches and a network of Sentinode's own."
        )
    card = check_readings(bundle, patches, device=device).card
    if as_json:
        typer.echo(json.dumps({name: reading.model_dump() for name, reading in card.readings.items()}, indent=2))
        return
    rows = [("reading", "AUC", "NLL", "ECE")]
    rows += [(name, f"{one.auc:.4f}", f"{one.nll:.4f}", f"{one.ece:.4f}") for name, one in card.readings.items()]
    typer.echo(aligned(rows))
    default = "densely" if card.dense_is_as_good else "patch by patch"
    console.print(
        f"By default, a scan reads {default}. Dense reading is the default if it loses less than {AS_GOOD} of the AUC.",
        markup=False,
    )


def _patches_for(
    bundle: Bundle, data: Path, mpp: float | None, label_region: int | None, positive: str | None
) -> PatchData:
    """Labelled patches in the splits and of the geometry that a bundle was trained on."""
    from sentinode.patches import open_data

    return open_data(
        data,
        assignment=bundle.assignment(),
        mpp=mpp,
        label_region=label_region,
        positive=names(positive),
        expected=bundle.card.expected,
    )


def quantise(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, or the run that made it.")],
    data: Annotated[Path, typer.Argument(help="Labelled patches with a training and a valid split.")],
    out: Annotated[
        Path | None, typer.Option(help="Write a new bundle here. Without it, the int8 network goes into BUNDLE.")
    ] = None,
    mpp: PatchMpp = None,
    label_region: LabelRegion = None,
    positive: Positive = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card's section on int8 as JSON.")] = False,
) -> None:
    """Make an int8 network for a bundle, which scans faster on processors with VNNI or AMX.

    It is calibrated on training patches and compared with float32 on the valid split. It is refused if it loses 0.002
    of the AUC or more. Needs sentinode[quantise]; using the result needs only sentinode[fast].

    Example: sentinode quantise runs/first/bundle pcam --out runs/first/int8
    """
    from sentinode.model.bundle import load
    from sentinode.model.engines.int8_engine import WORTHWHILE
    from sentinode.model.quantising import quantise as make

    bundle = load(path)
    patches = _patches_for(bundle, data, mpp, label_region, positive)
    int8 = make(bundle, patches["train"], patches["valid"], out=out).card.int8
    assert int8 is not None
    if as_json:
        typer.echo(int8.model_dump_json(indent=2))
        return
    rows: list[tuple[str, ...]] = [
        ("reading", "AUC float32", "AUC int8", "NLL float32", "NLL int8", "largest change", "times faster")
    ]
    for name, one in int8.readings.items():
        figures = (one.auc_float32, one.auc, one.nll_float32, one.nll, one.largest_change)
        rows.append((name, *(f"{figure:.4f}" for figure in figures), f"{one.times_faster:.2f}"))
    typer.echo(aligned(rows))
    gains = [name for name, one in int8.readings.items() if one.times_faster >= WORTHWHILE]
    taken = (
        f"takes int8 with these readings: {', '.join(gains)}" if gains else "does not take int8: it gains too little"
    )
    console.print(f"With --precision auto, a scan {taken}. --precision int8 always takes it.", markup=False)


def export(
    to: Annotated[ExportFormat, typer.Option("--to", help="Format of the network.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="New folder for the network.")],
    path: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="A bundle, or the run that made it. Default: the bundled model."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Patches to compare on: images, a folder, an HDF5 or a Parquet file. Default: generated tissue.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the network of a bundle for other programs, and compare it with PyTorch before the folder is kept.

    `wsinfer` writes the folder that WSInfer and QuPath's extension for it open. The comparison is on 256 patches.

    Example: sentinode export runs/first/bundle --to onnx --out first-onnx
    """
    from dataclasses import asdict

    import sentinode

    opened = sentinode.load(path)
    if path is None:
        console.print(f"No bundle is named. Using the bundled model, {opened.card.name}.", markup=False)
    if opened.card.toy:
        console.print("This bundle is a toy: it was trained on generated patches.")
    done = sentinode.export(opened, out, to=to, data=data)
    if as_json:
        typer.echo(json.dumps({**asdict(done), "path": str(done.path)}, indent=2))
        return
    typer.echo("\n".join(str(done.path / name) for name in done.files))
    patches = f"{done.patches} patches, {done.real} of them from your data" if data else f"{done.patches} patches"
    console.print(
        f"Compared with PyTorch on {patches}: probabilities differ by at most {done.largest_difference:.1e} "
        f"(allowed: {done.tolerance:.0e}).",
        markup=False,
    )

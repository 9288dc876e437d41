"""``sentinode lesions``, ``froc``, ``operate``, ``annotations`` and ``extract``: slides, maps and annotations.

``check_annotations`` is the command ``annotations``, whose own name the future import takes.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sentinode
from sentinode.cli.choices import OnCluster, SlidePoint
from sentinode.cli.scan import WholeSlide
from sentinode.errors import EXIT_PARTIAL, EXIT_REFUSED, DataError
from sentinode.names import aligned
from sentinode.progress import console

if TYPE_CHECKING:
    from sentinode.evaluation.froc import Froc
    from sentinode.geometry import PatchGeometry
    from sentinode.model.engines import Engine
    from sentinode.scoring import Estimate
    from sentinode.slides.reading.annotations import ReadingOptions

Scale = Annotated[
    float, typer.Option(help="Factor from the coordinates of the annotations to level 0 of the slide, such as 0.03125.")
]
AbsentIsNormal = Annotated[
    bool, typer.Option("--absent-is-normal", help="A slide without annotations has no tumour, as in Camelyon16.")
]
TumourClasses = Annotated[
    list[str] | None,
    typer.Option(
        "--tumour-class",
        metavar="NAME",
        help="Group or class that means tumour. Overrides the usual names. May be repeated. "
        "'unclassified' means regions without a class.",
    ),
]
ExcludedClasses = Annotated[
    list[str] | None,
    typer.Option(
        "--excluded-class",
        metavar="NAME",
        help="Group or class to cut out of the tumour. Overrides the usual names. May be repeated.",
    ),
]
IgnoredClasses = Annotated[
    list[str] | None,
    typer.Option(
        "--ignored-class",
        metavar="NAME",
        help="Group or class to ignore, such as the outline of the tissue. May be repeated.",
    ),
]
TruthOnWholeSlide = Annotated[
    bool,
    typer.Option(
        "--whole-slide-coordinates",
        help="GeoJSON counts from the slide's corner. Default: from the corner of its bounds, as in QuPath.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def lesions(
    batch: Annotated[Path, typer.Argument(metavar="DIR", help="The --out folder of a scan.")],
    nodes: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Columns slide, node, patient. Adds the pN stages.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Annotations to draw over the heatmaps, named like the slides.")
    ] = None,
    scale: Scale = 1.0,
    tumour_class: TumourClasses = None,
    excluded_class: ExcludedClasses = None,
    ignored_class: IgnoredClasses = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Use the slide operating points of this bundle, which must have the weights that made the maps.",
        ),
    ] = None,
    operating_point: SlidePoint = None,
    whole_slide_coordinates: WholeSlide = None,
    as_json: Json = False,
) -> None:
    """Find lesions in scanned slides, write their files and pages, and stage patients.

    Example: sentinode lesions maps --nodes nodes.csv
    """
    from sentinode.slides.results.findings import write_findings

    found = write_findings(
        batch,
        bundle=None if bundle is None else sentinode.load(bundle),
        operating_point=operating_point,
        truth=truth,
        nodes=nodes,
        whole_slide_coordinates=whole_slide_coordinates,
        **_reading(scale, tumour_class, excluded_class, ignored_class),
    )
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "slides": {name: asdict(totals) for name, totals in found.slides.items()},
                    "patients": [asdict(patient) for patient in found.patients],
                    "failed": found.failed,
                },
                indent=2,
            )
        )
    else:
        rows = []
        for name, totals in found.slides.items():
            score = "no tissue" if totals.score is None else f"{totals.score:.4f}"
            look_at = ", ".join(map(str, totals.verdict["look_at"]))
            unsure = "" if totals.verdict["certain"] else f", uncertain{look_at and f': look at {look_at}'}"
            rows.append((name, score, totals.category, f"{totals.largest_um / 1000:.2f} mm{unsure}"))
        for table in (rows, [(patient.name, patient.stage) for patient in found.patients]):
            if table:
                typer.echo(aligned(table))
    console.print(f"Open in a browser: {found.page}", markup=False)
    if found.failed:
        raise typer.Exit(EXIT_PARTIAL if found.slides else EXIT_REFUSED)


def froc(
    maps: Annotated[Path, typer.Argument(metavar="MAPS", help="The --out folder of a scan.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="A folder of annotations named like the slides.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for froc.json, froc.csv and froc.svg.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Detections have a probability above this, for a prior of one half.")
    ] = 0.5,
    box: Annotated[float, typer.Option(metavar="UM", help="Side of the box that keeps one detection.")] = 746.5,
    mask_mpp: Annotated[float, typer.Option(metavar="UM", help="Microns per pixel of the annotation mask.")] = 7.776,
    absent_is_normal: AbsentIsNormal = False,
    scale: Scale = 1.0,
    tumour_class: TumourClasses = None,
    excluded_class: ExcludedClasses = None,
    ignored_class: IgnoredClasses = None,
    whole_slide_coordinates: TruthOnWholeSlide = False,
    as_json: Json = False,
) -> None:
    """Score maps as Camelyon16 does: mean sensitivity at 1/4 to 8 false positives per slide, and the slide AUC.

    Example: sentinode froc maps annotations --out froc
    """
    from sentinode.evaluation.froc import evaluate_froc, write_froc

    result = evaluate_froc(
        maps,
        truth,
        threshold=threshold,
        box_um=box,
        mask_mpp=mask_mpp,
        absent_is_normal=absent_is_normal,
        whole_slide_coordinates=whole_slide_coordinates,
        **_reading(scale, tumour_class, excluded_class, ignored_class),
    )
    if out is not None:
        write_froc(out, result)
    typer.echo(json.dumps(result.as_dict(), indent=2) if as_json else _froc_table(result))
    for warning in result.warnings:
        console.print(warning, markup=False)


def operate(
    maps: Annotated[Path, typer.Argument(metavar="MAPS", help="The --out folder of a scan.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="A folder of annotations named like the slides.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="NEW_BUNDLE", help="Folder for the copy of the bundle.")],
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="The bundle that made the maps (default: the bundled model)."),
    ] = None,
    false_lesions: Annotated[
        float | None,
        typer.Option(
            help="At most so many false lesions on a slide without tumour, on average. 0.25 if no target is given."
        ),
    ] = None,
    clean_negatives: Annotated[
        float | None, typer.Option(help="At least this share of the slides without tumour has no lesion reported.")
    ] = None,
    sensitivity: Annotated[float | None, typer.Option(help="At least this share of the lesions is found.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the page and the figures. Default: NEW_BUNDLE-operating."),
    ] = None,
    description: Annotated[
        str, typer.Option(metavar="TEXT", help="Description of the slides, for the bundle's card.")
    ] = "annotated slides of the user",
    refit: Annotated[
        bool,
        typer.Option(
            "--refit/--keep-rule", help="Fit the rule for regions to these slides if they have enough, or keep it."
        ),
    ] = True,
    absent_is_normal: AbsentIsNormal = False,
    scale: Scale = 1.0,
    tumour_class: TumourClasses = None,
    excluded_class: ExcludedClasses = None,
    ignored_class: IgnoredClasses = None,
    whole_slide_coordinates: TruthOnWholeSlide = False,
    as_json: Json = False,
) -> None:
    """Choose on annotated slides what counts as a lesion, and write it into a copy of the bundle.

    The slides need annotations, and some of them must be without tumour. Twenty slides are enough to begin with.

    Example: sentinode operate maps annotations runs/first/bundle --out lab-bundle --false-lesions 0.25
    """
    from sentinode.evaluation.operating import require_new, target_of
    from sentinode.evaluation.operating_page import as_dict, table, write_operating
    from sentinode.model.bundle import state_slide_points

    report = out.with_name(f"{out.name}-operating") if report is None else report
    require_new(out, report)
    opened = sentinode.load(bundle)
    result = sentinode.operate(
        maps,
        truth,
        opened,
        target=target_of(false_lesions, clean_negatives, sensitivity),
        refit=refit,
        description=description,
        absent_is_normal=absent_is_normal,
        whole_slide_coordinates=whole_slide_coordinates,
        **_reading(scale, tumour_class, excluded_class, ignored_class),
    )
    page = write_operating(report, result, name=opened.card.name)
    state_slide_points(opened, result.points, out)
    if as_json:
        typer.echo(json.dumps(as_dict(result), indent=2))
    else:
        typer.echo(aligned([(*figures, words) for words, *figures in table(result)]))
    lesion, other = result.regions
    fitted = "The rule was fitted to them" if result.refitted else "The rule was kept, and its cut was chosen"
    console.print(f"{lesion} regions touch a lesion, {other} touch none. {fitted}.", markup=False)
    for warning in result.warnings:
        console.print(warning, markup=False)
    console.print(
        f"The bundle with the operating points: {out}\nThe trade: {page}\n"
        f"Use it on these maps: sentinode lesions {maps} --bundle {out}",
        markup=False,
    )


def check_annotations(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ASAP .xml, QuPath .geojson or NCRF .json.")],
    slide: Annotated[
        Path | None, typer.Option(metavar="SLIDE", help="Slide of the annotations, to check that they lie on it.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(metavar="TIF", help="Mask of 0 and 1 to write (needs --slide).")] = None,
    downsample: Annotated[float, typer.Option(help="Slide pixels per mask pixel.")] = 8.0,
    scale: Scale = 1.0,
    tumour_class: TumourClasses = None,
    excluded_class: ExcludedClasses = None,
    ignored_class: IgnoredClasses = None,
    whole_slide_coordinates: TruthOnWholeSlide = False,
    mpp: Annotated[float | None, typer.Option(help="Microns per pixel of the slide.")] = None,
    as_json: Json = False,
) -> None:
    """Check annotations, print what they contain, and write them as a mask.

    Example: sentinode annotations tumor_001.xml --slide tumor_001.tif --mask tumor_001_mask.tif
    """
    from sentinode.slides.reading.annotations import read_annotations
    from sentinode.slides.reading.mask_file import write_mask
    from sentinode.slides.reading.slide import open_slide

    if mask is not None and (slide is None or not downsample > 0):
        raise DataError("a mask needs the size of the slide.", hint="Give --slide, and a --downsample above 0.")
    reading = _reading(scale, tumour_class, excluded_class, ignored_class)
    annotations = read_annotations(file, whole_slide_coordinates=whole_slide_coordinates, **reading)
    if slide is not None:
        with open_slide(slide, mpp=mpp) as opened:
            annotations = annotations.on(opened.width, opened.height, opened.bounds)
            if mask is not None:
                write_mask(mask, annotations, opened.width, opened.height, opened.mpp, downsample)
    facts = {
        "tumour_regions": len(annotations.tumour),
        "excluded_regions": len(annotations.excluded),
        "tumour_pixels": round(annotations.area.area, 1),
        "warnings": list(annotations.warnings),
    }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(
        f"{len(annotations.tumour)} regions of tumour, {len(annotations.excluded)} exclusions; "
        f"{annotations.area.area:,.0f} level-0 pixels of tumour"
    )
    for warning in annotations.warnings:
        console.print(warning, markup=False)


def extract(
    slides: Annotated[list[Path], typer.Argument(metavar="SLIDE...", help="Slides, or folders of slides.")],
    annotations: Annotated[Path, typer.Option(metavar="DIR", help="A folder of annotations named like the slides.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DATA", help="Folder for the patches.")],
    per_slide: Annotated[
        int, typer.Option(min=1, help="Largest number of patches of each class from one slide.")
    ] = 200,
    size: Annotated[int | None, typer.Option(metavar="PIXELS", help="Side of a patch in pixels. Default: 96.")] = None,
    patch_mpp: Annotated[
        float | None, typer.Option(metavar="UM", help="Microns per pixel of the patches. Default: 0.972.")
    ] = None,
    label_region: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Side of the centre square that labels cover. Default: 32 for a side of 96, else the whole patch.",
        ),
    ] = None,
    spacing: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels between the centres of a slide's patches. Default: the side of a patch."),
    ] = None,
    splits: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Columns slide, split. Default: 80/10/10 at random.")
    ] = None,
    hard: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Bundle that selects hard normal patches for train.")
    ] = None,
    hard_share: Annotated[float, typer.Option(help="Share of mined patches among the normal patches of train.")] = 0.5,
    absent_is_normal: AbsentIsNormal = False,
    annotated_only: Annotated[
        bool,
        typer.Option(
            "--annotated-only",
            help="Cut normal patches only from regions annotated as normal, for reviews. All patches are train's.",
        ),
    ] = False,
    scale: Scale = 1.0,
    tumour_class: TumourClasses = None,
    excluded_class: ExcludedClasses = None,
    ignored_class: IgnoredClasses = None,
    whole_slide_coordinates: TruthOnWholeSlide = False,
    mpp: Annotated[float | None, typer.Option(help="Microns per pixel of the slides.")] = None,
    device: Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Random seed for the splits and the choice of patches.")] = 0,
    cluster: OnCluster = None,
    as_json: Json = False,
) -> None:
    """Cut patches from annotated slides, in PatchCamelyon's format. Each slide goes to one split.

    Example: sentinode extract slides --annotations annotations --out data
    """
    options = sentinode.ExtractOptions(
        per_slide=per_slide,
        geometry=_geometry(size, patch_mpp, label_region),
        spacing=spacing,
        splits=None if splits is None else _splits(splits),
        absent_is_normal=absent_is_normal,
        annotated_only=annotated_only,
        whole_slide_coordinates=whole_slide_coordinates,
        reading=_reading(scale, tumour_class, excluded_class, ignored_class),
        mpp=mpp,
        engine=None if hard is None else _engine(hard, device),
        hard_share=hard_share,
        seed=seed,
        cluster=cluster,
    )
    counts = sentinode.extract(slides, annotations, out, options)
    if as_json:
        typer.echo(json.dumps(counts, indent=2))
        return
    for split, count in counts.items():
        typer.echo(f"{split}: {count['tumour']} tumour, {count['normal']} normal, from {count['slides']} slides")


def _reading(
    scale: float, tumour: list[str] | None, excluded: list[str] | None, ignored: list[str] | None
) -> ReadingOptions:
    """The options by which annotations are read; what was not given keeps the usual names."""
    given: ReadingOptions = {"scale": scale, "ignored_classes": ignored or ()}
    if tumour:
        given["tumour_classes"] = tumour
    if excluded:
        given["excluded_classes"] = excluded
    return given


def _geometry(size: int | None, mpp: float | None, label_region: int | None) -> PatchGeometry:
    """The geometry of patches to cut: PatchCamelyon's, but for what is given."""
    from sentinode.geometry import PCAM, PatchGeometry

    size = PCAM.size if size is None else size
    usual = PCAM.label_region if size == PCAM.size else size
    return PatchGeometry(size, PCAM.mpp if mpp is None else mpp, usual if label_region is None else label_region)


def _engine(bundle: Path, device: str) -> Engine:
    from sentinode.model.bundle import load
    from sentinode.model.engines import open_engine

    return open_engine(load(bundle), device=device)


def _froc_table(result: Froc) -> str:
    from sentinode.evaluation.froc import FALSE_POSITIVES

    facts = result.as_dict()
    lines = [
        f"FROC       {_interval(result.froc)}",
        f"slide AUC  {_interval(result.slide_auc)}",
        "",
        "false positives per slide  " + "  ".join(f"{value:>5g}" for value in FALSE_POSITIVES),
        "sensitivity                " + "  ".join(f"{value:5.3f}" for value in result.sensitivity),
        "",
        f"at the slide operating point '{result.parameters['operating_point']['name']}': "
        f"{result.reported[0]:.2f} false lesions per slide, sensitivity "
        + ("undefined" if math.isnan(result.reported[1]) else f"{result.reported[1]:.3f}"),
        "",
        f"{facts['slides']} slides, {facts['tumours']} tumours, {facts['ignored']} too small to count; "
        f"detections above {result.parameters['nms_threshold']:g}, one to a box of "
        f"{result.parameters['nms_box_um']:g} um",
    ]
    free = result.without_tumour
    if any(free.values()):
        lines.append(
            f"slides without tumour: {free['by_file']} with an annotation file, {free['by_absence']} without one"
        )
    if result.left_out:
        lines.append(f"left out: {', '.join(result.left_out)}")
    return "\n".join(lines)


def _interval(figure: Estimate) -> str:
    if math.isnan(figure.value):
        return "undefined"
    if math.isnan(figure.low):
        return f"{figure.value:.4f} (no interval: it would depend on one slide)"
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


def _splits(path: Path) -> dict[str, str]:
    """The split of each slide, by its name without the file's ending too."""
    from sentinode.patches.table import read_table

    rows = read_table(path, ("slide",), ("split",))
    return {name: split for slide, split in rows for name in (slide, Path(slide).stem)}

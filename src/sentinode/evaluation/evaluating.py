"""One evaluation: score a bundle on labelled patches, draw the curves, and write the results."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from sentinode.atomic import make_folder, output_errors
from sentinode.errors import BundleError, nearest
from sentinode.evaluation.charts import histogram_figure, pr_figure, reliability_figure, roc_figure, standalone
from sentinode.evaluation.examination_figures import examination_figures
from sentinode.evaluation.examining import Examination, examine, require_valid
from sentinode.evaluation.gallery import gallery
from sentinode.evaluation.margins import margins_of, open_scorer
from sentinode.evaluation.prediction_files import WRITTEN, write_predictions
from sentinode.evaluation.report import NAMES, Report, render
from sentinode.model.bundle import Bundle, Threshold, versions
from sentinode.model.engines import open_engine
from sentinode.patches import ALL, PatchData, PatchSet, open_data
from sentinode.patches.description import require_expected
from sentinode.progress import console
from sentinode.scoring import Predictions, Scores, calibrated, measure, pr_curve, reliability, roc_curve


@dataclass(frozen=True)
class Evaluation:
    """How good a bundle is on some patches.

    Attributes:
        scores: at the stored threshold, on calibrated probabilities.
        at_half: at the threshold 0.5, on calibrated probabilities.
        uncalibrated: before temperature scaling, at the same operating point.
        labels: uint8 (N,).
        probabilities: float32 (N,), of the positive class, calibrated.
        ids: str (N,).
        about: the bundle, the data and the settings: the rest of ``metrics.json``.
        warnings: warnings for the reader of the metrics, as sentences.
        path: the folder that was written.
        examination: calibration, operating points, decisions, and patches that are left open.
    """

    scores: Scores
    at_half: Scores
    uncalibrated: Scores
    labels: NDArray[np.uint8] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    ids: NDArray[np.str_] = field(repr=False)
    about: dict[str, Any] = field(repr=False)
    warnings: tuple[str, ...]
    path: Path
    examination: Examination = field(repr=False)

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"

    def as_dict(self) -> dict[str, Any]:
        """The content of ``metrics.json``."""
        return {
            **self.scores.as_dict(),
            "at_half": self.at_half.as_dict(),
            "uncalibrated": self.uncalibrated.as_dict(),
            "warnings": list(self.warnings),
            **self.examination.as_dict(),
            **self.about,
        }


def evaluate(
    bundle: Bundle,
    data: str | Path | PatchData,
    split: str,
    out: str | Path,
    *,
    rule: str | None = None,
    slide_map: Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    tta: bool = False,
    device: str = "auto",
    precision: str = "float32",
    interval: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
    valid: Predictions | None = None,
    guarantee: str | None = None,
    cluster: str | None = None,
    show: bool = True,
) -> Evaluation:
    """Score a bundle on one split, and write the metrics, the predictions, the curves and a report.

    Args:
        bundle: the model.
        data: labelled patches. If they have no splits, the splits that training made are used.
        split: ``train``, ``valid`` or ``test``; or ``all`` for every patch of data without splits that
            training has never seen.
        out: the folder to write to.
        rule: the rule of the stored threshold to use; by default that of the training recipe.
        slide_map: a CSV that names the slide of each patch of the split, for intervals by slide, if ``data`` is a
            path.
        mpp: microns per pixel of the patches, if ``data`` is a path that does not record them.
        label_region: side in pixels of the centre square that labels cover, in the same case.
        positive: names of the class folders of label 1, if they differ from those of the bundle's training data.
        tta: average the logits over the eight symmetries of the square; eight times the work.
        device: where to compute.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``int8``.
        interval: ``auto`` (the jackknife where slides are known, else a bootstrap), ``jackknife``, or of a bootstrap
            ``percentile`` or ``bca``.
        resamples: number of bootstrap resamples.
        seed: random seed for the bootstrap.
        valid: the bundle's predictions for other patches, on which further operating points, calibrations and sets are
            chosen. The metrics keep the stored threshold and temperature.
        guarantee: ``RECALL@CONFIDENCE`` that ``valid`` must allow, such as ``0.95@0.9``.
        cluster: the address of a Ray cluster whose workers score the patches, with the bundle and ``data`` at the same
            paths on all of its machines; None for this process alone. The rest is done in this process.
        show: whether to show progress and warnings on standard error.

    Raises:
        DataError: ``valid`` holds patches that are scored, or does not allow the guarantee; the data or the split
            cannot be read, the slide map does not name all its patches, or the patches or
            their classes differ from those that the bundle was trained on.
        BundleError: the bundle stores no threshold for this rule.
        OutputError: the folder cannot be written.
        DeviceError: no such device or precision; there is no such cluster, it was lost, or its machines offer several
            engines.
    """
    threshold = _threshold(bundle, rule)
    require_valid(valid, guarantee)
    data = open_for(
        bundle, data, split, slide_map=slide_map, mpp=mpp, label_region=label_region, positive=positive, show=show
    )
    patches = data[split]
    score = open_scorer(bundle, data, patches, device=device, precision=precision, tta=tta, cluster=cluster)
    folder = make_folder(Path(out))
    engine, margins = score(f"Evaluating {split}", show)

    temperature = bundle.card.temperature
    probabilities = calibrated(margins, temperature)
    raw = calibrated(margins, 1.0)
    bootstrap: dict[str, Any] = {"groups": patches.slides, "interval": interval, "resamples": resamples, "seed": seed}
    bootstrap["class_names"] = patches.class_names
    scores = measure(patches.labels, probabilities, threshold.value, **bootstrap)
    predictions = Predictions(
        bundle.card.name,
        patches.ids,
        patches.labels,
        probabilities.astype(np.float64),
        patches.slides,
        class_names=patches.class_names,
        threshold=threshold.value,
        rule=f"{threshold.rule}, on valid",
    )
    examination = examine(predictions, threshold.value, valid, guarantee)
    fingerprint = patches.fingerprint()
    warnings = (*_of_another(bundle, valid), *_warnings(bundle, patches, fingerprint, scores))
    evaluation = Evaluation(
        scores=scores,
        at_half=measure(patches.labels, probabilities, 0.5, **bootstrap),
        # The threshold is carried to the other scale: temperature scaling moves no patch across it.
        uncalibrated=measure(patches.labels, raw, _carried(threshold.value, temperature), **bootstrap),
        labels=patches.labels,
        probabilities=probabilities,
        ids=patches.ids,
        about={
            "split": split,
            "command": _command(bundle, data, split, folder, rule, tta, seed, valid, guarantee),
            "bundle": {"name": bundle.card.name, "path": str(bundle.path), "fingerprint": bundle.fingerprint},
            "data": {
                "path": str(data.path),
                "name": data.path.resolve().name,
                "kind": patches.kind,
                "fingerprint": fingerprint,
                "toy": patches.toy,
                "slides": scores.slides,
                "geometry": asdict(patches.geometry),
            },
            "class_names": list(patches.class_names),
            "threshold_rule": threshold.rule,
            "temperature": temperature,
            "tta": tta,
            "engine": engine,
            "seed": seed,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
        },
        warnings=warnings,
        path=folder,
        examination=examination,
    )
    if show:
        tell(warnings)
    # The evidence is drawn here, where a cluster's GPU need not be.
    _write(evaluation, bundle, patches, predictions, raw, device if cluster is None or device == "cpu" else "auto")
    return evaluation


def predict_labelled(
    bundle: Bundle,
    data: PatchData,
    split: str,
    *,
    name: str | None = None,
    rule: str | None = None,
    tta: bool = False,
    device: str = "auto",
    precision: str = "float32",
    show: bool = True,
) -> Predictions:
    """A bundle's predictions for one split, with the threshold that the bundle stores.

    Args:
        bundle: the model.
        data: labelled patches, opened for the bundle (:func:`open_for`).
        split: one of its splits, or ``all``.
        name: of the model; by default that of the bundle.
        rule: the rule of the stored threshold; by default that of the training recipe.
        tta: average the logits over the eight symmetries of the square.
        device: where to compute.
        precision: ``auto``, ``float32`` or ``bfloat16``.
        show: whether to show progress on standard error.

    Raises:
        DataError: there is no such split.
        BundleError: the bundle stores no threshold for this rule.
        DeviceError: no such device or precision.
    """
    threshold, patches = _threshold(bundle, rule), data[split]
    engine = open_engine(bundle, device=device, precision=precision, tta=tta)
    margins = margins_of(engine, patches, f"{name or bundle.card.name} on {split}", show)
    return Predictions(
        name or bundle.card.name,
        patches.ids,
        patches.labels,
        calibrated(margins, bundle.card.temperature).astype(np.float64),
        patches.slides,
        class_names=patches.class_names,
        threshold=threshold.value,
        rule=f"{threshold.rule}, on valid",
        source=bundle.path,
    )


def open_for(
    bundle: Bundle,
    data: str | Path | PatchData,
    split: str,
    *,
    slide_map: Path | None = None,
    mpp: float | None = None,
    label_region: int | None = None,
    positive: Sequence[str] = (),
    show: bool = True,
) -> PatchData:
    """Open labelled patches for a bundle, or check patches that are already open.

    Raises:
        DataError: they cannot be read, or differ from those that the bundle was trained on.
    """
    expected = bundle.card.expected
    if isinstance(data, PatchData):
        require_expected(
            expected, data.geometry, data.class_names, named=data.kind == "folder", stated=data.stated, where=data.path
        )
        return data
    return open_data(
        data,
        slide_map=slide_map,
        assignment=bundle.assignment(),
        whole=split == ALL,
        mpp=mpp,
        label_region=label_region,
        positive=positive,
        expected=expected,
        show=show,
    )


def _threshold(bundle: Bundle, rule: str | None) -> Threshold:
    stored = bundle.card.thresholds
    rule = rule or bundle.card.threshold_rule
    if rule not in stored:
        guess = nearest(rule, list(stored))
        raise BundleError(
            f"this bundle stores no threshold for the rule '{rule}'.",
            where=bundle.path,
            hint=(f"Did you mean '{guess}'? " if guess else "") + f"It stores {', '.join(stored)}.",
        )
    return stored[rule]


def _command(
    bundle: Bundle,
    data: PatchData,
    split: str,
    out: Path,
    rule: str | None,
    tta: bool,
    seed: int,
    valid: Predictions | None,
    guarantee: str | None,
) -> str:
    """The command that repeats this evaluation."""
    words: list[str | Path] = ["sentinode", "evaluate", bundle.path, data.path, "--split", split, "--out", out]
    words += ["--rule", rule] if rule else []
    words += ["--slides", data.slide_map] if data.slide_map else []
    stated = data.stated
    words += ["--mpp", str(stated.mpp)] if stated.mpp is not None else []
    words += ["--label-region", str(stated.label_region)] if stated.label_region is not None else []
    words += ["--positive", ",".join(stated.positive)] if stated.positive else []
    words += ["--tta"] if tta else []
    words += ["--seed", str(seed)] if seed else []
    words += ["--valid", valid.source] if valid is not None and valid.source is not None else []
    words += ["--guarantee", guarantee] if guarantee else []
    return shlex.join(map(str, words))


def _carried(threshold: float, temperature: float) -> float:
    return float(expit(logit(threshold) * temperature)) if 0 < threshold < 1 else threshold


def _of_another(bundle: Bundle, valid: Predictions | None) -> list[str]:
    """A warning where the predictions for valid bear the name of another model."""
    if valid is None or valid.name == bundle.card.name:
        return []
    return [f"The predictions for valid are named {valid.name}, and the bundle {bundle.card.name}. Are they its own?"]


def _warnings(bundle: Bundle, patches: PatchSet, fingerprint: str, scores: Scores) -> tuple[str, ...]:
    """Warnings for the reader of the metrics."""
    warnings: list[str] = []
    seen = bundle.card.data.get("fingerprint", {})
    if fingerprint == seen.get("train"):
        warnings.append("The model was trained on these same patches. The metrics tell nothing about other patches.")
    elif fingerprint == seen.get("valid"):
        warnings.append(
            "The checkpoint, the temperature and the threshold were chosen on these same patches. The "
            "metrics look better than they would on other patches."
        )
    elif patches.split == ALL:
        if known := len(np.intersect1d(patches.ids, list(bundle.assignment() or ()))):
            warnings.append(
                f"{known:,} of these patches have the ids of patches on which the model was trained, chosen or tested. "
                "If they are the same patches, the metrics look better than they would on other patches."
            )
    elif patches.split != "test":
        warnings.append(
            f"This is a {patches.split} split. If the model was trained or chosen on a part of it, the "
            "metrics look better than they would on other patches."
        )
    if patches.toy:
        warnings.append("A toy: these patches are generated, so the metrics tell nothing about tissue.")
    elif bundle.card.toy:
        warnings.append("A toy: the model was trained on generated patches and has never seen tissue.")
    return (*warnings, *warnings_of(scores), *patches.warnings)


def tell(warnings: Sequence[str]) -> None:
    """Print warnings on standard error."""
    for warning in warnings:
        console.print("Note:", style="yellow", end=" ")
        console.print(warning, markup=False)


def warnings_of(scores: Scores) -> list[str]:
    """What to bear in mind of the intervals, and which metrics or intervals do not exist, as sentences."""
    return [
        *scores.notes,
        *(f"{NAMES[name][0]} is undefined: {why}." for name, why in scores.undefined.items()),
        *(f"{NAMES[name][0]} has no interval: {why}." for name, why in scores.no_interval.items()),
    ]


def _write(
    evaluation: Evaluation,
    bundle: Bundle,
    patches: PatchSet,
    predictions: Predictions,
    raw: NDArray[np.float32],
    device: str,
) -> None:
    labels, probabilities, scores = evaluation.labels, evaluation.probabilities, evaluation.scores
    charts = {
        "roc": roc_figure(roc_curve(labels, probabilities), scores, evaluation.at_half),
        "pr": pr_figure(pr_curve(labels, probabilities), scores, evaluation.at_half),
        "reliability": reliability_figure(
            reliability(labels, probabilities),
            reliability(labels, raw),
            scores,
            evaluation.uncalibrated,
            patches.class_names[1],
            evaluation.examination.calibration.bins,
        ),
        **examination_figures(evaluation.examination),
    }
    metrics = evaluation.as_dict()
    texts = {f"{name}.svg": standalone(svg) for name, svg in charts.items()}
    charts["histogram"] = histogram_figure(labels, probabilities, scores.threshold, patches.class_names)
    shown = gallery(bundle, patches, probabilities, scores.threshold, device=device)
    texts["report.html"] = render(Report(metrics, bundle.card, charts, shown, evaluation.examination))
    texts["metrics.json"] = json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_results(evaluation.path, texts, predictions)


def write_results(folder: Path, texts: Mapping[str, str], predictions: Predictions) -> None:
    """Write texts by the names of their files, and the predictions.

    All are written beside and moved in together: a full disk leaves the results of the run before as they were.
    """
    with output_errors(folder), TemporaryDirectory(prefix=".part-", dir=folder) as staged:
        write_predictions(Path(staged, WRITTEN), predictions)
        for name, text in texts.items():
            Path(staged, name).write_text(text, encoding="utf-8", newline="\n")
        for file in sorted(Path(staged).iterdir()):
            file.replace(folder / file.name)

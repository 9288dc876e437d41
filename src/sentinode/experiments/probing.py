"""``probe``: a linear classifier on frozen features, with all labels and with few."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentinode.errors import DataError, RecipeError, SentinodeError
from sentinode.experiments import eva
from sentinode.experiments.draws import draw_patches
from sentinode.experiments.features_file import Embeddings, read_embeddings
from sentinode.experiments.spread import Spread
from sentinode.progress import track
from sentinode.scoring import Scores, auc, choose_threshold, measure

Floats = NDArray[np.float64]
Fit = Callable[[NDArray[np.float32]], Floats]
"""P(positive class) of features, float (n,)."""

STRENGTHS = tuple(float(10.0**power) for power in range(-6, 3))
"""The values of C, the inverse of the penalty, from which one is chosen."""

FOLDS = 5
PROTOCOLS = ("logistic", "eva")
SCORED = ("auc", "accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Draw:
    """One fitted probe.

    Attributes:
        labels: labels of each class that it was fitted to; 0 for all.
        seed: of the draw, or of the protocol's run.
        patches: number of patches that it was fitted to.
        strength: the C that was chosen; None for the protocol ``eva``.
        figures: of each split: its AUC, its accuracy and its balanced accuracy, at the threshold that was chosen
            without it.
    """

    labels: int
    seed: int
    patches: int
    strength: float | None
    figures: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Probe:
    """What linear probes reach on frozen features.

    Attributes:
        name: the backbone.
        protocol: ``logistic`` or ``eva``.
        draws: each fitted probe.
        splits: the splits that were scored.
        scores: with all labels, of each split: all metrics with their intervals over patches or slides; empty where no
            probe was fitted to all labels.
        about: of the features.
        notes: what the reader should know, as sentences.
    """

    name: str
    protocol: str
    draws: tuple[Draw, ...]
    splits: tuple[str, ...]
    scores: dict[str, Scores] = field(repr=False)
    about: dict[str, Any] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """The numbers of labels of each class, 0 (all) last."""
        return tuple(sorted({draw.labels for draw in self.draws}, key=lambda count: count or math.inf))

    def spread(self, labels: int, split: str, metric: str = "auc") -> Spread:
        """The mean of a metric over the draws with so many labels of each class; 0 for all labels."""
        return Spread.of([draw.figures[split][metric] for draw in self.draws if draw.labels == labels])

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "backbone": self.name,
            "protocol": self.protocol,
            "splits": list(self.splits),
            "table": [
                {
                    "labels_of_each_class": labels or "all",
                    "split": split,
                    **{metric: self.spread(labels, split, metric).as_dict() for metric in SCORED},
                }
                for labels in self.labels
                for split in self.splits
            ],
            "draws": [
                {
                    "labels_of_each_class": draw.labels or "all",
                    "seed": draw.seed,
                    "patches": draw.patches,
                    "C": draw.strength,
                    **draw.figures,
                }
                for draw in self.draws
            ],
            "all_labels": {split: scores.as_dict() for split, scores in self.scores.items()},
            "notes": list(self.notes),
            "features": self.about,
        }


def probe(
    features: str | Path | Embeddings,
    *,
    labels: Sequence[int] = (0,),
    draws: int = 5,
    seed: int = 0,
    protocol: str = "logistic",
    splits: Sequence[str] = (),
    resamples: int = 1000,
    show: bool = True,
) -> Probe:
    """Fit linear classifiers to the features of the training split, and score them on the other splits.

    ``logistic`` is scikit-learn's logistic regression on standardised features. With all labels its C is the one with
    the lowest NLL on valid. With few labels C is chosen by cross-validation within these labels alone, by slide where
    slides are known, because whoever has few labels has no large valid split. Test is never used to choose.

    ``eva`` is the linear head of kaiko-ai's eva for PatchCamelyon; see :mod:`sentinode.experiments.eva`.

    Args:
        features: what :func:`embed` wrote or returned.
        labels: numbers of labels of each class, such as ``(10, 100, 1000, 0)``; 0 for all.
        draws: draws of patches for each number of labels; all labels need one, and ``eva`` takes as many runs.
        seed: random seed of the first draw.
        protocol: ``logistic`` or ``eva``.
        splits: the splits to score; by default valid and test, as far as they are present.
        resamples: bootstrap resamples for the intervals by patch with all labels.
        show: whether to show progress on standard error.

    Raises:
        DataError: the file cannot be read, has no train split or no split to score, has one class, or has features
            that are the same for all patches; or there are fewer labels than asked for.
        RecipeError: there is no such protocol, or a number of labels or draws is out of range.
        SentinodeError: scikit-learn is not installed.
    """
    if protocol not in PROTOCOLS:
        raise RecipeError(f"there is no protocol '{protocol}'.", hint=f"Choose one of {', '.join(PROTOCOLS)}.")
    if draws < 1 or not labels or any(count < 0 or count == 1 for count in labels):
        raise RecipeError(
            "the numbers of labels of each class are at least 2, or 0 for all; there is at least one draw.",
            where="--labels",
            hint="For example --labels 10,100,all --draws 5",
        )
    _require_sklearn()
    held = features if isinstance(features, Embeddings) else read_embeddings(features)
    train = _training(held, max(labels))
    scored = _scored(held, splits)
    notes = [
        "The intervals of means are over draws. They do not say how the figures would change with other patches to "
        "score; the intervals with all labels do."
    ]
    fitted: list[Draw] = []
    probabilities: dict[str, Floats] = {}
    threshold = 0.5
    for count, number in track(_plan(labels, draws, protocol), f"Probing {held.name}", unit="probes", show=show):
        rows = draw_patches(train.labels, count, seed + number) if count else np.arange(len(train))
        part = train.rows(rows)
        tuning = held.of("valid") if "valid" in held.splits and (not count or protocol == "eva") else None
        fit, strength, cut = _fit(part, tuning, protocol, seed + number)
        outputs = {split: fit(of.features) for split, of in scored.items()}
        figures = {split: _figures(scored[split].labels, p, cut) for split, p in outputs.items()}
        fitted.append(Draw(count, seed + number, len(part), strength, figures))
        if not count and not probabilities:
            probabilities, threshold = outputs, cut
    notes += _edges(fitted)
    if any(not count for count in labels) and "valid" in scored and "valid" in held.splits:
        notes.append("With all labels, C and the threshold were chosen on valid: its figures are too good.")
    return Probe(
        name=held.name,
        protocol=protocol,
        draws=tuple(fitted),
        splits=tuple(scored),
        scores={
            split: measure(
                scored[split].labels,
                values,
                threshold,
                groups=scored[split].slides,
                resamples=resamples,
                seed=seed,
                class_names=held.class_names,
            )
            for split, values in probabilities.items()
        },
        about=held.about,
        notes=(*notes, *held.about.get("data", {}).get("warnings", ())),
    )


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise SentinodeError(
            "the probe needs scikit-learn, which is not installed.", hint='Run pip install "sentinode[probe]".'
        ) from error


def _training(held: Embeddings, most: int) -> Embeddings:
    """The training patches, or a refusal."""
    if "train" not in held.splits:
        raise DataError(
            f"a probe is fitted to the train split, and there is only {', '.join(held.splits)}.",
            where=held.path,
            hint="Embed data with a train split.",
        )
    train = held.of("train")
    counts = [int((train.labels == label).sum()) for label in (0, 1)]
    if not min(counts):
        raise DataError("the train split has one class only.", where=held.path, hint="Two classes are needed.")
    if most > min(counts):
        raise DataError(
            f"{most:,} labels of each class are asked for, and train has {counts[0]:,} and {counts[1]:,}.",
            where=held.path,
            hint=f"Ask for at most {min(counts):,}, or for all.",
        )
    if not np.ptp(train.features, axis=0).any():
        raise DataError(
            "the features are the same for all patches: this backbone tells nothing about them.",
            where=held.path,
            hint="Check its weights.",
        )
    return train


def _scored(held: Embeddings, splits: Sequence[str]) -> dict[str, Embeddings]:
    """The splits to score, each with both classes."""
    names = splits or [split for split in ("valid", "test") if split in held.splits]
    if not names:
        raise DataError(
            "there is neither a valid nor a test split to score.", where=held.path, hint="Embed data with splits."
        )
    parts = {split: held.of(split) for split in names}
    for split, part in parts.items():
        if len(np.unique(part.labels)) < 2:
            raise DataError(f"the {split} split has one class only: there is no AUC.", where=held.path)
    return parts


def _plan(labels: Sequence[int], draws: int, protocol: str) -> list[tuple[int, int]]:
    """Each probe to fit: its labels of each class, and its number."""
    counts = sorted(set(labels), key=lambda count: count or math.inf)
    return [(count, number) for count in counts for number in range(draws if count or protocol == "eva" else 1)]


def _fit(part: Embeddings, tuning: Embeddings | None, protocol: str, seed: int) -> tuple[Fit, float | None, float]:
    """A fitted probe, its C, and its threshold."""
    if protocol == "eva":
        if tuning is None:
            raise DataError("eva's protocol stops early by valid, and there is none.", where=part.path)
        return eva.fit(part.features, part.labels, tuning.features, tuning.labels, seed), None, 0.5
    return _logistic(part, tuning, seed)


def _logistic(part: Embeddings, tuning: Embeddings | None, seed: int) -> tuple[Fit, float, float]:
    """Logistic regression with the C that is best on ``tuning``, or within the labels where that is None."""
    if tuning is None:
        losses, held_out = _cross_validated(part, seed)
        strength = STRENGTHS[int(np.argmin(losses))]
        model = _regression(part.features, part.labels, (strength,))[0]
        threshold = choose_threshold(part.labels, held_out[int(np.argmin(losses))], "accuracy")
        return model, strength, threshold
    models = _regression(part.features, part.labels, STRENGTHS)
    outputs = [model(tuning.features) for model in models]
    best = int(np.argmin([_nll(tuning.labels, p) for p in outputs]))
    return models[best], STRENGTHS[best], choose_threshold(tuning.labels, outputs[best], "accuracy")


def _cross_validated(part: Embeddings, seed: int) -> tuple[list[float], list[Floats]]:
    """The NLL of each C over the folds, and the outputs for the patches that were held out.

    Folds keep a slide together where slides are known and each class has two; else they are of patches.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels = part.labels
    smallest = int(np.bincount(labels, minlength=2).min())
    groups = None
    if part.slides is not None:
        # A patch of unknown slide is its own group.
        groups = np.where(part.slides == "", [f"\0{row}" for row in range(len(part))], part.slides)
        smallest_groups = min(len(np.unique(groups[labels == label])) for label in (0, 1))
        groups = groups if smallest_groups >= 2 else None
        smallest = min(smallest, smallest_groups) if groups is not None else smallest
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = kind(min(FOLDS, smallest), shuffle=True, random_state=seed)
    held_out = [np.full(len(part), labels.mean()) for _ in STRENGTHS]
    for inside, outside in folds.split(part.features, labels, groups):
        if len(np.unique(labels[inside])) < 2:
            continue  # such a fold has only its share of the classes to say, which stands there already
        for outputs, model in zip(held_out, _regression(part.features[inside], labels[inside], STRENGTHS), strict=True):
            outputs[outside] = model(part.features[outside])
    return [_nll(labels, outputs) for outputs in held_out], held_out


def _regression(features: NDArray[np.float32], labels: NDArray[np.uint8], strengths: Sequence[float]) -> list[Fit]:
    """Logistic regression on standardised features, for each C; each begins where the one before it ended."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(0, dtype=np.float64)
    spread = features.std(0, dtype=np.float64)
    scale = np.where(spread > 1e-12 * np.maximum(np.abs(mean), 1), spread, np.inf)  # what never changes says nothing
    mean32, scale32 = mean.astype(np.float32), scale.astype(np.float32)
    standard = (features - mean32) / scale32
    model = LogisticRegression(C=1.0, max_iter=2000, warm_start=True)
    found: list[Fit] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in strengths:
            model.set_params(C=strength).fit(standard, labels)
            weight, bias = model.coef_[0].astype(np.float64).copy(), float(model.intercept_[0])
            found.append(_linear(weight, bias, mean32, scale32))
    return found


def _linear(weight: Floats, bias: float, mean: NDArray[np.float32], scale: NDArray[np.float32]) -> Fit:
    from scipy.special import expit

    def fit(features: NDArray[np.float32]) -> Floats:
        return np.asarray(expit(((features - mean) / scale) @ weight + bias), dtype=np.float64)

    return fit


def _nll(labels: NDArray[np.uint8], probabilities: Floats) -> float:
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-np.where(labels == 1, np.log(clipped), np.log1p(-clipped)).mean())


def _figures(labels: NDArray[np.uint8], probabilities: Floats, threshold: float) -> dict[str, float]:
    called = probabilities >= threshold
    right = called == (labels == 1)
    balanced = (float(right[labels == 1].mean()) + float(right[labels == 0].mean())) / 2
    return {
        "auc": auc(labels, probabilities),
        "accuracy": float(right.mean()),
        "balanced_accuracy": balanced,
        "threshold": float(threshold),
    }


def _edges(fitted: Sequence[Draw]) -> list[str]:
    """A warning where the best C lies at the end of the range."""
    with_all = [draw for draw in fitted if not draw.labels and draw.strength is not None]
    at = [draw.strength for draw in with_all if draw.strength in (STRENGTHS[0], STRENGTHS[-1])]
    if not at:
        return []
    return [f"The best C, {at[0]:g}, is at the end of the range {STRENGTHS[0]:g} to {STRENGTHS[-1]:g}."]

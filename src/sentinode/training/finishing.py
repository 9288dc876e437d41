"""The end of a run: calibration, the operating point on valid, and the bundle."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from sentinode.errors import BundleError, DataError
from sentinode.model.bundle import Architecture, Bundle, Card, Threshold, describe_custom, json_ready, save, versions
from sentinode.model.card import as_line
from sentinode.model.classifier import Classifier, pooling_for
from sentinode.model.readings import check_readings
from sentinode.model.site_reference import write_reference
from sentinode.patches import PatchSet
from sentinode.progress import console
from sentinode.scoring import RULES, Scores, calibrated, choose_threshold, fit_platt, fit_temperature, measure
from sentinode.training.checkpoint import load_best
from sentinode.training.job import BUNDLE
from sentinode.training.run import Run
from sentinode.training.validation import logit_margins

log = logging.getLogger(__name__)

SUBSTITUTE_RULE = "accuracy"
"""Chooses the threshold where none can keep what the recipe's rule asks for."""


def finish(run: Run) -> None:
    """Calibrate the best weights on valid, choose the operating point there, and write the bundle."""
    run.network.load_state_dict(load_best(run.job.out))
    margins = logit_margins(run.fabric, run.network, run.valid, "Operating point", alone=True, show=run.show)
    calibration = calibrate(run, margins)
    labels, names, wanted = run.valid.labels, class_names(run), run.recipe.operating_point.rule
    thresholds = choose_thresholds(labels, calibration.probabilities, wanted, names)
    rule = wanted if wanted in thresholds else SUBSTITUTE_RULE
    scores = measure(
        labels, calibration.probabilities, thresholds[rule].value, groups=run.valid.slides, class_names=names
    )
    card = make_card(run, calibration, thresholds, rule, scores)
    assignment = None if run.data.own_splits else run.data.assignment()
    bundle = save(run.job.out / BUNDLE, run.network, card, assignment=assignment)
    measure_readings(run, bundle)
    remember_valid(run, bundle)


def measure_readings(run: Run, bundle: Bundle) -> None:
    """Measure dense reading on valid, where the network can read densely, and write it into the card."""
    if run.job.module is not None:  # an engine would change the user's own network
        return
    try:
        check_readings(bundle, run.valid, kind="torch", device=str(run.fabric.device), show=run.show)
    except (BundleError, DataError) as error:
        # The bundle is whole without it, and scans patch by patch.
        log.info("Dense reading was not measured: %s", error.what)


def remember_valid(run: Run, bundle: Bundle) -> None:
    """Keep what valid looks like in the bundle, for site checks."""
    if run.job.module is not None:  # the user's own network has no head that is known
        return
    try:
        write_reference(bundle, run.valid, device=str(run.fabric.device))
    except DataError as error:
        # The bundle is whole without it, and cannot check a site.
        log.info("Nothing of valid was kept for site checks: %s", error.what)


@dataclass(frozen=True)
class Calibration:
    """What makes probabilities of logits.

    Attributes:
        temperature: divides the margins.
        prior: the share of label 1 where the probabilities are right.
        probabilities: float32 (N,), P(tumour) of each valid patch.
    """

    temperature: float
    prior: float
    probabilities: NDArray[np.float32]


def calibrate(run: Run, margins: NDArray[np.float32]) -> Calibration:
    """Fit the temperature to valid's margins, and an offset where the recipe asks for one; the head's bias keeps it."""
    labels = run.valid.labels
    if run.recipe.operating_point.calibration == "platt" and isinstance(run.network, Classifier):
        temperature, offset = fit_platt(margins, labels)
        run.network.add_offset(offset)
        # The offset is that of valid's balance.
        prior, margins = float(labels.mean()), margins + np.float32(offset)
    else:
        temperature, prior = fit_temperature(margins, labels), float(run.train.labels.mean())
    return Calibration(temperature, prior, calibrated(margins, temperature))


def choose_thresholds(
    labels: NDArray[np.uint8], probabilities: NDArray[np.float32], rule: str, class_names: Sequence[str]
) -> dict[str, Threshold]:
    """The threshold by each rule that Sentinode has, and by ``rule``; one that no threshold can keep is left out."""
    thresholds: dict[str, Threshold] = {}
    for name in dict.fromkeys((*RULES, rule)):
        try:
            value = choose_threshold(labels, probabilities, name, class_names)
        except DataError as error:  # the bundle of a run of hours must not be lost to it
            instead = f" It uses the threshold of the rule {SUBSTITUTE_RULE} instead." if name == rule else ""
            console.print(f"The bundle stores no threshold for the rule {name}: {error.what}{instead}", markup=False)
            continue
        thresholds[name] = Threshold(value=value, rule=name, chosen_on="valid", n=len(labels))
    return thresholds


def make_card(
    run: Run, calibration: Calibration, thresholds: Mapping[str, Threshold], rule: str, scores: Scores
) -> Card:
    """All that the bundle says of itself."""
    parent = run.job.parent
    geometry = run.data.geometry if parent is None else parent.geometry(run.data.geometry)
    lineage = {} if parent is None else {"made_from": parent.made_from, "licence": parent.licence}
    return Card(
        name=as_line(run.job.out.resolve().name),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
        architecture=_architecture(run),
        patch_size=geometry.size,
        label_region=geometry.label_region,
        mpp=geometry.mpp,
        class_names=list(class_names(run)),
        positive=list(run.data.stated.positive if parent is None else parent.card.positive),
        temperature=calibration.temperature,
        thresholds=dict(thresholds),
        threshold_rule=rule,
        prior=calibration.prior,
        metrics={"valid": json_ready(scores.as_dict())},
        data=json_ready(_describe_data(run)),
        recipe=run.recipe.model_dump(mode="json"),
        seed=run.recipe.training.seed,
        toy=run.train.toy or (parent is not None and parent.card.toy),
        initial_weights=run.origin,
        history=json_ready(run.progress.history),
        **lineage,
    )


def class_names(run: Run) -> Sequence[str]:
    """What labels 0 and 1 are called: as the bundle that the run goes on from has it, else as the data has it."""
    return run.data.class_names if run.job.parent is None else run.job.parent.card.class_names


def _architecture(run: Run) -> Architecture:
    network: nn.Module = run.network
    count = sum(parameter.numel() for parameter in network.parameters())
    if run.job.module is not None:
        name, source = describe_custom(network)
        return Architecture(kind="custom", parameters=count, class_name=name, source=source)
    assert isinstance(network, Classifier)
    options = run.recipe.model.model_dump(exclude={"weights"})
    # As the network has them, not as a recipe for any geometry names them.
    options |= {"side": network.side, "pooling": pooling_for(options["pooling"], run.data.geometry)}
    return Architecture(parameters=count, **options)


def _describe_further(patches: PatchSet, names: Sequence[str]) -> dict[str, Any]:
    """Further training patches, as the card has them."""
    return {
        "kind": patches.kind,
        "name": as_line(patches.source.resolve().name),
        "fingerprint": patches.fingerprint(),
        "counts": {name: int((patches.labels == label).sum()) for label, name in enumerate(names)},
    }


def _describe_data(run: Run) -> dict[str, Any]:
    sets, names = {"train": run.train, "valid": run.valid}, run.data.class_names
    return {
        "kind": run.data.kind,
        "name": as_line(run.data.path.resolve().name),
        "own_splits": run.data.own_splits,
        "toy": run.train.toy,
        "warnings": list(run.data.warnings),
        "also": [_describe_further(more.training, names) for more in run.data.also],
        "fingerprint": {split: run.identity[split] for split in sets},
        "counts": {
            split: {name: int((part.labels == label).sum()) for label, name in enumerate(names)}
            for split, part in sets.items()
        },
    }

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sentinode.errors import BundleError
from sentinode.evaluation import gallery as module
from sentinode.evaluation.gallery import gallery
from sentinode.model.bundle import Bundle
from sentinode.patches import PatchSet, open_data


@pytest.fixture
def patches(generated: Path) -> PatchSet:
    return open_data(generated, show=False)["test"]


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_the_most_confident_errors_come_first(bundle: Bundle, patches: PatchSet) -> None:
    probabilities = np.random.default_rng(0).random(len(patches)).astype(np.float32)
    shown = gallery(bundle, patches, probabilities, 0.5, device="cpu")
    row = {name: at for at, name in enumerate(patches.ids)}
    assert shown.method == "exact contributions"

    worst = sorted(probabilities[(patches.labels == 0) & (probabilities >= 0.5)], reverse=True)[: module.SHOWN]
    assert [mistake.probability for mistake in shown.false_alarms] == pytest.approx(worst)
    best = sorted(probabilities[(patches.labels == 1) & (probabilities < 0.5)])[: module.SHOWN]
    assert [mistake.probability for mistake in shown.misses] == pytest.approx(best)
    for mistake in (*shown.false_alarms, *shown.misses):
        at = row[mistake.id]
        np.testing.assert_array_equal(pixels(mistake.picture), patches.images[at : at + 1][0])
        assert mistake.evidence is not None
        assert pixels(mistake.evidence).shape == (96, 96, 4)


def test_a_model_without_errors_has_an_empty_gallery(bundle: Bundle, patches: PatchSet) -> None:
    shown = gallery(bundle, patches, patches.labels.astype(np.float32), 0.5, device="cpu")
    assert shown.false_alarms == shown.misses == ()


def test_errors_are_shown_without_evidence_where_the_network_has_none(
    bundle: Bundle, patches: PatchSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BundleError("no layer answers with a feature map.")

    monkeypatch.setattr(module, "Explainer", refuse)
    shown = gallery(bundle, patches, 1 - patches.labels.astype(np.float32), 0.5)
    assert shown.misses[0].evidence is None
    assert shown.excuse == "no layer answers with a feature map."

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentinode.evaluation import evaluate, evaluating
from sentinode.evaluation.report import verdict
from sentinode.model.bundle import Bundle
from sentinode.patches import PatchSet
from sentinode.scoring import measure


def metrics(labels: list[int], **more: Any) -> dict[str, Any]:
    probabilities = np.linspace(0.1, 0.9, len(labels))
    scores = measure(labels, probabilities, 0.5, resamples=20).as_dict()
    return {**scores, "split": "test", "data": {"toy": False}, "class_names": ["normal", "tumour"], **more}


def test_the_verdict_is_one_plain_sentence_with_both_intervals() -> None:
    sentence = verdict(metrics([0, 1, 0, 1, 1, 0] * 4))
    assert sentence.startswith("On 24 test patches the model ranks a tumour patch above a normal one ")
    assert sentence.count("95\N{NO-BREAK SPACE}% interval") == 2
    assert " %" not in sentence  # no line may end between a number and its sign
    assert sentence.endswith(".")


def test_the_verdict_on_one_class_says_so() -> None:
    assert "are of one class" in verdict(metrics([1, 1, 1, 1]))


def test_the_verdict_on_generated_patches_calls_them_generated() -> None:
    assert "generated test patches" in verdict(metrics([0, 1] * 5, data={"toy": True}))


def test_what_comes_from_outside_is_escaped(
    bundle: Bundle, generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hostile(self: PatchSet, sample: int = 512) -> str:
        return "<script>alert(1)</script>"

    script = "<script>alert(1)</script>"
    odd = {"name": script, "licence": script, "initial_weights": script, "data": {"name": script, "warnings": [script]}}
    bundle = Bundle(bundle.path, bundle.card.model_copy(update=odd | {"recipe": {script: {script: script}}}))
    monkeypatch.setattr(PatchSet, "fingerprint", hostile)
    page = evaluate(bundle, generated, "test", tmp_path, resamples=2, show=False).report.read_text("utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert evaluating.NAMES["auc"][0] in page

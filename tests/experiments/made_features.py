"""Features whose classes are known to lie apart."""

from __future__ import annotations

import numpy as np

from sentinode.experiments.features_file import Embeddings


def made_features(train: int = 200, valid: int = 100, test: int = 100, shift: float = 1.0, seed: int = 0) -> Embeddings:
    """Features of two classes that lie ``shift`` apart in the first of five directions."""
    rng = np.random.default_rng(seed)
    split = np.repeat(["train", "valid", "test"], [train, valid, test])
    labels = (np.arange(len(split)) % 2).astype(np.uint8)
    features = rng.normal(size=(len(split), 5)).astype(np.float32)
    features[:, 0] += shift * labels
    slides = np.array([f"slide {row % 20 // 2}" for row in range(len(split))])
    ids = np.array([f"patch {row}" for row in range(len(split))])
    return Embeddings(features, labels, ids, slides, split)

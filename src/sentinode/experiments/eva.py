"""The linear head of eva's benchmark on PatchCamelyon.

Source: kaiko-ai/eva, configs/vision/pathology/offline/classification/patch_camelyon.yaml (read in November 2026).

Equal: a frozen backbone; one linear layer with one output and its bias; binary cross-entropy; SGD with learning rate
0.01, momentum 0.9 and no weight decay; a cosine to 0 over 12,500 steps; batches of 4,096, shuffled; valid after each
epoch; the epoch with the highest accuracy on valid at 0.5 is kept; it stops after 9 epochs without a better one; 5
runs with other seeds; features are not standardised. With ``embed --side 224`` the patches are enlarged as there.

Different: the enlargement is bilinear on normalised floats, there on 8-bit values with antialiasing (which changes
nothing where images grow); normalisation is that of the backbone's own pretraining, there ImageNet's unless one sets
another; the random numbers are our own; a split with fewer patches than a batch is one batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

STEPS = 12_500
BATCH = 4096
RATE, MOMENTUM = 0.01, 0.9
PATIENCE = 9
RUNS = 5


def fit(
    features: NDArray[np.float32],
    labels: NDArray[np.uint8],
    valid_features: NDArray[np.float32],
    valid_labels: NDArray[np.uint8],
    seed: int,
    *,
    steps: int = STEPS,
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Train the head, and return what gives P(positive class) of features.

    Args:
        features: float32 (N, D), of the training patches.
        labels: uint8 (N,).
        valid_features: float32 (M, D), by which the epoch is chosen.
        valid_labels: uint8 (M,).
        seed: of the initial weights and of the order.
        steps: the most steps of the optimiser.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(features), torch.from_numpy(labels.astype(np.float32))
    held, truth = torch.from_numpy(valid_features), torch.from_numpy(valid_labels == 1)
    head = nn.Linear(x.shape[1], 1)
    bound = x.shape[1] ** -0.5  # PyTorch's own, drawn with this seed alone
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    optimizer = torch.optim.SGD(head.parameters(), lr=RATE, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    best, waited, taken = (-1.0, head.weight.detach().clone(), head.bias.detach().clone()), 0, 0
    while taken < steps and waited < PATIENCE:
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, min(len(x), (steps - taken) * BATCH), BATCH):
            rows = order[start : start + BATCH]
            loss = nn.functional.binary_cross_entropy_with_logits(head(x[rows])[:, 0], y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            taken += 1
        with torch.inference_mode():
            accuracy = float(((head(held)[:, 0] >= 0) == truth).float().mean())
        waited += 1
        if accuracy > best[0]:
            best, waited = (accuracy, head.weight.detach().clone(), head.bias.detach().clone()), 0
    _, weight, bias = best

    def probabilities(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            logits = torch.from_numpy(rows) @ weight[0] + bias
        return torch.sigmoid(logits.double()).numpy()

    return probabilities

"""A network of one's own, without a head of ours, as users bring it."""

from __future__ import annotations

import torch


class Own(torch.nn.Module):
    """The smallest network that learns something."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(108, 2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images.permute(0, 3, 1, 2).float() / 255)
        return logits

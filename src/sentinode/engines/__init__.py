"""A bundle made fast: every engine answers ``probabilities(uint8 batch)``."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sentinode.bundle import Bundle
from sentinode.engines.torch_engine import TorchEngine


class Engine(Protocol):
    """What scores patches. Safe to call from several threads.

    Attributes:
        name: what it computes with, such as ``torch cpu float32``.
        batch: the number of patches in a batch that suits it.
    """

    name: str
    batch: int

    def margins(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, 96, 96, 3) to float32 (B,): the tumour's logit less the other's, before any calibration."""
        ...

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, 96, 96, 3) to float32 (B,): P(tumour) after temperature scaling."""
        ...


def open_engine(bundle: Bundle, *, device: str = "auto", precision: str = "auto", tta: bool = False) -> Engine:
    """The engine that suits this machine.

    Args:
        bundle: the model.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: ``auto`` (bfloat16 where the device gains from it), ``float32`` or ``bfloat16``.
        tta: average the logits over the eight symmetries of the square; eight times the work.

    Raises:
        DeviceError: the device or the precision is not to be had.
    """
    return TorchEngine(bundle, device=device, precision=precision, tta=tta)


__all__ = ["Engine", "TorchEngine", "open_engine"]

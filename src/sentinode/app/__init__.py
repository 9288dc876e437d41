"""The slides in a browser: look at them with their maps, and review what was found.

``library`` knows the slides of a folder of maps, ``tiles`` cuts pictures out of them, ``server`` answers the browser,
and ``pages`` holds what runs there.
"""

from __future__ import annotations

import starlette  # noqa: F401 - first: where it is missing, sentinode[app] is named, which has all that the viewer needs

from sentinode.app.serving import View, view

__all__ = ["View", "view"]

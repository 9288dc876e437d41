"""The slides in a browser: look at them with their maps, and review what was found.

``library`` knows the slides of a folder of maps, ``tiles`` cuts pictures out of them, ``server`` answers the browser,
and ``pages`` holds what runs there.
"""

from __future__ import annotations

from sentinode.app.serving import View, view

__all__ = ["View", "view"]

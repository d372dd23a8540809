"""Pages of the site whose text is elsewhere: files of the repository's root.

Docs/contributing.md and docs/changelog.md only point to the file, for readers on GitHub. The site
shows the file itself in their place, with its links turned to the site's pages.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
ROOT_FILES = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}


def links_from_docs(text: str) -> str:
    """Markdown of the repository's root, with links as a page in docs/ needs them.

    >>> links_from_docs("[a](docs/a.md), [b](src/b.py), [c](https://c.org), [d](#d)")
    '[a](a.md), [b](../src/b.py), [c](https://c.org), [d](#d)'
    """
    text = re.sub(r"\]\((?![a-z]+:|#)", "](../", text)
    return text.replace("](../docs/", "](")


def show_root_file(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the text of a page that stands for a file of the root."""
    file = ROOT / ROOT_FILES.get(page, "")
    if file.is_file():
        source[0] = links_from_docs(file.read_text())
        app.env.note_dependency(str(file))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", show_root_file)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

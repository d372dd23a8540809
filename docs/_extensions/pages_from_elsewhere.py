"""Pages of the site whose text is elsewhere: in files of the repository's root, or in the code.

On GitHub, docs/contributing.md and docs/changelog.md only point to the file, and the pages of
docs/reference/ say how to build the site. The site shows the file in place of the page, with its
links turned to the site's pages, and what was generated below the page's own text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import api_page
import command_line_page
import settings_page
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).parents[2]
ROOT_FILES = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
GENERATED: dict[str, Callable[[], str]] = {
    "reference/command_line": command_line_page.page,
    "reference/settings": settings_page.page,
    "reference/api": api_page.page,
}


def links_from_docs(text: str) -> str:
    """Markdown of the repository's root, with links as a page in docs/ needs them.

    >>> links_from_docs("[a](docs/a.md), [b](src/b.py), [c](https://c.org), [d](CHANGELOG.md#d)")
    '[a](a.md), [b](../src/b.py), [c](https://c.org), [d](changelog.md#d)'
    """
    return re.sub(r"(?<=\]\()(?![a-z]+:|#)[^)\s]+|(?<=\]: )(?![a-z]+:)\S+", _from_docs, text)


def _from_docs(link: re.Match[str]) -> str:
    path, mark, anchor = link[0].partition("#")
    pages = {file: f"{page}.md" for page, file in ROOT_FILES.items()} | {"README.md": "index.md"}
    found = path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"
    return pages.get(path, found) + mark + anchor


def fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace or complete the text of a page."""
    if page in GENERATED:
        source[0] = f"{source[0]}\n{GENERATED[page]()}"
    elif page in ROOT_FILES and (file := ROOT / ROOT_FILES[page]).is_file():
        source[0] = links_from_docs(file.read_text())


def always_read(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterator[str]:
    """What these pages show may have changed without their own files."""
    yield from (page for page in (*GENERATED, *ROOT_FILES) if page in env.found_docs)


def leave_out_of_contents(app: Sphinx, domain: str, kind: str, content: nodes.Element) -> None:
    """Keep attributes and methods out of a page's contents, which they would fill."""
    if domain == "py" and kind in ("attribute", "method", "property") and content.parent:
        for signature in content.parent.findall(addnodes.desc_signature):
            signature["_toc_name"] = ""


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_object_type("setting", "setting", objname="setting")
    app.add_object_type("search-setting", "search-setting", objname="setting of a search")
    app.connect("source-read", fill_in)
    app.connect("autodoc-process-signature", api_page.signature)
    app.connect("object-description-transform", leave_out_of_contents)
    app.connect("env-get-outdated", always_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

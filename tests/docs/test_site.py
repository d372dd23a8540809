"""The documentation site builds without warnings, has no dead link, and lists what it should."""

from __future__ import annotations

import argparse
import doctest
import http.server
import importlib
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

import pytest

import gallop
from gallop.commands.cli import make_parser
from gallop.experiments.flags import flags
from gallop.tuning.search_settings import Search

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXTENSIONS = DOCS / "_extensions"


class Page(HTMLParser):
    """The anchors and links of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)

    def dead_links(self, pages: dict[Path, Page]) -> list[str]:
        """Links to files of the site that are not there, and to anchors that no page has."""
        found = []
        for link in self.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (self.path.parent / unquote(parts.path)).resolve() if parts.path else self.path
            anchor = unquote(parts.fragment)
            if not target.is_file() or (
                anchor and target in pages and anchor not in pages[target].ids
            ):
                found.append(f"{self.path.name}: {link}")
        return found


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a freshly built site, and Sphinx's warnings."""
    folder = tmp_path_factory.mktemp("site").resolve()
    command = [sys.executable, "-m", "sphinx", "-q"]
    done = subprocess.run(
        [*command, "-d", folder / "doctrees", DOCS, folder / "html"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html", done.stderr


@pytest.fixture(scope="module")
def site(built) -> dict[Path, Page]:
    """The pages of the site."""
    return {path: Page(path) for path in built[0].rglob("*.html")}


def page(site: dict[Path, Page], name: str) -> Page:
    return next(found for path, found in site.items() if path.as_posix().endswith(f"/{name}.html"))


@pytest.mark.docs
def test_the_site_is_built_without_a_warning(built):
    assert built[1] == ""


@pytest.mark.docs
def test_no_link_inside_the_site_is_dead(site):
    assert [dead for page in site.values() for dead in page.dead_links(site)] == []
    assert len(site) > 40


@pytest.mark.docs
def test_every_page_of_docs_is_in_the_site_and_can_be_searched(site):
    home = next(path.parent for path in site if path.name == "search.html")
    index = (home / "searchindex.js").read_text()
    for source in DOCS.rglob("*.md"):
        if "_build" not in source.parts:
            name = source.relative_to(DOCS).with_suffix("")
            assert home / name.with_suffix(".html") in site
            assert f'"{name.as_posix()}"' in index


@pytest.mark.docs
def test_every_command_and_every_flag_is_in_the_reference(site):
    ids = page(site, "reference/command_line").ids
    parser = make_parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    assert {f"gallop-{name}" for name in commands} <= ids
    for name, command in commands.items():
        for action in command._actions:
            if action.dest != "help":
                flag = (action.option_strings or [action.metavar or action.dest])[-1]
                shown = [i for i in ids if i.startswith(f"cmdoption-gallop-{name}-")]
                wanted = re.sub(r"[^a-z0-9]+", "-", flag.lower()).strip("-")
                assert any(wanted == slug(i, name) for i in shown), f"gallop {name} {flag}"


def slug(anchor: str, command: str) -> str:
    flag = anchor.removeprefix(f"cmdoption-gallop-{command}-").removeprefix("arg-")
    return re.sub(r"[^a-z0-9]+", "-", flag.lower()).strip("-")


@pytest.mark.docs
def test_every_setting_is_in_the_reference(site):
    ids = page(site, "reference/settings").ids
    names = [flag.name for flag in flags() if flag.name != "normalize"]  # which means both of its
    assert [n for n in names if n.replace(".", "-").replace("_", "-").lower() not in ids] == []
    for name in Search.model_fields:
        assert any(anchor.startswith(f"search-{name.replace('_', '-')}") for anchor in ids), name


@pytest.mark.docs
def test_everything_that_gallop_offers_is_in_the_api(site):
    ids = page(site, "reference/api").ids
    assert {f"gallop.{name}" for name in gallop.__all__} <= ids


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def served(built) -> Iterator[str]:
    """URL of the site on a local server: the search loads pages, which file:// URLs forbid."""
    handler = partial(Quiet, directory=built[0])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.docs
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("learning_rate", "reference/settings.html#setting-hyperparameters.learning_rate"),
        ("closing table", "guides/closing_table.html"),
    ],
)
def test_the_search_finds_pages_and_the_browser_has_no_complaint(served, tmp_path, query, found):
    address = f"{served}/search.html?{urlencode({'q': query})}"
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
         "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
         "--enable-logging=stderr", "--dump-dom", address],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    assert found in done.stdout


# --- without the site ----------------------------------------------------------------------------


@pytest.fixture
def extensions(monkeypatch):
    monkeypatch.syspath_prepend(str(EXTENSIONS))


def test_settings_have_the_defaults_and_bounds_of_their_declarations(extensions):
    import settings_page

    text = settings_page.page()
    assert "default: `[25,50,100]`" in text
    assert "number, greater than 0, at most 1 · default: `0.005`" in text
    assert "only SAC, TQC" in text
    assert "`auto`, `native` or `sb3` · default: `auto`" in text
    assert "SAC, TD3, TQC, CrossQ: integer, at least 1; PPO: integer, at least 2" in text
    assert "`tpe` or `random` · default: `tpe`" in text


@pytest.mark.parametrize("name", ["markdown", "settings_page", "pages_from_elsewhere"])
def test_the_examples_of_the_extensions_hold(extensions, name):
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


MARKDOWN = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts),
]
GENERATED = {DOCS / "reference" / f"{name}.md" for name in ("command_line", "settings", "api")}
LINK = re.compile(r"\]\(([^()\s]+)\)|^\[[^\]]+\]: (\S+)", re.MULTILINE)


def slugs(path: Path) -> set[str]:
    """The anchors that GitHub gives a file's headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+?) *#*$", text, flags=re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_hold_on_github_too(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    for link in map("".join, LINK.findall(text)):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        assert target.exists(), f"{path.name}: {link}"
        if parts.fragment and target.suffix == ".md" and target not in GENERATED:
            assert parts.fragment in slugs(target), f"{path.name}: {link}"


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_have_at_most_100_characters(path):
    lines = path.read_text().splitlines()
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []

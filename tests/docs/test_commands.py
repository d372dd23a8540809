"""What the quickstart and the guides show is run. The convention: page_blocks.py."""

from __future__ import annotations

import doctest

import page_blocks
import pytest
from page_blocks import PAGES, Block, PageError, blocks, check_output, commands, run_page


@pytest.mark.docs
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_shows(page, tmp_path):
    run_page(page, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_can_be_read(page):
    text = (page_blocks.DOCS / f"{page}.md").read_text()
    for block in blocks(text):
        if block.language == "console":
            assert commands(block)


def test_blocks_have_their_comments():
    text = "a\n<!-- test: exits 2 -->\n<!-- test: add -n 5 -->\n```console\n$ gallop x\n```\n"
    (block,) = blocks(text)
    assert block.directives == [("exits", "2"), ("add", "-n 5")]
    assert (block.language, block.text, block.line) == ("console", "$ gallop x", 4)


def test_a_comment_can_stand_without_a_block():
    (block,) = blocks("<!-- test: run gallop \\\n  list -->\n\ntext\n")
    assert block.given("run") == ["gallop list"]


def test_a_misspelt_comment_is_found():
    with pytest.raises(PageError, match="line 1: not a test comment"):
        list(blocks("<!-- test: skp (never) -->\n"))


def test_commands_have_their_output_below():
    first, second = commands(Block(1, "console", "$ gallop a \\\n    --b\nshown\n$ gallop c"))
    assert (first.text, first.shown) == ("gallop a \\\n    --b", ["shown"])
    assert (second.text, second.shown) == ("gallop c", [])


def test_output_is_compared_in_order_and_in_part():
    printed = "one 1\ntwo  2\nthree 3 s\n"
    check_output(["one 1", "three … s"], printed)
    check_output(["…", "two 2"], printed)
    with pytest.raises(PageError, match="three 3"):
        check_output(["three 3 s", "one 1"], printed)
    with pytest.raises(PageError, match="two"):
        check_output(["two"], printed)


@pytest.mark.parametrize(
    "text",
    [
        "```console\n$ python -c 'raise SystemExit(1)'\n```",
        "```console\n$ frobnicate\n```",
        "<!-- test: skip -->\n```console\n$ python x\n```",
        "<!-- test: exits 3 -->\n```console\n$ python -c ''\n```",
        "```console\n$ python -c 'print(1)'\n2\n```",
        "```python\n>>> 1 + 1\n3\n```",
        "```python\nraise ValueError\n```",
    ],
)
def test_a_block_that_does_something_else_is_found(text, tmp_path, monkeypatch):
    monkeypatch.setattr(page_blocks, "DOCS", tmp_path)
    (tmp_path / "page.md").write_text(text + "\n")
    with pytest.raises(PageError, match=r"docs/page\.md, block|not a test comment"):
        run_page("page", tmp_path)


def test_blocks_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(page_blocks, "DOCS", tmp_path)
    (tmp_path / "page.md").write_text(
        "<!-- test: file a/b.txt -->\n```yaml\nseed: 1\n```\n"
        "<!-- test: run mkdir c -->\n<!-- test: exits 3 -->\n"
        "```console\n$ ls\na\nc\n$ cat a/b.txt  # shown\nseed: …\n$ make nothing\n"
        "$ python -c 'raise SystemExit(3)'\n```\n"
        "```python\nfrom pathlib import Path\nPath('made').touch()\n```\n"
        "```python\n>>> from pathlib import Path\n>>> Path('made').exists()\nTrue\n```\n"
    )
    run_page("page", tmp_path)


def test_the_examples_of_the_convention_hold():
    assert doctest.testmod(page_blocks).failed == 0

"""The Python API as Markdown: what `gallop` offers, and what it takes and gives."""

from __future__ import annotations


def page() -> str:
    return ""

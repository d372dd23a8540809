"""Text of docstrings and help as Markdown."""

from __future__ import annotations

import re

SPECIAL = re.compile(r"([\\*_<>\[\]{}$|#~])")


FLAG = re.compile(r"(?<![\w`-])--?[a-z][\w.-]*\b")


def escaped(text: str) -> str:
    r"""Plain text as Markdown; what stands in backticks stays code, and flags become code.

    >>> print(escaped("`a_b`, *.npz and --seeds"))
    `a_b`, \*.npz and `--seeds`
    """
    text = "`".join(
        part if i % 2 else FLAG.sub(r"`\g<0>`", part) for i, part in enumerate(text.split("`"))
    )
    parts = text.split("`")
    return "`".join(part if i % 2 else SPECIAL.sub(r"\\\1", part) for i, part in enumerate(parts))


def code(text: object) -> str:
    """Text as code."""
    return f"`{text}`"


def listed(words: list[str], last: str = "or") -> str:
    """Words as a sentence names them.

    >>> listed(["a", "b", "c"])
    'a, b or c'
    """
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def block(language: str, text: str) -> str:
    """A fenced block."""
    return f"```{language}\n{text.rstrip()}\n```\n"

"""HTML for pages of one file: elements whose texts are escaped, and a strict content policy.

A page contains its style, its script and its films. Scripts and styles are allowed by their hashes
alone, so nothing that comes from a run folder could run even if it were not escaped. There are no
`style` attributes and no event handlers: the policy forbids them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from gallop.errors import printable_lines

# A run may come from another machine, whose homes are not ours.
_NAME = r"[^/\\\s'\",;:]+"
_HOMES = rf"(?<![\w.-])(?:(?:/home|/Users)/{_NAME}|/root(?![\w.-])|[A-Za-z]:\\Users\\{_NAME})"

_VOID = {"br", "link", "meta"}


class Html(str):
    """Text that is HTML already. Everything else is escaped."""

    __slots__ = ()


Content: TypeAlias = str | None
"""A text, to be escaped, or `Html`; None is left out."""


def element(name: str, /, *content: Content, **attributes: str | float | bool | None) -> Html:
    """Return an element.

    >>> element("p", "1 < 2", class_="note", hidden=True)
    '<p class="note" hidden>1 &lt; 2</p>'

    Args:
        name: of the element.
        content: texts and elements.
        attributes: `_` in a name stands for `-`, and a trailing one is dropped; True: without a
            value; None and False: left out.
    """
    given = "".join(
        f" {_attribute(key)}" if value is True else f' {_attribute(key)}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{joined(*content)}</{name}>")


def joined(*content: Content) -> Html:
    """Return texts, escaped, and elements one after another."""
    return Html("".join(_escaped(part) for part in content if part is not None))


def each(parts: Iterable[Content], between: str = "") -> Html:
    """Return the parts of a sequence, with a text between them."""
    return Html(_escaped(between).join(_escaped(part) for part in parts if part is not None))


def data(value: object) -> Html:
    """Return data for the script, as JSON that cannot end its element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return Html(f'<script type="application/json">{text}</script>')


def _attribute(name: str) -> str:
    return name.removesuffix("_").replace("_", "-")


def _value(value: str | float) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return _escaped(text) if not isinstance(value, Html) else text


def _escaped(text: str) -> str:
    # Control characters and those that change the direction of writing are spelled out.
    return text if isinstance(text, Html) else html.escape(printable_lines(without_home(text)))


def without_home(text: str) -> str:
    """Return a text with `~` for home folders: a page is sent to others.

    >>> without_home("--init-from /home/mia/a.zip, C:\\\\Users\\\\mia\\\\b.zip")
    '--init-from ~/a.zip, ~\\\\b.zip'
    """
    return re.sub(rf"{_own_home()}(?![\w.-])|{_HOMES}", "~", text)


@functools.cache
def _own_home() -> str:
    """Return a pattern of this user's home folder; one that never matches without any."""
    try:
        home = str(Path.home())
    except RuntimeError:
        home = ""
    return rf"(?<![\w.-]){re.escape(home)}" if len(home) > 1 else "(?!)"


def page(title: str, *body: Content) -> bytes:
    """Return a whole page, with the style and the script that belong to this module.

    Args:
        title: of the page.
        body: its content.
    """
    here = Path(__file__)
    # Browsers hash what the parser gives them, in which every line end is \n.
    style, script = (
        here.with_name(name).read_text("utf-8").replace("\r\n", "\n")
        for name in ("page.css", "page.js")
    )
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=Html(policy)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html(style)),
    )
    whole = element(
        "html", head, element("body", *body, element("script", Html(script))), lang="en"
    )
    # A name may contain half a surrogate pair, which UTF-8 cannot encode.
    return f"<!DOCTYPE html>\n{whole}\n".encode("utf-8", "replace")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data_uri(kind: str, content: bytes) -> Html:
    """Return a file as an address.

    >>> data_uri("image/png", b"PNG")
    'data:image/png;base64,UE5H'
    """
    return Html(f"data:{kind};base64,{base64.b64encode(content).decode()}")

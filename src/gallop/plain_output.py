"""Plain-ASCII fallbacks for streams that cannot encode a character: a cp1252 console, a pipe."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

HANDLER = "gallop-plain"
_INSTEAD = str.maketrans(
    {
        **dict.fromkeys("─━╸╺╌┄—–−‐", "-"),
        **dict.fromkeys("│┃├┤┌┐└┘┬┴┼", "|"),
        "…": "..",
        "±": "+/-",
        "×": "x",
        "→": "->",
        "≥": ">=",
        "≤": "<=",
        "≈": "~",
        "∞": "inf",
        "μ": "u",
        "µ": "u",
    }
)
_BRAILLE = range(0x2800, 0x2900)  # Rich's spinners consist of these


def keep_printable() -> None:
    """Make standard output and standard error print ASCII for characters they cannot encode.

    Other kinds of streams, and streams with an error handler of their own, are left alone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace"):
            stream.reconfigure(errors=HANDLER)


def plain(text: str) -> str:
    """Return the nearest ASCII text.

    >>> plain("5,069 ± 12 → 6,143 … é")
    '5,069 +/- 12 -> 6,143 .. e'
    """
    return "".join(_plain(character) for character in text)


def _plain(character: str) -> str:
    if ord(character) in _BRAILLE:
        return "*"
    text = unicodedata.normalize("NFKD", character.translate(_INSTEAD))
    return "".join(c for c in text if c.isascii()) or "?"


def _handle(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


codecs.register_error(HANDLER, _handle)

"""Small parts that the sections of pages are made of: tables, tiles, lists of facts."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gallop.report.pages.html import Content, Html, each, element, joined
from gallop.report.tables import number


class Head(NamedTuple):
    """The heading of a column."""

    text: str
    kind: str = "number"
    """number, word or prose."""


def table(
    label: str, heads: Sequence[Head], rows: Iterable[Sequence[Content]], caption: str = ""
) -> Html:
    """Return a table, in a region that scrolls if the table is wider than the page.

    Args:
        label: what it shows, for screen readers.
        heads: of its columns; the first one names the rows.
        rows: cells.
        caption: above the table.
    """
    kinds = [None if head.kind == "word" else head.kind for head in heads]
    top = [
        element("th", head.text, scope="col", class_=kind)
        for head, kind in zip(heads, kinds, strict=True)
    ]
    body = [
        element(
            "tr",
            *(
                element("td" if place else "th", cell or "", class_=kind,
                        scope=None if place else "row")
                for place, (cell, kind) in enumerate(zip(row, kinds, strict=True))
            ),
        )
        for row in rows
    ]  # fmt: skip
    whole = element("table", element("thead", element("tr", *top)), element("tbody", *body))
    return joined(
        # No <caption>: it would be as wide as the table, and cut off where the table scrolls.
        note(caption) if caption else None,
        element("div", whole, class_="scroll", role="region", aria_label=label, tabindex=0),
    )


def tiles(rows: Iterable[tuple[str, str, str]]) -> Html:
    """Return tiles, each with a name, a large value and small lines below."""
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", name),
                element("dd", value, class_="big"),
                *(element("dd", line, class_="small") for line in small.split("\n") if line),
            )
            for name, value, small in rows
        ),
        class_="tiles",
    )


def facts(rows: Mapping[str, Content]) -> Html:
    """Return names and values in two columns; empty values are left out."""
    return element(
        "dl",
        *(joined(element("dt", name), element("dd", value)) for name, value in rows.items()
          if value),
        class_="facts",
    )  # fmt: skip


def note(*text: Content) -> Html:
    """Return a paragraph in small print."""
    return element("p", *text, class_="note")


def alert(*text: Content) -> Html:
    """Return a paragraph that must not be missed."""
    return element("p", *text, class_="alert")


def words(sentences: Iterable[Content]) -> Html | None:
    """Return sentences as a list; None without any."""
    items = [element("li", sentence) for sentence in sentences]
    return element("ul", *items, class_="words") if items else None


def hidden(title: str, *content: Content) -> Html:
    """Return content that is shown on demand."""
    return element("details", element("summary", title), *content)


def code(text: str) -> Html:
    """Return what is typed at a terminal."""
    return element("code", text)


def listed(parts: Iterable[Content]) -> Html:
    """Return parts with commas between them."""
    return each(parts, ", ")


def p_value(p: float) -> str:
    """Return a p-value as text.

    >>> p_value(0.0019), p_value(0.25), p_value(0.00001), p_value(float("nan"))
    ('0.002', '0.250', '< 0.001', '–')
    """
    if not math.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def interval(bounds: Sequence[float], sign: str = "") -> str:
    """Return an interval in words; a dash if it is not known.

    >>> interval((5800, 6400.4)), interval((-3.14, 2.0), "+")
    ('5,800 to 6,400', '−3.1 to +2.0')
    """
    if not all(map(math.isfinite, bounds)):
        return "–"
    return " to ".join(signed(bound, sign) for bound in bounds)


def signed(value: float, sign: str = "") -> str:
    """Return a number with a real minus sign."""
    return re.sub("^-", "−", number(value, sign))


def whole_percent(share: float) -> str:
    """Return a share in percent, without decimals.

    >>> whole_percent(0.256), whole_percent(-0.004), whole_percent(-12.0)
    ('26 %', '0 %', '−1,200 %')
    """
    return f"{round(100 * share):,} %".replace("-", "−")


def duration(seconds: float, *, coarse: bool = False) -> str:
    """Return a duration as text.

    >>> duration(42), duration(3280), duration(90000), duration(float("nan"))
    ('42 s', '54 min 40 s', '25 h 0 min', '–')
    >>> duration(3280, coarse=True)
    '55 min'

    Args:
        seconds: the duration.
        coarse: leave out seconds after ten minutes.
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "–"
    if coarse and seconds >= 600:
        seconds = 60 * round(seconds / 60)
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return (
            f"{whole // 60} min"
            if coarse and not whole % 60
            else f"{whole // 60} min {whole % 60} s"
        )
    return f"{whole // 3_600} h {whole % 3_600 // 60} min"


def moment(text: object) -> str:
    """Return a date and time of a record as text; empty if it is none.

    >>> moment("2026-11-30T06:24:00+00:00"), moment("yesterday")
    ('2026-11-30 06:24 +0000', '')
    """
    time = parsed(text)
    return time.strftime("%Y-%m-%d %H:%M %z").strip() if time else ""


def parsed(text: object) -> datetime.datetime | None:
    """Return the date and time that a record holds; None if it holds none."""
    try:
        return datetime.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None

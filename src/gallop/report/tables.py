"""Tables for a terminal: names are shortened to fit its width, numbers never.

Rich shrinks any column when a table is too wide, including numbers. Here each column declares what
it contains. If the numbers do not fit side by side, the table continues below, with the names
repeated.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from gallop.errors import printable

MIN_NAME = 12  # cells: a shorter name could not be recognised
READABLE_NAME = 24  # cells: columns move closer together only for names shortened below this
MIN_PROSE = 24
ELLIPSIS = "…"
UNBROKEN = "\N{NO-BREAK SPACE}"  # in headings; printed as an ordinary space

Kind: TypeAlias = Literal["name", "label", "list", "number", "word", "prose"]
"""What a column holds: a name is shortened in the middle; a label is wrapped between words where
there is no room for it; of a list ("gamma 0.99, tau 0.005") the items that fit are printed; a
number (right-aligned) and a word (left-aligned) are always printed whole; prose is wrapped between
words."""
_ITEM = re.compile(r", (?=[^\W\d])")  # between items; not inside "[64, 64]"


class Column(NamedTuple):
    """A column of a table."""

    heading: str
    kind: Kind = "number"


@dataclass(frozen=True)
class NameTable:
    """A Rich renderable: a table that fits the width of the console.

    The first column identifies the rows. It is repeated where the table has to be split.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    dim: frozenset[int] = frozenset()
    """Indices of rows that are printed dimly."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield Text(shortened(printable(self.title), options.max_width), "bold", no_wrap=True)
        for number, places in enumerate(self._blocks(options.max_width)):
            if number:
                yield Text("")
            yield from self._block(places, options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def _blocks(self, width: int) -> list[list[int]]:
        """Return the columns to print side by side; more than one list only if they do not fit."""
        blocks = [[0]]
        for place in range(1, len(self.columns)):
            block = [*blocks[-1], place]
            if len(blocks[-1]) > 1 and self._least(block) > width:
                blocks.append([0, place])
            else:
                blocks[-1] = block
        return blocks

    def _least(self, places: Sequence[int]) -> int:
        """Return the cells that these columns need with every name as short as allowed."""
        return sum(self._narrowest(place) for place in places) + len(places) - 1

    def _heading(self, place: int) -> str:
        parts = self.columns[place].heading.split(UNBROKEN)
        return UNBROKEN.join(map(printable, parts))

    def _cells(self, place: int) -> list[str]:
        return [printable(row[place]) for row in self.rows]

    def _widest(self, place: int) -> int:
        """Return the cells that the column takes with everything on one line."""
        column = [self._heading(place), *self._cells(place)]
        return max(map(cell_len, column))

    def _narrowest(self, place: int) -> int:
        column, cells = self.columns[place], self._cells(place)
        words = max(map(cell_len, self._heading(place).split(" ")))
        longest = max(map(cell_len, cells), default=0)
        if column.kind == "label":
            longest = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
            least = READABLE_NAME  # of a longer word
        else:
            kinds = {"name": MIN_NAME, "list": MIN_NAME, "prose": MIN_PROSE}
            least = kinds.get(column.kind, longest)
        return max(words, min(least, longest))

    def _block(self, places: Sequence[int], width: int) -> Iterator[Text]:
        widths = {place: self._narrowest(place) for place in places}
        wide_gap = width >= 2 * (len(places) - 1) + sum(
            max(widths[place], min(self._widest(place), READABLE_NAME))
            if self.columns[place].kind == "name"
            else widths[place]
            for place in places
        )
        gap = "  " if wide_gap else " "
        room = width - sum(widths.values()) - len(gap) * (len(places) - 1)
        # Spare cells go to names first, then to headings above numbers, then to the rest; within a
        # kind, to the narrowest column first.
        for kinds in (("name", "label"), ("number", "word"), ("list", "prose")):
            group = [place for place in places if self.columns[place].kind in kinds]
            while room > 0:
                group = [place for place in group if widths[place] < self._widest(place)]
                if not group:
                    break
                narrowest = min(group, key=lambda place: widths[place])
                widths[narrowest] += 1
                room -= 1
        headings = [
            textwrap.wrap(self._heading(place), widths[place], break_long_words=False) or [""]
            for place in places
        ]
        height = max(map(len, headings))
        for line in range(height):  # headings of one line are at the bottom, next to the rule
            parts = [
                heading[line - height + len(heading)] if line >= height - len(heading) else ""
                for heading in headings
            ]
            yield self._line(parts, places, widths, gap, "bold")
        yield Text("─" * (sum(widths.values()) + len(gap) * (len(places) - 1)))
        for number in range(len(self.rows)):
            style = "dim" if number in self.dim else ""
            cells = [self._wrapped(number, place, widths[place]) for place in places]
            for line in range(max(map(len, cells))):
                parts = [cell[line] if line < len(cell) else "" for cell in cells]
                yield self._line(parts, places, widths, gap, style)

    def _wrapped(self, row: int, place: int, width: int) -> list[str]:
        """Return the lines of a cell."""
        text = printable(self.rows[row][place])
        kind = self.columns[place].kind
        if kind in ("label", "prose"):
            return textwrap.wrap(text, width) or [""]
        if kind == "list":
            return [whole_items(text, width)]
        return [shortened(text, width) if kind == "name" else text]

    def _line(
        self,
        parts: Sequence[str],
        places: Sequence[int],
        widths: dict[int, int],
        gap: str,
        style: str,
    ) -> Text:
        cells = []
        for text, place in zip(parts, places, strict=True):
            part = text.replace(UNBROKEN, " ")
            padding = " " * (widths[place] - cell_len(part))
            right = self.columns[place].kind == "number"
            cells.append(padding + part if right else part + padding)
        return Text(gap.join(cells).rstrip(), style, no_wrap=True, overflow="ignore")


def shortened(name: str, width: int) -> str:
    """Return a name in at most `width` cells of a terminal, its middle replaced by "…".

    >>> shortened("results/SAC_HalfCheetah-v5/first", 20)
    'results/SA…-v5/first'
    >>> shortened("short", 20)
    'short'
    """
    if cell_len(name) <= width:
        return name
    if width <= 1:
        return ELLIPSIS[:width]
    tail = (width - 1) // 2
    head = set_cell_size(name, width - 1 - tail).rstrip(" ")
    end = name
    while cell_len(end) > tail:
        end = end[1:]
    return f"{head}{ELLIPSIS}{end}"


def whole_items(text: str, width: int) -> str:
    """Return a list in at most `width` cells: items that do not fit are replaced by "…".

    >>> whole_items("gamma 0.99, tau 0.005, net_arch [64, 64]", 26)
    'gamma 0.99, tau 0.005, …'
    """
    if cell_len(text) <= width:
        return text
    items = _ITEM.split(text)
    while items:
        items.pop()
        fitting = ", ".join([*items, ELLIPSIS])
        if cell_len(fitting) <= width:
            return fitting
    return ELLIPSIS[:width]


def number(value: float, sign: str = "") -> str:
    """Return a number, such as an episode's return, as text; a dash if it is not finite.

    >>> number(6143.2), number(-3.14), number(250, "+"), number(float("nan"))
    ('6,143', '-3.1', '+250', '–')
    """
    if not math.isfinite(value):
        return "–"
    return f"{value:{sign},.{0 if abs(value) >= 100 else 1}f}"


def interval(bounds: Sequence[float], sign: str = "") -> str:
    """Return the two bounds of an interval as text.

    >>> interval((5800, 6400.4)), interval((-3.14, 2), "+")
    ('[5,800, 6,400]', '[-3.1, +2.0]')
    """
    low, high = (number(bound, sign) for bound in bounds)
    return f"[{low}, {high}]"


def exact(timesteps: int) -> str:
    """Return a number of timesteps in few characters, without rounding.

    >>> exact(1_500_000), exact(250_000), exact(100_352), exact(640)
    ('1.5M', '250k', '100,352', '640')
    """
    size, unit = (1_000_000, "M") if timesteps >= 1_000_000 else (1_000, "k")
    if timesteps >= size and timesteps * 100 % size == 0:
        return f"{timesteps / size:,.10g}{unit}"
    return f"{timesteps:,}"

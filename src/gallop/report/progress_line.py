"""One line that shows progress: what does not fit is left out whole, and no number is cut."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from gallop.errors import printable
from gallop.report.tables import exact, shortened

MIN_BAR = 6  # cells
MIN_NAME = 12


class FittedLine(ProgressColumn):
    """The only column of a Rich `Progress`: description, bar, timesteps and further numbers.

    It reads these fields of a task, all optional: `speed`, `left`, `evaluation`, `unit`.
    """

    def __init__(self, name_is_kept: bool = False) -> None:
        """Create the column.

        Args:
            name_is_kept: shorten a description that is too long, instead of leaving it out.
        """
        super().__init__(table_column=Column(ratio=1))
        self._name_is_kept = name_is_kept

    def render(self, task: Task) -> RenderableType:
        """Return a renderable for the task as it is now."""
        completed, total = int(task.completed), int(task.total or 0)
        unit = task.fields.get("unit", "")
        return _Line(
            printable(task.description),
            self._name_is_kept,
            completed,
            total,
            f"{completed:,}/{exact(total)} {unit}".rstrip(),
            *(task.fields.get(name, "") for name in ("speed", "left", "evaluation")),
        )


class _Line(NamedTuple):
    name: str
    name_is_kept: bool
    completed: int
    total: int
    timesteps: str
    speed: str
    left: str
    evaluation: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        every = (self.timesteps, self.speed, self.left, self.evaluation)
        numbers = [part for part in every if part]
        # The least important go first: speed, then the time left, then the latest return.
        for part in (self.speed, self.left, self.evaluation):
            if part in numbers and _width(numbers) > width:
                numbers.remove(part)
        room = width - _width(numbers) - 2
        name = self.name
        if self.name_is_kept and cell_len(name) > room:
            name = shortened(name, max(room, MIN_NAME))
        room -= cell_len(name) + 2
        line = Text(no_wrap=True, overflow="ignore")
        if room >= -2:
            line.append(f"{name}  ")
        if room >= MIN_BAR:
            filled = room * self.completed // max(self.total, 1)
            rest = " " if console.no_color or console.color_system is None else "━"
            line.append("━" * filled, "bar.complete")
            line.append(f"{rest * (room - filled)}  ", "bar.back")
        yield line.append("  ".join(numbers))


def _width(parts: list[str]) -> int:
    return sum(map(cell_len, parts)) + 2 * (len(parts) - 1)


def duration(seconds: float) -> str:
    """Return a duration as text.

    >>> duration(5400), duration(89), duration(0.2)
    ('1 h 30 min', '89 s', '0 s')
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def core_time(seconds: float) -> str:
    """Return processor time as text.

    >>> core_time(7200), core_time(40)
    ('2.0 core hours', '40 s on one core')
    """
    hours = seconds / 3600
    return f"{hours:.1f} core hours" if hours >= 0.1 else f"{duration(seconds)} on one core"


def time_left(seconds: float) -> str:
    """Return "1 h 30 min left"."""
    return f"{duration(seconds)} left"

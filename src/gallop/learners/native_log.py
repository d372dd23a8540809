"""What the native learner reports while it learns: rows of the log, and ticks."""

from __future__ import annotations

import time

from gallop.learners.learner import LogRow, Tick

TICK_SECONDS = 0.1


class Log:
    """Rows with SB3's keys. Values recorded before `dump` go into its row.

    Attributes:
        rows: the rows so far.
    """

    def __init__(self, first: int) -> None:
        """
        Args:
            first: timestep at which the segment starts.
        """
        self.rows: list[LogRow] = []
        self._values: dict[str, float] = {}
        self._first, self._started = first, time.perf_counter()

    def record(self, name: str, value: float) -> None:
        """Record a value for the next row."""
        self._values[name] = float(value)

    def dump(self, timestep: int) -> None:
        """Finish a row, with SB3's keys for the time that has passed."""
        elapsed = max(time.perf_counter() - self._started, 1e-9)
        self.record("time/fps", int((timestep - self._first) / elapsed))
        self.record("time/time_elapsed", int(elapsed))
        self.record("time/total_timesteps", timestep)
        self.rows.append(LogRow(timestep, self._values))
        self._values = {}


class Ticks:
    """Calls `on_tick` at most ten times per second."""

    def __init__(self, on_tick: Tick) -> None:
        self._on_tick, self._next = on_tick, 0.0

    def __call__(self, timestep: int) -> None:
        """Call `on_tick` with the run's timestep, if its last call is long enough ago."""
        now = time.perf_counter()
        if now >= self._next:
            self._next = now + TICK_SECONDS
            self._on_tick(timestep)

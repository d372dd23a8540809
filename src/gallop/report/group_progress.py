"""Progress of several runs that train side by side."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Literal, TypeAlias

from rich.console import Group as Stacked
from rich.live import Live
from rich.progress import Progress

from gallop.errors import RunError
from gallop.report.display import Display
from gallop.report.progress_line import FittedLine, time_left
from gallop.report.tables import Column, NameTable, number
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory

State: TypeAlias = Literal["waiting", "running", "finished", "failed"]

SECONDS_BETWEEN_LOOKS = 0.5  # into the folders


class GroupProgress:
    """Shows the progress of runs, read from their folders: a live table, or lines when piped."""

    def __init__(
        self,
        display: Display,
        runs: Mapping[int, RunDirectory],
        states: Mapping[int, State],
        horizon: int,
    ) -> None:
        """Prepare to show progress within a `with` block.

        Args:
            display: where to print.
            runs: training seed -> run.
            states: training seed -> state, which the caller updates.
            horizon: last timestep of each run.
        """
        self._display, self._runs, self._states, self._horizon = display, runs, states, horizon
        self._returns: dict[int, tuple[int, float]] = {}
        """Training seed -> timestep and mean return of its latest evaluation."""
        self._shown: dict[int, tuple[State, int]] = {}
        self._bar = Progress(FittedLine(), expand=True, console=display.console)
        self._task = self._bar.add_task("all runs", total=horizon * len(runs))
        self._live: Live | None = None
        self._started = self._looked = time.monotonic()
        self._first = 0

    def __enter__(self) -> GroupProgress:
        for seed in self._runs:
            self._look(seed)
            self._shown[seed] = self._states[seed], self._returns.get(seed, (0, 0.0))[0]
        self._first = self._now()
        if self._display.console.is_terminal:
            console = self._display.console
            self._live = Live(self._picture(), console=console, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.show(at_once=True)
        if self._live is not None:
            self._live.stop()

    def show(self, at_once: bool = False) -> None:
        """Read the folders and show what is new, at most twice a second.

        Args:
            at_once: do it now, however recently it was done.
        """
        if not at_once and time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        for seed in self._runs:
            if self._shown[seed][0] != "finished":
                self._look(seed)
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
        for seed, state in self._states.items():
            timestep, mean_return = self._returns.get(seed, (0, 0.0))
            before, evaluated_before = self._shown[seed]
            self._shown[seed] = state, timestep
            if self._live is not None:
                continue
            if timestep > evaluated_before:
                self._display.say(
                    f"seed {seed}: {timestep:>10,} of {self._horizon:,} timesteps  "
                    f"return {mean_return:,.1f}  {self._speed()}  {self._left()}".rstrip()
                )
            if state != before and state in ("finished", "failed"):
                final = self._runs[seed].numbers.final_return() if state == "finished" else None
                shown = "" if final is None else f"; return of the final policy {final:,.1f}"
                self._display.say(f"seed {seed}: {state}{shown}")

    def _look(self, seed: int) -> None:
        try:
            evaluations = self._runs[seed].numbers.read_evaluations()
        except RunError:  # reported at the end
            return
        if evaluations is not None and len(evaluations.timesteps):
            mean_return = float(evaluations.results[-1].mean())
            self._returns[seed] = int(evaluations.timesteps[-1]), mean_return

    def _now(self) -> int:
        """Return the timesteps of all runs together."""
        return sum(self._timestep(seed) for seed in self._runs)

    def _timestep(self, seed: int) -> int:
        return timestep_of(self._runs[seed], self._states[seed], self._horizon)

    def _picture(self) -> Stacked:
        rows = [
            [
                str(seed),
                f"{self._timestep(seed):,}",
                number(self._returns[seed][1]) if seed in self._returns else "",
                state,
            ]
            for seed, state in self._states.items()
        ]
        headings = ("training seed", "timestep", "return")
        table = NameTable([*map(Column, headings), Column("state", "word")], rows)
        self._bar.update(self._task, completed=self._now(), speed=self._speed(), left=self._left())
        return Stacked(
            self._bar.get_renderable(), table
        )  # a table that is too long is cut at its end

    def _speed(self) -> str:
        seconds, done = time.monotonic() - self._started, self._now() - self._first
        return f"{done / seconds:,.0f} SPS" if done else ""

    def _left(self) -> str:
        seconds, done = time.monotonic() - self._started, self._now() - self._first
        left = len(self._runs) * self._horizon - self._now()
        return time_left(seconds * left / done) if done else ""


def timestep_of(run: RunDirectory, state: State, horizon: int) -> int:
    """Return the timestep that a run has reached."""
    return horizon if state == "finished" else resume_state.last_timestep(run.state)

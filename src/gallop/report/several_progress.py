"""Progress of several runs that train side by side."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from rich.console import Group as Stacked
from rich.live import Live
from rich.progress import Progress

from gallop.errors import RunError
from gallop.report.display import Display
from gallop.report.progress_line import FittedLine, time_left
from gallop.report.tables import Column, NameTable, number
from gallop.run_folder import fence, resume_state
from gallop.run_folder.directory import RunDirectory

State: TypeAlias = Literal["waiting", "running", "finished", "failed"]

SECONDS_BETWEEN_LOOKS = 0.5  # into the folders
MAX_ROWS = 12  # of a table that shows all runs; a longer one begins with those that train
_ORDER: dict[State, int] = {"running": 0, "failed": 1, "waiting": 2, "finished": 3}


class Naming(NamedTuple):
    """What runs are called."""

    noun: str
    """Before the name of a run in a line, such as "seed "."""
    heading: str
    """Of their column in a table."""


SEEDS = Naming("seed ", "training seed")
RUNS = Naming("", "run")


class SeveralProgress:
    """Shows the progress of runs, read from their folders: a live table, or lines when piped."""

    def __init__(
        self,
        display: Display,
        runs: Mapping[str, RunDirectory],
        states: Mapping[str, State],
        horizons: Mapping[str, int],
        naming: Naming,
    ) -> None:
        """Prepare to show progress within a `with` block.

        Args:
            display: where to print.
            runs: name -> run.
            states: name -> state, which the caller updates.
            horizons: name -> last timestep of the run.
            naming: what the runs are called.
        """
        self._display, self._runs, self._states = display, runs, states
        self._horizons, self._naming = horizons, naming
        self._total = sum(horizons[name] for name in runs)
        self._returns: dict[str, tuple[int, float]] = {}
        """Name -> timestep and mean return of its latest evaluation."""
        self._shown: dict[str, tuple[State, int]] = {}
        self._bar = Progress(FittedLine(), expand=True, console=display.console)
        self._task = self._bar.add_task("all runs", total=self._total)
        self._live: Live | None = None
        self._started = self._looked = time.monotonic()
        self._first = 0

    def __enter__(self) -> SeveralProgress:
        for name in self._runs:
            self._look(name)
            self._shown[name] = self._states[name], self._returns.get(name, (0, 0.0))[0]
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
        for name in self._runs:
            if self._shown[name][0] != "finished":
                self._look(name)
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)
        for name, state in self._states.items():
            timestep, mean_return = self._returns.get(name, (0, 0.0))
            before, evaluated_before = self._shown[name]
            self._shown[name] = state, timestep
            if self._live is not None:
                continue
            if timestep > evaluated_before:
                of = f"{timestep:>10,} of {self._horizons[name]:,} timesteps"
                self._display.say(
                    f"{self._naming.noun}{name}: {of}  "
                    f"return {mean_return:,.1f}  {self._speed()}  {self._left()}".rstrip()
                )
            if state != before and state in ("finished", "failed"):
                final = self._runs[name].numbers.final_return() if state == "finished" else None
                shown = "" if final is None else f"; return of the final policy {final:,.1f}"
                self._display.say(f"{self._naming.noun}{name}: {state}{shown}")

    def _look(self, name: str) -> None:
        try:
            evaluations = self._runs[name].numbers.read_evaluations()
        except RunError:  # reported at the end
            return
        if evaluations is not None and len(evaluations.timesteps):
            mean_return = float(evaluations.results[-1].mean())
            self._returns[name] = int(evaluations.timesteps[-1]), mean_return

    def _now(self) -> int:
        """Return the timesteps of all runs together."""
        return sum(self._timestep(name) for name in self._runs)

    def _timestep(self, name: str) -> int:
        return timestep_of(self._runs[name], self._states[name], self._horizons[name])

    def _picture(self) -> Stacked:
        """Return bar and table; a table that is too long for the screen is cut at its end."""
        shown = sorted(self._states, key=lambda name: _ORDER[self._states[name]])
        if len(shown) <= MAX_ROWS:
            shown = list(self._states)
        hosts = {name: self._host(name) for name in shown}
        columns = [Column(self._naming.heading), Column("timestep"), Column("return")]
        columns.append(Column("state", "word"))
        rows = [
            [
                name,
                f"{self._timestep(name):,}",
                number(self._returns[name][1]) if name in self._returns else "",
                self._states[name],
            ]
            for name in shown
        ]
        if any(hosts.values()):
            columns.append(Column("node", "word"))
            rows = [[*row, hosts[name]] for row, name in zip(rows, shown, strict=True)]
        self._bar.update(self._task, completed=self._now(), speed=self._speed(), left=self._left())
        return Stacked(self._bar.get_renderable(), NameTable(columns, rows, self._counts()))

    def _counts(self) -> str:
        """Return how many runs are in each state; empty for few runs, which are all visible."""
        if len(self._states) <= MAX_ROWS:
            return ""
        counts = Counter(self._states.values())
        return ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])

    def _host(self, name: str) -> str:
        """Return the machine of a cluster on which a run trains; empty if it is ours, or none."""
        if self._states[name] != "running":
            return ""
        lease = fence.read_lease(self._runs[name].path)
        is_current = lease is not None and lease.token == fence.read_token(self._runs[name].path)
        return lease.host if lease is not None and is_current else ""

    def _speed(self) -> str:
        seconds, done = time.monotonic() - self._started, self._now() - self._first
        return f"{done / seconds:,.0f} SPS" if done else ""

    def _left(self) -> str:
        seconds, done = time.monotonic() - self._started, self._now() - self._first
        left = self._total - self._now()
        return time_left(seconds * left / done) if done else ""


def timestep_of(run: RunDirectory, state: State, horizon: int) -> int:
    """Return the timestep that a run has reached."""
    return horizon if state == "finished" else resume_state.last_timestep(run.state)


def share_left(run: RunDirectory, horizon: int) -> float:
    """Return the share of its timesteps that an unfinished run has yet to train."""
    return max(0.0, 1 - resume_state.last_timestep(run.state) / horizon)

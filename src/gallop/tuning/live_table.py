"""What a search prints: its cost beforehand; the best trials and the time left while it runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gallop.errors import counted
from gallop.report.display import Display
from gallop.report.progress_line import core_time, duration, time_left
from gallop.report.tables import Column, NameTable, number
from gallop.tuning.artefacts import parameters
from gallop.tuning.coordinator import Look
from gallop.tuning.search import Cost
from gallop.tuning.search_settings import Search, n_evaluations
from gallop.tuning.study_page import PageTable

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


N_BEST = 5
STATES = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}
"""Optuna's states of trials that have ended -> words for them."""


class LiveTable:
    """Prints a search: on a terminal a table that is updated in place, elsewhere lines."""

    def __init__(self, display: Display) -> None:
        """Print on this display."""
        self.display = display
        self._live: Live | None = None
        self._began = time.monotonic()
        self._first: int | None = None
        self._told: set[int] | None = None

    def plan(self, search: Search, cost: Cost, n_workers: int, folder: str) -> None:
        """Print what the search will do and what it will cost."""
        rows = {"search": f"{search.algo.upper()} on {search.env}, seed {search.search_seed}"}
        for place, part in enumerate(search.rounds):
            experiment = search.trial_experiment(place, {}, 0)
            rows[f"round {place + 1}"] = (
                f"{counted(part.n_trials, 'trial')} of {counted(search.n_seeds, 'seed')} × "
                f"{counted(experiment.total_timesteps, 'timestep')}, "
                f"{counted(n_evaluations(experiment), 'evaluation')} of "
                f"{counted(experiment.evaluation.n_episodes, 'episode')} each: "
                f"{', '.join(part.space)}"
            )
        again = search.retraining
        best = "the best trial" if again.n_best == 1 else f"the best {again.n_best} trials"
        rows["retraining"] = (
            f"{best} and SB3's defaults, on {counted(again.n_seeds, 'fresh seed')} each"
            if again.n_best
            else "none, so the winner's value will be too high"
        )
        rows["pruner"] = search.pruner.name
        if search.pruner.name != "none":
            rows["pruner"] += " (it makes the search cheaper than estimated)"
        rows["cost"] = (
            f"{counted(cost.n_runs, 'training')}, {counted(cost.timesteps, 'timestep')}, about "
            f"{core_time(cost.core_seconds)}, {duration(cost.seconds / n_workers)} with "
            f"{counted(n_workers, 'worker')} ({cost.note})"
        )
        if folder:
            rows["folder"] = folder
        self.display.rows(rows)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the table on the screen while a round, or the retraining, is running."""
        self._began, self._first, self._told = time.monotonic(), None, None
        console = self.display.console
        if not console.is_terminal or console.quiet:
            yield
            return
        with Live(console=console, refresh_per_second=4, transient=True) as self._live:
            yield
        self._live = None

    def look(self, look: Look, title: str, n_trials: int, timesteps_a_trial: int) -> None:
        """Show the state of a round.

        Args:
            look: what is known of its trials.
            title: of the table.
            n_trials: planned in the round.
            timesteps_a_trial: of a trial that is not stopped early.
        """
        n_done = len(look.finished) * timesteps_a_trial + sum(look.n_timesteps.values())
        left = self._left(n_done, n_trials * timesteps_a_trial)
        # A trial that was stopped early has a value, too: its last report.
        complete = (t for t in look.finished if t.state.name == "COMPLETE")
        best = sorted(complete, key=lambda t: -(t.value or 0.0))
        if self._live is None:
            self._say_new(look.finished, n_trials, left)
            return
        rows = []
        for trial in best[:N_BEST]:
            # SB3's defaults, or the winner of the round before.
            note = str(trial.user_attrs.get("first_trial", "finished")).partition(",")[0]
            value = number(trial.value or 0.0)
            rows.append([str(trial.number), value, note, parameters(trial.params)])
        n_best = len(rows)
        for place, opened in sorted(look.open.items())[: 2 * N_BEST]:
            share = f"training {100 * look.n_timesteps[place] // timesteps_a_trial:2} %"
            rows.append([str(place), "", share, parameters(opened.values)])
        columns = [
            *(Column("trial"), Column("return"), Column("state", "word")),
            Column("parameters", "list"),
        ]
        table = NameTable(columns, rows, title, dim=frozenset(range(n_best, len(rows))))
        n_pruned = sum(t.state.name == "PRUNED" for t in look.finished)
        n_failed = sum(t.state.name == "FAIL" for t in look.finished)
        line = Text(
            f"{len(look.finished)} of {counted(n_trials, 'trial')}, {n_pruned} stopped early, "
            f"{n_failed} failed{left}"
        )
        self._live.update(Group(table, _bar(n_done, n_trials * timesteps_a_trial), line))

    def again(self, n_done: int, total: int) -> None:
        """Show how far the retraining is."""
        line = Text(f"retraining on fresh seeds: {n_done:,} of {counted(total, 'timestep')}")
        line.append(self._left(n_done, total))
        if self._live is not None:
            self._live.update(Group(_bar(n_done, total), line))

    def tables(self, tables: Sequence[PageTable]) -> None:
        """Print the closing tables."""
        for page in tables:
            first, *others = page.headings
            columns = [Column(first, "name"), *map(Column, others)]
            self.display.say("")
            self.display.table(NameTable(columns, page.rows, page.title))
            if page.note:
                self.display.say(page.note)

    def best(self, trial: FrozenTrial) -> None:
        """Print a round's winner in a line."""
        value = "" if trial.value is None else number(trial.value)
        self.display.say(f"best: trial {trial.number}, return {value}: {parameters(trial.params)}")

    def _say_new(self, finished: Sequence[FrozenTrial], n_trials: int, left: str) -> None:
        if self._told is None:  # what earlier calls have printed
            self._told = {trial.number for trial in finished}
        for trial in sorted(finished, key=lambda t: t.number):
            if trial.number in self._told:
                continue
            self._told.add(trial.number)
            value = "" if trial.value is None else f"return {number(trial.value)}"
            reason = trial.user_attrs.get("reason", "")
            self.display.say(
                f"trial {trial.number:>3} {STATES[trial.state.name]:<8}  {value or reason}  "
                f"({len(finished)} of {n_trials}{left})  {parameters(trial.params)}"
            )

    def _left(self, n_done: int, total: int) -> str:
        """Time left, at the speed since this call began."""
        if self._first is None:
            self._first, self._began = n_done, time.monotonic()
        gone, seconds = n_done - self._first, time.monotonic() - self._began
        if gone <= 0 or seconds < 2:
            return ""
        return f", {time_left(seconds * (total - n_done) / gone)}"


def _bar(n_done: int, total: int) -> Table:
    """A bar on a line of its own."""
    line = Table.grid(expand=True)
    line.add_row(ProgressBar(total=total, completed=n_done))
    return line
